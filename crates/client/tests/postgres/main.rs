//! What is said on connections of tokio-postgres, and what becomes of a session when they break. What a real Highwater makes of
//! it, `python/tests/test_wishlist.py` looks at.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fake;

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use highwater_client::{Level, Position, Session};

use fake::{End, Server};

const WRITE: End = End::At("b", "primary write");
const READ: End = End::At("c", "standby1 caught_up 0.1ms");
/// What a standby shows is measured later.
const READ_UNMEASURED: End = End::At("", "standby1 caught_up 0.1ms");
const FIRST: &str = "SET highwater.report = 'known'; SET highwater.session = ''";

fn session(text: &str) -> Session {
    Session::new(Position::read(text), None)
}

async fn run(server: &Server, session: &Session, end: End) {
    server.plan(&[end]);
    let mut connection = server.connect().await;
    let mut entered = connection.enter(session).await.unwrap();
    entered.execute("some statement", &[]).await.unwrap();
    entered.finish().await;
}

#[tokio::test]
async fn only_what_differs_is_said_and_the_next_user_is_another_session() {
    let server = Server::start(true).await;
    let mut connection = server.connect().await;
    let (ann, bob) = (session("default:a"), session("default:z"));
    server.plan(&[WRITE, READ, READ]);
    for _ in 0..2 {
        let mut entered = connection.enter(&ann).await.unwrap();
        entered.execute("some statement", &[]).await.unwrap();
        entered.finish().await;
    }
    assert_eq!(ann.position().to_string(), "default:c");
    let all = "SET highwater.report = 'known'; SET highwater.session = ''; SET highwater.token = 'a'; SET highwater.consistency = 'session'";
    assert_eq!(server.heard(), [FIRST, all]);
    let mut entered = connection.enter(&bob).await.unwrap();
    entered.execute("some statement", &[]).await.unwrap();
    drop(entered);
    assert_eq!(server.heard(), ["SET highwater.session = ''; SET highwater.token = 'z'"]);
    assert_eq!(bob.position().to_string(), "default:c", "it had been reported");
    server.plan(&[READ]);
    let mut entered = connection.enter(&ann).await.unwrap();
    entered.execute("some statement", &[]).await.unwrap();
    entered.finish().await;
    // Who does not finish may have left a transaction open, with which all that is said now would be undone.
    let all = "SET highwater.report = 'known'; SET highwater.session = ''; SET highwater.token = 'c'; SET highwater.consistency = 'session'";
    assert_eq!(server.heard(), ["ROLLBACK", all]);
    let entered = connection.enter(&session("")).await.unwrap();
    entered.finish().await;
    assert_eq!(server.heard(), ["SET highwater.session = ''; SET highwater.consistency TO DEFAULT"]);
}

#[tokio::test]
async fn where_it_ran_says_whether_it_wrote() {
    let server = Server::start(true).await;
    for (end, has_written) in [
        (WRITE, true),
        (READ, false),
        (End::At("d", "primary must_run_on_primary"), true),
        (End::At("d", "primary caught_up"), false),
    ] {
        let session = session("");
        run(&server, &session, end).await;
        assert_eq!(session.has_written(), has_written);
        assert!(session.position().knows("default"));
    }
}

#[tokio::test]
async fn plain_postgresql_is_told_nothing_else() {
    let server = Server::start(false).await;
    let (stranger, known) = (session(""), session("default:a+shop:b"));
    run(&server, &stranger, WRITE).await;
    assert_eq!(server.heard(), [FIRST]);
    assert!(stranger.position().is_empty() && !stranger.has_written());
    run(&server, &known, WRITE).await;
    assert_eq!(server.heard(), [FIRST]);
    assert_eq!(known.position().to_string(), "default:.+shop:b", "of what was written here no position knows");
    assert!(known.has_written());
}

#[tokio::test]
async fn a_position_that_is_not_reported_is_asked_for() {
    let server = Server::start(true).await;
    server.script.lock().unwrap().shown = "d";
    let ann = session("default:a");
    run(&server, &ann, READ_UNMEASURED).await;
    assert_eq!(server.heard().last().unwrap(), "SHOW highwater.token");
    assert_eq!(ann.position().to_string(), "default:d");
    server.script.lock().unwrap().shown = "";
    run(&server, &ann, READ_UNMEASURED).await;
    assert_eq!(ann.level("default"), Some(Level::Strong), "it cannot say");
    assert!(!ann.has_written());
}

#[tokio::test]
async fn who_does_not_ask_has_lost_it_and_has_not_written() {
    let server = Server::start(true).await;
    server.plan(&[READ_UNMEASURED]);
    let (mut connection, ann) = (server.connect().await, session("default:a"));
    let mut entered = connection.enter(&ann).await.unwrap();
    entered.query("some statement", &[]).await.unwrap();
    drop(entered);
    assert_eq!(ann.level("default"), Some(Level::Strong));
    assert!(!ann.has_written());
}

/// The error comes in front of what would be reported, and of the end of the connection.
#[tokio::test]
async fn a_connection_that_ends_takes_the_position_along() {
    let server = Server::start(true).await;
    for finishes in [true, false] {
        server.plan(&[READ, End::Fatal]);
        let (mut connection, ann) = (server.connect().await, session("default:a"));
        let mut entered = connection.enter(&ann).await.unwrap();
        entered.execute("some statement", &[]).await.unwrap();
        entered.execute("some statement", &[]).await.unwrap_err();
        if finishes {
            entered.finish().await;
            assert!(connection.is_closed());
        } else {
            drop(entered);
        }
        assert_eq!(ann.position().to_string(), "default:.");
        assert!(ann.has_written(), "perhaps");
    }
}

#[tokio::test]
async fn a_statement_that_nobody_waits_for_takes_the_position_along() {
    let server = Server::start(true).await;
    server.plan(&[READ, End::Silence]);
    let (mut connection, ann) = (server.connect().await, session("default:a"));
    let mut entered = connection.enter(&ann).await.unwrap();
    entered.execute("some statement", &[]).await.unwrap();
    {
        let mut statement = pin!(entered.execute("some statement", &[]));
        // Until it has been sent, and no answer is left to come.
        while !server.script.lock().unwrap().ends.is_empty() {
            let is_pending = poll_fn(|context| Poll::Ready(statement.as_mut().poll(context).is_pending())).await;
            assert!(is_pending);
            tokio::task::yield_now().await;
        }
    }
    drop(entered);
    assert_eq!(ann.position().to_string(), "default:.");
    assert!(ann.has_written(), "perhaps");
}

#[tokio::test]
async fn the_client_itself_counts_as_a_write_unless_somebody_says_otherwise() {
    let server = Server::start(true).await;
    server.script.lock().unwrap().shown = "d";
    let mut connection = server.connect().await;
    for only_reads in [false, true] {
        server.plan(&[READ, READ]);
        let ann = session("default:a");
        let mut entered = connection.enter(&ann).await.unwrap();
        let client = if only_reads { entered.client_to_read().await } else { entered.client().await };
        client.unwrap().batch_execute("BEGIN").await.unwrap();
        entered.execute("some statement", &[]).await.unwrap();
        entered.finish().await;
        assert_eq!(ann.position().to_string(), "default:d", "whatever was reported: it is asked for");
        assert_eq!(ann.has_written(), !only_reads);
        server.heard();
        drop(connection.enter(&ann).await.unwrap());
        let all = server.heard().remove(0);
        assert!(all.contains("report") && all.contains("session = ''") && all.contains("token = 'd'"), "{all}");
    }
}

#[tokio::test]
async fn connections_of_one_request_know_of_each_other() {
    let server = Server::start(true).await;
    let (mut one, mut other, ann) = (server.connect().await, server.connect().await, session("default:a"));
    let mut first = one.enter(&ann).await.unwrap();
    server.plan(&[READ, WRITE, READ]);
    first.execute("some statement", &[]).await.unwrap();
    server.heard();
    let mut second = other.enter(&ann).await.unwrap();
    assert!(server.heard()[1].contains("consistency = 'strong'"), "what the first has done is not known yet");
    second.execute("some statement", &[]).await.unwrap();
    second.finish().await;
    first.execute("some statement", &[]).await.unwrap();
    assert_eq!(server.heard(), ["SET highwater.token = 'b'"], "what the second has come to");
    assert_eq!(ann.position().to_string(), "default:.", "as long as the first is used");
    first.finish().await;
    assert_eq!(ann.position().to_string(), "default:c");
}

#[tokio::test]
async fn who_it_is_may_be_learnt_late() {
    let server = Server::start(true).await;
    server.plan(&[WRITE, READ]);
    let (mut connection, ann) = (server.connect().await, session(""));
    let mut entered = connection.enter(&ann).await.unwrap();
    entered.execute("some statement", &[]).await.unwrap();
    server.heard();
    ann.identify(Some("user:7"));
    entered.execute("some statement", &[]).await.unwrap();
    assert_eq!(server.heard(), ["SET highwater.session = 'user:7'; SET highwater.token = 'b'"]);
}

#[tokio::test]
async fn behind_settings_that_were_refused_nobody_knows_whose_reports_those_are() {
    let server = Server::start(true).await;
    server.plan(&[READ, READ]);
    let (mut connection, ann) = (server.connect().await, session("default:a"));
    let mut entered = connection.enter(&ann).await.unwrap();
    entered.execute("some statement", &[]).await.unwrap();
    ann.join(&Position::read("default:z"));
    server.script.lock().unwrap().refuses = true;
    assert!(entered.execute("some statement", &[]).await.is_err());
    entered.execute("some statement", &[]).await.unwrap();
    entered.finish().await;
    assert_eq!(ann.position().to_string(), "default:.");
}

#[tokio::test]
async fn settings_that_were_refused_do_not_count_as_said() {
    let server = Server::start(true).await;
    let (mut connection, ann) = (server.connect().await, session("default:a"));
    drop(connection.enter(&ann).await.unwrap());
    let all = server.heard().remove(1);
    let bob = session("default:z");
    server.script.lock().unwrap().refuses = true;
    assert!(connection.enter(&bob).await.is_err());
    server.heard();
    drop(connection.enter(&ann).await.unwrap());
    assert_eq!(server.heard(), [all]);
}
