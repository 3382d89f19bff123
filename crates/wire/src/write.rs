//! Appending messages to a buffer.

/// Appends one message: `tag`, the length word, and what `fill` writes.
pub(crate) fn message(out: &mut Vec<u8>, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    counted(out, fill);
}

/// Appends a length word that counts itself and what `fill` writes.
pub(crate) fn counted(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    fill(out);
    let len = u32::try_from(out.len() - start).expect("a message is built from parts far below 4 GiB");
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

/// Appends `text` and a NUL. What follows a NUL inside `text` is left out, as C would: it must not become the
/// next field.
pub(crate) fn cstr(out: &mut Vec<u8>, text: impl AsRef<[u8]>) {
    let text = text.as_ref();
    out.extend_from_slice(&text[..memchr::memchr(0, text).unwrap_or(text.len())]);
    out.push(0);
}

/// Appends a 16-bit count.
pub(crate) fn count(out: &mut Vec<u8>, count: usize) {
    let count = u16::try_from(count).expect("lists in messages have at most 65,535 entries");
    out.extend_from_slice(&count.to_be_bytes());
}

/// Appends a value behind its length word, or the word -1 for SQL's NULL.
pub(crate) fn value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Some(bytes) => {
            let len = i32::try_from(bytes.len()).expect("a value is below 1 GiB, PostgreSQL's own limit");
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{cstr, message};

    #[test]
    fn lengths_count_themselves_and_not_the_tag() {
        let mut out = Vec::new();
        message(&mut out, b'Q', |out| cstr(out, "hi"));
        assert_eq!(out, b"Q\0\0\0\x07hi\0");
    }

    #[test]
    fn a_nul_inside_text_ends_it() {
        let mut out = Vec::new();
        cstr(&mut out, "user\0database");
        assert_eq!(out, b"user\0");
    }
}
