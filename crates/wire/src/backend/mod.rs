//! Messages from a server: what they say, and how to write those that a proxy must say itself.
//!
//! | tag | message | tag | message |
//! |---|---|---|---|
//! | `R` | Authentication… | `1` `2` `3` | ParseComplete, BindComplete, CloseComplete |
//! | `S` | ParameterStatus | `t` | ParameterDescription |
//! | `K` | BackendKeyData | `T` `n` | RowDescription, NoData |
//! | `v` | NegotiateProtocolVersion | `D` | DataRow |
//! | `Z` | ReadyForQuery | `C` `I` `s` | CommandComplete, EmptyQueryResponse, PortalSuspended |
//! | `E` `N` | ErrorResponse, NoticeResponse | `G` `H` `W` | CopyIn-, CopyOut-, CopyBothResponse |
//! | `A` | NotificationResponse | `d` `c` | CopyData, CopyDone |
//! | `V` | FunctionCallResponse | | |
//!
//! Views borrow the body (what follows the length word). Must not know why a server says something.

use crate::{
    Format, Formats, Offence, Oids, TransactionStatus, Values,
    read::{Reader, whole},
    startup::{CANCEL_KEY_BYTES_MAX, Version},
};

mod encode;
mod report;

pub use encode::*;
pub use report::{
    ErrorResponse, NoticeResponse, Report, Severity, error_response, notice_response, old_error_response,
};

/// ReadyForQuery: the server awaits the next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyForQuery {
    /// The state of its transaction.
    pub status: TransactionStatus,
}

impl ReadyForQuery {
    /// Reads the body of a `Z`.
    ///
    /// # Errors
    /// A body that is not one of the three status bytes.
    #[inline]
    pub fn read(body: &[u8]) -> Result<Self, Offence> {
        whole(b'Z', body, |r| Some(Self { status: TransactionStatus::from_byte(r.u8()?)? }))
    }
}

/// ParameterStatus: the value of a reported setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// The setting.
    pub name: &'a [u8],
    /// Its value, in the client's encoding.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// Reads the body of an `S`.
    ///
    /// # Errors
    /// A body that is not two terminated strings.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'S', body, |r| Some(Self { name: r.cstr()?, value: r.cstr()? }))
    }
}

/// BackendKeyData: what a cancel request must quote. Secret as long as the server connection lives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'a> {
    /// The process id of the server connection.
    pub pid: u32,
    /// The key, 4 to 256 bytes; exactly 4 before protocol 3.2.
    pub key: &'a [u8],
}

impl<'a> BackendKeyData<'a> {
    /// Reads the body of a `K`.
    ///
    /// # Errors
    /// A key of fewer than 4 or more than 256 bytes.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        let mut r = Reader(body);
        let pid = r.u32().ok_or(Offence::Malformed { tag: b'K' })?;
        if !(4..=CANCEL_KEY_BYTES_MAX).contains(&r.0.len()) {
            return Err(Offence::Malformed { tag: b'K' });
        }
        Ok(Self { pid, key: r.0 })
    }
}

/// CommandComplete: one statement is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandComplete<'a> {
    /// What was done, such as `INSERT 0 5`.
    pub tag: &'a [u8],
}

impl<'a> CommandComplete<'a> {
    /// Reads the body of a `C`.
    ///
    /// # Errors
    /// A body that is not exactly one terminated string.
    #[inline]
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'C', body, |r| Some(Self { tag: r.cstr()? }))
    }

    /// The number of rows at the end of the tag, if it has one.
    pub fn rows(&self) -> Option<u64> {
        let last = self.tag.rsplit(|b| *b == b' ').next()?;
        std::str::from_utf8(last).ok()?.parse().ok()
    }
}

/// A request for proof of who the client is, or the news that it is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// 0: logged in.
    Ok,
    /// 3: the password in the clear.
    CleartextPassword,
    /// 5: the password as [`crate::md5::response`].
    Md5Password {
        /// What to mix in.
        salt: [u8; 4],
    },
    /// 10: one of these SASL mechanisms.
    Sasl(Mechanisms<'a>),
    /// 11: the next SASL message of the server.
    SaslContinue(&'a [u8]),
    /// 12: the last SASL message of the server; Ok follows.
    SaslFinal(&'a [u8]),
    /// Kerberos, GSSAPI, SSPI and what may come: the code.
    Other(u32),
}

impl<'a> Authentication<'a> {
    /// Reads the body of an `R`.
    ///
    /// # Errors
    /// A body that does not fit its code.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        const MALFORMED: Offence = Offence::Malformed { tag: b'R' };
        let mut r = Reader(body);
        let code = r.u32().ok_or(MALFORMED)?;
        match (code, r.0) {
            (0, []) => Ok(Authentication::Ok),
            (3, []) => Ok(Authentication::CleartextPassword),
            (5, &[a, b, c, d]) => Ok(Authentication::Md5Password { salt: [a, b, c, d] }),
            (10, list) => Mechanisms::parse(list).map(Authentication::Sasl).ok_or(MALFORMED),
            (11, data) => Ok(Authentication::SaslContinue(data)),
            (12, data) => Ok(Authentication::SaslFinal(data)),
            (0 | 3 | 5, _) => Err(MALFORMED),
            (other, _) => Ok(Authentication::Other(other)),
        }
    }
}

/// The SASL mechanisms that a server offers, the preferred one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms<'a>(&'a [u8]);

impl<'a> Mechanisms<'a> {
    fn parse(list: &'a [u8]) -> Option<Self> {
        let mut r = Reader(list);
        while !r.cstr()?.is_empty() {}
        r.is_empty().then_some(Mechanisms(list))
    }

    /// Their names.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut r = Reader(self.0);
        std::iter::from_fn(move || r.cstr().filter(|name| !name.is_empty()))
    }

    /// Whether `name` is among them.
    pub fn contains(&self, name: &str) -> bool {
        self.iter().any(|mechanism| mechanism == name.as_bytes())
    }
}

/// NegotiateProtocolVersion: the server speaks an older minor version, or does not know some protocol options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The newest version that the server speaks.
    pub newest: Version,
    /// Checked to be so many terminated strings.
    unknown: &'a [u8],
}

impl<'a> NegotiateProtocolVersion<'a> {
    /// Reads the body of a `v`.
    ///
    /// # Errors
    /// A list of options that is not as long as it says.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'v', body, |r| {
            let newest = Version::from_code(r.u32()?);
            let count = r.u32()?;
            let unknown = r.0;
            for _ in 0..count {
                r.cstr()?;
            }
            Some(Self { newest, unknown })
        })
    }

    /// The protocol options that the server does not know.
    pub fn unknown_options(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut r = Reader(self.unknown);
        std::iter::from_fn(move || r.cstr())
    }
}

/// NotificationResponse: somebody said NOTIFY on a channel that this connection listens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationResponse<'a> {
    /// The process id of the notifying server connection.
    pub pid: u32,
    /// The channel.
    pub channel: &'a [u8],
    /// What was said.
    pub payload: &'a [u8],
}

impl<'a> NotificationResponse<'a> {
    /// Reads the body of an `A`.
    ///
    /// # Errors
    /// A body that is not a number and two terminated strings.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'A', body, |r| Some(Self { pid: r.u32()?, channel: r.cstr()?, payload: r.cstr()? }))
    }
}

/// ParameterDescription: the types of a statement's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterDescription<'a> {
    /// Their type OIDs.
    pub types: Oids<'a>,
}

impl<'a> ParameterDescription<'a> {
    /// Reads the body of a `t`.
    ///
    /// # Errors
    /// A list that is not as long as it says.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b't', body, |r| Some(Self { types: Oids::read(r)? }))
    }
}

/// RowDescription: the columns of the rows to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDescription<'a> {
    count: u16,
    fields: &'a [u8],
}

/// One column of a [`RowDescription`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a [u8],
    /// The OID of its table; 0 if it is not a table's column.
    pub table: u32,
    /// Its number in the table; 0 if it is not a table's column.
    pub column: i16,
    /// The OID of its type.
    pub type_oid: u32,
    /// The type's size in bytes; negative for variable sizes.
    pub type_size: i16,
    /// The type's modifier, such as the 20 of `varchar(16)`; -1 for none.
    pub type_modifier: i32,
    /// How its values are written; text in the answer to a Describe of a statement, where it is not known yet.
    pub format: Format,
}

impl<'a> RowDescription<'a> {
    /// Reads the body of a `T`, checking every column.
    ///
    /// # Errors
    /// Columns that do not fit the body.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'T', body, |r| {
            let count = r.u16()?;
            let fields = r.0;
            for _ in 0..count {
                Field::read(r)?;
            }
            Some(Self { count, fields })
        })
    }

    /// How many columns.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The columns in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        let mut r = Reader(self.fields);
        std::iter::from_fn(move || Field::read(&mut r))
    }
}

impl<'a> Field<'a> {
    fn read(r: &mut Reader<'a>) -> Option<Self> {
        Some(Self {
            name: r.cstr()?,
            table: r.u32()?,
            column: r.i16()?,
            type_oid: r.u32()?,
            type_size: r.i16()?,
            type_modifier: r.i32()?,
            format: Format::from_code(r.i16()?)?,
        })
    }
}

/// DataRow: one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRow<'a> {
    /// Its columns; `None` is SQL's NULL.
    pub values: Values<'a>,
}

impl<'a> DataRow<'a> {
    /// Reads the body of a `D`, checking every length.
    ///
    /// # Errors
    /// Columns that do not fit the body.
    pub fn read(body: &'a [u8]) -> Result<Self, Offence> {
        whole(b'D', body, |r| Some(Self { values: Values::read(r)? }))
    }
}

/// CopyInResponse, CopyOutResponse or CopyBothResponse: COPY begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResponse<'a> {
    /// How the data as a whole is written.
    pub format: Format,
    /// How the columns are written.
    pub columns: Formats<'a>,
}

impl<'a> CopyResponse<'a> {
    /// Reads the body of a `G`, `H` or `W`; `tag` says which, for the offence.
    ///
    /// # Errors
    /// A list that is not as long as it says, or an unknown format.
    pub fn read(tag: u8, body: &'a [u8]) -> Result<Self, Offence> {
        whole(tag, body, |r| {
            let format = Format::from_code(i16::from(r.u8()?))?;
            Some(Self { format, columns: Formats::read(r)? })
        })
    }
}
