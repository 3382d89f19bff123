//! What several tests need: recorded conversations and reproducible noise.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use highwater_wire::{backend::*, frame, frontend::*, startup};
use std::fmt::Debug;

/// Who sent a chunk of a recorded conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A recorded conversation: its name, and its chunks in the order in which they were read.
pub(crate) struct Capture {
    pub(crate) name: &'static str,
    pub(crate) chunks: Vec<(Side, Vec<u8>)>,
}

impl Capture {
    /// All that one side sent.
    pub(crate) fn all(&self, side: Side) -> Vec<u8> {
        self.chunks.iter().filter(|(s, _)| *s == side).flat_map(|(_, bytes)| bytes.clone()).collect()
    }

    /// The chunks behind the first ReadyForQuery, which ends the login.
    pub(crate) fn after_login(&self) -> &[(Side, Vec<u8>)] {
        let ready = |(side, bytes): &(Side, Vec<u8>)| *side == Side::Server && bytes.ends_with(b"Z\0\0\0\x05I");
        &self.chunks[self.chunks.iter().position(ready).unwrap() + 1..]
    }

    /// The client's messages from the start-up packet on, without encryption requests.
    pub(crate) fn client_from_startup(&self) -> Vec<u8> {
        let mut bytes = self.all(Side::Client);
        while let Ok(Some((startup::FirstPacket::Ssl, len))) = startup::first_packet(&bytes[..8]) {
            bytes.drain(..len);
        }
        bytes
    }

    /// The server's messages, without its answers to encryption requests.
    pub(crate) fn server_from_login(&self) -> Vec<u8> {
        let bytes = self.all(Side::Server);
        bytes[usize::from(bytes[0] == startup::ENCRYPTION_DECLINED)..].to_vec()
    }
}

/// All recorded conversations.
pub(crate) fn captures() -> Vec<Capture> {
    let files = [
        ("psql", include_str!("../captures/psql.hex")),
        ("psycopg3", include_str!("../captures/psycopg3.hex")),
        ("asyncpg", include_str!("../captures/asyncpg.hex")),
        ("pg8000", include_str!("../captures/pg8000.hex")),
    ];
    files.map(|(name, text)| Capture { name, chunks: text.lines().map(chunk).collect() }).into()
}

fn chunk(line: &str) -> (Side, Vec<u8>) {
    let (side, hex) = line.split_once(' ').unwrap();
    let side = if side == "F" { Side::Client } else { Side::Server };
    (side, (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect())
}

/// Marsaglia's xorshift64*: the same numbers on every machine.
pub(crate) struct Noise(u64);

impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Noise(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

/// Everything that the views say of a server's message, as text.
pub(crate) fn backend_fact(message: frame::Message<'_>) -> String {
    let body = message.body;
    match message.tag {
        b'R' => show(Authentication::read(body)),
        b'K' => show(BackendKeyData::read(body).map(|k| (k.pid, k.key.len()))),
        b'S' => show(ParameterStatus::read(body)),
        b'Z' => show(ReadyForQuery::read(body)),
        b'E' | b'N' => show(ErrorResponse::read(body).map(|e| (e.severity(), e.sqlstate(), e.iter().count()))),
        b'C' => show(CommandComplete::read(body).map(|c| (c.tag, c.rows()))),
        b'T' => show(RowDescription::read(body).map(|r| (r.len(), r.iter().collect::<Vec<_>>()))),
        b'D' => show(DataRow::read(body).map(|r| (r.values.len(), r.values.iter().collect::<Vec<_>>()))),
        b't' => show(ParameterDescription::read(body).map(|p| p.types.iter().collect::<Vec<_>>())),
        b'A' => show(NotificationResponse::read(body)),
        b'v' => show(NegotiateProtocolVersion::read(body).map(|v| (v.newest, v.unknown_options().count()))),
        tag @ (b'G' | b'H' | b'W') => show(CopyResponse::read(tag, body).map(|c| (c.format, c.columns.of(0)))),
        tag => format!("{} {}", tag as char, body.len()),
    }
}

/// Everything that the views say of a client's message, as text.
pub(crate) fn frontend_fact(message: frame::Message<'_>) -> String {
    let body = message.body;
    match message.tag {
        b'Q' => show(Query::read(body)),
        b'P' => show(Parse::read(body).map(|p| (p.name, p.text, p.param_types.iter().collect::<Vec<_>>()))),
        b'B' => show(Bind::read(body).map(|b| {
            let values = |p: BindParams<'_>| p.values.iter().map(|v| v.map(<[u8]>::to_vec)).collect::<Vec<_>>();
            let formats = |p: BindParams<'_>| (p.formats.of(0), p.result_formats.of(0));
            (b.portal, b.statement, b.params().map(|p| (formats(p), values(p))))
        })),
        b'D' => show(Describe::read(body)),
        b'C' => show(Close::read(body)),
        b'E' => show(Execute::read(body)),
        b'F' => show(FunctionCall::read(body)),
        b'f' => show(CopyFail::read(body)),
        b'p' => show((Password::read(body).map(|p| p.password.len()), SaslInitialResponse::read(body))),
        tag => format!("{} {}", tag as char, body.len()),
    }
}

fn show(fact: impl Debug) -> String {
    format!("{fact:?}")
}
