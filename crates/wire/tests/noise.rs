//! Whatever bytes come, nothing panics and nothing runs away.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Noise, Side, backend_fact, captures, frontend_fact};
use highwater_wire::{
    frame::{self, MESSAGE_BYTES_MAX, Message},
    frontend, md5,
    scram::{Binding, Client, Server, Verifier},
    startup::{self, FirstPacket},
    tracker::{Audience, Synthetic, Tracker},
};

const TAGS: &[u8] = b"RKSZENCTDtAvGHWVdc123nIsQPBDECSHFdcfpX";

fn read_everything(tag: u8, body: &[u8]) {
    let message = Message { tag, body, whole: body };
    backend_fact(message);
    frontend_fact(message);
    let mut out = Vec::new();
    let _ = frontend::parse_with_name(&mut out, body, "n");
    let _ = frontend::bind_with_statement(&mut out, body, "n");
    let _ = frontend::describe_with_name(&mut out, body, "n");
    let _ = frontend::close_with_name(&mut out, body, "n");
}

#[test]
fn random_bodies_are_read_without_panic() {
    let mut noise = Noise::new(1);
    for _ in 0..20_000 {
        let len = noise.below(64);
        let mut body = noise.bytes(len);
        // Mostly zeros and small numbers, which get further into the layouts than plain noise.
        body.iter_mut().for_each(|b| *b = if *b < 160 { *b % 3 } else { *b });
        read_everything(TAGS[noise.below(TAGS.len())], &body);
    }
}

#[test]
fn damaged_conversations_are_read_without_panic() {
    let mut noise = Noise::new(2);
    for capture in captures() {
        for original in [capture.client_from_startup(), capture.server_from_login()] {
            for _ in 0..150 {
                let mut bytes = original.clone();
                for _ in 0..=noise.below(8) {
                    let at = noise.below(bytes.len());
                    bytes[at] = noise.next() as u8;
                }
                let skip = startup::first_packet(&bytes).ok().flatten().map_or(0, |(_, len)| len);
                for messages in [frame::messages(&bytes), frame::frontend_messages(&bytes[skip..], MESSAGE_BYTES_MAX)] {
                    messages.map_while(Result::ok).for_each(|m| read_everything(m.tag, m.body));
                }
            }
        }
    }
}

#[test]
fn random_first_packets_are_read_without_panic() {
    let mut noise = Noise::new(3);
    for _ in 0..20_000 {
        let len = noise.below(60);
        let mut bytes = noise.bytes(len + 8);
        bytes[..4].copy_from_slice(&(len as u32 + 8).to_be_bytes());
        let codes = [[0, 3, 0, 0], [0, 3, 0, 2], [4, 210, 22, 46], [4, 210, 22, 47], [9, 9, 9, 9]];
        bytes[4..8].copy_from_slice(&codes[noise.below(codes.len())]);
        bytes[8..].iter_mut().for_each(|b| *b = if *b < 60 { 0 } else { *b & 0x7f });
        if let Ok(Some((FirstPacket::Startup { params, .. }, _))) = startup::first_packet(&bytes) {
            params.iter().for_each(|(_, value)| drop(startup::parse_options(value)));
            params.get("user");
            params.protocol_options().count();
        }
    }
}

#[test]
fn random_logins_are_refused_without_panic() {
    let mut noise = Noise::new(4);
    let verifier = Verifier::from_password(b"x", b"salt", 1);
    let alphabet = b"nyprcsviem=,,==a1+/\xff";
    for _ in 0..20_000 {
        let mut message: Vec<u8> = (0..noise.below(40)).map(|_| alphabet[noise.below(alphabet.len())]).collect();
        let (client, _) = Client::start("c", Binding::Unsupported);
        let _ = client.on_server_first(&message);
        let (server, _) = Server::start(verifier.clone(), Binding::Unsupported, "s", b"n,,n=,r=c").unwrap();
        assert!(server.on_client_final(&message).is_err());
        message.splice(0..0, *b"n,,n=,r=");
        let _ = Server::start(verifier.clone(), Binding::Unused, "s", &message);
        let text = String::from_utf8_lossy(&message);
        assert!(Verifier::parse(&format!("SCRAM-SHA-256${text}")).is_err());
        assert!(md5::response_from_hash(&text, [0; 4]).is_none());
    }
}

#[test]
fn random_conversations_are_tracked_without_panic() {
    for seed in 0..2_000 {
        let mut noise = Noise::new(seed);
        let mut tracker = Tracker::new();
        for _ in 0..200 {
            let audience = if noise.below(4) == 0 { Audience::Proxy } else { Audience::Client };
            match noise.below(5) {
                0 | 1 => drop(tracker.on_frontend(b"QPBDECSHFdcf"[noise.below(12)], audience)),
                2 => drop(tracker.on_skipped(Synthetic::ParseComplete)),
                _ => drop(tracker.on_backend(b"123TtnDCIsGHWdcVEZZZN"[noise.below(21)], b"I")),
            }
            if noise.below(2) == 0 {
                tracker.take_due();
            }
            assert!(!tracker.is_idle() || tracker.outstanding_syncs() == 0);
            assert!(tracker.room() > 0);
        }
    }
}

#[test]
fn captures_have_both_sides() {
    assert!(captures().iter().all(|c| !c.all(Side::Client).is_empty() && !c.all(Side::Server).is_empty()));
}
