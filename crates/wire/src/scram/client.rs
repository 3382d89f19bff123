//! The side that proves it knows the password, and checks that the server knows it too.

use super::{
    Binding, Failure, Keys, attribute, auth_message, checked_iterations, checked_nonce,
    crypto::{Hash, hmac, same, sha256, xor},
    decode_key, text,
};
use base64::{Engine, engine::general_purpose::STANDARD};

/// A client that has said its first message.
pub struct Client {
    nonce: String,
    first_bare: String,
    /// What goes into `c=`: the binding header and the bound data.
    bound: Vec<u8>,
}

/// A client that knows which salt and iteration count its password has on the server.
pub struct Challenged {
    salt: Vec<u8>,
    iterations: u32,
    first_bare: String,
    server_first: String,
    without_proof: String,
}

/// A client that has proved itself and awaits the server's proof.
pub struct ClientProved {
    server_key: Hash,
    auth_message: String,
}

impl Client {
    /// Begins: the first message goes into SASLInitialResponse, with the mechanism that fits `binding`. `nonce` must
    /// be fresh randomness, as from [`super::nonce`].
    pub fn start(nonce: &str, binding: Binding<'_>) -> (Self, Vec<u8>) {
        // PostgreSQL takes the user from the start-up packet and ignores the name here; libpq leaves it empty.
        Self::start_as("", nonce, binding)
    }

    fn start_as(user: &str, nonce: &str, binding: Binding<'_>) -> (Self, Vec<u8>) {
        let (header, data): (_, &[u8]) = match binding {
            Binding::Unsupported => ("n,,", &[]),
            Binding::Unused => ("y,,", &[]),
            Binding::EndPoint(hash) => ("p=tls-server-end-point,,", hash),
        };
        let first_bare = format!("n={user},r={nonce}");
        let message = format!("{header}{first_bare}").into_bytes();
        let bound = [header.as_bytes(), data].concat();
        (Self { nonce: nonce.to_owned(), first_bare, bound }, message)
    }

    /// Reads AuthenticationSASLContinue.
    ///
    /// # Errors
    /// A message that is not SCRAM's, does not continue this exchange, or asks for too many iterations.
    pub fn on_server_first(self, message: &[u8]) -> Result<Challenged, Failure> {
        let server_first = text(message)?;
        if server_first.starts_with("m=") {
            return Err(Failure::Unsupported);
        }
        let mut parts = server_first.split(',');
        let nonce = checked_nonce(attribute(parts.next(), "r")?)?;
        let salt = STANDARD.decode(attribute(parts.next(), "s")?).map_err(|_| Failure::Malformed)?;
        let iterations = checked_iterations(attribute(parts.next(), "i")?)?;
        // A server that adds nothing would let an old exchange be played again.
        if nonce.strip_prefix(self.nonce.as_str()).is_none_or(str::is_empty) {
            return Err(Failure::Nonce);
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.bound));
        let (first_bare, server_first) = (self.first_bare, server_first.to_owned());
        Ok(Challenged { salt, iterations, first_bare, server_first, without_proof })
    }
}

impl Challenged {
    /// The salt of the password on this server.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// How many hash rounds it has there.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The SASLResponse that proves knowledge of the password.
    ///
    /// # Errors
    /// [`Failure::OtherVerifier`] for keys that do not fit this salt and iteration count; nothing is said then.
    pub fn prove(self, keys: &Keys) -> Result<(ClientProved, Vec<u8>), Failure> {
        if !keys.fit(&self.salt, self.iterations) {
            return Err(Failure::OtherVerifier);
        }
        let auth_message = auth_message(&self.first_bare, &self.server_first, &self.without_proof);
        let proof = STANDARD.encode(proof(&keys.client_key, &auth_message));
        let message = format!("{},p={proof}", self.without_proof).into_bytes();
        Ok((ClientProved { server_key: keys.server_key, auth_message }, message))
    }
}

fn proof(client_key: &Hash, auth_message: &str) -> Hash {
    xor(client_key, &hmac(&sha256(client_key), auth_message.as_bytes()))
}

impl ClientProved {
    /// Checks AuthenticationSASLFinal. Without this check anybody could have played the server.
    ///
    /// # Errors
    /// A server that refuses, or does not know the password itself.
    pub fn on_server_final(self, message: &[u8]) -> Result<(), Failure> {
        let server_final = text(message)?;
        if server_final.starts_with("e=") {
            return Err(Failure::Refused);
        }
        let signature = attribute(server_final.split(',').next(), "v")?;
        let signature = decode_key(signature).ok_or(Failure::Malformed)?;
        let expected = hmac(&self.server_key, self.auth_message.as_bytes());
        if same(&signature, &expected) { Ok(()) } else { Err(Failure::WrongServer) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7677, section 3.
    #[test]
    fn the_rfc_example_is_reproduced() {
        let (client, first) = Client::start_as("user", "rOprNGfwEbeRWgbNEkqO", Binding::Unsupported);
        assert_eq!(first, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let server_first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let challenged = client.on_server_first(server_first).unwrap();
        let keys = Keys::from_password(b"pencil", challenged.salt(), challenged.iterations());
        let (proved, last) = challenged.prove(&keys).unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(String::from_utf8(last).unwrap(), expected);
        assert_eq!(proved.on_server_final(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
    }

    #[test]
    fn a_server_that_breaks_the_rules_gets_no_proof() {
        let answer = |message: &str| {
            let (client, _) = Client::start("abc", Binding::Unsupported);
            client.on_server_first(message.as_bytes()).map(|_| ()).unwrap_err()
        };
        assert_eq!(answer("r=abc,s=c2FsdA==,i=1"), Failure::Nonce);
        assert_eq!(answer("r=xyzabc,s=c2FsdA==,i=1"), Failure::Nonce);
        assert_eq!(answer("r=abcd,s=c2FsdA==,i=0"), Failure::Iterations);
        assert_eq!(answer("r=abcd,s=c2FsdA==,i=4000000000"), Failure::Iterations);
        assert_eq!(answer("m=x,r=abcd,s=c2FsdA==,i=1"), Failure::Unsupported);
        for bad in ["", "r=abcd", "r=abcd,s=!,i=1", "s=c2FsdA==,r=abcd,i=1", "r=abcd,s=c2FsdA==,i=x", "r=ab\u{e9}"] {
            assert_eq!(answer(bad), Failure::Malformed, "{bad}");
        }
    }
}
