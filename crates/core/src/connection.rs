//! What a pooled server connection may be used for. Must not know how connections are made or kept.
//!
//! A server that crash-restarts may serve reads behind what it showed before, with an unchanged start time. Only the
//! end of every connection tells. Hence positions are known *per connection*: its own start-up probe, and answers of
//! the probe connection to probes sent after the connection existed. Such an answer proves that both connections lead
//! into the same run of the server, because a restart would have ended both. A position that the connection itself gave
//! would not do: no client's role may ask a standby which timeline it is of.

use crate::{Cluster, Epoch, Identity, Lsn, Seq, ServerId};

/// A pooled connection to a server, admitted after its own start-up probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ServerConnection {
    /// The server.
    pub server: ServerId,
    /// The probe connection that vouches for it.
    pub epoch: Epoch,
    /// When its start-up probe had been answered. No two connections share it.
    pub established: Seq,
    /// Which instance it leads to, for as long as it lives: its place may lead elsewhere by now.
    pub identity: Identity,
}

impl Cluster {
    /// Takes a new server connection into service. `identity` comes from the start-up probe made on this very connection.
    /// `None` when it leads to another instance than the probe connection does, or there is no live probe
    /// connection: then nothing can be known about it, and it must be closed.
    pub fn admit(&mut self, server: ServerId, identity: &Identity) -> Option<ServerConnection> {
        let established = self.next_seq();
        let live = self.live(server).filter(|live| live.identity == *identity)?;
        Some(ServerConnection { server, epoch: live.epoch, established, identity: live.identity })
    }

    /// Whether the connection's epoch still lives. A pool closes connections for which it does not.
    #[must_use]
    pub fn is_current(&self, connection: &ServerConnection) -> bool {
        self.live_in(connection.server, connection.epoch).is_some()
    }

    /// A lower bound of what a new snapshot on this connection shows; `None` before a probe has vouched for it, and when
    /// its epoch has ended.
    #[must_use]
    pub fn applied(&self, connection: &ServerConnection) -> Option<Lsn> {
        let newest = self.live_in(connection.server, connection.epoch)?.trail.newest();
        newest.filter(|sample| sample.sent > connection.established).map(|sample| sample.position)
    }

    /// Whether connections of this server and epoch that were established at the two points certainly lead into the same
    /// run of the server.
    pub(crate) fn same_run(&self, server: ServerId, epoch: Epoch, one: Seq, other: Seq) -> bool {
        let vouched = |live: &crate::cluster::Live| live.trail.newest().is_some_and(|s| s.sent > one.max(other));
        one == other || self.live_in(server, epoch).is_some_and(vouched)
    }
}
