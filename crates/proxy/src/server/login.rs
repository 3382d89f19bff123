//! Proving to a server who one is: with a password, with what PostgreSQL stores of one, or with keys that a client's own
//! login has revealed.

use std::sync::Arc;

use highwater_wire::backend::Authentication;
use highwater_wire::certificate::Certificate;
use highwater_wire::scram::{self, Binding, Challenged, Keys};
use highwater_wire::{frontend, md5};
use parking_lot::Mutex;

use super::Failure;
use crate::config::{ChannelBinding, Password, ServerUrl};
use crate::net::Stream;

/// With what to log in.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) secret: Secret,
    /// All start-up parameters, user and database included.
    pub(crate) parameters: Vec<(String, String)>,
}

/// What proves who one is.
#[derive(Clone, Debug, Default)]
pub(crate) enum Secret {
    /// Nothing is known; fine where the server asks for nothing.
    #[default]
    None,
    Password(Arc<KnownPassword>),
    /// `md5` and 32 digits, as PostgreSQL stores it.
    Md5(Arc<str>),
    Keys(Arc<Keys>),
}

/// A password, and its keys under the salt that was asked for last: the next login costs no hash rounds.
#[derive(Debug)]
pub(crate) struct KnownPassword {
    pub(crate) text: Password,
    keys: Mutex<Option<Arc<Keys>>>,
}

impl KnownPassword {
    pub(crate) fn new(text: Password) -> Self {
        Self { text, keys: Mutex::default() }
    }

    /// The keys under this salt. Hashing happens on a thread where it stops nobody.
    async fn keys(&self, salt: &[u8], iterations: u32) -> Result<Arc<Keys>, Failure> {
        if let Some(keys) = self.keys.lock().clone().filter(|keys| keys.fit(salt, iterations)) {
            return Ok(keys);
        }
        let (text, salt) = (self.text.clone(), salt.to_vec());
        let hashing = tokio::task::spawn_blocking(move || Keys::from_password(text.as_bytes(), &salt, iterations));
        let keys = Arc::new(hashing.await.map_err(|_| Failure::Authentication)?);
        *self.keys.lock() = Some(Arc::clone(&keys));
        Ok(keys)
    }
}

impl Secret {
    /// A password that is known as it is, if it is known.
    pub(crate) fn of(password: Option<&Password>) -> Self {
        password.map_or(Self::None, |text| Self::Password(Arc::new(KnownPassword::new(text.clone()))))
    }
}

impl Login {
    /// Logs `user` in to `database` with further start-up settings.
    pub(crate) fn new(user: &str, secret: Secret, database: &str, settings: &[(String, String)]) -> Self {
        let mut parameters = vec![("user".to_owned(), user.to_owned()), ("database".to_owned(), database.to_owned())];
        parameters.extend_from_slice(settings);
        Self { user: user.to_owned(), secret, parameters }
    }

    /// The login of the probing role.
    pub(crate) fn prober(url: &ServerUrl) -> Self {
        let name = ("application_name".to_owned(), "highwater probe".to_owned());
        Self::new(&url.user, Secret::of(url.password.as_ref()), &url.database, &[name])
    }

    /// The same for the replication protocol, which tells the timeline of a standby that receives nothing.
    pub(crate) fn replication(url: &ServerUrl) -> Self {
        let mut login = Self::prober(url);
        login.parameters.push(("replication".to_owned(), "database".to_owned()));
        login
    }
}

/// Where an exchange with a server stands.
///
/// ```text
///   Begun --AuthenticationSASL--> Started --Continue--> Proved --Final--> Bound
/// ```
pub(super) enum Exchange {
    Begun,
    Started {
        client: scram::Client,
        bound: bool,
    },
    Proved {
        client: scram::ClientProved,
        bound: bool,
    },
    /// The server has proved itself too; over a bound channel or not.
    Done {
        bound: bool,
    },
}

/// What the exchange needs to know of the connection.
pub(super) struct Channel {
    preference: ChannelBinding,
    encrypted: bool,
    /// The hash of the server's certificate.
    end_point: Option<Vec<u8>>,
}

impl Channel {
    pub(super) fn of(stream: &Stream, preference: ChannelBinding) -> Self {
        let certificate = stream.tls().and_then(|session| session.peer_certificate());
        let end_point = certificate.and_then(|der| Certificate::read(&der)?.end_point());
        Self { preference, encrypted: stream.tls().is_some(), end_point }
    }

    /// How to stand to binding, given whether the server offers it.
    fn binding(&self, offered: bool) -> Result<Binding<'_>, Failure> {
        match (&self.end_point, offered, self.preference) {
            (_, _, ChannelBinding::Disable) => Ok(Binding::Unsupported),
            (Some(hash), true, _) => Ok(Binding::EndPoint(hash)),
            (_, _, ChannelBinding::Require) => Err(Failure::Unbound),
            // It tells the server that its offer, if there was one, got lost on the way.
            (Some(_), false, ChannelBinding::Prefer) => Ok(Binding::Unused),
            (None, _, ChannelBinding::Prefer) => Ok(Binding::Unsupported),
        }
    }
}

impl Exchange {
    /// Answers one step of the server's demand for proof; nothing to send is an empty answer.
    pub(super) async fn step(
        &mut self,
        step: &Authentication<'_>,
        login: &Login,
        channel: &Channel,
    ) -> Result<Vec<u8>, Failure> {
        let mut answer = Vec::new();
        match step {
            Authentication::Ok => match self {
                // A server that leaves out its own proof may not know the password.
                Self::Started { .. } | Self::Proved { .. } => return Err(Failure::Authentication),
                Self::Done { bound: true } => {}
                Self::Begun | Self::Done { bound: false } => {
                    if channel.preference == ChannelBinding::Require {
                        return Err(Failure::Unbound);
                    }
                }
            },
            // Whoever asks for it in the clear may be anybody; libpq gives it, and so do we, but never keys or hashes.
            Authentication::CleartextPassword => match &login.secret {
                Secret::Password(known) => frontend::password(&mut answer, &*known.text),
                _ => return Err(Failure::NoPassword(login.user.clone())),
            },
            Authentication::Md5Password { salt } => frontend::password(&mut answer, md5_response(login, *salt)?),
            Authentication::Sasl(mechanisms) => {
                let offered = channel.encrypted && mechanisms.contains(scram::SCRAM_SHA_256_PLUS);
                let binding = channel.binding(offered)?;
                let bound = matches!(binding, Binding::EndPoint(_));
                let mechanism = if bound { scram::SCRAM_SHA_256_PLUS } else { scram::SCRAM_SHA_256 };
                if !mechanisms.contains(mechanism) {
                    return Err(Failure::Authentication);
                }
                let (client, first) = scram::Client::start(&scram::nonce(&rand::random()), binding);
                frontend::sasl_initial_response(&mut answer, mechanism, &first);
                *self = Self::Started { client, bound };
            }
            Authentication::SaslContinue(data) => {
                let Self::Started { client, bound } = std::mem::replace(self, Self::Begun) else {
                    return Err(Failure::Authentication);
                };
                let (client, proof) = prove(client.on_server_first(data)?, login).await?;
                frontend::sasl_response(&mut answer, &proof);
                *self = Self::Proved { client, bound };
            }
            Authentication::SaslFinal(data) => {
                let Self::Proved { client, bound } = std::mem::replace(self, Self::Begun) else {
                    return Err(Failure::Authentication);
                };
                client.on_server_final(data)?;
                *self = Self::Done { bound };
            }
            Authentication::Other(_) => return Err(Failure::Authentication),
        }
        Ok(answer)
    }
}

fn md5_response(login: &Login, salt: [u8; 4]) -> Result<String, Failure> {
    let known = match &login.secret {
        Secret::Password(known) => Some(md5::response(&login.user, known.text.as_bytes(), salt)),
        Secret::Md5(stored) => md5::response_from_hash(stored, salt),
        // The role has had an MD5 password since the client proved one by SCRAM.
        Secret::Keys(_) => return Err(Failure::PasswordChanged(login.user.clone())),
        Secret::None => None,
    };
    known.ok_or_else(|| Failure::NoPassword(login.user.clone()))
}

async fn prove(challenged: Challenged, login: &Login) -> Result<(scram::ClientProved, Vec<u8>), Failure> {
    let keys = match &login.secret {
        Secret::Password(known) => known.keys(challenged.salt(), challenged.iterations()).await?,
        Secret::Keys(keys) => Arc::clone(keys),
        Secret::Md5(_) => return Err(Failure::PasswordChanged(login.user.clone())),
        Secret::None => return Err(Failure::NoPassword(login.user.clone())),
    };
    challenged.prove(&keys).map_err(|failure| match failure {
        scram::Failure::OtherVerifier => Failure::PasswordChanged(login.user.clone()),
        other => Failure::Scram(other),
    })
}
