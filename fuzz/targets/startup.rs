//! First packets: where the bytes are cut does not matter, what was read can be written again, options come back.

#![no_main]

use highwater_fuzz::{bounded, cuts};
use highwater_wire::Offence;
use highwater_wire::startup::{self, FIRST_PACKET_BYTES_MAX, FirstPacket, Params, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| bounded(256 * data.len() + 4096, || {
    chunking(data);
    if let Ok(Some((packet, length))) = startup::first_packet(data) {
        written_again(packet, &data[..length]);
    }
    if let Ok(text) = std::str::from_utf8(data) {
        options(text);
    }
}));

/// What a part of the bytes says, more bytes do not take back.
fn chunking(data: &[u8]) {
    let whole = startup::first_packet(data);
    for cut in cuts(data.len()) {
        match (startup::first_packet(&data[..cut]), whole) {
            (Ok(None), Ok(Some((_, length)))) => assert!(cut < length),
            (Ok(None), _) => {}
            (Ok(Some((FirstPacket::Ssl | FirstPacket::Gss, 8))), Err(Offence::PlaintextAfterEncryptionRequest)) => {
                assert!(cut == 8 && data.len() > 8)
            }
            (part, whole) => assert_eq!(part, whole),
        }
    }
}

fn written_again(packet: FirstPacket<'_>, bytes: &[u8]) {
    assert!(bytes.len() <= FIRST_PACKET_BYTES_MAX as usize + 4);
    let mut out = Vec::new();
    match packet {
        FirstPacket::Startup { version, params } => {
            parameters(params);
            startup::startup(&mut out, version, params.iter());
        }
        FirstPacket::Cancel { pid, key } => startup::cancel_request(&mut out, pid, key),
        FirstPacket::Ssl => startup::ssl_request(&mut out),
        // There is no writer: the proxy never asks for it.
        FirstPacket::Gss => return assert_eq!(bytes.len(), 8),
    }
    assert_eq!(out, bytes);
}

fn parameters(params: Params<'_>) {
    for (name, _) in params.iter() {
        let last = params.iter().filter(|(other, _)| *other == name).last();
        assert_eq!(params.get(name), last.map(|(_, value)| value));
    }
    assert!(params.protocol_options().count() <= params.iter().count());
    if let Some(value) = params.get("options") {
        options(value);
    }
}

/// The settings that were read, written with every character protected, are read again as the same.
fn options(text: &str) {
    let Ok(settings) = startup::parse_options(text) else { return };
    let mut again = String::new();
    for (name, value) in &settings {
        assert!(!name.is_empty() && !name.contains(['-', '=']), "{name:?}");
        again += " -c ";
        again.extend(format!("{name}={value}").chars().flat_map(|c| ['\\', c]));
    }
    assert_eq!(startup::parse_options(&again).as_ref(), Ok(&settings));
    // As a parameter of a start-up packet they arrive unharmed.
    if again.len() < 8000 && !again.contains('\0') {
        let mut out = Vec::new();
        startup::startup(&mut out, Version::V3_0, [("options", again.as_str())]);
        let Ok(Some((FirstPacket::Startup { params, .. }, _))) = startup::first_packet(&out) else {
            panic!("what the writer wrote is not read")
        };
        assert_eq!(params.get("options"), Some(again.as_str()));
    }
}
