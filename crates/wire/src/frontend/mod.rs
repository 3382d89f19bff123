//! Messages from a client: what they say, and how to write them.
//!
//! | tag | message | tag | message |
//! |---|---|---|---|
//! | `Q` | Query | `S` | Sync |
//! | `P` | Parse | `H` | Flush |
//! | `B` | Bind | `F` | FunctionCall |
//! | `D` | Describe | `d` `c` `f` | CopyData, CopyDone, CopyFail |
//! | `E` | Execute | `p` | a password or SASL message, by context |
//! | `C` | Close | `X` | Terminate |
//!
//! Views borrow the body (what follows the length word). Must not know SQL, nor who sends what when.

use crate::{
    Formats, Offence, Oids, Values,
    read::{Reader, whole},
};

mod encode;
mod rename;

pub use encode::*;
pub use rename::*;

/// Query: one or more statements in the simple protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// The statements, in the client's encoding.
    pub text: &'a [u8],
}

impl<'a> Query<'a> {
    /// Reads the body of a `Q`.
    ///
    /// # Errors
    /// A body that is not exactly one terminated string.
    #[inline]
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'Q', body, |r| Some(Self { text: r.cstr()? }))
    }
}

/// Parse: makes a prepared statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Its name; empty for the unnamed one.
    pub name: &'a [u8],
    /// One statement, in the client's encoding.
    pub text: &'a [u8],
    /// The types of the first parameters, as far as the client says them.
    pub param_types: Oids<'a>,
}

impl<'a> Parse<'a> {
    /// Reads the body of a `P`.
    ///
    /// # Errors
    /// A body that ends too early or goes on too long.
    #[inline]
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'P', body, |r| Some(Self { name: r.cstr()?, text: r.cstr()?, param_types: Oids::read(r)? }))
    }
}

/// Bind: makes a portal of a prepared statement. The parameters are read only on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name; empty for the unnamed one.
    pub statement: &'a [u8],
    tail: &'a [u8],
}

impl<'a> Bind<'a> {
    /// Reads the two names of a `B`; what follows them is not looked at.
    ///
    /// # Errors
    /// Names that do not end.
    #[inline]
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        let mut r = Reader(body);
        let names = r.cstr().zip(r.cstr()).ok_or(Offence::Malformed { tag: b'B' })?;
        Ok(Self { portal: names.0, statement: names.1, tail: r.0 })
    }

    /// Reads the rest: parameters and result formats.
    ///
    /// # Errors
    /// A layout that does not fit the body, or a format code other than 0 and 1.
    pub fn params(&self) -> Result<BindParams<'a>, Offence> {
        whole(b'B', self.tail, |r| {
            Some(BindParams { formats: Formats::read(r)?, values: Values::read(r)?, result_formats: Formats::read(r)? })
        })
    }
}

/// The second half of a [`Bind`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindParams<'a> {
    /// How the parameters are written.
    pub formats: Formats<'a>,
    /// The parameters; `None` is SQL's NULL.
    pub values: Values<'a>,
    /// How the result columns shall be written.
    pub result_formats: Formats<'a>,
}

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `S`: a prepared statement.
    Statement,
    /// `P`: a portal.
    Portal,
}

impl Kind {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Kind::Statement => b'S',
            Kind::Portal => b'P',
        }
    }

    fn read(r: &mut Reader<'_>) -> Option<Self> {
        match r.u8()? {
            b'S' => Some(Kind::Statement),
            b'P' => Some(Kind::Portal),
            _ => None,
        }
    }
}

/// Describe: asks for parameter types and result columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Describe<'a> {
    /// Whether `name` is a statement's or a portal's.
    pub kind: Kind,
    /// The name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Describe<'a> {
    /// Reads the body of a `D`.
    ///
    /// # Errors
    /// A body that is not a kind and one terminated name.
    #[inline]
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'D', body, |r| Some(Self { kind: Kind::read(r)?, name: r.cstr()? }))
    }
}

/// Close: drops a prepared statement or a portal; not an error if there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close<'a> {
    /// Whether `name` is a statement's or a portal's.
    pub kind: Kind,
    /// The name; empty for the unnamed one.
    pub name: &'a [u8],
}

impl<'a> Close<'a> {
    /// Reads the body of a `C`.
    ///
    /// # Errors
    /// A body that is not a kind and one terminated name.
    #[inline]
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'C', body, |r| Some(Self { kind: Kind::read(r)?, name: r.cstr()? }))
    }
}

/// Execute: runs a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// At most so many rows; zero or less means all.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads the body of an `E`.
    ///
    /// # Errors
    /// A body that is not one terminated name and a number.
    #[inline]
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'E', body, |r| Some(Self { portal: r.cstr()?, max_rows: r.i32()? }))
    }
}

/// FunctionCall: only which function; its arguments are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionCall {
    /// The function's OID.
    pub function: u32,
}

impl FunctionCall {
    /// Reads the head of an `F`.
    ///
    /// # Errors
    /// A body shorter than four bytes.
    pub fn read(body: &[u8]) -> Result<Self, Offence> {
        Reader(body).u32().map(|function| Self { function }).ok_or(Offence::Malformed { tag: b'F' })
    }
}

/// CopyFail: the client gives up sending data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFail<'a> {
    /// Why, in the client's words.
    pub reason: &'a [u8],
}

impl<'a> CopyFail<'a> {
    /// Reads the body of an `f`.
    ///
    /// # Errors
    /// A body that is not exactly one terminated string.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'f', body, |r| Some(Self { reason: r.cstr()? }))
    }
}

/// PasswordMessage: the answer to a request for a clear or MD5 password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Password<'a> {
    /// The password or its hash. Secret: there is deliberately no way to print it.
    pub password: &'a [u8],
}

impl<'a> Password<'a> {
    /// Reads the body of a `p`.
    ///
    /// # Errors
    /// A body that is not exactly one terminated string.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'p', body, |r| Some(Self { password: r.cstr()? }))
    }
}

/// SASLInitialResponse: the answer to the list of mechanisms. The messages after it are bare data: their body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism that the client picked.
    pub mechanism: &'a [u8],
    /// Its first message, if it sends one yet.
    pub response: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads the body of a `p`.
    ///
    /// # Errors
    /// A body that is not one terminated name and one counted value.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'p', body, |r| Some(Self { mechanism: r.cstr()?, response: r.value()? }))
    }
}
