//! Many clients that log in and then say little, by the protocol's few bytes: a driver would need more memory and time
//! than the proxies that are measured.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// So many log in at once: enough to keep a proxy busy on a few cores.
const THREADS: usize = 4;

/// Protocol 3.0, and the number of SSLRequest (PostgreSQL manual, "Message Formats").
const PROTOCOL_3_0: u32 = 196_608;
const SSL_REQUEST: u32 = 80_877_103;

/// Clients that are logged in. Dropped, they are gone.
pub(super) struct Crowd(Vec<Client>);

impl Crowd {
    /// Logs `count` clients in at the proxy on `port`, over TLS if there is what it takes.
    ///
    /// # Errors
    ///
    /// When one of them is refused.
    pub(super) fn log_in(port: u16, count: usize, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let share = |index: usize| count / THREADS + usize::from(index < count % THREADS);
        let group = |index| (0..share(index)).map(|_| Client::log_in(port, tls)).collect::<Result<Vec<_>>>();
        let groups = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|index| scope.spawn(move || group(index))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no client panics")).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self(groups.into_iter().flatten().collect()))
    }

    /// Lets each of them run one statement.
    pub(super) fn ask(&mut self) -> Result<()> {
        self.0.iter_mut().try_for_each(Client::ask)
    }
}

enum Client {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Client {
    fn log_in(port: u16, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let mut socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("cannot connect")?;
        let mut client = match tls {
            None => Self::Plain(socket),
            Some(config) => {
                socket.write_all(&[8_u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat())?;
                let mut answer = [0];
                socket.read_exact(&mut answer)?;
                ensure!(answer == *b"S", "the proxy has no TLS");
                let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
                let session = ClientConnection::new(Arc::clone(config), name)?;
                Self::Tls(Box::new(StreamOwned::new(session, socket)))
            }
        };
        let mut packet = PROTOCOL_3_0.to_be_bytes().to_vec();
        for text in ["user", "trusted", "database", "shop", "application_name", "idle", ""] {
            packet.extend_from_slice(text.as_bytes());
            packet.push(0);
        }
        client.send(None, &packet)?;
        client.until_ready()?;
        Ok(client)
    }

    fn ask(&mut self) -> Result<()> {
        self.send(Some(b'Q'), b"SELECT 1\0")?;
        self.until_ready()
    }

    fn send(&mut self, tag: Option<u8>, body: &[u8]) -> Result<()> {
        let length = u32::try_from(body.len() + 4)?;
        let mut message: Vec<u8> = tag.into_iter().collect();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(body);
        match self {
            Self::Plain(socket) => socket.write_all(&message)?,
            Self::Tls(stream) => stream.write_all(&message)?,
        }
        Ok(())
    }

    /// Reads on to ReadyForQuery.
    fn until_ready(&mut self) -> Result<()> {
        loop {
            let [tag, length @ ..] = self.read::<5>()?;
            let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
            self.read_into(&mut body)?;
            match tag {
                b'Z' => return Ok(()),
                b'E' => bail!("the proxy says: {}", String::from_utf8_lossy(&body)),
                _ => {}
            }
        }
    }

    fn read<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH]> {
        let mut bytes = [0; LENGTH];
        self.read_into(&mut bytes)?;
        Ok(bytes)
    }

    fn read_into(&mut self, bytes: &mut [u8]) -> Result<()> {
        match self {
            Self::Plain(socket) => socket.read_exact(bytes),
            Self::Tls(stream) => stream.read_exact(bytes),
        }
        .context("the proxy has closed the connection")
    }
}
