//! Accepts clients and gives each a task of its own.

use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::sleep;

use crate::config::{Listen, SocketMode};
use crate::console;
use crate::lobby::{self, Lobby};
use crate::net::{KeepAlive, Stream};
use crate::session::Occasion;
use crate::session::login::{Arrival, arrive};
use crate::shared::Proxy;

/// After an accept failed (out of descriptors), how long others get to finish before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Socket {
    /// Binds; a Unix socket left behind by a process that is gone is replaced.
    pub(crate) async fn bind(listen: &Listen, port: u16, mode: SocketMode) -> anyhow::Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let listener = TcpListener::bind(address).await.with_context(|| format!("listen: {address}"))?;
                Ok(Self::Tcp(listener))
            }
            Listen::Unix(directory) => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                remove_dead_socket(&path);
                let listener = UnixListener::bind(&path).with_context(|| format!("listen: {}", path.display()))?;
                let permissions = std::fs::Permissions::from_mode(mode.0);
                std::fs::set_permissions(&path, permissions)
                    .with_context(|| format!("unix_socket_mode: {}", path.display()))?;
                Ok(Self::Unix(listener, path))
            }
        }
    }

    /// The TCP address, if it has one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(..) => None,
        }
    }

    /// Where it listens, for the log.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Tcp(_) => self.address().map_or_else(|| "tcp".into(), |address| address.to_string()),
            Self::Unix(_, path) => path.display().to_string(),
        }
    }

    async fn accept(&self, keep_alive: KeepAlive) -> std::io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::tcp(stream, keep_alive)),
            Self::Unix(listener, _) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn remove_dead_socket(path: &Path) {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

/// Accepts clients for as long as the process lives.
pub(crate) async fn accept_all(proxy: Arc<Proxy>, lobby: Arc<Lobby>, socket: Socket) {
    let keep_alive = proxy.config.keep_alive();
    loop {
        match socket.accept(keep_alive).await {
            Ok(stream) => lobby::spawn(serve(Arc::clone(&proxy), Arc::clone(&lobby), stream)),
            Err(error) => {
                tracing::warn!("cannot accept a client: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(proxy: Arc<Proxy>, lobby: Arc<Lobby>, stream: Stream) {
    let peer = stream.peer();
    match arrive(&proxy, stream).await {
        Ok(Arrival::Cancelled) => {}
        Ok(Arrival::Console(stream, input, _registered)) => {
            lobby::log(peer, &console::serve(&proxy, stream, input).await);
        }
        // In a task of its own, which is smaller than that of a login.
        Ok(Arrival::Client(client)) => lobby::spawn(lobby::attend(lobby, proxy, client, Occasion::Login)),
        Err(end) => lobby::log(peer, &end),
    }
}
