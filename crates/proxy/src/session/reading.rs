//! How the bytes of a client's statements are to be read: by its encoding, and by the meaning of backslashes in its strings.

use std::borrow::Cow;

/// Encodings in which a byte of ASCII may be a part of another character (`pg_wchar.h`: those of clients only).
const UNSAFE: [&str; 7] = ["BIG5", "GB18030", "GBK", "JOHAB", "SHIFT_JIS_2004", "SJIS", "UHC"];

/// What the server has told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    /// `standard_conforming_strings`.
    standard_strings: bool,
    /// A byte of ASCII stands for itself wherever it stands.
    safe: bool,
}

impl Default for Reading {
    fn default() -> Self {
        Self { standard_strings: true, safe: true }
    }
}

impl Reading {
    /// The server reports a parameter.
    pub(super) fn on_parameter(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"standard_conforming_strings" => self.standard_strings = value == b"on",
            b"client_encoding" => self.safe = !UNSAFE.iter().any(|name| name.as_bytes() == value),
            _ => {}
        }
    }

    /// The text as far as its structure goes: characters beyond ASCII may come out as others, so that names with such are
    /// not known in the catalogue. `None` if not even the structure is certain.
    pub(super) fn text(self, bytes: &[u8]) -> Option<Cow<'_, str>> {
        if (!self.standard_strings && memchr::memchr(b'\\', bytes).is_some()) || (!self.safe && !bytes.is_ascii()) {
            return None;
        }
        Some(match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(bytes.iter().map(|byte| char::from(*byte)).collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_one_structure_is_read() {
        let mut reading = Reading::default();
        assert_eq!(reading.text("SELECT 'é\\'".as_bytes()).as_deref(), Some("SELECT 'é\\'"));
        assert_eq!(reading.text(b"SELECT '\xe9'").as_deref(), Some("SELECT 'é'"));
        reading.on_parameter(b"client_encoding", b"SJIS");
        assert_eq!(reading.text(b"SELECT '\x83\x5c'"), None);
        assert!(reading.text(b"SELECT 'x'").is_some());
        reading.on_parameter(b"client_encoding", b"UTF8");
        reading.on_parameter(b"standard_conforming_strings", b"off");
        assert_eq!(reading.text(b"SELECT 'a\\'"), None);
        assert!(reading.text(b"SELECT 'a'").is_some());
    }
}
