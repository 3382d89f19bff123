//! How much work a text would be for the grammar's scanner, where that is more than a pass over its bytes.
//!
//! The scanner takes a run of operator characters as one token and gives back what does not belong to it: behind each
//! `/*` all that follows, and of a run of signs all but the first (`scan.l`: `xcstart`, `operator`). So it reads the rest
//! of the run again and again: 160 kB of nested comments take it a minute.

/// In characters that are read again; about 30 ms. Honest texts stay far below: a banner of a thousand stars is one
/// comment.
const WORK_MAX: u64 = 10_000_000;

/// Whether the scanner would take unreasonably long.
pub(crate) fn is_excessive(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (mut work, mut at) = (0_u64, 0);
    while at < bytes.len() {
        let length = bytes[at..].iter().position(|byte| !is_operator(*byte)).unwrap_or(bytes.len() - at);
        work += length as u64 * restarts(&bytes[at..at + length]);
        if work > WORK_MAX {
            return true;
        }
        at += length.max(1);
    }
    false
}

/// How often the scanner may begin again within a run of operator characters. Two minus signs begin a comment, so that
/// every sign has a plus before or behind it.
fn restarts(run: &[u8]) -> u64 {
    let pluses = run.iter().filter(|byte| **byte == b'+').count();
    let comments = run.windows(2).filter(|pair| *pair == b"/*").count();
    (2 * pluses + comments) as u64
}

/// `op_chars` of `scan.l`.
fn is_operator(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_read_again_and_again_is_excessive() {
        for (piece, excessive) in [("/*", 4000), ("+", 4000), ("+-", 3000), ("/**/", 3000)] {
            assert!(is_excessive(&piece.repeat(excessive)), "{piece}");
            assert!(!is_excessive(&piece.repeat(300)), "{piece}");
        }
        for piece in ["/* a */", "*", "-", "=", "1 + 1", "|| - 1", "a+b+"] {
            assert!(!is_excessive(&piece.repeat(100_000)), "{piece}");
        }
    }
}
