use super::blocking::{Entered, enter};
use super::{Blocking, Errand};
use crate::position::Position;
use crate::session::Session;

/// A server that says how far it has come, or nothing, and fails where it is told to.
#[derive(Default)]
struct Fake {
    level: &'static str,
    token: Option<&'static str>,
    is_in_transaction: bool,
    /// What begins like this fails.
    fails: Option<&'static str>,
    said: Vec<String>,
}

impl Blocking for Fake {
    type Error = ();

    fn is_in_transaction(&mut self) -> bool {
        self.is_in_transaction
    }

    fn carry_out(&mut self, errand: Errand<'_>) -> Result<String, ()> {
        self.said.push(errand.to_string());
        if self.fails.is_some_and(|start| errand.to_string().starts_with(start)) {
            return Err(());
        }
        match errand.question {
            Some("SHOW highwater.token") => self.token.map(str::to_owned).ok_or(()),
            Some(_) => Ok(self.level.to_owned()),
            None => Ok(String::new()),
        }
    }
}

impl Fake {
    fn highwater(token: Option<&'static str>) -> Self {
        Self { level: "strong", token, ..Self::default() }
    }

    /// What is said from here on.
    fn said(&mut self) -> Vec<String> {
        std::mem::take(&mut self.said)
    }
}

const MEET: &str = "SET highwater.consistency TO DEFAULT; SHOW highwater.consistency";
const MEASURE_AND_LEAVE: &str =
    "SHOW highwater.token; SET highwater.session = ''; SET highwater.consistency TO DEFAULT";

fn entered<'a>(fake: &'a mut Fake, session: &Session) -> Entered<'a, Fake> {
    enter(fake, session, "default").expect("nothing fails")
}

fn session(text: &str) -> Session {
    Session::new(Position::read(text), None)
}

#[test]
fn a_session_comes_to_where_its_connection_has_come() {
    let (mut fake, ann) = (Fake::highwater(Some("b")), session("default:a"));
    let mut lent = entered(&mut fake, &ann);
    let tell = "SET highwater.session = ''; SET highwater.token = 'a'; SET highwater.consistency = 'session'";
    assert_eq!(lent.connection_to_read().map(Fake::said), Ok(vec![MEET.to_owned(), tell.to_owned()]));
    assert!(!ann.has_written());
    assert_eq!(lent.connection().map(Fake::said), Ok(vec![]), "nothing has changed");
    assert!(ann.has_written());
    assert_eq!(ann.position().to_string(), "default:.", "nobody knows yet");
    lent.finish();
    assert_eq!(ann.position().to_string(), "default:b");
    assert_eq!(fake.said(), [MEASURE_AND_LEAVE]);
}

#[test]
fn what_has_run_for_one_key_is_measured_before_the_next() {
    let (mut fake, ann) = (Fake::highwater(Some("b")), session("default:a"));
    let mut lent = entered(&mut fake, &ann);
    lent.connection_to_read().map(Fake::said).expect("nothing fails");
    ann.identify(Some("user:7"));
    let said = lent.connection_to_read().map(Fake::said).expect("nothing fails");
    assert_eq!(said, ["SHOW highwater.token", "SET highwater.session = 'user:7'; SET highwater.token = 'b'"]);
}

#[test]
fn a_connection_that_cannot_say_is_left_all_the_same_and_its_session_has_lost_its_position() {
    let (mut fake, ann) = (Fake::highwater(None), session("default:a"));
    let mut lent = entered(&mut fake, &ann);
    lent.connection_to_read().map(Fake::said).expect("nothing fails");
    lent.finish();
    assert_eq!(fake.said(), [MEASURE_AND_LEAVE, &MEASURE_AND_LEAVE["SHOW highwater.token; ".len()..]]);
    assert_eq!(ann.position().to_string(), "default:.");
}

#[test]
fn nobody_knows_how_far_an_open_transaction_will_have_come() {
    let (mut fake, ann) = (Fake::highwater(Some("b")), session("default:a"));
    let mut lent = entered(&mut fake, &ann);
    lent.connection().map(|fake| fake.is_in_transaction = true).expect("nothing fails");
    lent.finish();
    assert_eq!(ann.position().to_string(), "default:.");
    assert_eq!(fake.said().last().map(String::as_str), Some(&MEASURE_AND_LEAVE["SHOW highwater.token; ".len()..]));
}

#[test]
fn what_was_not_heard_is_told_anew_and_the_position_is_lost() {
    let (mut fake, ann) = (Fake::highwater(Some("b")), session("default:a"));
    let mut lent = entered(&mut fake, &ann);
    let fake = lent.connection_to_read().expect("nothing fails");
    (fake.fails, fake.said) = (Some("SET highwater.token = 'c'"), Vec::new());
    ann.join(&Position::read("default:c"));
    assert_eq!(lent.connection_to_read().map(Fake::said), Err(()));
    let said = lent.connection_to_read().map(Fake::said).expect("nothing fails");
    assert_eq!(said[0], "SET highwater.token = 'c'", "which failed");
    assert!(said[1].starts_with("SET highwater.session = ''; ") && said[1].ends_with("= 'strong'"), "{said:?}");
    lent.finish();
    assert_eq!(ann.position().to_string(), "default:.");
}

#[test]
fn whoever_does_not_finish_has_lost_its_position() {
    for writes in [false, true] {
        let (mut fake, ann) = (Fake::highwater(Some("b")), session("default:a"));
        let mut lent = entered(&mut fake, &ann);
        drop(if writes { lent.connection() } else { lent.connection_to_read() });
        drop(lent);
        assert_eq!((ann.position().to_string().as_str(), ann.has_written()), ("default:.", writes));
    }
    let (mut fake, ann) = (Fake::highwater(Some("b")), session("default:a"));
    drop(entered(&mut fake, &ann));
    assert_eq!(ann.position().to_string(), "default:a", "nothing has run");
}

#[test]
fn plain_postgresql_is_told_nothing() {
    let (mut fake, ann, bob) = (Fake::default(), session("default:a"), session(""));
    for known in [&ann, &bob] {
        let mut lent = entered(&mut fake, known);
        assert_eq!(lent.connection().map(Fake::said), Ok(vec![MEET.to_owned()]));
        lent.finish();
        assert!(fake.said().is_empty());
    }
    assert_eq!(ann.position().to_string(), "default:.", "what it brought does not cover what ran there");
    assert_eq!(bob.position().to_string(), "");
}
