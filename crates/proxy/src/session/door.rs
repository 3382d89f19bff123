//! What comes before the start-up packet: TLS offered, agreed on or begun at once, cancel requests passed on.

use highwater_wire::backend;
use highwater_wire::startup::{self, FirstPacket, Version};
use highwater_wire::{Offence, certificate::Certificate};
use std::net::IpAddr;

use super::login::Startup;
use crate::config::ClientTls;
use crate::error::{End, LoginFailure};
use crate::net::{Buffer, Stream};
use crate::shared::Proxy;
use crate::tls;

/// Every handshake of TLS 1.x begins with this byte; as a length word's first it would announce 369 MB.
const TLS_HANDSHAKE: u8 = 0x16;
/// What encryption requests are where none may stand any more: start-up packets of a version that nobody speaks.
const MISPLACED_SSL: Offence = Offence::ProtocolVersion { major: 1234, minor: 5679 };
const MISPLACED_GSS: Offence = Offence::ProtocolVersion { major: 1234, minor: 5680 };

/// A stream that has come as far as its start-up packet.
pub(super) struct Entrance {
    pub(super) startup: Startup,
    /// `None` on a Unix socket.
    pub(super) address: Option<IpAddr>,
    pub(super) encrypted: bool,
    /// What binds a login to the certificate that this client was shown.
    pub(super) end_point: Option<Vec<u8>>,
    /// The common name in the client's own certificate, if it showed one: signed by `client_ca`, or the handshake would
    /// have failed. Empty if there is none in it.
    pub(super) common_name: Option<String>,
}

/// Reads up to the start-up packet; `None` after a cancel request.
pub(super) async fn enter(proxy: &Proxy, stream: &mut Stream, input: &mut Buffer) -> Result<Option<Entrance>, End> {
    let mut end_point = None;
    let (mut tls_asked, mut gss_asked) = (false, false);
    loop {
        if !tls_asked && !gss_asked && input.filled().first() == Some(&TLS_HANDSHAKE) && offers_tls(proxy, stream) {
            tls_asked = true;
            end_point = begin_at_once(proxy, stream, input).await?;
        }
        let (startup, length) = match startup::first_packet(input.filled()).map_err(End::Offence)? {
            None => {
                more(stream, input).await?;
                continue;
            }
            Some((FirstPacket::Ssl, length)) if !tls_asked => {
                tls_asked = true;
                input.consume(length);
                end_point = agree(proxy, stream).await?;
                continue;
            }
            Some((FirstPacket::Gss, length)) if !gss_asked && stream.tls().is_none() => {
                gss_asked = true;
                input.consume(length);
                say(proxy, stream, startup::ENCRYPTION_DECLINED).await?;
                continue;
            }
            Some((FirstPacket::Ssl, _)) => return Err(End::Offence(MISPLACED_SSL)),
            Some((FirstPacket::Gss, _)) => return Err(End::Offence(MISPLACED_GSS)),
            Some((FirstPacket::Cancel { pid, key }, _)) => {
                cancel(proxy, pid, key).await;
                return Ok(None);
            }
            Some((FirstPacket::Startup { version, params }, length)) => {
                let spoken = version.min(Version::NEWEST);
                negotiate(proxy, stream, version, spoken, &params).await?;
                (Startup::read(spoken, &params)?, length)
            }
        };
        input.consume(length);
        return Entrance::new(proxy, stream, startup, end_point).map(Some);
    }
}

impl Entrance {
    fn new(proxy: &Proxy, stream: &Stream, startup: Startup, end_point: Option<Vec<u8>>) -> Result<Self, End> {
        let address = stream.peer().map(|peer| peer.ip());
        let encrypted = stream.tls().is_some();
        if !encrypted && address.is_some() && proxy.config.client_tls == ClientTls::Require {
            return Err(End::Login { user: startup.user, why: LoginFailure::TlsRequired });
        }
        let certificate = stream.tls().and_then(|session| session.peer_certificate());
        let common_name = certificate
            .map(|der| Certificate::read(&der).and_then(|read| read.common_name()).unwrap_or_default().to_owned());
        Ok(Self { startup, address, encrypted, end_point, common_name })
    }
}

fn offers_tls(proxy: &Proxy, stream: &Stream) -> bool {
    proxy.tls.is_some() && matches!(stream, Stream::Tcp(..))
}

/// Answers SSLRequest, and shakes hands if the answer is yes; what binds logins to the certificate comes back.
async fn agree(proxy: &Proxy, stream: &mut Stream) -> Result<Option<Vec<u8>>, End> {
    match &proxy.tls {
        Some(tls) if offers_tls(proxy, stream) => {
            let tls = tls.current();
            say(proxy, stream, startup::TLS_ACCEPTED).await?;
            Box::pin(stream.start_tls(tls.session().map_err(End::Handshake)?, &[])).await.map_err(End::Handshake)?;
            Ok(tls.end_point.clone())
        }
        _ => {
            say(proxy, stream, startup::ENCRYPTION_DECLINED).await?;
            Ok(None)
        }
    }
}

/// TLS from the first byte (PostgreSQL 17): the client must say by ALPN what it means to speak, so that no other protocol's
/// bytes can be passed off as ours.
async fn begin_at_once(proxy: &Proxy, stream: &mut Stream, input: &mut Buffer) -> Result<Option<Vec<u8>>, End> {
    let Some(files) = &proxy.tls else { return Ok(None) };
    let material = files.current();
    let early = input.filled().to_vec();
    input.consume(early.len());
    Box::pin(stream.start_tls(material.session().map_err(End::Handshake)?, &early)).await.map_err(End::Handshake)?;
    if !stream.tls().is_some_and(|session| session.speaks(tls::PROTOCOL)) {
        return Err(End::Offence(Offence::TlsWithoutProtocol));
    }
    Ok(material.end_point.clone())
}

async fn say(proxy: &Proxy, stream: &Stream, byte: u8) -> Result<(), End> {
    stream.write_all(&[byte], proxy.config.login_timeout.0).await.map_err(End::Broken)
}

/// Reads more of what a client says that has not logged in yet.
pub(super) async fn more(stream: &mut Stream, input: &mut Buffer) -> Result<(), End> {
    match input.read_from(stream).await {
        Ok(0) => Err(End::Closed),
        Ok(_) => Ok(()),
        Err(error) => Err(End::Broken(error)),
    }
}

/// Tells a client of a minor version that nobody knows yet, or with protocol options, what is spoken here, and no options.
async fn negotiate(
    proxy: &Proxy,
    stream: &Stream,
    asked: Version,
    spoken: Version,
    params: &startup::Params<'_>,
) -> Result<(), End> {
    let options: Vec<&str> = params.protocol_options().collect();
    if asked == spoken && options.is_empty() {
        return Ok(());
    }
    let mut out = Vec::new();
    backend::negotiate_protocol_version(&mut out, spoken, &options);
    stream.write_all(&out, proxy.config.login_timeout.0).await.map_err(End::Broken)
}

/// Carries out a cancel request, if it is for one of our clients.
async fn cancel(proxy: &Proxy, pid: u32, key: &[u8]) {
    let client = proxy.clients.lock().get(&pid).cloned();
    let Some(client) = client.filter(|client| *client.secret == *key) else { return };
    let limit = proxy.config.connect_timeout.0;
    Box::pin(client.signals.cancel(limit)).await;
    tokio::spawn(async move { client.signals.insist(limit).await });
}
