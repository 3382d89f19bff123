//! What clients' proofs are checked against, and what opens server connections in their names. Passwords need not be known
//! here: a login by SCRAM reveals the client's key, one by MD5 proves the stored hash, and either opens server connections
//! for as long as the role's password stays. Kept in memory only, and never printed.

use std::collections::HashMap;
use std::sync::Arc;

use highwater_wire::md5;
use highwater_wire::scram::{self, Keys, Verifier};
use parking_lot::Mutex;

use crate::config::Password;
use crate::server::{KnownPassword, Secret};

/// PostgreSQL's salt has so many bytes.
const SALT_BYTES: usize = 16;

/// What one user's proof is checked against.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    Scram(Verifier),
    /// `md5` and 32 digits.
    Md5(Arc<str>),
}

/// What PostgreSQL stores of a password, or the password itself.
#[derive(Clone, Debug)]
pub(crate) enum Stored {
    Scram(Verifier),
    Md5(Arc<str>),
    Plain(Password),
}

impl Stored {
    /// Reads a password as PostgreSQL's own commands take it: what looks like a stored one is one (`get_password_type`).
    pub(crate) fn read(text: &str) -> Self {
        if let Ok(verifier) = Verifier::parse(text) {
            Self::Scram(verifier)
        } else if md5::response_from_hash(text, [0; 4]).is_some() {
            Self::Md5(text.into())
        } else {
            Self::Plain(Password(text.to_owned()))
        }
    }
}

/// What is known of passwords.
#[derive(Debug)]
pub(crate) struct Credentials {
    by_user: Mutex<HashMap<String, Entry>>,
    /// Makes up verifiers for unknown users, so that nobody can tell them from known ones.
    seed: [u8; 32],
}

#[derive(Debug, Default)]
struct Entry {
    /// A password that is known as it is, with the verifier made of it. Hashing takes milliseconds, so each is hashed once.
    known: Option<(Arc<KnownPassword>, Option<Verifier>)>,
    /// What the last login revealed.
    learned: Secret,
}

impl Credentials {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { by_user: Mutex::default(), seed }
    }

    /// A proof that nobody can give, for users without a password.
    pub(crate) fn mock(&self, user: &str) -> Proof {
        Proof::Scram(Verifier::mock(&self.seed, user, scram::ITERATIONS_DEFAULT, SALT_BYTES))
    }

    /// What the user's proof is checked against.
    pub(crate) async fn proof(&self, user: &str, stored: Stored) -> Proof {
        let password = match stored {
            Stored::Scram(verifier) => return Proof::Scram(verifier),
            Stored::Md5(hash) => return Proof::Md5(hash),
            Stored::Plain(password) => password,
        };
        let known = self.known(user, &password);
        if let Some((_, Some(verifier))) = self.by_user.lock().get(user).and_then(|entry| entry.known.clone()) {
            return Proof::Scram(verifier);
        }
        let salt: [u8; SALT_BYTES] = rand::random();
        let hashing = tokio::task::spawn_blocking(move || {
            Verifier::from_password(password.as_bytes(), &salt, scram::ITERATIONS_DEFAULT)
        });
        let Ok(verifier) = hashing.await else { return self.mock(user) };
        if let Some((same, made)) = self.by_user.lock().get_mut(user).and_then(|entry| entry.known.as_mut())
            && Arc::ptr_eq(same, &known)
        {
            // Of two logins at once the first one's is kept.
            return Proof::Scram(made.get_or_insert(verifier).clone());
        }
        Proof::Scram(verifier)
    }

    /// The password with its keys; of another text than before, anew.
    fn known(&self, user: &str, password: &Password) -> Arc<KnownPassword> {
        let mut by_user = self.by_user.lock();
        let entry = by_user.entry(user.to_owned()).or_default();
        match &entry.known {
            Some((known, _)) if known.text == *password => Arc::clone(known),
            _ => {
                let known = Arc::new(KnownPassword::new(password.clone()));
                entry.known = Some((Arc::clone(&known), None));
                known
            }
        }
    }

    /// A login has revealed what opens server connections.
    pub(crate) fn learn(&self, user: &str, secret: Secret) {
        self.by_user.lock().entry(user.to_owned()).or_default().learned = secret;
    }

    /// What opens server connections as `user`; `stored` is what the configuration says.
    pub(crate) fn secret(&self, user: &str, stored: Option<Stored>) -> Secret {
        match stored {
            Some(Stored::Plain(password)) => Secret::Password(self.known(user, &password)),
            Some(Stored::Md5(hash)) => Secret::Md5(hash),
            Some(Stored::Scram(_)) | None => {
                self.by_user.lock().get(user).map(|entry| entry.learned.clone()).unwrap_or_default()
            }
        }
    }

    /// The primary has another password by now than `secret`: it opens nothing any more. What was learned since stays.
    pub(crate) fn forget(&self, user: &str, secret: &Secret) {
        if let Some(entry) = self.by_user.lock().get_mut(user)
            && is_same(&entry.learned, secret)
        {
            entry.learned = Secret::None;
        }
    }
}

fn is_same(one: &Secret, other: &Secret) -> bool {
    match (one, other) {
        (Secret::Keys(one), Secret::Keys(other)) => Arc::ptr_eq(one, other),
        (Secret::Md5(one), Secret::Md5(other)) => one == other,
        _ => false,
    }
}

/// Keys that a client's login has revealed.
pub(crate) fn keys(keys: Keys) -> Secret {
    Secret::Keys(Arc::new(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_passwords_are_told_from_plain_ones() {
        let verifier = Verifier::from_password(b"x", b"salt", 1).to_string();
        assert!(matches!(Stored::read(&verifier), Stored::Scram(_)));
        assert!(matches!(Stored::read("md59d792a3a8853c2411afb9163d088c036"), Stored::Md5(_)));
        for plain in ["", "md5", "md5x", "SCRAM-SHA-256$", "secret"] {
            assert!(matches!(Stored::read(plain), Stored::Plain(_)), "{plain}");
        }
    }

    #[test]
    fn only_the_refused_key_is_forgotten() {
        let credentials = Credentials::new([0; 32]);
        let [old, new] = [b"old", b"new"].map(|password| keys(Keys::from_password(password, b"salt", 1)));
        credentials.learn("ann", old.clone());
        credentials.learn("ann", new.clone());
        credentials.forget("ann", &old);
        assert!(is_same(&credentials.secret("ann", None), &new));
        credentials.forget("ann", &new);
        assert!(matches!(credentials.secret("ann", None), Secret::None));
    }

    #[tokio::test]
    async fn a_password_is_hashed_once_and_anew_when_it_changes() {
        let credentials = Credentials::new([0; 32]);
        let salt = async |text: &str| match credentials.proof("ann", Stored::read(text)).await {
            Proof::Scram(verifier) => verifier.salt().to_vec(),
            Proof::Md5(_) => panic!("a plain password is proved by SCRAM"),
        };
        let first = salt("one").await;
        assert_eq!(salt("one").await, first);
        assert_ne!(salt("two").await, first);
    }
}
