//! The small world: servers as they are, proxies as the shell would drive them, and one session. Knows no state space.

use crate::statements::UnderWay;
use crate::{Budget, Mistake, Rules};
use highwater_core::{
    Ask, Cluster, ClusterSettings, CommitVisibility, Epoch, History, Identity, Level, Lsn, Micros, MvccSnapshot,
    PrimaryAnswer, Role, Route, Scope, Seq, ServerConnection, ServerId, ServerSet, Session, StandbyAnswer, Timeline,
    Token, Unit, may_use, route,
};

/// Servers at most: the primary and two standbys.
pub(crate) const SERVERS: usize = 3;
/// The primary until a standby is promoted.
pub(crate) const FIRST: usize = 0;
pub(crate) const NOW: Micros = Micros(0);

/// A set of commits: one bit per position of the first branch, then those of the branch that server 1 begins by its
/// promotion, then those of server 2's.
pub(crate) type Commits = u16;

/// Positions that each branch has room for in [`Commits`].
const POSITIONS: u8 = 4;

pub(crate) fn up_to(position: u8) -> Commits {
    (1 << position) - 1
}

/// What lies on a branch alone, for its positions.
fn on_branch(branch: u8, positions: Commits) -> Commits {
    positions << (branch * POSITIONS)
}

/// Where a branch came from. The numbers of timelines are no names: two branches of one parent have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fork {
    parent: u8,
    switch: u8,
    timeline: u32,
}

/// A server as it really is. `run` changes when it crashes: every connection of an earlier run is dead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) position: u8,
    /// What it has on disk: a primary gives standbys no more, and a standby that is promoted replays all of it first, also when
    /// it has crashed and come back behind.
    pub(crate) flushed: u8,
    pub(crate) run: u8,
    /// How often it was started.
    pub(crate) starts: u8,
    /// 0 at first, then the number of the server whose promotion began it.
    pub(crate) branch: u8,
    pub(crate) role: Role,
    pub(crate) is_up: bool,
}

/// A probe under way, with what the server said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) sent: Seq,
    pub(crate) epoch: Epoch,
    pub(crate) server: Server,
    pub(crate) timeline: Timeline,
    pub(crate) insert: Lsn,
    /// Of the server's own branch.
    pub(crate) hidden: Commits,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Probe {
    /// The server that the connection leads to, wherever its place leads by now.
    pub(crate) server: usize,
    pub(crate) epoch: Epoch,
    pub(crate) run: u8,
    pub(crate) flight: Option<Flight>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pooled {
    /// As with [`Probe`].
    pub(crate) server: usize,
    pub(crate) connection: ServerConnection,
    pub(crate) run: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proxy {
    pub(crate) cluster: Cluster,
    pub(crate) probes: Vec<Probe>,
    pub(crate) pool: Vec<Pooled>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) servers: Vec<Server>,
    /// The server that each place leads to: whoever connects there now gets that one.
    pub(crate) leads: Vec<usize>,
    /// The newest primary, and the branches that promotions have begun, by the number of the server.
    pub(crate) leader: usize,
    pub(crate) forks: [Option<Fork>; SERVERS],
    /// Commits in the log that a primary does not show yet.
    pub(crate) hidden: Commits,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) home: usize,
    pub(crate) session: Session,
    /// A token the home proxy does not believe yet.
    pub(crate) arriving: Option<(Token, Seq)>,
    /// A strong read that has arrived, with what it must show.
    pub(crate) strong: Option<(Seq, Commits)>,
    pub(crate) under_way: Option<UnderWay>,
    /// Everything the session wrote or saw.
    pub(crate) seen: Commits,
    /// Another session at the other proxy, which exchanges tokens with this one.
    pub(crate) other: Option<Other>,
    pub(crate) left: Budget,
    pub(crate) violated: bool,
    /// A server answered for the primary that its proxy knew not to be it.
    pub(crate) usurped: bool,
}

/// The session that is not acting now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Other {
    pub(crate) session: Session,
    pub(crate) arriving: Option<(Token, Seq)>,
    pub(crate) seen: Commits,
}

pub(crate) fn identity(number: usize, server: &Server, history: &History) -> Identity {
    Identity {
        system_id: 1,
        branch: history.branch(),
        role: server.role,
        // No two servers were started at once.
        postmaster_start: i64::from(server.starts) * 64 + number as i64,
        block_size: 8192,
        segment_size: 16 << 20,
    }
}

pub(crate) fn id(server: usize) -> ServerId {
    ServerId(server as u8)
}

/// Each commit fills a page of the log.
pub(crate) fn lsn(position: u8) -> Lsn {
    Lsn(u64::from(position) * 8192)
}

/// Where a primary would insert next, by its own word: behind the header of the next page.
fn insert_lsn(rules: Rules, position: u8) -> Lsn {
    let header = if rules.made(Mistake::PositionBehindTheHeader) { 25 } else { 24 };
    Lsn(lsn(position).0 + if rules.headers && position > 0 { header } else { 0 })
}

impl Proxy {
    /// Connected to everything, and everything probed once.
    pub(crate) fn new(rules: Rules) -> Proxy {
        let blind = rules.made(Mistake::FlushedPositionAsWatermark);
        let settings = ClusterSettings {
            probes_kept: rules.probes_kept,
            commit_visibility: if blind { CommitVisibility::SyncOnly } else { CommitVisibility::Any },
            ..ClusterSettings::default()
        };
        let mut proxy = Proxy { cluster: Cluster::new(settings, rules.servers), probes: vec![], pool: vec![] };
        for (number, real) in Server::all(rules).iter().enumerate() {
            let (history, server) = (History::first(), id(number));
            let identity = identity(number, real, &history);
            let epoch = proxy.cluster.on_probe_connected(server, identity, history, NOW).unwrap();
            proxy.probes.push(Probe { server: number, epoch, run: 0, flight: None });
            let connection = proxy.cluster.admit(server, &identity).unwrap();
            proxy.pool.push(Pooled { server: number, connection, run: 0 });
        }
        for server in (1..rules.servers).chain([FIRST]) {
            let sent = proxy.cluster.on_probe_sent(id(server), NOW);
            let epoch = proxy.probes[server].epoch;
            let real = Server::all(rules).swap_remove(server);
            let flight = Flight { sent, epoch, server: real, timeline: Timeline(1), insert: lsn(0), hidden: 0 };
            proxy.answer(server, &flight, 0);
        }
        proxy
    }

    /// `xmax_position` bounds the transactions a standby's snapshot knows as ended. A server that has changed its role says
    /// so, and the shell ends the probe connection.
    pub(crate) fn answer(&mut self, place: usize, flight: &Flight, xmax_position: u8) {
        let Flight { sent, epoch, server: ref real, timeline, insert, hidden } = *flight;
        let position = real.position;
        let known = self.cluster.server_view(id(place), NOW).and_then(|view| view.role());
        if known != Some(real.role) {
            self.cluster.on_promoted(id(place), epoch);
        } else if real.role == Role::Primary {
            let answer = PrimaryAnswer { insert, flush: lsn(real.flushed), snapshot: snapshot(position, hidden) };
            self.cluster.on_primary_answer(id(place), epoch, sent, &answer, NOW);
        } else {
            let snapshot_xmax = u64::from(xmax_position) + 1;
            let answer = StandbyAnswer { replay: lsn(position), timeline, snapshot_xmax };
            self.cluster.on_standby_answer(id(place), epoch, sent, answer, NOW);
        }
    }
}

impl Server {
    fn all(rules: Rules) -> Vec<Server> {
        let role = |server| if server == FIRST { Role::Primary } else { Role::Standby };
        let new = Server { position: 0, flushed: 0, run: 0, starts: 1, branch: 0, role: Role::Standby, is_up: true };
        let server = |server| Server { role: role(server), ..new.clone() };
        (0..rules.servers).map(server).collect()
    }
}

/// As PostgreSQL builds it: xmax follows the latest *ended* transaction, whatever else runs beyond.
pub(crate) fn snapshot(position: u8, hidden: Commits) -> MvccSnapshot {
    let shown = up_to(position) & !hidden;
    let xmax = u64::from(Commits::BITS - shown.leading_zeros()) + 1;
    let xip: Vec<u64> = (1..xmax).filter(|xid| hidden >> (xid - 1) & 1 == 1).collect();
    MvccSnapshot { xmin: xip.first().copied().unwrap_or(xmax), xmax, xip }
}

impl World {
    pub(crate) fn new(rules: Rules) -> World {
        World {
            servers: Server::all(rules),
            leads: (0..rules.servers).collect(),
            leader: FIRST,
            forks: [None; SERVERS],
            hidden: 0,
            proxies: vec![Proxy::new(rules); rules.proxies],
            home: 0,
            session: Session::default(),
            arriving: None,
            strong: None,
            under_way: None,
            seen: 0,
            other: rules.shared.then(Other::default),
            left: rules.budget,
            violated: false,
            usurped: false,
        }
    }

    pub(crate) fn visible(&self, server: usize) -> Commits {
        let Server { position, branch, role, .. } = self.servers[server];
        let all = self.log(branch, position);
        if role == Role::Primary { all & !self.hidden_on(branch) } else { all }
    }

    /// The commits up to this position of this branch.
    fn log(&self, branch: u8, position: u8) -> Commits {
        match self.forks[usize::from(branch)] {
            None => up_to(position),
            Some(Fork { parent, switch, .. }) => {
                self.log(parent, position.min(switch)) | on_branch(branch, up_to(position) & !up_to(switch))
            }
        }
    }

    /// Commits of this branch that its primary does not show yet: whatever it began with, a new primary shows.
    fn hidden_on(&self, branch: u8) -> Commits {
        self.hidden & self.of_branch(branch)
    }

    /// Commits of this branch alone, whatever it began with left out.
    pub(crate) fn of_branch(&self, branch: u8) -> Commits {
        on_branch(branch, up_to(POSITIONS))
    }

    /// The commit that a server's next position is.
    pub(crate) fn next_commit(&self, server: usize) -> Commits {
        on_branch(self.servers[server].branch, 1 << self.servers[server].position)
    }

    /// What has not been lost, for all that the proxy knows who tells of it.
    fn surviving(&self) -> Commits {
        let Proxy { cluster, probes, .. } = &self.proxies[self.home];
        let known = cluster.primary().map_or(self.leader, |place| probes[usize::from(place.0)].server);
        self.log(self.servers[known].branch, POSITIONS)
    }

    fn timeline(&self, branch: u8) -> Timeline {
        Timeline(self.forks[usize::from(branch)].map_or(1, |fork| fork.timeline))
    }

    /// Whether a standby has a promotion to follow.
    pub(crate) fn is_left_behind(&self, server: usize) -> bool {
        self.servers[server].branch != self.servers[self.leader].branch
    }

    /// Whom a standby receives from: a branch is named after the server that began it.
    pub(crate) fn upstream(&self, server: usize) -> Option<&Server> {
        let from = usize::from(self.servers[server].branch);
        Some(&self.servers[from]).filter(|upstream| upstream.is_up)
    }

    pub(crate) fn history(&self, rules: Rules, server: usize) -> History {
        let mut branch = self.servers[server].branch;
        let mut ancestors = vec![];
        let timeline = self.timeline(branch);
        while let Some(Fork { parent, switch, .. }) = self.forks[usize::from(branch)] {
            let switch = if rules.made(Mistake::SwitchPointTooFar) { switch + 1 } else { switch };
            ancestors.insert(0, (self.timeline(parent), lsn(switch)));
            branch = parent;
        }
        if rules.made(Mistake::NumbersAsNames) {
            // As if everybody who has this number had it from the same place.
            ancestors = ancestors.into_iter().map(|(timeline, _)| (timeline, lsn(POSITIONS))).collect();
        }
        if ancestors.is_empty() || rules.made(Mistake::TimelineBlind) {
            return History::first();
        }
        History::new(timeline, ancestors)
    }

    pub(crate) fn probe_lives(&self, proxy: usize, place: usize) -> bool {
        let Proxy { cluster, probes, .. } = &self.proxies[proxy];
        let known = cluster.server_view(id(place), NOW);
        probes[place].run == self.servers[probes[place].server].run && known.is_some_and(|view| view.epoch.is_some())
    }

    /// A probe that nobody waits for and that would say nothing new only multiplies states.
    pub(crate) fn is_worth_probing(&self, rules: Rules, proxy: usize, place: usize) -> bool {
        let Proxy { cluster, probes, .. } = &self.proxies[proxy];
        let view = cluster.server_view(id(place), NOW).unwrap();
        let real = &self.servers[probes[place].server];
        let says_nothing_new = view.replay.or(view.head) == Some(lsn(real.position))
            && view
                .identity
                .is_some_and(|known| (known.branch.timeline, known.role) == (self.timeline(real.branch), real.role));
        !says_nothing_new || (proxy == self.home && self.is_needed(rules, place))
    }

    pub(crate) fn is_needed(&self, rules: Rules, place: usize) -> bool {
        let cluster = &self.proxies[self.home].cluster;
        if self.under_way.is_some() {
            return false;
        }
        if self.arriving.is_some() {
            return cluster.primary() == Some(id(place));
        }
        let fresh = cluster.clone().next_seq();
        let (level, arrived) = self.strong.map_or((Level::Session, fresh), |(arrived, _)| (Level::Strong, arrived));
        (0..rules.servers).any(|target| {
            match route(cluster, &mut self.session.clone(), &self.ask(rules, target, level, arrived), &[], NOW) {
                Route::Wait { need, .. } if cluster.primary() == Some(id(place)) => need.primary_probe,
                Route::Wait { need, .. } => need.standbys.contains(id(place)),
                _ => false,
            }
        })
    }

    /// Whether a read may run on this server now, by the code under test.
    pub(crate) fn may_read(&self, rules: Rules, place: usize, level: Level, arrived: Seq) -> bool {
        self.may_run(rules, place, &self.ask(rules, place, level, arrived))
    }

    pub(crate) fn may_write(&self, rules: Rules, place: usize) -> bool {
        let arrived = self.proxies[self.home].cluster.clone().next_seq();
        let ask = Ask { unit: Unit::Write, ..self.ask(rules, place, Level::Session, arrived) };
        let is_primary = self.proxies[self.home].cluster.primary() == Some(id(place));
        let real = &self.servers[self.proxies[self.home].pool[place].server];
        is_primary && real.role == Role::Primary && self.may_run(rules, place, &ask)
    }

    /// Whether the session is owed the news of a loss.
    pub(crate) fn is_owed(&self) -> bool {
        let mut session = self.session.clone();
        session.resolve(&self.proxies[self.home].cluster);
        session.loss().is_some()
    }

    /// The news of a loss: the session cannot ask for what is gone any more.
    pub(crate) fn tell(&mut self, rules: Rules) {
        self.session.on_told();
        if !rules.made(Mistake::LossKeptBack) {
            self.seen &= self.surviving();
        }
    }

    fn may_run(&self, rules: Rules, place: usize, ask: &Ask) -> bool {
        let proxy = &self.proxies[self.home];
        let pooled = &proxy.pool[place];
        let real = &self.servers[pooled.server];
        if pooled.run != real.run || !real.is_up || self.arriving.is_some() {
            return false;
        }
        match route(&proxy.cluster, &mut self.session.clone(), ask, &[], NOW) {
            Route::Run { server: chosen, floor, .. } => {
                assert_eq!(chosen, id(place), "out of scope");
                rules.made(Mistake::ConnectionNotChecked) || may_use(&proxy.cluster, &floor, &pooled.connection)
            }
            Route::Wait { .. } | Route::Tell(_) => false,
            Route::Refuse(refusal) => panic!("refused in time: {refusal}"),
        }
    }

    pub(crate) fn ask(&self, rules: Rules, place: usize, level: Level, arrived: Seq) -> Ask {
        let is_primary = self.proxies[self.home].cluster.primary() == Some(id(place));
        let scope = if is_primary { Scope::Any } else { Scope::Only(id(place)) };
        let others = || (0..rules.servers).map(id).filter(|other| *other != id(place)).collect();
        let excluded = if is_primary { others() } else { ServerSet::EMPTY };
        let blind = is_primary && rules.made(Mistake::PrimaryReadAsBlindWrite);
        let unit = if blind { Unit::Write } else { Unit::Read };
        Ask { unit, level, scope, excluded, wait_budget: Micros(1), ..Ask::read(arrived, NOW) }
    }

    /// A commit, not on disk yet.
    pub(crate) fn commit(&mut self, server: usize) {
        self.servers[server].position += 1;
    }

    /// A standby replays the next commit. What it replays, it has on disk.
    pub(crate) fn apply(&mut self, server: usize) {
        let real = &mut self.servers[server];
        real.position += 1;
        real.flushed = real.flushed.max(real.position);
    }

    pub(crate) fn flush(&mut self, server: usize) {
        self.servers[server].flushed = self.servers[server].position;
    }

    pub(crate) fn send(&mut self, rules: Rules, proxy: usize, place: usize) {
        let real = self.servers[self.proxies[proxy].probes[place].server].clone();
        let hidden = self.hidden_on(real.branch) >> (real.branch * POSITIONS);
        let (timeline, insert) = (self.timeline(real.branch), insert_lsn(rules, real.position));
        let Proxy { cluster, probes, .. } = &mut self.proxies[proxy];
        let sent = cluster.on_probe_sent(id(place), NOW);
        let epoch = probes[place].epoch;
        probes[place].flight = Some(Flight { sent, epoch, server: real, timeline, insert, hidden });
    }

    pub(crate) fn deliver(&mut self, rules: Rules, proxy: usize, place: usize) {
        let now_at = self.servers[self.proxies[proxy].probes[place].server].position;
        let proxy = &mut self.proxies[proxy];
        let Some(mut flight) = proxy.probes[place].flight.take() else { return };
        let mut xmax_position = flight.server.position;
        if rules.made(Mistake::ProbeDatedAtItsAnswer) {
            flight.sent = proxy.cluster.on_probe_sent(id(place), NOW);
        }
        if rules.made(Mistake::AnswerOfOldProbeConnection) && flight.epoch != proxy.probes[place].epoch {
            flight.epoch = proxy.probes[place].epoch;
            flight.sent = proxy.cluster.on_probe_sent(id(place), NOW);
        }
        if rules.made(Mistake::XmaxReadBeforeReplay) {
            (xmax_position, flight.server.position) = (flight.server.position, now_at);
        }
        let known = proxy.cluster.server_view(id(place), NOW).and_then(|view| view.identity);
        if let Some(known) =
            known.filter(|_| rules.made(Mistake::PositionWithoutTimeline) || rules.made(Mistake::TimelineBlind))
        {
            flight.timeline = known.branch.timeline;
        }
        proxy.answer(place, &flight, xmax_position);
        self.believe(rules.made(Mistake::TokenReplacesWatermark));
    }

    pub(crate) fn witness(&mut self, place: usize) {
        let Proxy { cluster, probes, .. } = &mut self.proxies[self.home];
        let applied = u64::from(self.servers[probes[place].server].position);
        let Some(question) = cluster.witness_question(id(place)) else { return };
        let (name, epoch) = (question.id, question.epoch);
        let committed: Vec<u64> = question.xids.iter().copied().filter(|xid| *xid <= applied).collect();
        cluster.on_witness_answer(id(place), epoch, name, &committed);
    }

    pub(crate) fn reconnect_probe(&mut self, rules: Rules, proxy: usize, place: usize) {
        let server = self.leads[place];
        let run = self.servers[server].run;
        let history = self.history(rules, server);
        let identity = identity(server, &self.servers[server], &history);
        let Proxy { cluster, probes, .. } = &mut self.proxies[proxy];
        if !rules.made(Mistake::ProbeConnectionReplacedUnnoticed) {
            probes[place].epoch = cluster.on_probe_connected(id(place), identity, history, NOW).unwrap();
        }
        (probes[place].server, probes[place].run) = (server, run);
        if !rules.made(Mistake::AnswerOfOldProbeConnection) {
            probes[place].flight = None;
        }
        self.believe(rules.made(Mistake::TokenReplacesWatermark));
    }

    /// The proxy notices that a server is gone.
    pub(crate) fn lose_probe(&mut self, proxy: usize, place: usize) {
        let Proxy { cluster, probes, .. } = &mut self.proxies[proxy];
        cluster.on_probe_lost(id(place));
        probes[place].flight = None;
    }

    /// A standby becomes the primary of a new branch. The old primary dies, or goes on without knowing.
    pub(crate) fn promote(&mut self, rules: Rules, server: usize) {
        let real = &mut self.servers[server];
        let (parent, switch) = (real.branch, real.flushed);
        (real.branch, real.role, real.position) = (server as u8, Role::Primary, switch);
        let timeline = self.timeline(parent).0 + 1;
        self.forks[server] = Some(Fork { parent, switch, timeline });
        if !rules.zombie {
            let old = &mut self.servers[self.leader];
            (old.is_up, old.run) = (false, old.run + 1);
            self.hidden = 0;
        }
        self.leader = server;
    }

    /// Whether the branch that a promotion would begin differs from all others by where it comes from: PostgreSQL gives it no
    /// other name.
    pub(crate) fn is_told_apart(&self, server: usize) -> bool {
        let Server { branch, flushed, .. } = self.servers[server];
        !self.forks.iter().flatten().any(|fork| (fork.parent, fork.switch) == (branch, flushed))
    }

    /// A standby follows the new primary; one that is ahead of the switch point is rewound.
    pub(crate) fn follow(&mut self, server: usize) {
        let branch = self.servers[self.leader].branch;
        let Some(Fork { switch, .. }) = self.forks[usize::from(branch)] else { return };
        let real = &mut self.servers[server];
        real.branch = branch;
        if real.flushed > switch {
            (real.position, real.flushed) = (real.position.min(switch), switch);
            (real.run, real.starts) = (real.run + 1, real.starts + 1);
        }
    }

    pub(crate) fn replace_connection(&mut self, rules: Rules, proxy: usize, place: usize) {
        let server = self.leads[place];
        let run = self.servers[server].run;
        let mut met = identity(server, &self.servers[server], &History::first());
        let Proxy { cluster, pool, .. } = &mut self.proxies[proxy];
        let Some(known) = cluster.server_view(id(place), NOW).and_then(|view| view.identity) else { return };
        // The shell takes the branch from the probe connection: no client's role may ask a standby.
        met.branch = known.branch;
        if rules.made(Mistake::PlaceTakenOnTrust) {
            met = known;
        }
        let Some(mut connection) = cluster.admit(id(place), &met) else { return };
        if rules.made(Mistake::ConnectionBackdated) {
            connection.established = Seq(0);
        }
        if rules.made(Mistake::ConnectionKeptOverCrash) {
            connection = pool[place].connection;
        }
        pool[place] = Pooled { server, connection, run };
    }
}
