//! What a connection has been told, and what has still to be said. It must not know how that gets there.
//!
//! A connection that is kept in a pool never keeps one session's position for another: what it has been told last is
//! compared with what must hold now, whoever used it in between.

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use crate::level::Level;
use crate::session::Session;

/// Longer ones are told by their hash; a user's number or address is shorter.
const KEY_LENGTH_MAX: usize = 128;

/// What holds on a connection.
#[derive(Debug)]
pub(crate) struct Told {
    session: Session,
    key: Option<String>,
    tokens: BTreeSet<String>,
    level: Option<Level>,
}

impl Told {
    /// The SET statements after which a statement of `session` may run behind `before`, which is `None` where nobody knows
    /// what holds; and what holds then. Tokens are events and not settings: nothing undoes them.
    pub(crate) fn next(before: Option<&Self>, session: &Session, place: &str) -> (Vec<String>, Self) {
        let needs = session.needs(place);
        let of_same = before.filter(|before| before.session.is_same(session) && before.key == needs.key);
        let mut texts = Vec::new();
        if of_same.is_none() {
            texts.push(format!("SET highwater.session = '{}'", quotable(needs.key.as_deref())));
        }
        let mut tokens = of_same.map(|before| before.tokens.clone()).unwrap_or_default();
        texts.extend(needs.tokens.difference(&tokens).map(|token| format!("SET highwater.token = '{token}'")));
        if before.is_none_or(|before| before.level != needs.level) {
            texts.push(match needs.level {
                Some(level) => format!("SET highwater.consistency = '{}'", level.as_str()),
                None => "SET highwater.consistency TO DEFAULT".to_owned(),
            });
        }
        tokens.extend(needs.tokens);
        (texts, Self { session: session.clone(), key: needs.key, tokens, level: needs.level })
    }

    /// The connection has come to `token`, which includes all that it had been told.
    pub(crate) fn come_to(&mut self, place: &str, token: &str) {
        let included = std::mem::replace(&mut self.tokens, [token.to_owned()].into());
        self.session.advance(place, token, included);
    }

    /// Whether the connection is still its session's, as whoever that is by now.
    pub(crate) fn holds_key(&self) -> bool {
        self.key == self.session.key()
    }
}

/// What can stand between quotes in every client encoding, with and without `standard_conforming_strings`; the same text
/// as the Django package makes of a key, so that both name one session.
fn quotable(key: Option<&str>) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:@+/=-".contains(&byte);
    match key {
        None => String::new(),
        Some(key) if key.len() <= KEY_LENGTH_MAX && key.bytes().all(is_plain) => key.to_owned(),
        Some(key) => Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::Position;

    fn session(text: &str) -> Session {
        Session::new(Position::read(text), None)
    }

    fn texts(before: Option<&Told>, session: &Session) -> Vec<String> {
        Told::next(before, session, "default").0
    }

    #[test]
    fn only_what_differs_is_said() {
        let ann = session("default:a");
        let (said, mut told) = Told::next(None, &ann, "default");
        let all = ["SET highwater.session = ''", "SET highwater.token = 'a'", "SET highwater.consistency = 'session'"];
        assert_eq!(said, all);
        assert!(texts(Some(&told), &ann).is_empty());
        told.come_to("default", "b");
        assert_eq!(ann.position().to_string(), "default:b");
        assert!(texts(Some(&told), &ann).is_empty(), "it has said that itself");
        ann.advance("default", "c", BTreeSet::new());
        assert_eq!(texts(Some(&told), &ann), ["SET highwater.token = 'c'"]);
        ann.lose("default");
        assert_eq!(texts(Some(&told), &ann), ["SET highwater.consistency = 'strong'"]);
    }

    #[test]
    fn the_next_user_is_another_session_also_without_a_position_and_with_the_same_key() {
        let (ann, bob) = (session("default:a"), session(""));
        let (_, told) = Told::next(None, &ann, "default");
        let bobs = ["SET highwater.session = ''", "SET highwater.consistency TO DEFAULT"];
        assert_eq!(texts(Some(&told), &bob), bobs);
        ann.identify(Some("user:7"));
        bob.identify(Some("user:7"));
        let (_, told) = Told::next(Some(&told), &ann, "default");
        assert_eq!(texts(Some(&told), &bob)[0], "SET highwater.session = 'user:7'");
    }

    #[test]
    fn no_key_leaves_its_quotes() {
        assert_eq!(quotable(Some("' OR ''='")).len(), 64);
        assert_eq!(quotable(Some(&"x".repeat(129))).len(), 64);
        assert_eq!(quotable(Some("user:7")), "user:7");
    }
}
