//! What servers say about themselves, and the short memory of it. Knows nothing of sessions or routing.

use crate::{Branch, Lsn, Micros, Seq, Timeline};
use std::collections::VecDeque;
use std::fmt;

/// A server's role, by `pg_is_in_recovery()`. An answer that cannot be read is no role at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Not in recovery.
    Primary,
    /// In recovery.
    Standby,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Primary => "primary",
            Role::Standby => "standby",
        })
    }
}

/// Which instance a connection leads to, by the start-up probe made on that very connection; never by host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// `system_identifier` of `pg_control_system()`.
    pub system_id: u64,
    /// The timeline the server is on, by its history: `IDENTIFY_SYSTEM` and `TIMELINE_HISTORY`, never `pg_control_*`, which
    /// are stale after a promotion.
    pub branch: Branch,
    /// The role.
    pub role: Role,
    /// `pg_postmaster_start_time()` in microseconds since the Unix epoch; tells instances apart, is never compared with
    /// a clock. Note that it does not change when a server crash-restarts.
    pub postmaster_start: i64,
    /// `wal_block_size`, bytes.
    pub block_size: u32,
    /// `wal_segment_size`, bytes.
    pub segment_size: u32,
}

/// An MVCC snapshot of the primary, by `pg_current_snapshot()`. On a standby its list of running transactions is empty,
/// so only a primary's is of use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MvccSnapshot {
    /// Every transaction below has ended.
    pub xmin: u64,
    /// No transaction from here on had ended.
    pub xmax: u64,
    /// Transactions between the two that were running; ascending.
    pub xip: Vec<u64>,
}

impl MvccSnapshot {
    /// Whether the transaction had ended when the snapshot was taken: what it committed is visible in it.
    #[must_use]
    pub fn shows(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.xip.contains(&xid))
    }
}

/// A standby's answer to a probe. The shell must read `replay` first and the snapshot in a *later* statement: inside one
/// statement the snapshot is the older of the two, and the witness check would miss what was applied in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StandbyAnswer {
    /// `pg_last_wal_replay_lsn()`. Not the received position, which says nothing about what a read shows.
    pub replay: Lsn,
    /// The timeline, asked *after* `replay`: a standby follows a promotion without ending a connection, and its position
    /// must not be taken for one of the timeline before.
    pub timeline: Timeline,
    /// `pg_snapshot_xmax(pg_current_snapshot())`.
    pub snapshot_xmax: u64,
}

/// The primary's answer to a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAnswer {
    /// `pg_current_wal_insert_lsn()`, as the server gave it.
    pub insert: Lsn,
    /// `pg_current_wal_flush_lsn()`.
    pub flush: Lsn,
    /// `pg_current_snapshot()`.
    pub snapshot: MvccSnapshot,
}

/// One answered probe, reduced to what later decisions need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sample {
    /// When the probe was sent, in local order.
    pub(crate) sent: Seq,
    /// When the probe was sent, in time.
    pub(crate) sent_at: Micros,
    /// When its answer arrived, in time.
    pub(crate) received_at: Micros,
    /// A standby's replay position; on the primary the upper bound of what is visible anywhere.
    pub(crate) position: Lsn,
    /// On a standby: what the witness check needs.
    pub(crate) sighting: Option<Sighting>,
}

/// The part of a standby's answer that is compared with later snapshots of the primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sighting {
    /// When the answer arrived, in local order.
    pub(crate) received: Seq,
    /// Every transaction that the standby showed at the sample's position is below.
    pub(crate) xmax: u64,
}

/// The distance of the samples in the older half of a [`Trail`]. Waiting clients are probed for back to back, so a plain
/// ring would reach back milliseconds only, and a bounded read could not use a standby that is a second behind.
const COARSE_STEP: Micros = Micros::from_millis(250);

/// The answers of one probe connection, oldest first: in the newer half every one, in the older half one per
/// `COARSE_STEP`. Positions never fall from one sample to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Trail(VecDeque<Sample>);

impl Trail {
    /// Appends; beyond `capacity` one older sample goes. A lost sample only means that a later one is used.
    pub(crate) fn push(&mut self, sample: Sample, capacity: usize) {
        if self.0.len() >= capacity.max(1) {
            let half = self.0.len() / 2;
            let crowded = half > 0 && self.0[half].sent_at.since(self.0[half - 1].sent_at) < COARSE_STEP;
            self.0.remove(if crowded { half } else { 0 });
        }
        self.0.push_back(sample);
    }

    pub(crate) fn newest(&self) -> Option<&Sample> {
        self.0.back()
    }

    /// The first answer to a probe sent after `event`.
    pub(crate) fn first_sent_after(&self, event: Seq) -> Option<&Sample> {
        self.0.get(self.0.partition_point(|sample| sample.sent <= event))
    }

    /// The last position, with its sighting, whose answer had arrived before `event`.
    pub(crate) fn sighted_before(&self, event: Seq) -> Option<(Lsn, Sighting)> {
        let before = |sighting: &Sighting| sighting.received < event;
        self.0.iter().rev().find_map(|sample| Some((sample.position, sample.sighting.filter(before)?)))
    }

    /// The first sample that stands beyond `position`.
    pub(crate) fn first_beyond(&self, position: Lsn) -> Option<&Sample> {
        self.0.get(self.0.partition_point(|sample| sample.position <= position))
    }

    /// The first sample that stands at `position` or beyond.
    pub(crate) fn first_at(&self, position: Lsn) -> Option<&Sample> {
        self.0.get(self.0.partition_point(|sample| sample.position < position))
    }

    /// The last sample that does not stand beyond `position`.
    pub(crate) fn last_within(&self, position: Lsn) -> Option<&Sample> {
        self.0.get(self.0.partition_point(|sample| sample.position <= position).checked_sub(1)?)
    }

    /// The oldest answer to a probe sent at `time` or later.
    pub(crate) fn oldest_sent_at(&self, time: Micros) -> Option<&Sample> {
        self.0.get(self.0.partition_point(|sample| sample.sent_at < time))
    }

    pub(crate) fn samples_mut(&mut self) -> impl Iterator<Item = &mut Sample> {
        self.0.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(n: u64, at: Micros) -> Sample {
        let sighting = Some(Sighting { received: Seq(2 * n + 1), xmax: n });
        Sample { sent: Seq(2 * n), sent_at: at, received_at: at, position: Lsn(n), sighting }
    }

    #[test]
    fn a_snapshot_shows_what_had_ended() {
        let snapshot = MvccSnapshot { xmin: 10, xmax: 20, xip: vec![10, 15] };
        for (xid, shown) in [(9, true), (10, false), (11, true), (15, false), (19, true), (20, false)] {
            assert_eq!(snapshot.shows(xid), shown, "{xid}");
        }
    }

    #[test]
    fn look_ups_stop_at_the_right_neighbour() {
        let mut trail = Trail::default();
        for n in [10, 20, 30] {
            trail.push(sample(n, Micros(n)), 8);
        }
        let position = |found: Option<&Sample>| found.map(|sample| sample.position.0);
        assert_eq!(position(trail.first_sent_after(Seq(20))), Some(20));
        assert_eq!(position(trail.first_sent_after(Seq(60))), None);
        let sighted = |event| trail.sighted_before(Seq(event)).map(|(position, _)| position.0);
        assert_eq!([sighted(3), sighted(41), sighted(42), sighted(99)], [None, Some(10), Some(20), Some(30)]);
        assert_eq!(position(trail.first_beyond(Lsn(20))), Some(30));
        assert_eq!(position(trail.first_at(Lsn(20))), Some(20));
        assert_eq!(position(trail.last_within(Lsn(19))), Some(10));
        assert_eq!(position(trail.oldest_sent_at(Micros(11))), Some(20));
    }

    #[test]
    fn a_full_trail_keeps_every_recent_sample_and_a_thin_past() {
        let mut trail = Trail::default();
        for n in 0..10_000 {
            trail.push(sample(n, Micros(n * 1000)), 64);
        }
        let kept: Vec<u64> = trail.0.iter().map(|sample| sample.position.0).collect();
        assert_eq!(kept.len(), 64);
        assert_eq!(kept[33..], (9969..10_000).collect::<Vec<_>>());
        assert!(kept[0] < 3000, "the past reaches back about eight seconds, not to {} ms", kept[0]);
        assert!(kept.is_sorted());
    }

    #[test]
    fn the_smallest_trail_holds_the_newest() {
        let mut trail = Trail::default();
        for n in 0..5 {
            trail.push(sample(n, Micros(0)), 0);
        }
        assert_eq!(trail.0.len(), 1);
        assert_eq!(trail.newest().unwrap().position, Lsn(4));
    }
}
