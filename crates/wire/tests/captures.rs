//! What real drivers and a real server sent is read, however it is cut into pieces.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use base64::{Engine, engine::general_purpose::STANDARD};
use common::{Capture, Noise, Side, backend_fact, captures, frontend_fact};
use highwater_wire::{
    Offence,
    frame::{self, MESSAGE_BYTES_MAX},
    frontend,
    scram::{Binding, Client, Keys, Server, Verifier},
    startup,
    tracker::{Audience, Tracker, Verdict},
};

/// Reads as the proxy would: keeps what is incomplete, takes what is complete. The client's first packet comes first.
struct Reading {
    side: Side,
    buffer: Vec<u8>,
    in_startup: bool,
    facts: Vec<String>,
}

impl Reading {
    fn new(side: Side) -> Self {
        Self { side, buffer: Vec::new(), in_startup: side == Side::Client, facts: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) -> Result<(), Offence> {
        self.buffer.extend_from_slice(bytes);
        if self.in_startup {
            let Some((packet, len)) = startup::first_packet(&self.buffer)? else { return Ok(()) };
            self.facts.push(format!("{packet:?}"));
            self.buffer.drain(..len);
            self.in_startup = false;
        }
        let mut messages = match self.side {
            Side::Client => frame::frontend_messages(&self.buffer, MESSAGE_BYTES_MAX),
            Side::Server => frame::messages(&self.buffer),
        };
        for message in messages.by_ref() {
            self.facts.push(if self.side == Side::Client { frontend_fact(message?) } else { backend_fact(message?) });
        }
        self.buffer = messages.rest().to_vec();
        Ok(())
    }
}

fn facts<'a>(side: Side, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let mut reading = Reading::new(side);
    pieces.for_each(|piece| reading.feed(piece).unwrap());
    assert!(reading.buffer.is_empty(), "nothing is left over");
    reading.facts
}

fn random_pieces<'a>(mut bytes: &'a [u8], noise: &mut Noise) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(1 + noise.below(bytes.len().min(40)));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

#[test]
fn facts_do_not_depend_on_where_the_bytes_are_cut() {
    for capture in captures() {
        let sent = [(Side::Client, capture.client_from_startup()), (Side::Server, capture.server_from_login())];
        for (side, bytes) in sent {
            let whole = facts(side, std::iter::once(&bytes[..]));
            assert!(whole.len() > 20 && !whole.iter().any(|fact| fact.starts_with("Err")), "{}", capture.name);
            assert_eq!(facts(side, bytes.chunks(1)), whole, "{} byte by byte", capture.name);
            for seed in 0..50 {
                let pieces = random_pieces(&bytes, &mut Noise::new(seed));
                assert_eq!(facts(side, pieces.into_iter()), whole, "{} seed {seed}", capture.name);
            }
        }
    }
}

#[test]
fn every_message_of_a_driver_is_understood_to_the_last_byte() {
    for capture in captures() {
        for fact in facts(Side::Client, std::iter::once(&capture.client_from_startup()[..])) {
            // The views that fail are the two readings of `p`, of which one must.
            assert!(!fact.contains("Err(") || fact.starts_with('('), "{}: {fact}", capture.name);
        }
    }
}

#[test]
fn the_tracker_follows_every_conversation_to_its_end() {
    for capture in captures() {
        let mut tracker = Tracker::new();
        let (mut client, mut server) = (Vec::new(), Vec::new());
        for (side, bytes) in capture.after_login() {
            let (buffer, is_client) = if *side == Side::Client { (&mut client, true) } else { (&mut server, false) };
            buffer.extend_from_slice(bytes);
            let mut messages = frame::messages(buffer);
            for message in messages.by_ref().map(Result::unwrap) {
                if is_client {
                    tracker.on_frontend(message.tag, Audience::Client).unwrap();
                } else {
                    assert_eq!(tracker.on_backend(message.tag, message.body), Ok(Verdict::Forward), "{}", capture.name);
                }
                assert!(tracker.only_client());
            }
            *buffer = messages.rest().to_vec();
        }
        assert!(tracker.is_idle(), "{}", capture.name);
    }
}

/// The SCRAM messages of a login: client first, server first, client last, server last.
fn scram_messages(capture: &Capture) -> [Vec<u8>; 4] {
    let (client, server) = (capture.client_from_startup(), capture.server_from_login());
    let (_, len) = startup::first_packet(&client).unwrap().unwrap();
    let mut said = frame::messages(&client[len..]).map(|m| m.unwrap().body);
    let mut asked = frame::messages(&server).map(|m| m.unwrap().body[4..].to_vec()).skip(1);
    let initial = frontend::SaslInitialResponse::read(said.next().unwrap()).unwrap();
    let [first, last] = [initial.response.unwrap(), said.next().unwrap()].map(<[u8]>::to_vec);
    [first, asked.next().unwrap(), last, asked.next().unwrap()]
}

#[test]
fn our_client_says_what_libpq_says() {
    for capture in captures().iter().filter(|c| ["psql", "psycopg3"].contains(&c.name)) {
        let [client_first, server_first, client_last, server_last] = scram_messages(capture);
        let nonce = std::str::from_utf8(&client_first).unwrap().rsplit_once("r=").unwrap().1;
        let (client, first) = Client::start(nonce, Binding::Unsupported);
        assert_eq!(first, client_first, "{}", capture.name);
        let challenged = client.on_server_first(&server_first).unwrap();
        let keys = Keys::from_password(b"secret", challenged.salt(), challenged.iterations());
        let (client, last) = challenged.prove(&keys).unwrap();
        assert_eq!(last, client_last, "{}", capture.name);
        assert_eq!(client.on_server_final(&server_last), Ok(()));
    }
}

#[test]
fn our_server_says_what_postgresql_says() {
    for capture in captures() {
        let [client_first, server_first, client_last, server_last] = scram_messages(&capture);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let challenge = text(server_first.clone());
        let [nonce, salt, iterations] = challenge.split(',').collect::<Vec<_>>()[..] else { panic!("{challenge}") };
        let client_nonce = text(client_first.clone()).rsplit_once("r=").unwrap().1.to_owned();
        let added = nonce[2..].strip_prefix(&client_nonce).unwrap();
        let salt = STANDARD.decode(&salt[2..]).unwrap();
        let verifier = Verifier::from_password(b"secret", &salt, iterations[2..].parse().unwrap());

        let (server, first) = Server::start(verifier, Binding::Unsupported, added, &client_first).unwrap();
        assert_eq!(first, server_first, "{}", capture.name);
        assert_eq!(server.on_client_final(&client_last).unwrap().message, server_last, "{}", capture.name);
    }
}
