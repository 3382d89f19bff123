//! Whether a client may come in, and the proof that it is who it says: the list of who may connect, certificates, SCRAM and
//! MD5. What the proof reveals opens server connections later.

use std::sync::Arc;

use highwater_wire::frontend::{Password, SaslInitialResponse};
use highwater_wire::scram::{self, Binding, Verifier};
use highwater_wire::{backend, frame, md5};

use super::door::{Entrance, more};
use crate::config::{Auth, Caller, ClientCert};
use crate::credentials::{Proof, keys};
use crate::error::{End, LoginFailure};
use crate::net::{Buffer, Stream};
use crate::roles;
use crate::server::Secret;
use crate::shared::Proxy;

/// Asks for proof, and takes it; what comes back is why not.
pub(super) async fn authenticate(
    proxy: &Arc<Proxy>,
    stream: &mut Stream,
    input: &mut Buffer,
    entrance: &Entrance,
) -> Result<(), End> {
    let user = &entrance.startup.user;
    let failure = |why| End::Login { user: user.clone(), why };
    let method = admit(proxy, entrance).map_err(failure)?;
    let mut asking = Asking { proxy, stream, input, entrance };
    match method {
        Auth::Trust => Ok(()),
        Auth::Cert if is_named(proxy, entrance) => Ok(()),
        Auth::Cert => Err(failure(LoginFailure::WrongCertificate(entrance.common_name.clone()))),
        Auth::Reject => Err(failure(LoginFailure::Rejected(entrance.address, entrance.encrypted))),
        Auth::Scram => match roles::proof(proxy, user).await.map_err(failure)? {
            Some(Proof::Scram(verifier)) => asking.scram(verifier, true).await,
            Some(Proof::Md5(stored)) => asking.md5(&stored).await,
            // The same questions as to anybody else: who does not exist is nobody's business.
            None => match proxy.credentials.mock(user) {
                Proof::Scram(verifier) => asking.scram(verifier, false).await,
                Proof::Md5(_) => Err(failure(LoginFailure::NoPassword)),
            },
        },
    }
}

/// The method by which this client proves who it is, if it may come in at all.
fn admit(proxy: &Proxy, entrance: &Entrance) -> Result<Auth, LoginFailure> {
    let Entrance { startup, address, encrypted, .. } = entrance;
    let caller = Caller { user: &startup.user, database: &startup.database, address: *address, encrypted: *encrypted };
    let method = proxy.config.method(&caller).ok_or_else(|| LoginFailure::NotListed {
        database: startup.database.clone(),
        address: *address,
        encrypted: *encrypted,
    })?;
    // As `clientcert` of pg_hba.conf, which stands in lines for TCP only.
    let wanted = proxy.config.client_cert;
    if wanted >= ClientCert::VerifyCa && address.is_some() && method != Auth::Reject {
        if entrance.common_name.is_none() {
            return Err(LoginFailure::NoCertificate);
        }
        if wanted == ClientCert::VerifyFull && !is_named(proxy, entrance) {
            return Err(LoginFailure::WrongCertificate(entrance.common_name.clone()));
        }
    }
    Ok(method)
}

fn is_named(proxy: &Proxy, entrance: &Entrance) -> bool {
    entrance
        .common_name
        .as_ref()
        .is_some_and(|name| !name.is_empty() && proxy.config.names_user(name, &entrance.startup.user))
}

/// A conversation with a client about its proof.
struct Asking<'a> {
    proxy: &'a Arc<Proxy>,
    stream: &'a mut Stream,
    input: &'a mut Buffer,
    entrance: &'a Entrance,
}

impl Asking<'_> {
    fn failure(&self, why: LoginFailure) -> End {
        End::Login { user: self.entrance.startup.user.clone(), why }
    }

    /// SCRAM-SHA-256, bound to the channel where there is one that can be bound to and the client knows how.
    async fn scram(&mut self, verifier: Verifier, is_real: bool) -> Result<(), End> {
        let end_point = self.entrance.end_point.as_deref();
        let both = [scram::SCRAM_SHA_256_PLUS, scram::SCRAM_SHA_256];
        let offered = if end_point.is_some() { &both[..] } else { &both[1..] };
        let mut out = Vec::new();
        backend::authentication_sasl(&mut out, offered);
        let first = self.ask(&mut out).await?;
        let initial = SaslInitialResponse::read(&first)
            .ok()
            .filter(|initial| offered.iter().any(|mechanism| mechanism.as_bytes() == initial.mechanism));
        let initial = initial.ok_or_else(|| self.failure(LoginFailure::UnexpectedMessage))?;
        let binding = match end_point {
            Some(hash) if initial.mechanism == scram::SCRAM_SHA_256_PLUS.as_bytes() => Binding::EndPoint(hash),
            Some(_) => Binding::Unused,
            None => Binding::Unsupported,
        };
        let nonce = scram::nonce(&rand::random());
        let response = initial.response.unwrap_or_default();
        let (server, challenge) = scram::Server::start(verifier, binding, &nonce, response)
            .map_err(|why| self.failure(LoginFailure::Scram(why)))?;
        backend::authentication_sasl_continue(&mut out, &challenge);
        let last = self.ask(&mut out).await?;
        let login = server.on_client_final(&last).map_err(|why| match why {
            scram::Failure::WrongPassword if !is_real => self.failure(LoginFailure::NoPassword),
            scram::Failure::WrongPassword => self.wrong_password(),
            other => self.failure(LoginFailure::Scram(other)),
        })?;
        backend::authentication_sasl_final(&mut out, &login.message);
        self.proxy.credentials.learn(&self.entrance.startup.user, keys(login.keys));
        self.tell(&out).await
    }

    async fn md5(&mut self, stored: &Arc<str>) -> Result<(), End> {
        let salt = rand::random();
        let mut out = Vec::new();
        backend::authentication_md5_password(&mut out, salt);
        let body = self.ask(&mut out).await?;
        let response = Password::read(&body).map_err(|_| self.failure(LoginFailure::UnexpectedMessage))?;
        if !md5::accepts(stored, salt, response.password) {
            return Err(self.wrong_password());
        }
        self.proxy.credentials.learn(&self.entrance.startup.user, Secret::Md5(Arc::clone(stored)));
        Ok(())
    }

    fn wrong_password(&self) -> End {
        roles::doubt(self.proxy, &self.entrance.startup.user);
        self.failure(LoginFailure::WrongPassword)
    }

    async fn tell(&mut self, out: &[u8]) -> Result<(), End> {
        self.stream.write_all(out, self.proxy.config.login_timeout.0).await.map_err(End::Broken)
    }

    /// Sends what stands in `out` and reads the body of the password message that must follow.
    async fn ask(&mut self, out: &mut Vec<u8>) -> Result<Vec<u8>, End> {
        self.tell(out).await?;
        out.clear();
        loop {
            let filled = self.input.filled();
            if let Some(header) = frame::header_within(filled, frame::AUTH_MESSAGE_BYTES_MAX).map_err(End::Offence)?
                && header.len <= filled.len()
            {
                let body = filled[5..header.len].to_vec();
                let expected = header.tag == b'p';
                self.input.consume(header.len);
                return if expected { Ok(body) } else { Err(self.failure(LoginFailure::UnexpectedMessage)) };
            }
            more(self.stream, self.input).await?;
        }
    }
}
