//! MD5 passwords, for servers that still ask for them. Broken as a hash; here only to log in where nothing
//! better is offered.

use md5::{Digest, Md5};

/// The answer to an MD5 password request, from the password: `md5` and 32 hex digits.
///
/// ```
/// use highwater_wire::md5::{response, response_from_hash};
/// let stored = "md59d792a3a8853c2411afb9163d088c036";
/// assert_eq!(Some(response("ann", b"secret", [1, 2, 3, 4])), response_from_hash(stored, [1, 2, 3, 4]));
/// ```
pub fn response(user: &str, password: &[u8], salt: [u8; 4]) -> String {
    salted(&hex_md5(&[password, user.as_bytes()]), salt)
}

/// The same from what PostgreSQL stores (`md5` and 32 hex digits of password and user); `None` if `stored` is
/// nothing of the kind.
pub fn response_from_hash(stored: &str, salt: [u8; 4]) -> Option<String> {
    let digits = stored.strip_prefix("md5")?;
    let is_hash = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_hash.then(|| salted(digits, salt))
}

/// Whether a client's `response` proves the password behind `stored`, in a time that does not depend on where it differs.
pub fn accepts(stored: &str, salt: [u8; 4], response: &[u8]) -> bool {
    response_from_hash(stored, salt).is_some_and(|expected| {
        let difference = expected.bytes().zip(response).fold(0, |sum, (x, y)| std::hint::black_box(sum | (x ^ y)));
        expected.len() == response.len() && std::hint::black_box(difference) == 0
    })
}

fn salted(digits: &str, salt: [u8; 4]) -> String {
    format!("md5{}", hex_md5(&[digits.as_bytes(), &salt]))
}

fn hex_md5(parts: &[&[u8]]) -> String {
    let hash = parts.iter().fold(Md5::new(), Md5::chain_update).finalize();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stored_hash_is_accepted() {
        assert!(response_from_hash("md5", [0; 4]).is_none());
        assert!(response_from_hash("SCRAM-SHA-256$4096:c2FsdA==$a:b", [0; 4]).is_none());
        assert!(response_from_hash(&format!("md5{}", "0".repeat(32)), [0; 4]).is_some());
    }

    #[test]
    fn a_response_proves_the_password() {
        let stored = "md59d792a3a8853c2411afb9163d088c036";
        let right = response("ann", b"secret", [7; 4]);
        assert!(accepts(stored, [7; 4], right.as_bytes()));
        assert!(!accepts(stored, [8; 4], right.as_bytes()));
        assert!(!accepts(stored, [7; 4], &right.as_bytes()[..34]));
        assert!(!accepts(stored, [7; 4], response("ann", b"Secret", [7; 4]).as_bytes()));
    }
}
