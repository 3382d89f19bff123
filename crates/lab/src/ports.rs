//! Free ports on the loopback address, kept for as long as a cluster lives.
//!
//! A port that was merely seen to be free may be taken before PostgreSQL binds it, or while a test keeps its server
//! down. So the port stays bound by us, without listening: Linux lets a second socket bind the same port if both carry
//! `SO_REUSEADDR` and nobody listens yet (socket(7)); PostgreSQL sets that flag, and everybody who asks the kernel for
//! any free port gets another one. The reservation ends with this process, however it ends.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};

/// A port that nobody else will be given.
#[derive(Debug)]
pub(crate) struct Reservation {
    _socket: Socket,
    port: u16,
}

impl Reservation {
    /// Reserves a port of the kernel's choice.
    pub(crate) fn any() -> Result<Self> {
        Self::bind().context("cannot reserve a port on 127.0.0.1")
    }

    /// The port's number.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn bind() -> std::io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        // The flag comes after the bind: with it, two reservations at once could share a port.
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        socket.set_reuse_address(true)?;
        let port = socket.local_addr()?.as_socket().map_or(0, |address| address.port());
        Ok(Self { _socket: socket, port })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_reserved_port_can_be_listened_on_and_is_given_to_nobody_else() {
        let reserved = Reservation::any().unwrap();
        assert!(
            Socket::new(Domain::IPV4, Type::STREAM, None)
                .unwrap()
                .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, reserved.port())).into())
                .is_err()
        );
        // The standard library's listener sets SO_REUSEADDR, as PostgreSQL's does.
        drop(TcpListener::bind((Ipv4Addr::LOCALHOST, reserved.port())).unwrap());
        TcpListener::bind((Ipv4Addr::LOCALHOST, reserved.port())).unwrap();
    }
}
