//! PostgreSQL's wire protocol 3.x, bytes to facts and facts to bytes.
//!
//! Pure: no sockets, no clock, no randomness (nonces and salts are handed in), and no knowledge of what the
//! proxy is for. "Need more bytes" is `Ok(None)`; bytes that no peer may send are an [`Offence`].
//! Views borrow the message they read, encoders append to a `Vec<u8>`.
//!
//! Text is bytes: the protocol carries names and statements in the client's encoding, which need not be UTF-8.
//! Only the start-up packet is read as UTF-8, since no encoding is agreed before it.
//!
//! Where to start: [`frame`] cuts a buffer into messages, [`startup`] reads what comes before the first of
//! them, [`frontend`] and [`backend`] say what a message means, [`tracker`] says whose reply is next.

pub mod backend;
pub mod certificate;
pub mod frame;
pub mod frontend;
mod lists;
pub mod md5;
mod offence;
mod read;
pub mod scram;
mod sqlstate;
pub mod startup;
pub mod tracker;
mod write;

pub use lists::{Formats, Oids, Values};
pub use offence::Offence;
pub use sqlstate::SqlState;

/// What a ReadyForQuery says about the server connection's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// `I`: not in a transaction block.
    Idle,
    /// `T`: in a transaction block.
    InTransaction,
    /// `E`: in a failed block; everything but its end is refused.
    Failed,
}

impl TransactionStatus {
    /// The status byte of ReadyForQuery.
    pub const fn byte(self) -> u8 {
        match self {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InTransaction => b'T',
            TransactionStatus::Failed => b'E',
        }
    }

    /// The status that `byte` stands for; `None` for any other byte.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(TransactionStatus::Idle),
            b'T' => Some(TransactionStatus::InTransaction),
            b'E' => Some(TransactionStatus::Failed),
            _ => None,
        }
    }
}

/// How a value is written: format code 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Code 0: the type's text form.
    Text,
    /// Code 1: the type's binary form.
    Binary,
}

impl Format {
    /// The format of `code`; `None` for a code that the protocol does not define.
    pub const fn from_code(code: i16) -> Option<Self> {
        match code {
            0 => Some(Format::Text),
            1 => Some(Format::Binary),
            _ => None,
        }
    }

    /// The code on the wire.
    pub const fn code(self) -> i16 {
        match self {
            Format::Text => 0,
            Format::Binary => 1,
        }
    }
}
