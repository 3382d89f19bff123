//! How a server is reached: its address, TLS as `sslmode` has it (libpq's meanings), and cancel requests by the same way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use highwater_wire::startup;
use tokio::time::{sleep, timeout};

use super::{Failure, STALL};
use crate::config::{ChannelBinding, ServerUrl, SslMode};
use crate::files::Watched;
use crate::net::{Address, Buffer, KeepAlive, Stream};
use crate::tls::{self, ToServer};

/// Where a server is, and how connections to it are encrypted.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    mode: SslMode,
    direct: bool,
    pub(super) binding: ChannelBinding,
    /// `None` where TLS is never used.
    tls: Option<Arc<Watched<ToServer>>>,
    keep_alive: KeepAlive,
}

/// One way of connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Plain,
    /// TLS, or else plain if the server has none.
    TlsIfOffered,
    Tls,
}

impl Endpoint {
    /// The endpoint of a URL.
    ///
    /// # Errors
    /// A certificate or key that cannot be read.
    pub(crate) fn new(url: &ServerUrl, keep_alive: KeepAlive) -> anyhow::Result<Self> {
        let tls = tls::to_server(url)?.map(Arc::new);
        let (mode, direct, binding) = (url.tls.mode, url.tls.direct, url.tls.binding);
        Ok(Self { address: url.address.clone(), mode, direct, binding, tls, keep_alive })
    }

    /// Reads certificates and keys again if they have changed, or in any case.
    pub(crate) fn refresh(&self, in_any_case: bool) {
        if let Some(tls) = &self.tls {
            tls.refresh(in_any_case);
        }
    }

    /// The ways of connecting, in the order of libpq.
    pub(super) fn ways(&self) -> &'static [Way] {
        match (&self.tls, self.mode) {
            (None, _) | (_, SslMode::Disable) => &[Way::Plain],
            (_, SslMode::Allow) => &[Way::Plain, Way::Tls],
            (_, SslMode::Prefer) => &[Way::TlsIfOffered, Way::Plain],
            (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[Way::Tls],
        }
    }

    /// A stream to the server, as the way has it.
    pub(super) async fn connect(&self, way: Way, limit: Duration) -> Result<Stream, Failure> {
        let mut stream = Stream::connect(&self.address, self.keep_alive, limit).await?;
        if let (Some(tls), Way::Tls | Way::TlsIfOffered) = (&self.tls, way)
            && (self.direct || asked(&mut stream, way).await?)
        {
            let session = tls.current().session()?;
            stream.start_tls(session, &[]).await.map_err(Failure::Tls)?;
            let agreed = || stream.tls().is_some_and(|session| session.speaks(tls::PROTOCOL));
            if self.direct && !agreed() {
                return Err(Failure::Refused("the server does not take TLS from the first byte".into()));
            }
        }
        Ok(stream)
    }
}

/// Whether the next try may help: a handshake that failed, or a rule of `pg_hba.conf` that asks for the other way. A wrong
/// password is wrong either way.
pub(super) fn other_way_may_help(failure: &Failure) -> bool {
    match failure {
        Failure::Tls(_) => true,
        Failure::Said(said) => said.code == highwater_wire::SqlState::INVALID_AUTHORIZATION,
        _ => false,
    }
}

/// Asks for TLS; whether the server agrees.
async fn asked(stream: &mut Stream, way: Way) -> Result<bool, Failure> {
    let mut request = Vec::new();
    startup::ssl_request(&mut request);
    stream.write_all(&request, STALL).await?;
    let mut answer = Buffer::new(16);
    if answer.read_from(stream).await? == 0 {
        return Err(Failure::Closed);
    }
    match answer.filled() {
        [startup::TLS_ACCEPTED] => Ok(true),
        // What comes behind it in the clear was put there by somebody else (CVE-2021-23222).
        [startup::TLS_ACCEPTED, ..] => Err(Failure::Unreadable("unencrypted data behind the answer to SSLRequest")),
        [startup::ENCRYPTION_DECLINED] if way == Way::TlsIfOffered => Ok(false),
        [startup::ENCRYPTION_DECLINED] => {
            Err(Failure::Refused("the server has no TLS, and sslmode asks for it".into()))
        }
        _ => Err(Failure::Unreadable("the answer to SSLRequest")),
    }
}

/// Where what runs on a connection can be cancelled, and how many cancels are under way there.
pub(crate) struct CancelTarget {
    endpoint: Endpoint,
    /// A request goes the same way as the connection, so that nobody overhears the key.
    encrypted: bool,
    pid: u32,
    key: Vec<u8>,
    /// While this is not zero the connection must not serve anybody else.
    under_way: AtomicU32,
    /// A request was sent of which nobody knows whether it will still arrive: the connection must never serve anybody else.
    astray: AtomicBool,
}

/// One cancel request that is under way.
#[derive(Debug)]
pub(crate) struct CancelRequest {
    target: Arc<CancelTarget>,
    done: bool,
}

impl CancelTarget {
    pub(super) fn new(endpoint: &Endpoint, stream: &Stream, pid: u32, key: &[u8]) -> Self {
        let (endpoint, encrypted, key) = (endpoint.clone(), stream.tls().is_some(), key.to_vec());
        let (under_way, astray) = (AtomicU32::new(0), AtomicBool::new(false));
        Self { endpoint, encrypted, pid, key, under_way, astray }
    }

    /// Whether no cancel request can hit what is sent from now on.
    pub(crate) fn is_quiet(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0 && !self.astray.load(Ordering::Acquire)
    }

    /// Waits until all requests have arrived; whether that is certain.
    pub(crate) async fn when_quiet(&self) -> bool {
        while self.under_way.load(Ordering::Acquire) > 0 {
            // A request takes about as long.
            sleep(Duration::from_millis(1)).await;
        }
        self.is_quiet()
    }

    /// Begins a cancel request.
    pub(crate) fn begin(self: &Arc<Self>) -> CancelRequest {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        CancelRequest { target: Arc::clone(self), done: false }
    }

    async fn send(&self, limit: Duration) -> Result<(), Failure> {
        let way = if self.encrypted { Way::Tls } else { Way::Plain };
        let mut stream = self.endpoint.connect(way, limit).await?;
        let mut packet = Vec::new();
        startup::cancel_request(&mut packet, self.pid, &self.key);
        stream.write_all(&packet, STALL).await?;
        // The server closes once it has signalled the process.
        match Buffer::new(16).read_from(&mut stream).await? {
            0 => Ok(()),
            _ => Err(Failure::Unreadable("the answer to a cancel request")),
        }
    }
}

impl CancelRequest {
    /// Sends it, and waits until the server has taken it.
    pub(crate) async fn send(mut self, limit: Duration) {
        let outcome = timeout(limit, self.target.send(limit)).await;
        self.done = matches!(outcome, Ok(Ok(())));
        tracing::debug!(?outcome, pid = self.target.pid, "cancel request passed on");
    }
}

impl Drop for CancelRequest {
    fn drop(&mut self) {
        if !self.done {
            self.target.astray.store(true, Ordering::Release);
        }
        self.target.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl std::fmt::Debug for CancelTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelTarget").field("address", &self.endpoint.address).field("pid", &self.pid).finish()
    }
}
