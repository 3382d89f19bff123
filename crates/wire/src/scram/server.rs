//! The side that checks the client's proof and gives its own.

use super::{
    Binding, Failure, Keys, Verifier, attribute, auth_message, checked_nonce,
    crypto::{hmac, same, sha256, xor},
    decode_key, text,
};
use base64::{Engine, engine::general_purpose::STANDARD};

/// A server that has sent its challenge and awaits the proof.
pub struct Server {
    verifier: Verifier,
    nonce: String,
    client_first_bare: String,
    server_first: String,
    /// What `c=` must be.
    binding: String,
}

/// A proved login.
pub struct Login {
    /// What to send as AuthenticationSASLFinal.
    pub message: Vec<u8>,
    /// The client's key, recovered from its proof, and the server's: good for logging in as this user wherever the
    /// verifier is the same.
    pub keys: Keys,
}

impl Server {
    /// Answers the client's first message (of SASLInitialResponse) with AuthenticationSASLContinue. `nonce` must be
    /// fresh randomness, as from [`super::nonce`]; `binding` says which mechanism the client picked. For an unknown
    /// user take [`Verifier::mock`]: nothing here or later tells the difference.
    ///
    /// # Errors
    /// A message that is not SCRAM's, or that does not fit `binding`.
    pub fn start(
        verifier: Verifier,
        binding: Binding<'_>,
        nonce: &str,
        message: &[u8],
    ) -> Result<(Self, Vec<u8>), Failure> {
        let (header, client_first_bare) = split_header(text(message)?)?;
        let binding = expected_binding(header, binding)?;
        let client_nonce = client_nonce(client_first_bare)?;
        let nonce = format!("{client_nonce}{nonce}");
        let server_first = format!("r={nonce},s={},i={}", STANDARD.encode(&verifier.salt), verifier.iterations);
        let reply = server_first.clone().into_bytes();
        let client_first_bare = client_first_bare.to_owned();
        Ok((Self { verifier, nonce, client_first_bare, server_first, binding }, reply))
    }

    /// Checks the client's last message (a SASLResponse).
    ///
    /// # Errors
    /// [`Failure::WrongPassword`], or a message that is not SCRAM's or not of this exchange.
    pub fn on_client_final(self, message: &[u8]) -> Result<Login, Failure> {
        let client_final = text(message)?;
        let (without_proof, proof) = client_final.rsplit_once(",p=").ok_or(Failure::Malformed)?;
        let proof = decode_key(proof).ok_or(Failure::Malformed)?;
        let mut parts = without_proof.split(',');
        if attribute(parts.next(), "c")? != self.binding {
            return Err(Failure::ChannelBinding);
        }
        if attribute(parts.next(), "r")? != self.nonce {
            return Err(Failure::Nonce);
        }
        let auth_message = auth_message(&self.client_first_bare, &self.server_first, without_proof);
        let client_key = xor(&proof, &hmac(&self.verifier.stored_key, auth_message.as_bytes()));
        if !same(&sha256(&client_key), &self.verifier.stored_key) {
            return Err(Failure::WrongPassword);
        }
        let signature = hmac(&self.verifier.server_key, auth_message.as_bytes());
        let message = format!("v={}", STANDARD.encode(signature)).into_bytes();
        Ok(Login { message, keys: self.verifier.into_keys(client_key) })
    }
}

/// Splits the client's first message behind the second comma: binding header and bare message.
fn split_header(message: &str) -> Result<(&str, &str), Failure> {
    let (_, rest) = message.split_once(',').ok_or(Failure::Malformed)?;
    let (authzid, bare) = rest.split_once(',').ok_or(Failure::Malformed)?;
    match authzid {
        "" => Ok((&message[..message.len() - bare.len()], bare)),
        _ if authzid.starts_with("a=") => Err(Failure::Unsupported),
        _ => Err(Failure::Malformed),
    }
}

/// What `c=` must be in the last message, given the header of the first.
fn expected_binding(header: &str, binding: Binding<'_>) -> Result<String, Failure> {
    match (header, binding) {
        ("n,,", Binding::Unsupported | Binding::Unused) | ("y,,", Binding::Unsupported) => Ok(STANDARD.encode(header)),
        // The client says that no -PLUS was offered, but it was: somebody between us removed it.
        ("y,,", Binding::Unused) => Err(Failure::ChannelBinding),
        ("p=tls-server-end-point,,", Binding::EndPoint(hash)) => {
            Ok(STANDARD.encode([header.as_bytes(), hash].concat()))
        }
        ("n,," | "y,,", Binding::EndPoint(_)) => Err(Failure::ChannelBinding),
        _ if header.starts_with("p=") => Err(Failure::ChannelBinding),
        _ => Err(Failure::Malformed),
    }
}

/// The nonce of `n=user,r=nonce`; the user is ignored, as in PostgreSQL, and so are optional extensions.
fn client_nonce(bare: &str) -> Result<&str, Failure> {
    if bare.starts_with("m=") {
        return Err(Failure::Unsupported);
    }
    let mut parts = bare.split(',');
    attribute(parts.next(), "n")?;
    checked_nonce(attribute(parts.next(), "r")?)
}
