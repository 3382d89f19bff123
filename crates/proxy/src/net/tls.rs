//! A TLS session over a TCP stream, with the same reading and writing as the stream's own: what can be done at once is
//! done, the rest waits for the socket. Knows nothing of certificates' meaning nor of PostgreSQL.
//!
//! rustls alone, and no asynchronous wrapper around it: the relay tries both directions at once, which a wrapper that is
//! polled by one task at a time does not offer.

use std::io::{self, IoSlice, Read, Write};

use parking_lot::Mutex;
use rustls::Connection;
use tokio::io::{Interest, Ready};
use tokio::net::TcpStream;

/// The session beside its socket. The lock is never contended: one task owns the stream.
#[derive(Debug)]
pub(crate) struct Tls(Mutex<State>);

#[derive(Debug)]
struct State {
    session: Connection,
    /// Bytes decrypted and not yet read: the socket's readiness says nothing of them.
    decrypted: usize,
}

impl Tls {
    /// A session that has yet to shake hands.
    pub(super) fn new(session: Connection) -> Self {
        Self(Mutex::new(State { session, decrypted: 0 }))
    }

    /// Shakes hands; `early` is what the peer has sent of it already.
    pub(super) async fn handshake(&self, socket: &TcpStream, mut early: &[u8]) -> io::Result<()> {
        while !early.is_empty() {
            let mut state = self.0.lock();
            state.session.read_tls(&mut early)?;
            state.process(socket)?;
        }
        loop {
            let (done, sent) = self.0.lock().advance(socket)?;
            if done && sent {
                return Ok(());
            }
            socket.ready(interest(sent)).await?;
        }
    }

    /// Reads, and meanwhile sends what is still to be sent.
    pub(super) async fn read(&self, socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.try_read(socket, into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            let sent = self.try_flush(socket)?;
            socket.ready(interest(sent)).await?;
        }
    }

    pub(super) fn try_read(&self, socket: &TcpStream, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        loop {
            match state.session.reader().read(into) {
                Ok(read) => {
                    state.decrypted = state.decrypted.saturating_sub(read);
                    return Ok(read);
                }
                // The protocol above knows where its messages end: a missing farewell cuts nothing off unnoticed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if state.session.read_tls(&mut Socket(socket))? == 0 {
                return Ok(0);
            }
            state.process(socket)?;
        }
    }

    /// Takes what can be taken; what the socket does not take at once is kept, and nothing more is taken before that has
    /// gone.
    pub(super) fn try_write(&self, socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        if !state.flush(socket)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let written = state.session.writer().write(bytes)?;
        state.flush(socket)?;
        Ok(written)
    }

    /// Whether all that was taken has gone.
    pub(super) fn try_flush(&self, socket: &TcpStream) -> io::Result<bool> {
        self.0.lock().flush(socket)
    }

    /// The stream can be read although the socket may be silent.
    pub(super) fn has_decrypted(&self) -> bool {
        self.0.lock().decrypted > 0
    }

    /// Says farewell, if the socket takes it at once.
    pub(super) fn close(&self, socket: &TcpStream) {
        let mut state = self.0.lock();
        state.session.send_close_notify();
        let _ = state.flush(socket);
    }

    /// The peer's own certificate in DER.
    pub(crate) fn peer_certificate(&self) -> Option<Vec<u8>> {
        self.0.lock().session.peer_certificates().and_then(|chain| chain.first()).map(|own| own.to_vec())
    }

    /// Whether both sides agreed by name on what is spoken inside.
    pub(crate) fn speaks(&self, protocol: &[u8]) -> bool {
        self.0.lock().session.alpn_protocol() == Some(protocol)
    }
}

impl State {
    /// One step of the handshake: whether it is over, and whether everything has gone.
    fn advance(&mut self, socket: &TcpStream) -> io::Result<(bool, bool)> {
        loop {
            let sent = self.flush(socket)?;
            if !self.session.is_handshaking() {
                return Ok((true, sent));
            }
            match self.session.read_tls(&mut Socket(socket)) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => self.process(socket)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((false, sent)),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes in what was read. On failure the peer gets the alert that says why.
    fn process(&mut self, socket: &TcpStream) -> io::Result<()> {
        match self.session.process_new_packets() {
            Ok(state) => {
                self.decrypted = state.plaintext_bytes_to_read();
                Ok(())
            }
            Err(error) => {
                let _ = self.flush(socket);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Sends what stands ready; whether nothing is left.
    fn flush(&mut self, socket: &TcpStream) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket(socket)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn interest(sent: bool) -> Interest {
    if sent { Interest::READABLE } else { Interest::READABLE | Interest::WRITABLE }
}

/// What readiness means where decrypted bytes wait: both directions may be tried.
pub(super) const BOTH: Ready = Ready::ALL;

/// The socket as rustls wants it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
