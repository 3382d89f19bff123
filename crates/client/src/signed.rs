//! Signs positions and knows its own signatures again, as Django's `TimestampSigner` does, so that a Django site and a Rust
//! service that share a secret take each other's. It must not know what it signs.
//!
//! Signed, because whoever can write positions can send all reads of a site to its primary. Source: `django.core.signing`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// What keeps these signatures apart from others that are made with the same secret.
const SALT: &str = "django_highwater";
const SEPARATOR: char = ':';
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Signs with one secret, and takes what older ones have signed.
///
/// ```
/// use std::time::Duration;
/// use highwater_client::Signer;
///
/// let signer = Signer::new("the SECRET_KEY of the site", ["the one before"])?;
/// let signed = signer.sign("default:AbsD5u", 1_700_000_000);
/// let (now, max_age) = (Duration::from_secs(1_700_000_300), Duration::from_secs(300));
/// let verified = signer.verify(&signed, now, max_age).unwrap();
/// assert_eq!((verified.text.as_str(), verified.at), ("default:AbsD5u", 1_700_000_000));
/// assert!(signer.verify(&signed, now + max_age, max_age).is_none());
/// # Ok::<(), highwater_client::EmptySecret>(())
/// ```
#[derive(Clone)]
pub struct Signer {
    /// The secret's first, then those of the fallbacks. Never printed: there is no Debug.
    keys: Vec<[u8; 32]>,
}

/// What somebody with the secret has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// What was signed.
    pub text: String,
    /// As of when, in seconds since the Unix epoch.
    pub at: u64,
}

/// A secret is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the secret that signs positions must not be empty")]
pub struct EmptySecret;

impl Signer {
    /// `secret` and `fallbacks` are Django's `SECRET_KEY` and `SECRET_KEY_FALLBACKS`.
    ///
    /// # Errors
    /// If one of them is empty: everybody could sign with that.
    pub fn new(secret: &str, fallbacks: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, EmptySecret> {
        let mut keys = vec![key(secret)?];
        for fallback in fallbacks {
            keys.push(key(fallback.as_ref())?);
        }
        Ok(Self { keys })
    }

    /// Signs as of `at`, in seconds since the Unix epoch.
    pub fn sign(&self, text: &str, at: u64) -> String {
        let dated = format!("{text}{SEPARATOR}{}", base62(at));
        let signature = URL_SAFE_NO_PAD.encode(mac(&self.keys[0], &dated).finalize().into_bytes());
        format!("{dated}{SEPARATOR}{signature}")
    }

    /// What was signed with one of the secrets, at most `max_age` before `now`, which is counted from the Unix epoch. `None`
    /// for everything else. Comparing takes the same time wherever a signature differs.
    pub fn verify(&self, signed: &str, now: Duration, max_age: Duration) -> Option<Verified> {
        let (dated, signature) = signed.rsplit_once(SEPARATOR)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.keys.iter().find(|key| mac(key, dated).verify_slice(&signature).is_ok())?;
        let (text, at) = dated.rsplit_once(SEPARATOR)?;
        let at = of_base62(at)?;
        let is_over = now.saturating_sub(Duration::from_secs(at)) > max_age;
        (!is_over).then(|| Verified { text: text.to_owned(), at })
    }
}

/// Django's `salted_hmac` hashes salt and secret to a key; its `Signer` adds a word of its own to the salt.
fn key(secret: &str) -> Result<[u8; 32], EmptySecret> {
    if secret.is_empty() {
        return Err(EmptySecret);
    }
    Ok(Sha256::new().chain_update(SALT).chain_update("signer").chain_update(secret).finalize().into())
}

fn mac(key: &[u8; 32], text: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.chain_update(text)
}

fn base62(mut number: u64) -> String {
    let mut digits = Vec::new();
    while number > 0 || digits.is_empty() {
        // Below 62, so it fits.
        digits.push(char::from(DIGITS[(number % 62) as usize]));
        number /= 62;
    }
    digits.iter().rev().collect()
}

fn of_base62(text: &str) -> Option<u64> {
    let value = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).map(|value| value as u64);
    let digits = text.bytes().map(value);
    digits.into_iter().try_fold(0_u64, |number, digit| number.checked_mul(62)?.checked_add(digit?))
}
