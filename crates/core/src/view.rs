//! What the console shows of a server. Reads the cluster, decides nothing.

use crate::{Cluster, Epoch, Identity, Lsn, Micros, Role, ServerId, Watermark};

/// One server as the probes see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// What its start-up probe said; `None` while no probe connection lives.
    pub identity: Option<Identity>,
    /// The probe connection's generation.
    pub epoch: Option<Epoch>,
    /// How long the probe connection has lived.
    pub connected_for: Option<Micros>,
    /// A standby's newest known replay position.
    pub replay: Option<Lsn>,
    /// The primary's newest known position: normalised insert or flush, as `commit_visibility` says.
    pub head: Option<Lsn>,
    /// A standby's distance to the primary's newest known position, in bytes of log.
    pub lag_bytes: Option<u64>,
    /// How long ago, at most, the primary stood where this standby is now; `None` if it is longer than remembered.
    pub lag_time: Option<Micros>,
    /// How long ago the probe that gave the newest answer was sent.
    pub evidence_age: Option<Micros>,
    /// Whether the operator is draining it.
    pub draining: bool,
}

impl ServerView {
    /// The server's role, if known.
    #[must_use]
    pub fn role(&self) -> Option<Role> {
        self.identity.map(|identity| identity.role)
    }
}

impl Cluster {
    /// What is known about one server now; `None` for a place that does not exist.
    #[must_use]
    pub fn server_view(&self, server: ServerId, now: Micros) -> Option<ServerView> {
        let place = self.server(server)?;
        let live = place.live.as_ref();
        let role = live.map(|live| live.identity.role);
        let newest = live.and_then(|live| live.trail.newest());
        let replay = newest.filter(|_| role == Some(Role::Standby)).map(|sample| sample.position);
        Some(ServerView {
            identity: live.map(|live| live.identity),
            epoch: live.map(|live| live.epoch),
            connected_for: live.map(|live| now.since(live.connected_at)),
            replay,
            head: newest.filter(|_| role == Some(Role::Primary)).map(|sample| sample.position),
            lag_bytes: replay.and_then(|replay| Some(self.primary_head()?.bytes_since(replay))),
            lag_time: replay.and_then(|replay| self.lag_time(replay, now)),
            evidence_age: newest.map(|sample| now.since(sample.sent_at)),
            draining: place.draining,
        })
    }

    /// Whether some standby has been seen at this position or beyond.
    #[must_use]
    pub fn standby_has(&self, lsn: Lsn) -> bool {
        self.standbys().any(|(_, live)| live.trail.newest().is_some_and(|newest| newest.position >= lsn))
    }

    /// How many bytes of log a standby is known to lack at most before it shows everything up to `target`; `None` if
    /// nothing tells: it is away, or on another branch.
    #[must_use]
    pub fn missing_bytes(&self, standby: ServerId, target: Watermark) -> Option<u64> {
        let (_, live) = self.standbys().find(|(server, _)| *server == standby)?;
        let newest = live.trail.newest().filter(|_| live.identity.branch == target.branch)?;
        Some(target.lsn.bytes_since(newest.position))
    }

    /// The primary's newest known position.
    pub(crate) fn primary_head(&self) -> Option<Lsn> {
        Some(self.primary_trail()?.newest()?.position)
    }

    /// An upper bound of how old the state at `replay` is: the age of the last probe of the primary that it covers.
    fn lag_time(&self, replay: Lsn, now: Micros) -> Option<Micros> {
        let trail = self.primary_trail()?;
        let covered = trail.last_within(replay)?;
        let is_newest = trail.newest() == Some(covered);
        Some(if is_newest { Micros(0) } else { now.since(covered.sent_at) })
    }

    /// How long a standby that is at `replay` will probably take to `target`; `None` if nothing tells.
    ///
    /// The standby lacks something that the primary had `behind` ago, and `target` appeared there `asked` ago; a standby
    /// that keeps its distance gets there when `target` is as old. No clock of another machine and no rate: a paused or
    /// delayed standby is `behind` by a lot, an idle one by no more than the target itself: then nothing tells.
    pub(crate) fn catch_up(&self, replay: Lsn, target: Lsn, now: Micros) -> Option<Micros> {
        let trail = self.primary_trail()?;
        let behind = now.since(trail.first_beyond(replay)?.received_at);
        let asked = trail.first_at(target).map_or(Micros(0), |sample| now.since(sample.received_at));
        (behind > asked).then(|| behind.since(asked))
    }
}
