//! SCRAM-SHA-256 (RFC 5802, RFC 7677) as PostgreSQL speaks it, both sides.
//!
//! Each side is a chain of values: a step consumes one and yields the next with the message to send, so that no
//! step can be left out or taken twice.
//!
//! ```text
//!   Client::start -> Client --on_server_first--> Challenged --prove--> ClientProved --on_server_final--> ()
//!   Server::start -> Server --on_client_final--> Login
//! ```
//!
//! Must not know where nonces and verifiers come from, nor how many attempts somebody gets. A step with a password
//! ([`Keys::from_password`]) costs thousands of hash rounds (about 2 ms for 4096): the caller decides on which thread.

mod client;
mod crypto;
mod keys;
mod server;
mod verifier;

pub use client::{Challenged, Client, ClientProved};
pub use keys::Keys;
pub use server::{Login, Server};
pub use verifier::Verifier;

use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt;

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// The mechanism with channel binding, over TLS only.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The most hash rounds that a verifier or a server may ask for: about half a second. PostgreSQL's default is 4096.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// The iteration count that PostgreSQL gives a new password (`scram_iterations`).
pub const ITERATIONS_DEFAULT: u32 = 4096;

/// How this side stands to channel binding (`tls-server-end-point`, RFC 5929).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding<'a> {
    /// It cannot bind: no TLS, or not wanted.
    Unsupported,
    /// It can, but this exchange does not: the server offered no `-PLUS` (on the client's side), or the client
    /// picked the plain mechanism though `-PLUS` was offered (on the server's).
    Unused,
    /// It does: the hash of the server's certificate.
    EndPoint(&'a [u8]),
}

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// A message that is not what SCRAM prescribes at this point.
    Malformed,
    /// A mandatory extension, or an authorization identity: neither is supported, as in PostgreSQL.
    Unsupported,
    /// A nonce that does not continue the exchange.
    Nonce,
    /// An iteration count of zero or above [`ITERATIONS_MAX`].
    Iterations,
    /// The two sides do not see the same TLS channel, or somebody between them removed the offer to bind.
    ChannelBinding,
    /// The client's keys belong to another salt or iteration count: the password was changed.
    OtherVerifier,
    /// The client does not know the password (or there is no such user).
    WrongPassword,
    /// The server does not know the password: it may be an impostor.
    WrongServer,
    /// The server said `e=`.
    Refused,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Failure::Malformed => "malformed SCRAM message",
            Failure::Unsupported => "unsupported SCRAM extension",
            Failure::Nonce => "invalid SCRAM nonce",
            Failure::Iterations => "SCRAM iteration count out of bounds",
            Failure::ChannelBinding => "SCRAM channel binding check failed",
            Failure::OtherVerifier => "the password has been changed since it was proved",
            Failure::WrongPassword => "password authentication failed",
            Failure::WrongServer => "incorrect SCRAM server signature",
            Failure::Refused => "server refused the SCRAM exchange",
        })
    }
}

impl std::error::Error for Failure {}

/// Random bytes as a nonce. PostgreSQL uses 18.
pub fn nonce(random: &[u8; 18]) -> String {
    STANDARD.encode(random)
}

/// The value of the attribute `name` in `part`, which must be `name=value`.
fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, Failure> {
    part.and_then(|part| part.strip_prefix(name)?.strip_prefix('=')).ok_or(Failure::Malformed)
}

fn text(message: &[u8]) -> Result<&str, Failure> {
    std::str::from_utf8(message).map_err(|_| Failure::Malformed)
}

/// A nonce is printable ASCII without commas (which have ended it already).
fn checked_nonce(nonce: &str) -> Result<&str, Failure> {
    let is_nonce = !nonce.is_empty() && nonce.bytes().all(|b| b.is_ascii_graphic());
    is_nonce.then_some(nonce).ok_or(Failure::Malformed)
}

/// A base64 value of exactly 32 bytes: a key, a proof or a signature.
fn decode_key(base64: &str) -> Option<[u8; 32]> {
    STANDARD.decode(base64).ok()?.try_into().ok()
}

fn checked_iterations(text: &str) -> Result<u32, Failure> {
    let iterations = text.parse().map_err(|_| Failure::Malformed)?;
    if (1..=ITERATIONS_MAX).contains(&iterations) { Ok(iterations) } else { Err(Failure::Iterations) }
}

/// The three messages that both signatures cover, as RFC 5802 joins them.
fn auth_message(client_first_bare: &str, server_first: &str, client_final_without_proof: &str) -> String {
    [client_first_bare, server_first, client_final_without_proof].join(",")
}
