//! When a response gives a position, by which cookie or header, and for how long: docs/carrying.md. The views stand in for
//! databases.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::convert::Infallible;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, Request, Response};
use highwater_client::layer::{Carrying, Cookie, HighwaterLayer, SetUpError};
use highwater_client::{Level, Position, Session, Signer};
use tower::{Layer, ServiceExt, service_fn};

/// A request's and a response's headers.
const HEADER: &str = "highwater-token";
/// What a client brings; 100 seconds old.
const BROUGHT: &str = "default:a";
const AGE: u64 = 100;

/// What a view does with its session, and what its response varies on.
type View = fn(&Session) -> Option<&'static str>;

fn reads(_: &Session) -> Option<&'static str> {
    None
}

fn reads_for_one(_: &Session) -> Option<&'static str> {
    Some("Accept, cookie")
}

fn sees(session: &Session) -> Option<&'static str> {
    session.join(&Position::read("default:b"));
    None
}

fn writes(session: &Session) -> Option<&'static str> {
    session.note_write();
    session.join(&Position::read("default:b"));
    None
}

fn signer() -> Signer {
    Signer::new("for tests alone", ["the one before"]).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn signed() -> String {
    signer().sign(BROUGHT, now() - AGE)
}

async fn answer(carrying: Carrying, view: View, headers: &[(&str, String)]) -> HeaderMap {
    let view = service_fn(move |request: Request<()>| async move {
        let varies = view(request.extensions().get::<Session>().unwrap());
        let mut response = Response::builder();
        if let Some(varies) = varies {
            response = response.header("Vary", varies);
        }
        Ok::<_, Infallible>(response.body(()).unwrap())
    });
    let mut request = Request::builder();
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let service = HighwaterLayer::new(carrying).unwrap().layer(view);
    service.oneshot(request.body(()).unwrap()).await.unwrap().headers().clone()
}

async fn plain_answer(view: View, headers: &[(&str, String)]) -> HeaderMap {
    answer(Carrying::new(signer()), view, headers).await
}

/// The cookie of a response: its name, what it says, its attributes.
fn cookie(headers: &HeaderMap) -> Option<(String, String, String)> {
    let lines: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert!(lines.len() <= 1);
    let (pair, attributes) = lines.first()?.to_str().unwrap().split_once("; ").unwrap();
    let (name, value) = pair.split_once('=').unwrap();
    Some((name.to_owned(), text(value), attributes.to_owned()))
}

fn text(signed: &str) -> String {
    signer().verify(signed, Duration::from_secs(now()), Duration::from_secs(300)).unwrap().text
}

fn max_age(attributes: &str) -> u64 {
    let (_, rest) = attributes.split_once("Max-Age=").unwrap();
    rest.split(';').next().unwrap().parse().unwrap()
}

fn by_cookie(name: &str) -> [(&'static str, String); 1] {
    [("cookie", format!("other=1; {name}={}; last=2", signed()))]
}

fn by_header() -> [(&'static str, String); 1] {
    [("Highwater-Token", signed())]
}

#[tokio::test]
async fn who_only_reads_gets_nothing() {
    for view in [reads as View, reads_for_one] {
        let headers = plain_answer(view, &[]).await;
        assert!(cookie(&headers).is_none() && !headers.contains_key(HEADER));
        assert!(!headers.get_all("vary").iter().any(|value| value == HEADER));
    }
}

#[tokio::test]
async fn who_writes_gets_both() {
    let headers = plain_answer(writes, &[]).await;
    let (name, says, attributes) = cookie(&headers).unwrap();
    assert_eq!((name.as_str(), says.as_str()), ("highwater", "default:b"));
    assert_eq!(attributes, "HttpOnly; Max-Age=300; Path=/; SameSite=Lax");
    assert_eq!(text(headers[HEADER].to_str().unwrap()), "default:b");
}

#[tokio::test]
async fn who_wrote_again_gets_it_for_as_long() {
    let headers = plain_answer(writes, &by_cookie("highwater_seen")).await;
    let (name, says, attributes) = cookie(&headers).unwrap();
    assert_eq!((name.as_str(), says.as_str()), ("highwater", "default:a+default:b"));
    assert_eq!(max_age(&attributes), 300);
}

#[tokio::test]
async fn a_page_for_everybody_sets_none_though_one_was_sent() {
    let headers = plain_answer(reads, &by_cookie("highwater")).await;
    assert!(headers.is_empty(), "{headers:?}");
}

#[tokio::test]
async fn a_page_for_one_person_brings_it_up_to_date_and_not_further() {
    for sent in ["highwater", "highwater_seen"] {
        let headers = plain_answer(reads_for_one, &by_cookie(sent)).await;
        let (name, says, attributes) = cookie(&headers).unwrap();
        assert_eq!((name.as_str(), says.as_str()), ("highwater_seen", BROUGHT));
        assert!((195..=200).contains(&max_age(&attributes)), "{attributes}");
        assert!(!headers.contains_key(HEADER));
    }
}

#[tokio::test]
async fn who_brings_the_header_gets_it_and_no_cookie() {
    for view in [reads as View, writes] {
        let headers = plain_answer(view, &by_header()).await;
        assert!(cookie(&headers).is_none());
        assert!(text(headers[HEADER].to_str().unwrap()).starts_with(BROUGHT));
        assert_eq!(headers["vary"], HEADER);
    }
    let headers = plain_answer(sees, &[("Highwater-Token", "forged".to_owned())]).await;
    assert_eq!(headers["vary"], HEADER, "caches must know, whatever it said");
    assert!(!headers.contains_key(HEADER));
}

#[tokio::test]
async fn a_script_that_sends_all_has_seen_all() {
    let at = now();
    let sent = [
        ("cookie", format!("highwater={}", signer().sign("default:b", at))),
        ("cookie", format!("highwater_seen={}", signer().sign("shop:.", at))),
        ("Highwater-Token", signed()),
    ];
    let headers = plain_answer(reads_for_one, &sent).await;
    let (_, says, attributes) = cookie(&headers).unwrap();
    assert_eq!(says, "default:a+default:b+shop:.");
    assert!(max_age(&attributes) >= 295, "as long as the youngest");
}

#[tokio::test]
async fn what_is_old_or_forged_says_nothing_and_an_older_secret_is_known() {
    fn tell_level(session: &Session) -> Option<&'static str> {
        session.level("default").map(Level::as_str)
    }
    let old = signer().sign(BROUGHT, now() - 301);
    let before = Signer::new("the one before", [""; 0]).unwrap().sign("default:.", now());
    let cases = [
        ("", "eventual"),
        (&old, "eventual"),
        (&signed()[1..], "eventual"),
        (&signed(), "session"),
        (&before, "strong"),
    ];
    for (sent, level) in cases {
        let mut carrying = Carrying::new(signer());
        carrying.otherwise = Some(Level::Eventual);
        let headers = answer(carrying, tell_level, &[("cookie", format!("highwater={sent}"))]).await;
        assert_eq!(headers["vary"], level, "{sent}");
    }
}

#[tokio::test]
async fn what_is_lost_is_told() {
    fn loses(session: &Session) -> Option<&'static str> {
        session.note_write();
        session.lose("default");
        None
    }
    let headers = plain_answer(loses, &by_cookie("highwater")).await;
    assert_eq!(cookie(&headers).unwrap().1, "default:.");
}

#[tokio::test]
async fn both_ways_can_be_off_and_flags_are_as_they_are_said() {
    let mut carrying = Carrying::new(signer());
    (carrying.cookie, carrying.header) = (None, None);
    assert!(answer(carrying.clone(), writes, &by_cookie("highwater")).await.is_empty());
    carrying.cookie = Some(Cookie {
        name: "position".to_owned(),
        domain: Some("example.org".to_owned()),
        is_secure: true,
        same_site: "Strict".to_owned(),
        ..Cookie::default()
    });
    let (name, _, attributes) = cookie(&answer(carrying, writes, &[]).await).unwrap();
    assert_eq!(name, "position");
    assert_eq!(attributes, "Domain=example.org; HttpOnly; Max-Age=300; Path=/; SameSite=Strict; Secure");
}

#[test]
fn what_would_carry_nothing_is_refused() {
    let refused = |change: fn(&mut Carrying)| {
        let mut carrying = Carrying::new(signer());
        change(&mut carrying);
        HighwaterLayer::new(carrying).err()
    };
    let named = |name: &str| Some(SetUpError::Cookie(name.to_owned()));
    let name = |carrying: &mut Carrying| carrying.cookie = Some(Cookie { name: "a b".to_owned(), ..Cookie::default() });
    assert_eq!(refused(name), named("a b"));
    let path =
        |carrying: &mut Carrying| carrying.cookie = Some(Cookie { path: "/; x".to_owned(), ..Cookie::default() });
    assert_eq!(refused(path), named("highwater"));
    assert_eq!(refused(|carrying| carrying.max_age = Duration::from_millis(999)), Some(SetUpError::MaxAge));
    assert!(Signer::new("", [""; 0]).is_err() && Signer::new("one", [""]).is_err());
}
