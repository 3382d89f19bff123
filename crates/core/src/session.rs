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

use crate::{Cluster, Epoch, Seq, ServerConnection, ServerId, Timeline, Watermark};

/// How far one session must see, and what of it is still to be measured. Sessions of one process can be merged with
/// [`Session::absorb`]; between processes only a [`Token`](crate::Token) travels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Session {
    /// Covers everything written and seen.
    watermark: Option<Watermark>,
    /// Covers what was seen on standbys and is not yet known to be visible on the primary.
    replica: Option<Watermark>,
    on_primary: Option<Event>,
    on_standby: Option<StandbyRead>,
    orphan: Option<Event>,
}

/// Something that a later answer of the primary will bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Event {
    /// The newest timeline when it happened: an answer on another one does not bound it.
    timeline: Option<Timeline>,
    seq: Seq,
}

/// A finished read on a standby which no probe has bounded yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StandbyRead {
    pub(crate) server: ServerId,
    pub(crate) epoch: Epoch,
    /// Names the connection it ran on.
    pub(crate) established: Seq,
    timeline: Option<Timeline>,
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

    /// A session that knows what a token carries and nothing else.
    pub(crate) fn from_watermarks(watermark: Watermark, replica: Option<Watermark>) -> Session {
        Session { watermark: Some(watermark), replica, ..Session::default() }
    }

    /// Anything finished on the primary: a write, a read, a COMMIT inside a batch, a forwarded notification. Call it when
    /// the answer has arrived and before it is passed on. The returned number names the event for
    /// [`Session::on_exact_position`].
    pub fn on_primary_finished(&mut self, cluster: &mut Cluster) -> Seq {
        let event = Event::now(cluster);
        self.on_primary = later(self.on_primary, Some(event));
        event.seq
    }

    /// A read finished on this connection of a standby. Call it when the answer has arrived, before it is passed on; also
    /// when the answer was an error, if any row was shown.
    pub fn on_standby_finished(&mut self, cluster: &mut Cluster, connection: &ServerConnection) {
        let ServerConnection { server, epoch, established, .. } = *connection;
        let Event { timeline, seq } = Event::now(cluster);
        self.resolve(cluster);
        if let Some(before) = self.on_standby
            && !(before.is_on(server, epoch) && cluster.same_run(server, epoch, before.established, established))
        {
            self.orphan = later(self.orphan, Some(before.event()));
        }
        self.on_standby = Some(StandbyRead { server, epoch, established, timeline, seq });
    }

    /// The position was read in-band on the primary, by a statement sent after `finished` (see
    /// [`Cluster::exact_position`]). What another connection of the same session finished later stays to be measured.
    pub fn on_exact_position(&mut self, position: Watermark, finished: Seq) {
        raise(&mut self.watermark, position);
        let covered = |event: &Event| event.seq <= finished && event.timeline == Some(position.timeline);
        self.on_primary = self.on_primary.filter(|event| !covered(event));
    }

    /// The replay position was read in-band on a standby, by a statement sent after a read there
    /// (see [`Cluster::exact_replay`]): it covers that read, which then needs no [`Session::on_standby_finished`].
    pub fn on_exact_replay(&mut self, position: Watermark) {
        self.raise_both(position);
    }

    /// Measures what can be measured with the answers that have arrived.
    pub fn resolve(&mut self, cluster: &Cluster) {
        if let Some(read) = self.on_standby {
            self.resolve_read(cluster, read);
        }
        if let Some(bound) = self.on_primary.and_then(|event| event.bound(cluster)) {
            raise(&mut self.watermark, bound);
            self.on_primary = None;
        }
        if let Some(bound) = self.orphan.and_then(|event| event.bound(cluster)) {
            self.raise_both(bound);
            self.orphan = None;
        }
        // What is visible on the primary stays visible there, so this part has done its work.
        self.replica = self.replica.filter(|seen| !cluster.visible_through().is_some_and(|v| seen.reached_by(v)));
    }

    fn resolve_read(&mut self, cluster: &Cluster, read: StandbyRead) {
        match cluster.live_in(read.server, read.epoch) {
            Some(live) => {
                let Some(answer) = live.trail.first_sent_after(read.seq) else { return };
                self.raise_both(Watermark { timeline: live.identity.timeline, lsn: answer.position });
            }
            None => self.orphan = later(self.orphan, Some(read.event())),
        }
        self.on_standby = None;
    }

    /// Whether nothing is left to be measured; only then may the session's position leave the process.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.on_primary.is_none() && self.on_standby.is_none() && self.orphan.is_none()
    }

    /// Takes over everything the other session wrote and saw. For two sessions of the same process.
    pub fn absorb(&mut self, other: Session) {
        if let Some(position) = other.watermark {
            raise(&mut self.watermark, position);
        }
        if let Some(position) = other.replica {
            raise(&mut self.replica, position);
        }
        self.on_primary = later(self.on_primary, other.on_primary);
        self.orphan = later(self.orphan, other.orphan);
        self.on_standby = match (self.on_standby, other.on_standby) {
            (Some(one), Some(two)) if one.is_on(two.server, two.epoch) && one.established == two.established => {
                Some(StandbyRead { seq: one.seq.max(two.seq), ..one })
            }
            (Some(one), Some(two)) => {
                self.orphan = later(self.orphan, Some(two.event()));
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

    /// Whether something this session wrote or saw lies on another timeline than the cluster's newest, so that it cannot
    /// be compared with what servers show now.
    #[must_use]
    pub fn is_of_another_timeline(&self, cluster: &Cluster) -> bool {
        let measured = [self.watermark, self.replica].into_iter().flatten().map(|watermark| watermark.timeline);
        let read = self.on_standby.map(StandbyRead::event);
        let pending = [self.on_primary, self.orphan, read].into_iter().flatten().filter_map(|event| event.timeline);
        measured.chain(pending).any(|timeline| cluster.timeline().is_some_and(|newest| newest != timeline))
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

    fn raise_both(&mut self, position: Watermark) {
        raise(&mut self.watermark, position);
        raise(&mut self.replica, position);
    }
}

impl Event {
    fn now(cluster: &mut Cluster) -> Event {
        Event { timeline: cluster.timeline(), seq: cluster.next_seq() }
    }

    fn bound(self, cluster: &Cluster) -> Option<Watermark> {
        cluster.bound_after(self.seq).filter(|bound| self.timeline.is_none_or(|timeline| timeline == bound.timeline))
    }
}

impl StandbyRead {
    fn is_on(&self, server: ServerId, epoch: Epoch) -> bool {
        self.server == server && self.epoch == epoch
    }

    fn event(self) -> Event {
        Event { timeline: self.timeline, seq: self.seq }
    }
}

/// The event whose bound covers both. Of two timelines the older one stays, as with watermarks.
fn later(one: Option<Event>, two: Option<Event>) -> Option<Event> {
    let (Some(a), Some(b)) = (one, two) else { return one.or(two) };
    let timeline = match (a.timeline, b.timeline) {
        (Some(x), Some(y)) => Some(x.min(y)),
        (x, y) => x.or(y),
    };
    Some(Event { timeline, seq: a.seq.max(b.seq) })
}

fn raise(held: &mut Option<Watermark>, position: Watermark) {
    *held = Some(held.map_or(position, |watermark| watermark.raised_to(position)));
}
