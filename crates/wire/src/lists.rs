//! Counted lists inside messages: type OIDs, format codes, values. Checked once, read without failure after that.

use crate::{Format, read::Reader};

/// A list of type OIDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oids<'a>(&'a [u8]);

impl<'a> Oids<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Option<Self> {
        let count = r.u16()?;
        r.take(usize::from(count) * 4).map(Oids)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len() / 4
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The OIDs in order; 0 means unspecified.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let mut reader = Reader(self.0);
        std::iter::from_fn(move || reader.u32())
    }
}

/// Format codes of parameters or columns: none (all text), one (for all), or one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats<'a>(&'a [u8]);

impl<'a> Formats<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Option<Self> {
        let count = r.u16()?;
        let codes = r.take(usize::from(count) * 2)?;
        let (pairs, _) = codes.as_chunks::<2>();
        pairs.iter().all(|pair| Format::from_code(i16::from_be_bytes(*pair)).is_some()).then_some(Formats(codes))
    }

    /// The format of value `index` (from 0); `None` if the list has one each and is shorter.
    pub fn of(&self, index: usize) -> Option<Format> {
        let (pairs, _) = self.0.as_chunks::<2>();
        match pairs {
            [] => Some(Format::Text),
            [one] => Format::from_code(i16::from_be_bytes(*one)),
            each => Format::from_code(i16::from_be_bytes(*each.get(index)?)),
        }
    }
}

/// Values behind their length words: parameters of a Bind or columns of a DataRow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values<'a> {
    count: u16,
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    /// Checks every length once, so that reading cannot fail.
    pub(crate) fn read(r: &mut Reader<'a>) -> Option<Self> {
        let count = r.u16()?;
        let start = r.0;
        for _ in 0..count {
            r.value()?;
        }
        Some(Values { count, bytes: &start[..start.len() - r.0.len()] })
    }

    /// How many.
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The values in order; `None` is SQL's NULL.
    pub fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + use<'a> {
        let mut reader = Reader(self.bytes);
        std::iter::from_fn(move || reader.value())
    }
}
