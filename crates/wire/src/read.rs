//! A cursor over one message body. Every step is checked; `None` means that the body ends too early.

use crate::Offence;

/// Reads a body to its very end.
#[inline]
pub(crate) fn whole<'a, T>(
    tag: u8,
    body: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Option<T>,
) -> Result<T, Offence> {
    let mut reader = Reader(body);
    match read(&mut reader) {
        Some(view) if reader.is_empty() => Ok(view),
        _ => Err(Offence::Malformed { tag }),
    }
}

/// What is left to read of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// The bytes before the next NUL, which is skipped.
    #[inline]
    pub(crate) fn cstr(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(0, self.0)?;
        let text = &self.0[..end];
        self.0 = &self.0[end + 1..];
        Some(text)
    }

    /// A value behind its length word; the outer `None` is an early end, the inner one SQL's NULL (-1).
    pub(crate) fn value(&mut self) -> Option<Option<&'a [u8]>> {
        match self.i32()? {
            -1 => Some(None),
            len => self.take(usize::try_from(len).ok()?).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Reader;

    #[test]
    fn every_read_stops_at_the_end() {
        let mut reader = Reader(b"ab\0\x01\x02\x03");
        assert_eq!(reader.cstr(), Some(&b"ab"[..]));
        assert_eq!(reader.cstr(), None);
        assert_eq!(reader.u32(), None);
        assert_eq!(reader.u16(), Some(0x0102));
        assert_eq!(reader.take(2), None);
        assert_eq!(reader.u8(), Some(3));
        assert!(reader.is_empty());
    }

    #[test]
    fn values_tell_null_from_a_broken_length() {
        assert_eq!(Reader(&[255, 255, 255, 255]).value(), Some(None));
        assert_eq!(Reader(&[255, 255, 255, 254]).value(), None);
        assert_eq!(Reader(&[127, 255, 255, 255, 1]).value(), None);
        assert_eq!(Reader(&[0, 0, 0, 1, 7]).value(), Some(Some(&[7u8][..])));
    }
}
