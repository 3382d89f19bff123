//! Where messages begin and end: one type byte, a length word that counts itself, a body.
//!
//! Knows nothing of what bodies mean. The first packet of a connection has no type byte: see [`crate::startup`].

use crate::Offence;

/// The largest length word that PostgreSQL accepts or sends, in bytes (`PQ_LARGE_MESSAGE_LIMIT`: 1 GiB less two).
pub const MESSAGE_BYTES_MAX: u32 = 0x3fff_fffe;

/// The same for frontend messages that carry only a name or nothing (`PQ_SMALL_MESSAGE_LIMIT`).
pub const SMALL_MESSAGE_BYTES_MAX: u32 = 10_000;

/// The same for passwords and SASL responses (`PG_MAX_AUTH_TOKEN_LENGTH`).
pub const AUTH_MESSAGE_BYTES_MAX: u32 = 65_535;

/// The head of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The type byte.
    pub tag: u8,
    /// Bytes of the whole message, type byte and length word included: at least 5.
    pub len: usize,
}

/// The header at the start of `buf`, for messages from a server; `None` if fewer than five bytes are there.
///
/// # Errors
/// A length word below 4 or above [`MESSAGE_BYTES_MAX`].
#[inline]
pub fn header(buf: &[u8]) -> Result<Option<Header>, Offence> {
    header_within(buf, MESSAGE_BYTES_MAX)
}

/// As [`header`], with the largest length word that the caller accepts, in bytes.
///
/// # Errors
/// A length word below 4 or above `limit`.
#[inline]
pub fn header_within(buf: &[u8], limit: u32) -> Result<Option<Header>, Offence> {
    let &[tag, a, b, c, d, ..] = buf else { return Ok(None) };
    let length = u32::from_be_bytes([a, b, c, d]);
    if length < 4 {
        return Err(Offence::LengthTooSmall { tag, length });
    }
    if length > limit {
        return Err(Offence::LengthTooLarge { tag, length, limit });
    }
    Ok(Some(Header { tag, len: length as usize + 1 }))
}

/// As [`header`], for messages from a client: `limit` holds for all of them, and PostgreSQL's own smaller limits
/// for those that have one (`SocketBackend` in postgres.c).
///
/// # Errors
/// A type byte that no client sends (told from the first byte on), or a length out of bounds.
#[inline]
pub fn frontend_header(buf: &[u8], limit: u32) -> Result<Option<Header>, Offence> {
    let Some(&tag) = buf.first() else { return Ok(None) };
    let own = frontend_limit(tag).ok_or(Offence::UnknownTag { tag })?;
    header_within(buf, own.min(limit))
}

/// The largest length word PostgreSQL accepts in a frontend message of type `tag`, in bytes; `None` if no such type
/// exists.
#[inline]
pub const fn frontend_limit(tag: u8) -> Option<u32> {
    match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => Some(MESSAGE_BYTES_MAX),
        b'C' | b'D' | b'E' | b'H' | b'S' | b'X' | b'c' | b'f' => Some(SMALL_MESSAGE_BYTES_MAX),
        b'p' => Some(AUTH_MESSAGE_BYTES_MAX),
        _ => None,
    }
}

/// One complete message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The type byte.
    pub tag: u8,
    /// What follows the length word.
    pub body: &'a [u8],
    /// The whole message, ready to be forwarded.
    pub whole: &'a [u8],
}

/// The complete messages at the start of `buf`, sent by a server.
///
/// ```
/// let mut messages = highwater_wire::frame::messages(b"1\0\0\0\x04Z\0\0\0\x05IT\0");
/// assert_eq!(messages.by_ref().map(|m| m.unwrap().tag).collect::<Vec<_>>(), b"1Z");
/// assert_eq!(messages.rest(), b"T\0");
/// ```
pub fn messages(buf: &[u8]) -> Messages<'_> {
    Messages { rest: buf, side: Side::Backend, failed: false }
}

/// The complete messages at the start of `buf`, sent by a client; `limit` as in [`frontend_header`].
pub fn frontend_messages(buf: &[u8], limit: u32) -> Messages<'_> {
    Messages { rest: buf, side: Side::Frontend { limit }, failed: false }
}

/// An iterator over complete messages. Ends at the first incomplete one, and after the first offence.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
    side: Side,
    failed: bool,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Backend,
    Frontend { limit: u32 },
}

impl<'a> Messages<'a> {
    /// What has not been read yet: an incomplete message, or the offending bytes.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn header(&self) -> Result<Option<Header>, Offence> {
        match self.side {
            Side::Backend => header(self.rest),
            Side::Frontend { limit } => frontend_header(self.rest, limit),
        }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Offence>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.header() {
            Ok(None) => None,
            Ok(Some(Header { tag, len })) => {
                let (whole, rest) = self.rest.split_at_checked(len)?;
                self.rest = rest;
                Some(Ok(Message { tag, body: &whole[5..], whole }))
            }
            Err(offence) => {
                self.failed = true;
                Some(Err(offence))
            }
        }
    }
}

impl std::iter::FusedIterator for Messages<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_needs_five_bytes() {
        for len in 0..5 {
            assert_eq!(header(&b"Z\0\0\0\x05"[..len]), Ok(None));
        }
        assert_eq!(header(b"Z\0\0\0\x05"), Ok(Some(Header { tag: b'Z', len: 6 })));
    }

    #[test]
    fn lengths_out_of_bounds_are_offences() {
        assert_eq!(header(b"Z\0\0\0\x03"), Err(Offence::LengthTooSmall { tag: b'Z', length: 3 }));
        assert!(matches!(header(b"D\x40\0\0\0"), Err(Offence::LengthTooLarge { .. })));
        assert!(matches!(header(b"D\xff\xff\xff\xff"), Err(Offence::LengthTooLarge { .. })));
        assert_eq!(header_within(b"D\0\0\0\x64", 100), Ok(Some(Header { tag: b'D', len: 101 })));
        assert!(header_within(b"D\0\0\0\x65", 100).is_err());
    }

    #[test]
    fn client_messages_have_limits_by_type() {
        let limit = MESSAGE_BYTES_MAX;
        assert!(frontend_header(b"Q\0\x01\0\0", limit).is_ok());
        assert!(frontend_header(b"Q\0\x01\0\0", 1000).is_err());
        assert!(frontend_header(b"S\0\x01\0\0", limit).is_err());
        assert_eq!(frontend_header(b"\x16", limit), Err(Offence::UnknownTag { tag: 0x16 }));
    }

    #[test]
    fn an_offence_ends_the_iteration() {
        let mut messages = messages(b"1\0\0\0\x04Z\0\0\0\0");
        assert!(messages.next().is_some_and(|m| m.is_ok()));
        assert!(messages.next().is_some_and(|m| m.is_err()));
        assert!(messages.next().is_none());
        assert_eq!(messages.rest(), b"Z\0\0\0\0");
    }
}
