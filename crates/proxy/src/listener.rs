//! Accepts clients and gives each a task of its own. One client's panic ends one client.

use std::future::Future;
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
use crate::error::End;
use crate::net::Stream;
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

    async fn accept(&self) -> std::io::Result<Stream> {
        match self {
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::tcp(stream)),
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
pub(crate) async fn accept_all(proxy: Arc<Proxy>, socket: Socket) {
    loop {
        match socket.accept().await {
            Ok(stream) => drop(tokio::spawn(contained(serve(Arc::clone(&proxy), stream)))),
            Err(error) => {
                tracing::warn!("cannot accept a client: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Runs one client's task; a panic is logged as our bug and goes no further.
async fn contained(task: impl Future<Output = ()> + Send + 'static) {
    if let Err(error) = tokio::spawn(task).await
        && error.is_panic()
    {
        tracing::error!("a client's task panicked: this is a bug in Highwater");
    }
}

async fn serve(proxy: Arc<Proxy>, stream: Stream) {
    let peer = stream.peer();
    let end = match arrive(&proxy, stream).await {
        Ok(Arrival::Cancelled) => return,
        Ok(Arrival::Console(stream, input, info)) => {
            let end = console::serve(&proxy, stream, input).await;
            proxy.clients.lock().remove(&info.pid);
            end
        }
        Ok(Arrival::Client(client)) => {
            let pid = client.pid();
            // The registration must go even if the task panics.
            let _registered = Registered { proxy: Arc::clone(&proxy), pid };
            client.run().await
        }
        Err(end) => end,
    };
    match end {
        End::Closed => tracing::debug!(?peer, "client gone"),
        End::Login { .. }
        | End::Offence(_)
        | End::Handshake(_)
        | End::OutcomeUnknown(_)
        | End::ServerLost(_)
        | End::Stalled => {
            tracing::warn!(?peer, "{end}");
        }
        _ => tracing::info!(?peer, "{end}"),
    }
}

struct Registered {
    proxy: Arc<Proxy>,
    pid: u32,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.proxy.clients.lock().remove(&self.pid);
    }
}
