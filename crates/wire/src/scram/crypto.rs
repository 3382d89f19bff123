//! The few primitives that SCRAM is made of.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// A SHA-256 hash, or a key of its size.
pub(super) type Hash = [u8; 32];

pub(super) fn sha256(data: &[u8]) -> Hash {
    Sha256::digest(data).into()
}

pub(super) fn hmac(key: &[u8], data: &[u8]) -> Hash {
    keyed(key).chain_update(data).finalize().into_bytes().into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// RFC 5802's `Hi`: PBKDF2 for one block of output.
pub(super) fn salted_password(password: &[u8], salt: &[u8], iterations: u32) -> Hash {
    let keyed = keyed(&prepared(password));
    let first = keyed.clone().chain_update(salt).chain_update(1u32.to_be_bytes()).finalize();
    let mut round: Hash = first.into_bytes().into();
    let mut sum = round;
    for _ in 1..iterations {
        round = keyed.clone().chain_update(round).finalize().into_bytes().into();
        sum = xor(&sum, &round);
    }
    sum
}

/// SASLprep (RFC 4013); like PostgreSQL, a password that it does not allow, or that is not UTF-8, is taken as it is.
fn prepared(password: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    let prepared = std::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    match prepared {
        Some(text) if !text.is_empty() => text.into_owned().into_bytes().into(),
        _ => password.into(),
    }
}

pub(super) fn xor(a: &Hash, b: &Hash) -> Hash {
    std::array::from_fn(|i| a[i] ^ b[i])
}

/// Equality in a time that does not depend on where the two differ.
pub(super) fn same(a: &Hash, b: &Hash) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (x, y)| std::hint::black_box(sum | (x ^ y)));
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_prepared_as_postgresql_does() {
        // RFC 4013, section 3: a soft hyphen vanishes, a Roman numeral nine becomes two letters.
        assert_eq!(&*prepared("I\u{ad}X".as_bytes()), b"IX");
        assert_eq!(&*prepared("\u{2168}".as_bytes()), b"IX");
        // Prohibited (a control character) or not UTF-8: taken as it is.
        assert_eq!(&*prepared(b"a\x07"), b"a\x07");
        assert_eq!(&*prepared(b"\xff\xfe"), b"\xff\xfe");
        // Nothing would be left.
        assert_eq!(&*prepared("\u{ad}".as_bytes()), "\u{ad}".as_bytes());
    }

    #[test]
    fn equality_sees_every_byte() {
        for i in 0..32 {
            let mut other = [7; 32];
            other[i] ^= 1;
            assert!(!same(&[7; 32], &other));
        }
        assert!(same(&[7; 32], &[7; 32]));
    }
}
