//! Byte streams: TCP with or without TLS, or Unix socket, and the buffer that reads fill. Knows nothing of PostgreSQL.

mod tls;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
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

/// How a peer is noticed that is gone without a word. What is zero is left to the system.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KeepAlive {
    /// After so long a silence it is asked,
    pub(crate) idle: Duration,
    /// then after this time again,
    pub(crate) interval: Duration,
    /// so often.
    pub(crate) count: u32,
    /// How long it may leave what was sent without acknowledgement.
    pub(crate) user_timeout: Duration,
}

impl KeepAlive {
    /// What the system does not take, it does in its own way.
    fn apply(self, stream: &TcpStream) {
        let mut asking = TcpKeepalive::new();
        if !self.idle.is_zero() {
            asking = asking.with_time(self.idle);
        }
        if !self.interval.is_zero() {
            asking = asking.with_interval(self.interval);
        }
        if self.count > 0 {
            asking = asking.with_retries(self.count);
        }
        let socket = SockRef::from(stream);
        let _ = socket.set_tcp_keepalive(&asking);
        #[cfg(target_os = "linux")]
        if !self.user_timeout.is_zero() {
            let _ = socket.set_tcp_user_timeout(Some(self.user_timeout));
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
    pub(crate) async fn connect(address: &Address, keep_alive: KeepAlive, limit: Duration) -> io::Result<Self> {
        let connecting = async {
            Ok(match address {
                Address::Tcp(host, port) => Self::tcp(TcpStream::connect((host.as_str(), *port)).await?, keep_alive),
                Address::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
            })
        };
        timeout(limit, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Wraps a connected TCP stream. Without Nagle's delay, since every write is a whole answer.
    pub(crate) fn tcp(stream: TcpStream, keep_alive: KeepAlive) -> Self {
        let _ = stream.set_nodelay(true);
        keep_alive.apply(&stream);
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

    /// Whether the peer has said something, or gone, unasked. The socket itself is asked: the runtime may not have heard yet.
    pub(crate) fn has_news(&self) -> bool {
        let socket = match self {
            Self::Tcp(stream, _) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        };
        let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
        self.has_decrypted() || !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The same as far as the runtime has heard. Costs no system call while the peer is quiet.
    pub(crate) fn has_known_news(&self) -> bool {
        !matches!(self.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether something can be read although the socket may be silent.
    pub(crate) fn has_decrypted(&self) -> bool {
        self.tls().is_some_and(Tls::has_decrypted)
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

impl Stream {
    /// The stream as something that the runtime does not watch; what is left here is of no more use. Fails when there is
    /// no descriptor to be had, and leaves the stream as it is.
    pub(crate) fn quieted(&mut self) -> io::Result<Quiet> {
        Ok(match self {
            Self::Tcp(stream, tls) => Quiet::Tcp(stream.as_fd().try_clone_to_owned()?, tls.take()),
            Self::Unix(stream) => Quiet::Unix(stream.as_fd().try_clone_to_owned()?),
        })
    }
}

/// A connected byte stream at rest: its descriptor, and its TLS session if it has one.
#[derive(Debug)]
pub(crate) enum Quiet {
    Tcp(OwnedFd, Option<Box<Tls>>),
    Unix(OwnedFd),
}

impl Quiet {
    /// Puts the stream into the runtime's care again.
    pub(crate) fn into_stream(self) -> io::Result<Stream> {
        Ok(match self {
            Self::Tcp(socket, tls) => Stream::Tcp(TcpStream::from_std(socket.into())?, tls),
            Self::Unix(socket) => Stream::Unix(UnixStream::from_std(socket.into())?),
        })
    }
}

impl AsRawFd for Quiet {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Tcp(socket, _) | Self::Unix(socket) => socket.as_raw_fd(),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Self::Tcp(stream, Some(tls)) = self {
            tls.close(stream);
        }
    }
}

/// Bytes read and not yet used. Takes memory with the first read, and grows only with what has really arrived.
#[derive(Debug)]
pub(crate) struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
    size: usize,
}

impl Buffer {
    /// A buffer that holds `size` bytes before it grows.
    pub(crate) const fn new(size: usize) -> Self {
        Self { data: Vec::new(), start: 0, end: 0, size }
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

    /// Gives the memory back, if nothing is in it.
    pub(crate) fn give_back(&mut self) {
        if self.filled().is_empty() {
            *self = Self::new(self.size);
        }
    }

    /// Reads once; 0 is the end of the stream. Safe to cancel.
    pub(crate) async fn read_from(&mut self, stream: &mut Stream) -> io::Result<usize> {
        if self.data.is_empty() {
            stream.readable().await?;
        }
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
            self.data.resize((self.data.len() * 2).max(self.size), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn silent_peers_are_asked_as_configured() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let keep_alive = KeepAlive {
            idle: Duration::from_secs(7),
            interval: Duration::from_secs(3),
            count: 4,
            user_timeout: Duration::from_secs(9),
        };
        let to = Address::Tcp(address.ip().to_string(), address.port());
        let stream = Stream::connect(&to, keep_alive, Duration::from_secs(5)).await.expect("connected");
        let Stream::Tcp(stream, _) = &stream else { panic!("not TCP") };
        let socket = SockRef::from(stream);
        assert!(socket.keepalive().expect("readable"));
        assert_eq!(socket.tcp_keepalive_time().expect("readable"), Duration::from_secs(7));
        assert_eq!(socket.tcp_keepalive_interval().expect("readable"), Duration::from_secs(3));
        assert_eq!(socket.tcp_keepalive_retries().expect("readable"), 4);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().expect("readable"), Some(Duration::from_secs(9)));
    }

    #[tokio::test]
    async fn news_are_known_before_the_runtime_has_heard() {
        let (near, far) = std::os::unix::net::UnixStream::pair().expect("a pair");
        near.set_nonblocking(true).expect("possible");
        let stream = Stream::Unix(UnixStream::from_std(near).expect("in the runtime's care"));
        assert!(!stream.has_news());
        // Nothing is awaited in between, so that the runtime cannot have looked.
        drop(far);
        assert!(stream.has_news());
    }
}
