//! What clients' proofs are checked against. Hashing a password takes milliseconds, so each is hashed once.

use std::collections::HashMap;

use highwater_wire::scram::{self, Verifier};
use parking_lot::Mutex;

/// The verifiers of the users whose passwords are known.
#[derive(Debug)]
pub(crate) struct Verifiers {
    by_user: Mutex<HashMap<String, Verifier>>,
    /// Makes up verifiers for unknown users, so that nobody can tell them from known ones.
    seed: [u8; 32],
}

impl Verifiers {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { by_user: Mutex::default(), seed }
    }

    /// What the proof of `user` is checked against; `salt` is for a user who is hashed for the first time.
    pub(crate) fn of(&self, user: &str, password: Option<&str>, salt: [u8; 16]) -> Verifier {
        let Some(password) = password else {
            return Verifier::mock(&self.seed, user, scram::ITERATIONS_DEFAULT, salt.len());
        };
        if let Some(known) = self.by_user.lock().get(user) {
            return known.clone();
        }
        let verifier = Verifier::from_password(password.as_bytes(), &salt, scram::ITERATIONS_DEFAULT);
        self.by_user.lock().insert(user.to_owned(), verifier.clone());
        verifier
    }
}
