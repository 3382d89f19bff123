//! Byte streams: TCP with or without TLS, or Unix socket, and the buffer that reads fill. Knows nothing of PostgreSQL.

mod tls;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest, Ready};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

pub(crate) use self::tls::Tls;

/// A buffer that grew past this is given back as soon as it is empty.
const KEEP_BYTES_MAX: usize = 64 * 1024;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// The socket's file.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A connected byte stream.
#[derive(Debug)]
pub(crate) enum Stream {
    Tcp(TcpStream, Option<Box<Tls>>),
    Unix(UnixStream),
}

impl Stream {
    /// Connects within `limit`.
    pub(crate) async fn connect(address: &Address, limit: Duration) -> io::Result<Self> {
        let connecting = async {
            Ok(match address {
                Address::Tcp(host, port) => Self::tcp(TcpStream::connect((host.as_str(), *port)).await?),
                Address::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
            })
        };
        timeout(limit, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Wraps an accepted TCP stream. Without Nagle's delay, since every write is a whole answer.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        Self::Tcp(stream, None)
    }

    /// Shakes hands for TLS; `early` is what the peer has sent of it already. From the first moment on nothing leaves in
    /// the clear any more, whether it succeeds or not. A Unix socket is left as it is.
    pub(crate) async fn start_tls(&mut self, session: rustls::Connection, early: &[u8]) -> io::Result<()> {
        let Self::Tcp(stream, tls) = self else { return Ok(()) };
        tls.insert(Box::new(Tls::new(session))).handshake(stream, early).await
    }

    /// The TLS session, if there is one.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        match self {
            Self::Tcp(_, tls) => tls.as_deref(),
            Self::Unix(_) => None,
        }
    }

    /// The peer's address, if it has one.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream, _) => stream.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, None) => stream.read(into).await,
            Self::Tcp(stream, Some(tls)) => tls.read(stream, into).await,
            Self::Unix(stream) => stream.read(into).await,
        }
    }

    /// Whether the peer has said something, or gone, unasked. Costs no system call while it is quiet.
    pub(crate) fn has_news(&self) -> bool {
        !matches!(self.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Waits until the stream can be read or written.
    pub(crate) async fn ready(&self) -> io::Result<Ready> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(_, Some(tls)) if tls.has_decrypted() => Ok(tls::BOTH),
            Self::Tcp(stream, _) => stream.ready(both).await,
            Self::Unix(stream) => stream.ready(both).await,
        }
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, None) => stream.try_read(into),
            Self::Tcp(stream, Some(tls)) => tls.try_read(stream, into),
            Self::Unix(stream) => stream.try_read(into),
        }
    }

    /// Writes what can be written at once; 0 when that is nothing.
    pub(crate) fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, None) => stream.try_write(bytes),
            Self::Tcp(stream, Some(tls)) => tls.try_write(stream, bytes),
            Self::Unix(stream) => stream.try_write(bytes),
        }
    }

    /// Waits until there may be something to read.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(_, Some(tls)) if tls.has_decrypted() => Ok(()),
            Self::Tcp(stream, _) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
        }
    }

    /// Whether the peer has gone, or will say nothing more, whatever of it is still to be read.
    pub(crate) async fn has_ended(&self) -> bool {
        let ready = match self {
            Self::Tcp(stream, _) => stream.ready(Interest::READABLE).await,
            Self::Unix(stream) => stream.ready(Interest::READABLE).await,
        };
        ready.map_or(true, |ready| ready.is_read_closed())
    }

    /// Says that nothing will follow.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream, _) => stream.shutdown().await,
            Self::Unix(stream) => stream.shutdown().await,
        }
    }

    async fn writable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream, _) => stream.writable().await,
            Self::Unix(stream) => stream.writable().await,
        }
    }

    /// Writes all of `bytes`; a peer that takes nothing for `stall` ends it with `TimedOut`.
    pub(crate) async fn write_all(&self, mut bytes: &[u8], stall: Duration) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.try_write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    timeout(stall, self.writable()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                }
                Err(error) => return Err(error),
            }
        }
        if let Self::Tcp(stream, Some(tls)) = self {
            while !tls.try_flush(stream)? {
                timeout(stall, self.writable()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            }
        }
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Self::Tcp(stream, Some(tls)) = self {
            tls.close(stream);
        }
    }
}

/// Bytes read and not yet used. Grows only with what has really arrived.
#[derive(Debug)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
    size: usize,
}

impl Buffer {
    /// A buffer that holds `size` bytes before it grows.
    pub(crate) fn new(size: usize) -> Self {
        Self { data: vec![0; size], start: 0, end: 0, size }
    }

    /// The bytes read and not yet consumed.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// Marks the first `count` bytes as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        debug_assert!(self.start <= self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.data.len() > KEEP_BYTES_MAX {
                *self = Self::new(self.size);
            }
        }
    }

    /// Reads once; 0 is the end of the stream. Safe to cancel.
    pub(crate) async fn read_from(&mut self, stream: &mut Stream) -> io::Result<usize> {
        self.make_room();
        let read = stream.read(&mut self.data[self.end..]).await?;
        self.end += read;
        Ok(read)
    }

    /// Reads what is there; `None` when that is nothing, 0 at the end of the stream.
    pub(crate) fn read_some(&mut self, stream: &Stream) -> io::Result<Option<usize>> {
        self.make_room();
        match stream.try_read(&mut self.data[self.end..]) {
            Ok(read) => {
                self.end += read;
                Ok(Some(read))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make_room(&mut self) {
        if self.end < self.data.len() {
            return;
        }
        if self.start > self.data.len() / 2 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else {
            self.data.resize(self.data.len() * 2, 0);
        }
    }
}
