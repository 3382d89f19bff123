//! What a server keeps of a password: `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey` (`pg_authid.rolpassword`).

use super::{
    Failure, ITERATIONS_MAX, Keys, SCRAM_SHA_256, checked_iterations,
    crypto::{Hash, hmac, sha256},
    decode_key,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::fmt;

/// Enough to check a login and to prove oneself to the client, not enough to log in.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: Hash,
    pub(super) server_key: Hash,
}

impl Verifier {
    /// Reads PostgreSQL's text form; the salt may have any length but none.
    ///
    /// # Errors
    /// [`Failure::Malformed`], or [`Failure::Iterations`] for a count out of bounds.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        Self::fields(text).ok_or(Failure::Malformed).and_then(|(iterations, salt, stored_key, server_key)| {
            Ok(Self { iterations: checked_iterations(iterations)?, salt, stored_key, server_key })
        })
    }

    fn fields(text: &str) -> Option<(&str, Vec<u8>, Hash, Hash)> {
        let (head, keys) = text.strip_prefix(SCRAM_SHA_256)?.strip_prefix('$')?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?;
        Some((iterations, salt, decode_key(stored_key)?, decode_key(server_key)?))
    }

    /// The verifier of `password`. `iterations` is brought into bounds. PostgreSQL takes 16 random bytes of salt.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let iterations = iterations.clamp(1, ITERATIONS_MAX);
        let keys = Keys::from_password(password, salt, iterations);
        let stored_key = sha256(&keys.client_key);
        Self { iterations, salt: salt.to_vec(), stored_key, server_key: keys.server_key }
    }

    /// A verifier that no password fits, for a user who does not exist: the same for the same user and `seed`, so
    /// that asking twice tells nothing. `iterations` and `salt_len` should be those of real users; `seed` is secret
    /// and lives as long as the process, or longer.
    pub fn mock(seed: &[u8; 32], user: &str, iterations: u32, salt_len: usize) -> Self {
        let derive = |purpose: &str| hmac(seed, format!("{purpose}\0{user}").as_bytes());
        let salt = (0..salt_len.div_ceil(32)).flat_map(|block| derive(&format!("salt {block}"))).take(salt_len);
        Self {
            iterations: iterations.clamp(1, ITERATIONS_MAX),
            salt: salt.collect(),
            stored_key: derive("stored key"),
            server_key: derive("server key"),
        }
    }

    /// The number of hash rounds.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The salt.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Whether `password` is the one.
    pub fn accepts(&self, password: &[u8]) -> bool {
        self.accepts_keys(&Keys::from_password(password, &self.salt, self.iterations))
    }

    /// Whether `keys` are of the one password: they still are if salt and password have not changed.
    pub fn accepts_keys(&self, keys: &Keys) -> bool {
        keys.fit(&self.salt, self.iterations) && super::crypto::same(&sha256(&keys.client_key), &self.stored_key)
    }

    /// The keys that belong to this verifier, given the client's.
    pub(super) fn into_keys(self, client_key: Hash) -> Keys {
        Keys { client_key, server_key: self.server_key, salt: self.salt, iterations: self.iterations }
    }
}

/// PostgreSQL's text form. A secret: whoever has it can try passwords, and pass for the server.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [salt, stored, server] =
            [&self.salt[..], &self.stored_key, &self.server_key].map(|bytes| STANDARD.encode(bytes));
        write!(f, "{SCRAM_SHA_256}${}:{salt}${stored}:{server}", self.iterations)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_comes_back() {
        let verifier = Verifier::from_password(b"secret", &[1; 32], 4096);
        assert_eq!(Verifier::parse(&verifier.to_string()).as_ref(), Ok(&verifier));
        assert!(verifier.accepts(b"secret") && !verifier.accepts(b"Secret"));
        assert!(!format!("{verifier:?}").contains("AQEB"));
    }

    #[test]
    fn other_text_is_no_verifier() {
        let good = Verifier::from_password(b"x", b"salt", 1).to_string();
        for bad in ["", "md5abc", "SCRAM-SHA-256$", &good[..good.len() - 1], &good.replace("c2FsdA==", "")] {
            assert_eq!(Verifier::parse(bad), Err(Failure::Malformed), "{bad}");
        }
        for count in ["0:", "1000001:"] {
            assert_eq!(Verifier::parse(&good.replace("1:", count)), Err(Failure::Iterations));
        }
    }

    #[test]
    fn a_mock_is_stable_by_user_and_seed() {
        let mock = |seed, user| Verifier::mock(&[seed; 32], user, 4096, 40);
        assert_eq!(mock(1, "ann"), mock(1, "ann"));
        assert_eq!(mock(1, "ann").salt().len(), 40);
        assert_ne!(mock(1, "ann").salt(), mock(1, "bob").salt());
        assert_ne!(mock(1, "ann").salt(), mock(2, "ann").salt());
    }
}
