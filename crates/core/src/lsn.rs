//! A position in PostgreSQL's write-ahead log, and the one correction that makes an insert position reachable.
//! Knows nothing of timelines: two positions compare only where their histories agree (see `watermark`).

use std::fmt;
use std::str::FromStr;

/// Size of the long page header that opens every WAL segment (`SizeOfXLogLongPHD`, 64-bit builds).
const LONG_PAGE_HEADER: u64 = 40;
/// Size of the short header that opens every other WAL page (`SizeOfXLogShortPHD`, 64-bit builds).
const SHORT_PAGE_HEADER: u64 = 24;

/// A byte position in the write-ahead log; written and read as PostgreSQL does: `16/B374D848`.
///
/// ```
/// use highwater_core::Lsn;
/// let lsn: Lsn = "16/B374D848".parse().unwrap();
/// assert_eq!(lsn.to_string(), "16/B374D848");
/// assert_eq!(lsn, Lsn(0x16_B374_D848));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// The text is not an LSN: two hexadecimal numbers of at most eight digits with a slash between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadLsn;

impl Lsn {
    /// Steps back over a page header.
    ///
    /// `pg_current_wal_insert_lsn()` may stand behind a page header, where no record can end and no replay position can
    /// ever be. Stepping back leaves its meaning unchanged, because no record ends inside a header.
    /// `block_size` and `segment_size` are `wal_block_size` and `wal_segment_size` in bytes.
    #[must_use]
    pub fn normalised(self, block_size: u32, segment_size: u32) -> Lsn {
        let past = |size: u32, header: u64| size != 0 && self.0 % u64::from(size) == header;
        if past(segment_size, LONG_PAGE_HEADER) {
            Lsn(self.0 - LONG_PAGE_HEADER)
        } else if past(block_size, SHORT_PAGE_HEADER) {
            Lsn(self.0 - SHORT_PAGE_HEADER)
        } else {
            self
        }
    }

    /// Bytes of log between `earlier` and this position; 0 when `earlier` is not earlier.
    #[must_use]
    pub fn bytes_since(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

impl FromStr for Lsn {
    type Err = BadLsn;

    fn from_str(text: &str) -> Result<Self, BadLsn> {
        let (high, low) = text.split_once('/').ok_or(BadLsn)?;
        Ok(Lsn(u64::from(hex32(high)?) << 32 | u64::from(hex32(low)?)))
    }
}

/// As `pg_lsn_in`: one to eight hexadecimal digits, no sign (which `from_str_radix` would take).
fn hex32(text: &str) -> Result<u32, BadLsn> {
    let plain = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if plain { u32::from_str_radix(text, 16).map_err(|_| BadLsn) } else { Err(BadLsn) }
}

impl fmt::Display for BadLsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a WAL position: expected two hexadecimal numbers with a slash between them")
    }
}

impl std::error::Error for BadLsn {}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: u32 = 8192;
    const SEGMENT: u32 = 16 << 20;

    #[test]
    fn text_round_trips() {
        for lsn in [0, 1, 0xFFFF_FFFF, 0x1_0000_0000, 0x16_B374_D848, u64::MAX] {
            assert_eq!(Lsn(lsn).to_string().parse(), Ok(Lsn(lsn)));
        }
        assert_eq!("0/e210890".parse(), Ok(Lsn(0xE21_0890)));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "/", "0", "0/", "/0", "+1/0", "0/-1", "1/2/3", "123456789/0", "0/G", " 0/0", "0/0 "] {
            assert_eq!(text.parse::<Lsn>(), Err(BadLsn), "{text:?}");
        }
    }

    #[test]
    fn normalising_steps_over_headers_only() {
        let segment = u64::from(SEGMENT) * 7;
        let page = segment + u64::from(BLOCK) * 3;
        for (raw, expected) in [
            (segment + 40, segment),
            (page + 24, page),
            (page + 40, page + 40),
            // A short header's length behind a segment start lies inside the long header: nothing stands there, and
            // stepping back to the segment start is still harmless.
            (segment + 24, segment),
            (page + 25, page + 25),
            (page, page),
            (0, 0),
        ] {
            let once = Lsn(raw).normalised(BLOCK, SEGMENT);
            assert_eq!(once, Lsn(expected), "{raw:#x}");
            assert_eq!(once.normalised(BLOCK, SEGMENT), once);
        }
    }

    #[test]
    fn unknown_sizes_change_nothing() {
        assert_eq!(Lsn(40).normalised(0, 0), Lsn(40));
    }
}
