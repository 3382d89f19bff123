//! What is known about the servers: facts come in, nothing goes out but what can be read here.
//!
//! Every server has at most one live probe connection, and everything known about the server belongs to that
//! connection's epoch and ends with it. The cluster remembers across epochs only what stays true: its system
//! identifier, its history and the branches it has left, what the last primary answered, and how far the primary's own
//! readers see ([`Cluster::visible_through`]).

use crate::probe::{Sample, Sighting, Trail};
use crate::witness::Doubt;
use crate::{Branch, Epoch, History, Identity, Lsn, Micros, PrimaryAnswer, Role, Seq, ServerId, ServerSet};
use crate::{ServerConnection, StandbyAnswer, Timeline, Watermark};
use std::fmt;

/// Which position of the primary bounds what is visible.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CommitVisibility {
    /// The insert position: a bound for every `synchronous_commit`.
    #[default]
    Any,
    /// The flush position: tighter, and a bound only while nobody uses `synchronous_commit = off`.
    SyncOnly,
}

/// The few settings that change what facts mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterSettings {
    /// Which position of the primary counts.
    pub commit_visibility: CommitVisibility,
    /// A server whose newest answer belongs to a probe sent longer ago than this is unknown, and unknown is never
    /// eligible.
    pub evidence_max_age: Micros,
    /// How many answers are remembered per server. Fewer only means that sessions resolve to later positions.
    pub probes_kept: usize,
}

impl Default for ClusterSettings {
    /// Three missed probes of an idle cluster (one a second) make a server unknown. 128 answers are 64 recent ones and
    /// 16 seconds of coarse past.
    fn default() -> Self {
        Self { commit_visibility: CommitVisibility::Any, evidence_max_age: Micros::from_millis(3000), probes_kept: 128 }
    }
}

/// What an order number held by a cluster stands for.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbered {
    /// The newest number given out.
    Counter,
    /// A probe was sent.
    Probe(ServerId),
    /// A probe was sent to the primary that went away last.
    FormerProbe,
    /// A standby's answer arrived.
    Arrival(ServerId),
    /// Names a witness question.
    Question(ServerId),
}

/// The server belongs to another cluster: its positions mean nothing here, it must not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForeignServer {
    /// This cluster's system identifier.
    pub expected: u64,
    /// The server's.
    pub found: u64,
}

/// So many branches that the cluster has left are remembered. A session that has slept through more failovers is told
/// that it may have lost something.
const BRANCHES_LEFT_MAX: usize = 8;

/// Everything known about the servers of one cluster, fed by plain calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cluster {
    pub(crate) settings: ClusterSettings,
    last_seq: Seq,
    system_id: Option<u64>,
    /// Of the newest branch that a server has been seen on.
    history: Option<History>,
    /// The branches before it, oldest first.
    left: Vec<History>,
    former: Option<Former>,
    /// The newest timeline that a server has spoken of; its history may still be unknown.
    heard_of: Timeline,
    servers: Vec<Server>,
    visible_through: Option<Watermark>,
}

/// What the last primary that went away had answered: it still bounds what happened there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Former {
    branch: Branch,
    trail: Trail,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    epochs: u32,
    /// When the server that was met last was started, and the first epoch of that run.
    run: Option<(i64, Epoch)>,
    /// It has just said that it left its timeline, and is being met again.
    changing: bool,
    /// The last epoch that ended so: what was read in it may be of any timeline.
    strayed: Option<Epoch>,
    pub(crate) draining: bool,
    pub(crate) weight: u16,
    pub(crate) live: Option<Live>,
}

/// See [`Cluster::fate_of`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is being met.
    Changing,
    /// It has gone with the cluster.
    Followed,
    /// It left its timeline, and not for the cluster's: what it showed in the end may be nowhere.
    Strayed,
    Unknown,
}

/// What is known about a server while its probe connection lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Live {
    pub(crate) epoch: Epoch,
    pub(crate) identity: Identity,
    history: History,
    pub(crate) connected_at: Micros,
    in_flight: Option<(Seq, Micros)>,
    pub(crate) trail: Trail,
    pub(crate) doubt: Option<Doubt>,
}

impl Cluster {
    /// A cluster of `server_count` places (at most 64) of which nothing is known yet.
    #[must_use]
    pub fn new(settings: ClusterSettings, server_count: usize) -> Cluster {
        let unknown =
            Server { epochs: 0, run: None, changing: false, strayed: None, draining: false, weight: 1, live: None };
        let servers = vec![unknown; server_count.min(ServerSet::CAPACITY)];
        Cluster {
            settings,
            last_seq: Seq(0),
            system_id: None,
            history: None,
            left: Vec::new(),
            former: None,
            heard_of: Timeline(0),
            servers,
            visible_through: None,
        }
    }

    /// The number of the next local event: later than everything before it.
    pub fn next_seq(&mut self) -> Seq {
        self.last_seq.0 += 1;
        self.last_seq
    }

    /// A probe connection has made its start-up probe. The first server ever seen fixes the cluster's system identifier;
    /// the newest timeline is the cluster's. `history` is that of `identity.branch`.
    ///
    /// # Errors
    /// [`ForeignServer`] if this is a server of another cluster; it stays unknown.
    pub fn on_probe_connected(
        &mut self,
        server: ServerId,
        identity: Identity,
        history: History,
        now: Micros,
    ) -> Result<Epoch, ForeignServer> {
        self.on_probe_lost(server);
        let expected = *self.system_id.get_or_insert(identity.system_id);
        if expected != identity.system_id {
            return Err(ForeignServer { expected, found: identity.system_id });
        }
        let Some(place) = self.servers.get_mut(usize::from(server.0)) else { return Ok(Epoch(0)) };
        place.epochs += 1;
        let epoch = Epoch(place.epochs);
        if place.run.is_none_or(|(start, _)| start != identity.postmaster_start) {
            place.run = Some((identity.postmaster_start, epoch));
        }
        let (in_flight, trail, doubt) = (None, Trail::default(), None);
        place.live = Some(Live { epoch, identity, history, connected_at: now, in_flight, trail, doubt });
        self.settle();
        Ok(epoch)
    }

    /// The probe connection is gone, did not answer for too long, or could not be made.
    pub fn on_probe_lost(&mut self, server: ServerId) {
        let was_primary = self.claimant() == Some(server);
        if let Some(place) = self.servers.get_mut(usize::from(server.0)) {
            place.changing = false;
        }
        let Some(lost) = self.servers.get_mut(usize::from(server.0)).and_then(|place| place.live.take()) else {
            return;
        };
        if was_primary {
            self.former = Some(Former { branch: lost.identity.branch, trail: lost.trail });
        }
        self.settle();
    }

    /// Whether the probe connection of this epoch still counts.
    #[must_use]
    pub fn is_followed(&self, server: ServerId, epoch: Epoch) -> bool {
        self.live_in(server, epoch).is_some()
    }

    /// A probe is about to be written. Call this *before* the bytes leave: what the answer proves hangs on it. At most
    /// one probe per server is in flight; a second one makes the first one's answer worthless.
    pub fn on_probe_sent(&mut self, server: ServerId, now: Micros) -> Seq {
        let sent = self.next_seq();
        if let Some(live) = self.live_mut(server) {
            live.in_flight = Some((sent, now));
        }
        sent
    }

    /// A standby answered the probe `sent`. Answers of ended epochs and to other probes than the one in flight are ignored.
    /// One from another timeline ends the epoch: nothing known about the server is evidence for what it follows now.
    pub fn on_standby_answer(&mut self, server: ServerId, epoch: Epoch, sent: Seq, answer: StandbyAnswer, now: Micros) {
        let Some(live) = self.live_in(server, epoch) else { return };
        if live.identity.branch.timeline != answer.timeline {
            self.on_change(server, answer.timeline);
            return;
        }
        self.record(server, epoch, Role::Standby, sent, answer.replay, Some(answer.snapshot_xmax), now);
    }

    /// A standby's probe connection found it out of recovery: it begins a newer timeline, and what it showed in the end may
    /// be of that. The epoch ends, and with it the old primary's reign, before the new one's history is known.
    pub fn on_promoted(&mut self, server: ServerId, epoch: Epoch) {
        let Some(live) = self.live_in(server, epoch) else { return };
        let next = Timeline(live.identity.branch.timeline.0.saturating_add(1));
        self.on_change(server, next);
    }

    fn on_change(&mut self, server: ServerId, timeline: Timeline) {
        self.heard_of = self.heard_of.max(timeline);
        let ended = self.live(server).map(|live| live.epoch);
        self.on_probe_lost(server);
        if let Some(place) = self.servers.get_mut(usize::from(server.0)) {
            place.changing = true;
            place.strayed = ended;
        }
    }

    /// What has become of a server whose epoch has ended. One that has said itself that it leaves its timeline, was not
    /// started anew since, and is on the cluster's branch, has brought there all that it ever showed: a server beyond the point
    /// where its branch was left cannot follow. One whose connections just ended may have crashed and come back behind.
    pub(crate) fn fate_of(&self, server: ServerId, epoch: Epoch) -> Fate {
        let Some(place) = self.server(server) else { return Fate::Unknown };
        let same_start = place.run.is_some_and(|(_, since)| since <= epoch);
        let on_branch = place.live.as_ref().is_some_and(|live| Some(live.identity.branch) == self.branch());
        let strayed = place.strayed.is_some_and(|strayed| epoch <= strayed);
        if place.changing {
            Fate::Changing
        } else if !strayed {
            Fate::Unknown
        } else if same_start && on_branch {
            Fate::Followed
        } else if self.primary().is_none() {
            // It may be the one that is being promoted.
            Fate::Changing
        } else {
            Fate::Strayed
        }
    }

    /// The primary answered the probe `sent`; ignored as with standbys.
    pub fn on_primary_answer(
        &mut self,
        server: ServerId,
        epoch: Epoch,
        sent: Seq,
        answer: &PrimaryAnswer,
        now: Micros,
    ) {
        let Some(live) = self.live_in(server, epoch) else { return };
        let bound = self.settings.commit_visibility.bound(&live.identity, answer.insert, answer.flush);
        let taken = self.record(server, epoch, Role::Primary, sent, bound, None, now);
        if taken && self.primary() == Some(server) {
            self.compare_with_standbys(sent, answer);
        }
    }

    /// Somebody commits without waiting for the disk: from now on the insert position bounds what is visible, as
    /// [`CommitVisibility::Any`] has it. False if it does already.
    pub fn on_asynchronous_commits(&mut self) -> bool {
        let before = std::mem::replace(&mut self.settings.commit_visibility, CommitVisibility::Any);
        before == CommitVisibility::SyncOnly
    }

    /// Whether the operator is draining this server. A draining standby gets no new reads; a primary has no substitute
    /// and is used as before.
    pub fn on_server_draining(&mut self, server: ServerId, draining: bool) {
        if let Some(place) = self.servers.get_mut(usize::from(server.0)) {
            place.draining = draining;
        }
    }

    /// The share of reads this server should get relative to the others; 1 unless set, 0 counts as 1.
    pub fn on_server_weight(&mut self, server: ServerId, weight: u16) {
        if let Some(place) = self.servers.get_mut(usize::from(server.0)) {
            place.weight = weight.max(1);
        }
    }

    /// The primary: the only live server out of recovery on the newest timeline. Two claimants are a split brain and
    /// neither is the primary; one of an older timeline has been deposed, if only by hearsay.
    #[must_use]
    pub fn primary(&self) -> Option<ServerId> {
        self.claimant().filter(|_| self.branch().is_some_and(|newest| newest.timeline >= self.heard_of))
    }

    /// Of several places that lead to one instance, as a name that follows the primary does beside the server's own, the one
    /// that has been known longest.
    fn claimant(&self) -> Option<ServerId> {
        let newest = self.branch()?;
        let claimants = || self.out_of_recovery().filter(|(_, live)| live.identity.branch.timeline == newest.timeline);
        let (server, longest) = claimants().min_by_key(|(_, live)| live.connected_at)?;
        let is_only = claimants().all(|(_, live)| live.identity == longest.identity);
        (is_only && longest.identity.branch == newest).then_some(server)
    }

    fn out_of_recovery(&self) -> impl Iterator<Item = (ServerId, &Live)> {
        self.all_live().filter(|(_, live)| live.identity.role == Role::Primary)
    }

    /// Servers out of recovery that are not the primary, under whatever name: deposed, or one of two claimants. Whatever is
    /// written there is lost.
    #[must_use]
    pub fn pretenders(&self) -> ServerSet {
        let primary = self.primary().and_then(|primary| self.live(primary)).map(|live| live.identity);
        let others = self.out_of_recovery().filter(|(_, live)| Some(live.identity) != primary);
        others.map(|(server, _)| server).collect()
    }

    /// Whether the instance behind a connection to a primary is known not to be the primary any more, or to be one of two:
    /// what the connection still says must not be passed on as done. One that is merely silent may well be the primary.
    #[must_use]
    pub fn is_superseded(&self, connection: &ServerConnection) -> bool {
        let identity = connection.identity;
        if let Some(primary) = self.primary().and_then(|primary| self.live(primary)) {
            return primary.identity != identity;
        }
        let is_old = self.branch().is_some_and(|newest| newest != identity.branch || newest.timeline < self.heard_of);
        is_old || self.out_of_recovery().any(|(_, live)| live.identity == identity)
    }

    /// Everything up to here is visible to every new snapshot on the primary; `None` until a witness check passed.
    #[must_use]
    pub fn visible_through(&self) -> Option<Watermark> {
        self.visible_through
    }

    /// The newest branch any server of this cluster has been seen on.
    #[must_use]
    pub fn branch(&self) -> Option<Branch> {
        self.history.as_ref().map(History::branch)
    }

    /// Whether the branch is the cluster's, or one that it has been on.
    pub(crate) fn knows(&self, branch: Branch) -> bool {
        self.history.iter().chain(&self.left).any(|history| history.contains(branch).is_some())
    }

    /// Up to where what was on this branch is part of the cluster's history; `None` for all of it.
    pub(crate) fn kept_of(&self, branch: Branch) -> Option<Lsn> {
        let current = self.history.as_ref().filter(|current| current.branch() != branch)?;
        let of_left = || {
            let left = self.left.iter().find(|left| left.contains(branch).is_some())?;
            Some(left.contains(branch)?.min(left.shared_with(current)?))
        };
        Some(current.contains(branch).or_else(of_left).unwrap_or(Lsn(0)))
    }

    /// The cluster's system identifier, once a server has been seen.
    #[must_use]
    pub fn system_id(&self) -> Option<u64> {
        self.system_id
    }

    /// The watermark that a position read in-band on this connection of the primary stands for, by the same rule as the
    /// probes; `None` if the connection is no longer current. `insert` and `flush` as the server gave them.
    #[must_use]
    pub fn exact_position(&self, connection: &ServerConnection, insert: Lsn, flush: Lsn) -> Option<Watermark> {
        let identity = self.live_in(connection.server, connection.epoch)?.identity;
        let lsn = self.settings.commit_visibility.bound(&identity, insert, flush);
        Some(Watermark { branch: identity.branch, lsn })
    }

    /// Gives every order number held a new one, so that a model checker can take states that mean the same for the same.
    #[doc(hidden)]
    pub fn renumber(&mut self, mut number: impl FnMut(Numbered, Seq) -> Seq) {
        self.last_seq = number(Numbered::Counter, self.last_seq);
        for sample in self.former.iter_mut().flat_map(|former| former.trail.samples_mut()) {
            sample.sent = number(Numbered::FormerProbe, sample.sent);
        }
        for (server, place) in (0u8..).map(ServerId).zip(&mut self.servers) {
            let Some(live) = &mut place.live else { continue };
            for sample in live.trail.samples_mut() {
                sample.sent = number(Numbered::Probe(server), sample.sent);
                if let Some(sighting) = &mut sample.sighting {
                    sighting.received = number(Numbered::Arrival(server), sighting.received);
                }
            }
            if let Some((sent, _)) = &mut live.in_flight {
                *sent = number(Numbered::Probe(server), *sent);
            }
            if let Some(doubt) = &mut live.doubt {
                doubt.id = number(Numbered::Question(server), doubt.id);
            }
        }
    }

    pub(crate) fn server(&self, server: ServerId) -> Option<&Server> {
        self.servers.get(usize::from(server.0))
    }

    pub(crate) fn live(&self, server: ServerId) -> Option<&Live> {
        self.server(server)?.live.as_ref()
    }

    pub(crate) fn live_mut(&mut self, server: ServerId) -> Option<&mut Live> {
        self.servers.get_mut(usize::from(server.0))?.live.as_mut()
    }

    pub(crate) fn live_in(&self, server: ServerId, epoch: Epoch) -> Option<&Live> {
        self.live(server).filter(|live| live.epoch == epoch)
    }

    /// The standbys that follow the cluster's branch.
    pub(crate) fn standbys(&self) -> impl Iterator<Item = (ServerId, &Live)> {
        let newest = self.branch();
        self.all_live()
            .filter(move |(_, live)| live.identity.role == Role::Standby && Some(live.identity.branch) == newest)
    }

    fn all_live(&self) -> impl Iterator<Item = (ServerId, &Live)> {
        let numbered = (0u8..).map(ServerId).zip(&self.servers);
        numbered.filter_map(|(server, place)| Some((server, place.live.as_ref()?)))
    }

    /// The answers of the primary's current probe connection.
    pub(crate) fn primary_trail(&self) -> Option<&Trail> {
        Some(&self.live(self.primary()?)?.trail)
    }

    /// An upper bound of everything visible on any server at `event`: the first answer of the primary to a probe sent
    /// after it.
    #[must_use]
    pub fn bound_after(&self, event: Seq) -> Option<Watermark> {
        Some(Watermark { branch: self.branch()?, lsn: self.primary_trail()?.first_sent_after(event)?.position })
    }

    /// How far the log of the cluster's branch is known to reach, also while its primary is gone.
    pub(crate) fn known_head(&self) -> Option<Lsn> {
        let former = self.former.as_ref().filter(|former| Some(former.branch) == self.branch());
        let trails = self.primary_trail().into_iter().chain(former.map(|former| &former.trail));
        trails.filter_map(|trail| Some(trail.newest()?.position)).max()
    }

    /// The same for an event on a branch whose primary is gone, by what that one had answered.
    pub(crate) fn former_bound_after(&self, branch: Branch, event: Seq) -> Option<Watermark> {
        let former = self.former.as_ref().filter(|former| former.branch == branch)?;
        Some(Watermark { branch, lsn: former.trail.first_sent_after(event)?.position })
    }

    pub(crate) fn last_seq(&self) -> Seq {
        self.last_seq
    }

    pub(crate) fn raise_visible_through(&mut self, lsn: Lsn) {
        if let Some(branch) = self.branch() {
            let seen = self.visible_through.map_or(lsn, |seen| seen.lsn.max(lsn));
            self.visible_through = Some(Watermark { branch, lsn: seen });
        }
    }

    /// Follows the servers to the newest timeline. Of two that bear the same number, the one whose primary lives counts;
    /// while both do, the cluster stays where it is and has no primary.
    fn settle(&mut self) {
        let current = self.branch();
        let has_primary = |branch: Branch| {
            self.all_live().any(|(_, live)| live.identity.role == Role::Primary && live.identity.branch == branch)
        };
        let outranks = |live: &Live| {
            let Some(current) = current else { return true };
            let found = live.identity.branch;
            let rival = found.timeline == current.timeline && found != current && live.identity.role == Role::Primary;
            found.timeline > current.timeline || (rival && !has_primary(current))
        };
        let better = self.all_live().map(|(_, live)| live).filter(|live| outranks(live));
        let newest = better.max_by_key(|live| (live.identity.branch.timeline, live.identity.role == Role::Primary));
        if let Some(history) = newest.map(|live| live.history.clone()) {
            self.adopt(history);
        }
    }

    /// A new branch: what was visible on the old primary says nothing about the new one, which shows all that it began with.
    fn adopt(&mut self, history: History) {
        if let Some(live) = self.claimant().and_then(|server| self.live(server)) {
            self.former = Some(Former { branch: live.identity.branch, trail: live.trail.clone() });
        }
        let branch = history.branch();
        self.visible_through = history.began_at().map(|lsn| Watermark { branch, lsn });
        self.servers.iter_mut().filter_map(|server| server.live.as_mut()).for_each(|live| live.doubt = None);
        if let Some(left) = self.history.replace(history) {
            self.left.push(left);
            let surplus = self.left.len().saturating_sub(BRANCHES_LEFT_MAX);
            self.left.drain(..surplus);
        }
    }

    /// Files an answer in its server's trail; false if it is not the answer to the probe in flight in that epoch and role.
    #[expect(clippy::too_many_arguments, reason = "one caller per role, each naming every part")]
    fn record(
        &mut self,
        server: ServerId,
        epoch: Epoch,
        role: Role,
        sent: Seq,
        position: Lsn,
        xmax: Option<u64>,
        now: Micros,
    ) -> bool {
        let received = self.next_seq();
        let probes_kept = self.settings.probes_kept;
        let Some(live) = self.live_mut(server) else { return false };
        let Some((_, sent_at)) = live.in_flight.filter(|(in_flight, _)| *in_flight == sent) else { return false };
        if live.epoch != epoch || live.identity.role != role {
            return false;
        }
        live.in_flight = None;
        let position = live.trail.newest().map_or(position, |newest| newest.position.max(position));
        let sighting = xmax.map(|xmax| Sighting { received, xmax });
        live.trail.push(Sample { sent, sent_at, received_at: now, position, sighting }, probes_kept);
        true
    }
}

impl CommitVisibility {
    fn bound(self, identity: &Identity, insert: Lsn, flush: Lsn) -> Lsn {
        match self {
            CommitVisibility::Any => insert.normalised(identity.block_size, identity.segment_size),
            CommitVisibility::SyncOnly => flush,
        }
    }
}

impl fmt::Display for ForeignServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server belongs to cluster {}, not to cluster {}", self.found, self.expected)
    }
}

impl std::error::Error for ForeignServer {}
