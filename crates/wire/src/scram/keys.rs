//! What proves that one knows a password without knowing it: kept from one login, good for the next.

use super::crypto::{Hash, hmac, salted_password};
use std::fmt;
use zeroize::Zeroize;

/// The keys of one password under one salt and iteration count. Secret, and wiped from memory when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Lets its owner log in wherever the password has this salt and iteration count.
    pub(super) client_key: Hash,
    /// Lets its owner pass for a server that knows the password.
    pub(super) server_key: Hash,
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
}

impl Keys {
    /// The keys of `password`. Costs `iterations` hash rounds.
    pub fn from_password(password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let mut salted = salted_password(password, salt, iterations);
        let (client_key, server_key) = (hmac(&salted, b"Client Key"), hmac(&salted, b"Server Key"));
        salted.zeroize();
        Self { client_key, server_key, salt: salt.to_vec(), iterations }
    }

    /// Whether a login with this salt and iteration count can be answered with these keys.
    pub fn fit(&self, salt: &[u8], iterations: u32) -> bool {
        self.iterations == iterations && self.salt == salt
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.client_key.zeroize();
        self.server_key.zeroize();
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(secret)")
    }
}
