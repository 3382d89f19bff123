//! What a session has written and seen, as two watermarks and at most three things not yet measured. Must not know
//! routing: it only says what it would take not to show this session the past.
//!
//! Nothing is asked of a server when a statement ends. The event is noted with its place in the local order, and resolved
//! by the first probe sent *after* it, whenever the session next matters:
//!
//! ```text
//! finished on the primary   pending on_primary  -- answer of the primary sent after it -->  m
//! finished on a standby     pending on_standby  -- answer of that epoch sent after it -->   m and r
//!    its epoch ended        pending orphan      -- answer of the primary sent after it -->  m and r
//! ```
//!
//! The last line holds because a standby never shows what its primary had not written.
//!
//! When the cluster goes on to another branch, so does the session: what lies beyond the point where the old branch was
//! left is gone, and said to be gone ([`Loss`]) before anything else happens. What was never measured on the old branch is
//! measured by what its last primary had answered; if that does not reach, it may be gone, too.

use crate::cluster::Fate;
use crate::{Branch, Cluster, Epoch, Lsn, Seq, ServerConnection, ServerId, Watermark};

/// How far one session must see, and what of it is still to be measured. Sessions of one process can be merged with
/// [`Session::absorb`]; between processes only a [`Token`](crate::Token) travels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// Covers everything written and seen.
    watermark: Option<Watermark>,
    /// Covers what was seen on standbys and is not yet known to be visible on the primary.
    replica: Option<Watermark>,
    on_primary: Option<Event>,
    /// Whether that is nothing that it did here: see [`Session::newcomer`].
    is_newcomer: bool,
    on_standby: Option<StandbyRead>,
    orphan: Option<Event>,
    /// On this branch the primary answered for a standby that could not any more. If that one had gone on to another branch
    /// already, it was a primary that had been replaced, and could not know.
    answered_for: Option<Branch>,
    lost: Option<Loss>,
}

/// Something the session wrote or saw was on a branch that the cluster has left, beyond the point where it was left: it
/// may be lost. "May", because positions are upper bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// The branch that was left.
    pub branch: Branch,
    /// How far the session required it; `None` for what was never measured.
    pub required: Option<Lsn>,
    /// Up to here it is part of the cluster's history; 0 if that is not known.
    pub kept: Lsn,
}

/// Something that a later answer of the primary will bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Event {
    /// The cluster's branch when it happened: an answer on another one does not bound it.
    branch: Option<Branch>,
    seq: Seq,
}

/// A finished read on a standby which no probe has bounded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StandbyRead {
    pub(crate) server: ServerId,
    pub(crate) epoch: Epoch,
    /// Names the connection it ran on.
    pub(crate) established: Seq,
    branch: Option<Branch>,
    seq: Seq,
}

/// What a session still lacks before it can be served anywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// An answer of the primary.
    PrimaryAnswer,
    /// An answer of the standby it last read on.
    StandbyAnswer(StandbyRead),
}

impl Session {
    /// A session that may have seen anything up to now: for one whose own past is not known any more.
    #[must_use]
    pub fn unknown_origin(cluster: &mut Cluster) -> Session {
        Session { orphan: Some(Event::now(cluster)), ..Session::default() }
    }

    /// A session that somebody else may have served before: it may have written whatever is visible on the primary by now.
    /// Where the cluster goes on to another branch before that is measured, nothing of it is known to be lost.
    #[must_use]
    pub fn newcomer(cluster: &mut Cluster) -> Session {
        Session { on_primary: Some(Event::now(cluster)), is_newcomer: true, ..Session::default() }
    }

    /// A session that knows what a token carries and nothing else.
    pub(crate) fn from_watermarks(watermark: Watermark, replica: Option<Watermark>) -> Session {
        Session { watermark: Some(watermark), replica, ..Session::default() }
    }

    /// Anything finished on the primary: a write, a read, a COMMIT inside a batch, a forwarded notification. Call it when
    /// the answer has arrived and before it is passed on. The returned number names the event for
    /// [`Session::on_exact_position`].
    pub fn on_primary_finished(&mut self, cluster: &mut Cluster) -> Seq {
        if self.on_primary.is_some_and(|before| before.branch != cluster.branch()) {
            self.resolve(cluster);
        }
        let event = Event::now(cluster);
        self.on_primary = later(self.on_primary, Some(event));
        self.is_newcomer = false;
        event.seq
    }

    /// A read finished on this connection of a standby. Call it when the answer has arrived, before it is passed on; also
    /// when the answer was an error, if any row was shown.
    pub fn on_standby_finished(&mut self, cluster: &mut Cluster, connection: &ServerConnection) {
        let ServerConnection { server, epoch, established, identity } = *connection;
        self.resolve(cluster);
        // Of the branch that the connection was met on: the cluster may have left that one since the read began.
        let (branch, seq) = (Some(identity.branch), cluster.next_seq());
        if let Some(before) = self.on_standby
            && !(before.is_on(server, epoch) && cluster.same_run(server, epoch, before.established, established))
        {
            self.resolve_event(cluster, before.event(), true);
        }
        self.on_standby = Some(StandbyRead { server, epoch, established, branch, seq });
    }

    /// The position was read in-band on the primary, by a statement sent after `finished` (see
    /// [`Cluster::exact_position`]). What another connection of the same session finished later stays to be measured.
    pub fn on_exact_position(&mut self, cluster: &Cluster, position: Watermark, finished: Seq) {
        self.raise(cluster, position, false);
        let covered = |event: &Event| event.seq <= finished && event.branch == Some(position.branch);
        self.on_primary = self.on_primary.filter(|event| !covered(event));
    }

    /// Measures what can be measured with the answers that have arrived, and goes with the cluster to its branch.
    pub fn resolve(&mut self, cluster: &Cluster) {
        // Taken out first: events of two branches are never merged.
        let (on_primary, orphan) = (self.on_primary.take(), self.orphan.take());
        let (watermark, replica) = (self.watermark, self.replica);
        self.watermark = watermark.map(|held| self.carried(cluster, held));
        self.replica = replica.map(|held| self.carried(cluster, held));
        if let Some(event) = on_primary {
            self.resolve_event(cluster, event, false);
        }
        if let Some(event) = orphan {
            self.resolve_event(cluster, event, true);
        }
        if self.answered_for.is_some_and(|branch| Some(branch) != cluster.branch()) {
            self.answered_for = None;
            self.ask_primary(cluster);
        }
        if let Some(read) = self.on_standby {
            self.resolve_read(cluster, read);
        }
        // What is visible on the primary stays visible there, so this part has done its work.
        self.replica = self.replica.filter(|seen| !cluster.visible_through().is_some_and(|v| seen.reached_by(v)));
    }

    fn resolve_read(&mut self, cluster: &Cluster, read: StandbyRead) {
        match cluster.live_in(read.server, read.epoch) {
            Some(live) => {
                let Some(answer) = live.trail.first_sent_after(read.seq) else { return };
                self.raise(cluster, Watermark { branch: live.identity.branch, lsn: answer.position }, true);
            }
            None => match cluster.fate_of(read.server, read.epoch) {
                Fate::Changing => return,
                Fate::Followed if read.branch != cluster.branch() => self.ask_primary(cluster),
                Fate::Strayed => {
                    let branch = read.branch.or(cluster.branch()).unwrap_or(Branch::FIRST);
                    let kept = cluster.kept_of(branch).unwrap_or_default();
                    self.lost.get_or_insert(Loss { branch, required: None, kept });
                    self.ask_primary(cluster);
                }
                Fate::Followed | Fate::Unknown => self.resolve_event(cluster, read.event(), true),
            },
        }
        self.on_standby = None;
    }

    /// Measures an event that has been taken out, or puts it back.
    fn resolve_event(&mut self, cluster: &Cluster, event: Event, on_standby: bool) {
        match event.bound(cluster) {
            Bound::At(bound) => {
                // The standby may have been on the new branch already, without anybody knowing.
                if on_standby && Some(bound.branch) != cluster.branch() {
                    self.ask_primary(cluster);
                } else if on_standby {
                    self.answered_for = Some(bound.branch);
                }
                self.raise(cluster, bound, on_standby);
            }
            Bound::NotYet if on_standby => self.orphan = later(self.orphan, Some(event)),
            Bound::NotYet => self.on_primary = Some(event),
            Bound::Never(_) if self.is_newcomer && !on_standby => {
                self.on_primary = Some(Event { branch: cluster.branch(), seq: cluster.last_seq() });
            }
            Bound::Never(branch) => {
                let kept = cluster.kept_of(branch).unwrap_or_default();
                self.lost.get_or_insert(Loss { branch, required: None, kept });
                if on_standby {
                    self.ask_primary(cluster);
                } else {
                    self.raise(cluster, Watermark { branch, lsn: kept }, false);
                }
            }
        }
    }

    /// What is left of a position on the cluster's branch; the rest is lost.
    fn carried(&mut self, cluster: &Cluster, held: Watermark) -> Watermark {
        let Some((kept, branch)) = cluster.kept_of(held.branch).zip(cluster.branch()) else { return held };
        if held.lsn > kept {
            self.lost.get_or_insert(Loss { branch: held.branch, required: Some(held.lsn), kept });
        }
        Watermark { branch, lsn: held.lsn.min(kept) }
    }

    /// The primary's next answer bounds whatever was seen up to now.
    fn ask_primary(&mut self, cluster: &Cluster) {
        let event = Event { branch: cluster.branch(), seq: cluster.last_seq() };
        self.orphan = later(self.orphan, Some(event));
    }

    /// What must be told before anything else happens in this session.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        self.lost
    }

    /// [`Session::loss`] has been told.
    pub fn on_told(&mut self) {
        self.lost = None;
    }

    /// Whether nothing is left to be measured or told; only then may the session's position leave the process.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.on_primary.is_none() && self.on_standby.is_none() && self.orphan.is_none() && self.lost.is_none()
    }

    /// Takes over everything the other session wrote and saw. For two sessions of the same process.
    pub fn absorb(&mut self, cluster: &Cluster, mut other: Session) {
        self.resolve(cluster);
        other.resolve(cluster);
        self.watermark = higher(self.watermark, other.watermark);
        self.replica = higher(self.replica, other.replica);
        self.lost = self.lost.or(other.lost);
        self.answered_for = self.answered_for.or(other.answered_for);
        let is_unknown = |session: &Session| session.on_primary.is_none() || session.is_newcomer;
        self.is_newcomer = is_unknown(self) && is_unknown(&other);
        self.on_primary = later(self.on_primary, other.on_primary);
        self.orphan = later(self.orphan, other.orphan);
        self.on_standby = match (self.on_standby, other.on_standby) {
            (Some(one), Some(two)) if one.is_on(two.server, two.epoch) && one.established == two.established => {
                let branch = if one.branch == cluster.branch() { two.branch } else { one.branch };
                Some(StandbyRead { branch, seq: one.seq.max(two.seq), ..one })
            }
            (Some(one), Some(two)) => {
                self.resolve_event(cluster, two.event(), true);
                Some(one)
            }
            (one, two) => one.or(two),
        };
    }

    /// Covers everything measured so far that the session wrote or saw.
    #[must_use]
    pub fn watermark(&self) -> Option<Watermark> {
        self.watermark
    }

    /// The part of it that was seen on standbys and is not known to be visible on the primary.
    #[must_use]
    pub fn replica_watermark(&self) -> Option<Watermark> {
        self.replica
    }

    /// What a server other than the primary would lack first.
    pub(crate) fn missing_for_standby(&self) -> Option<Missing> {
        let primary = self.on_primary.or(self.orphan).map(|_| Missing::PrimaryAnswer);
        primary.or(self.on_standby.map(Missing::StandbyAnswer))
    }

    /// What the primary would lack first: its own past is visible there anyway.
    pub(crate) fn missing_for_primary(&self) -> Option<Missing> {
        self.on_standby.map(Missing::StandbyAnswer).or(self.orphan.map(|_| Missing::PrimaryAnswer))
    }

    /// Every order number held: of events, and of the connection read last; see [`Cluster::renumber`].
    #[doc(hidden)]
    pub fn seqs_mut(&mut self) -> (Vec<&mut Seq>, Option<(ServerId, &mut Seq)>) {
        let mut events: Vec<&mut Seq> = Vec::new();
        events.extend(self.on_primary.iter_mut().chain(self.orphan.iter_mut()).map(|event| &mut event.seq));
        let mut connection = None;
        if let Some(read) = &mut self.on_standby {
            events.push(&mut read.seq);
            connection = Some((read.server, &mut read.established));
        }
        (events, connection)
    }

    fn raise(&mut self, cluster: &Cluster, position: Watermark, on_standby: bool) {
        let position = Some(self.carried(cluster, position));
        self.watermark = higher(self.watermark, position);
        if on_standby {
            self.replica = higher(self.replica, position);
        }
    }
}

/// What answers say of an event.
enum Bound {
    At(Watermark),
    NotYet,
    /// Its branch was left before anything bounded it.
    Never(Branch),
}

impl Event {
    fn now(cluster: &mut Cluster) -> Event {
        Event { branch: cluster.branch(), seq: cluster.next_seq() }
    }

    fn bound(self, cluster: &Cluster) -> Bound {
        let left = self.branch.filter(|branch| Some(*branch) != cluster.branch());
        let found = match left {
            Some(branch) => cluster.former_bound_after(branch, self.seq),
            None => cluster.bound_after(self.seq),
        };
        found.map_or_else(|| left.map_or(Bound::NotYet, Bound::Never), Bound::At)
    }
}

impl StandbyRead {
    fn is_on(&self, server: ServerId, epoch: Epoch) -> bool {
        self.server == server && self.epoch == epoch
    }

    fn event(self) -> Event {
        Event { branch: self.branch, seq: self.seq }
    }
}

/// The event whose bound covers both, which are of one branch.
fn later(one: Option<Event>, two: Option<Event>) -> Option<Event> {
    let (Some(a), Some(b)) = (one, two) else { return one.or(two) };
    Some(Event { branch: a.branch.or(b.branch), seq: a.seq.max(b.seq) })
}

/// The watermark that covers both, which are of one branch.
fn higher(one: Option<Watermark>, two: Option<Watermark>) -> Option<Watermark> {
    let (Some(a), Some(b)) = (one, two) else { return one.or(two) };
    Some(Watermark { lsn: a.lsn.max(b.lsn), ..a })
}
