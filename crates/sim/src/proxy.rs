//! The shell around the core, as the proxy drives it: probe connections, pooled connections, what is asked when. Every rule
//! that it must keep can be broken ([`Mistake`]).

use highwater_core::{
    Cluster, ClusterSettings, CommitVisibility, Epoch, Identity, Lsn, Micros, PrimaryAnswer, Role, Seq,
    ServerConnection, ServerId, StandbyAnswer, Timeline,
};

use crate::servers::{Servers, lsn};

/// One rule broken: the judge must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// A probe counts as sent when its answer arrives.
    ProbeDatedAtItsAnswer,
    /// The session does not hear of its own write.
    WriteNotReported,
    /// The session does not hear of a read on a standby.
    StandbyReadNotReported,
    /// The session does not hear of a read on the primary.
    PrimaryReadNotReported,
    /// The primary is read without waiting until it shows what standbys showed.
    PrimaryReadAsBlindWrite,
    /// A server connection counts as the same after the server crashed.
    ConnectionKeptOverCrash,
    /// A server connection counts as older than it is.
    ConnectionBackdated,
    /// What a dead probe connection said counts for the new one.
    AnswerOfOldProbeConnection,
    /// The core is not told that the probe connection is another one.
    ProbeConnectionReplacedUnnoticed,
    /// A connection is used without asking whether it may be.
    ConnectionNotChecked,
    /// A crashed standby answers the witness question of before.
    WitnessAskedAfterCrash,
    /// A standby's MVCC snapshot is taken before its position, not after it.
    XmaxReadBeforeReplay,
    /// A token is made before everything is measured.
    TokenWithoutPending,
    /// A token leaves out what was seen on standbys.
    TokenWithoutReplicaPart,
    /// A token is believed as it stands.
    TokenUnverified,
    /// All positions count as of one timeline.
    TimelineBlind,
    /// A standby's position counts as of the timeline that it was met on.
    PositionWithoutTimeline,
    /// The switch point is taken for a later one.
    SwitchPointTooFar,
    /// The client does not hear of a loss.
    LossKeptBack,
    /// A unit waits on when its budget is spent.
    BudgetForgotten,
    /// What is flushed counts as all that can be visible, although some commit asynchronously.
    FlushedPositionAsWatermark,
    /// A position behind a page's header, which no standby ever reports, is left as it is.
    PositionBehindTheHeader,
    /// What a primary says that has been replaced is passed on.
    DeposedPassedOn,
    /// A connection counts as leading where its place leads now.
    PlaceTakenForInstance,
    /// A new connection counts as leading to what the probe connection met at its place, unasked.
    PlaceTakenOnTrust,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Mistake; 25] = [
        Mistake::ProbeDatedAtItsAnswer,
        Mistake::WriteNotReported,
        Mistake::StandbyReadNotReported,
        Mistake::PrimaryReadNotReported,
        Mistake::PrimaryReadAsBlindWrite,
        Mistake::ConnectionKeptOverCrash,
        Mistake::ConnectionBackdated,
        Mistake::AnswerOfOldProbeConnection,
        Mistake::ProbeConnectionReplacedUnnoticed,
        Mistake::ConnectionNotChecked,
        Mistake::WitnessAskedAfterCrash,
        Mistake::XmaxReadBeforeReplay,
        Mistake::TokenWithoutPending,
        Mistake::TokenWithoutReplicaPart,
        Mistake::TokenUnverified,
        Mistake::TimelineBlind,
        Mistake::PositionWithoutTimeline,
        Mistake::SwitchPointTooFar,
        Mistake::LossKeptBack,
        Mistake::BudgetForgotten,
        Mistake::FlushedPositionAsWatermark,
        Mistake::PositionBehindTheHeader,
        Mistake::DeposedPassedOn,
        Mistake::PlaceTakenForInstance,
        Mistake::PlaceTakenOnTrust,
    ];
}

/// A probe under way.
#[derive(Clone, Debug)]
struct Flight {
    sent: Seq,
    epoch: Epoch,
    /// What it was sent to.
    line: Line,
    said: Option<Said>,
}

/// What a server said.
#[derive(Clone, Debug)]
enum Said {
    Primary(PrimaryAnswer),
    Standby(StandbyAnswer),
}

/// Where a connection leads, whatever becomes of its place: to this run of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) server: usize,
    run: u32,
}

impl Line {
    fn to(servers: &Servers, server: usize) -> Self {
        Self { server, run: servers.all[server].run }
    }

    fn lives(self, servers: &Servers) -> bool {
        servers.all[self.server].is_up && servers.all[self.server].run == self.run
    }
}

#[derive(Clone, Debug, Default)]
struct Probe {
    connection: Option<(Epoch, Line)>,
    flight: Option<Flight>,
}

/// A server connection in the pool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pooled {
    pub(crate) facts: ServerConnection,
    pub(crate) role: Role,
    pub(crate) line: Line,
}

/// One proxy process.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    pub(crate) cluster: Cluster,
    probes: Vec<Probe>,
    pub(crate) pool: Vec<Option<Pooled>>,
    /// Packets between the proxy and these servers are lost.
    pub(crate) cut_off: Vec<bool>,
    /// Servers that somebody waits for.
    pub(crate) wanted: Vec<bool>,
    mistake: Option<Mistake>,
}

pub(crate) const SYSTEM_ID: u64 = 7;

pub(crate) fn id(server: usize) -> ServerId {
    ServerId(u8::try_from(server).expect("there are few servers"))
}

impl Proxy {
    pub(crate) fn new(servers: usize, mistake: Option<Mistake>) -> Self {
        let trusts = mistake == Some(Mistake::FlushedPositionAsWatermark);
        let commit_visibility = if trusts { CommitVisibility::SyncOnly } else { CommitVisibility::Any };
        Self {
            cluster: Cluster::new(ClusterSettings { commit_visibility, ..ClusterSettings::default() }, servers),
            probes: vec![Probe::default(); servers],
            pool: vec![None; servers],
            cut_off: vec![false; servers],
            wanted: vec![false; servers],
            mistake,
        }
    }

    pub(crate) fn made(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    /// Whether packets pass to the server that this place leads to.
    pub(crate) fn reaches(&self, servers: &Servers, place: usize) -> bool {
        let server = servers.leads[place];
        servers.all[server].is_up && !self.cut_off[server]
    }

    /// Whether packets pass on this connection.
    pub(crate) fn passes(&self, servers: &Servers, line: Line) -> bool {
        line.lives(servers) && !self.cut_off[line.server]
    }

    /// One step of the monitor of this place: whatever is due next. `None` when nothing is.
    pub(crate) fn monitor(
        &mut self,
        servers: &Servers,
        place: usize,
        now: Micros,
        is_eager: bool,
    ) -> Option<&'static str> {
        let Some((epoch, line)) = self.probes[place].connection else {
            return self.reaches(servers, place).then(|| self.meet(servers, place, now));
        };
        if !self.cluster.is_followed(id(place), epoch) && !self.made(Mistake::ProbeConnectionReplacedUnnoticed) {
            // The core has ended it: it spoke of another timeline, or was promoted.
            self.probes[place].connection = None;
            return Some("ended");
        }
        let is_dead = !self.passes(servers, line);
        match self.probes[place].flight.clone() {
            Some(flight) => match flight.said.clone() {
                Some(said) => {
                    self.deliver(servers, place, &flight, said, now);
                    Some("answer")
                }
                None if is_dead => {
                    self.lose(place);
                    Some("lost")
                }
                None => {
                    let said = self.say(servers, line.server);
                    self.probes[place].flight.as_mut().expect("it is there").said = Some(said);
                    Some("said")
                }
            },
            None if is_dead => {
                self.lose(place);
                Some("lost")
            }
            None if is_eager && line.server != servers.leads[place] && self.reaches(servers, place) => {
                self.lose(place);
                Some("leads elsewhere")
            }
            None if is_eager || self.wanted[place] => {
                self.wanted[place] = false;
                let sent = self.cluster.on_probe_sent(id(place), now);
                self.probes[place].flight = Some(Flight { sent, epoch, line, said: None });
                Some("probe")
            }
            None => None,
        }
    }

    fn meet(&mut self, servers: &Servers, place: usize, now: Micros) -> &'static str {
        let server = servers.leads[place];
        let real = &servers.all[server];
        let mut history = servers.history(real.log);
        let mut identity = servers.identity(server, SYSTEM_ID);
        let log = &servers.logs[real.log];
        if self.made(Mistake::TimelineBlind) {
            history = highwater_core::History::first();
        } else if self.made(Mistake::SwitchPointTooFar) && log.timeline > 1 {
            let ancestors = log.ancestors.iter().map(|(timeline, at)| (Timeline(*timeline), lsn(at + 2)));
            history = highwater_core::History::new(Timeline(log.timeline), ancestors.collect());
        }
        identity.branch = history.branch();
        let keeps = self.made(Mistake::ProbeConnectionReplacedUnnoticed);
        let known = self.cluster.server_view(id(place), now).and_then(|view| view.epoch).filter(|_| keeps);
        let epoch = match known {
            Some(epoch) => epoch,
            None => self.cluster.on_probe_connected(id(place), identity, history, now).expect("one cluster"),
        };
        self.probes[place].connection = Some((epoch, Line::to(servers, server)));
        if !self.made(Mistake::AnswerOfOldProbeConnection) {
            self.probes[place].flight = None;
        }
        "met"
    }

    fn lose(&mut self, place: usize) {
        if !self.made(Mistake::ProbeConnectionReplacedUnnoticed) {
            self.cluster.on_probe_lost(id(place));
        }
        self.probes[place].connection = None;
        if !self.made(Mistake::AnswerOfOldProbeConnection) {
            self.probes[place].flight = None;
        }
    }

    /// The server answers now, whenever that arrives.
    fn say(&self, servers: &Servers, server: usize) -> Said {
        let real = &servers.all[server];
        if real.role == Role::Primary {
            // One byte more, and it is no header any more that could be stepped back over.
            let more = u64::from(self.made(Mistake::PositionBehindTheHeader));
            let (insert, flush) = (Lsn(servers.insert(server).0 + more), servers.flushed(server));
            return Said::Primary(PrimaryAnswer { insert, flush, snapshot: servers.snapshot(server) });
        }
        let timeline = Timeline(servers.logs[real.log].timeline);
        let snapshot_xmax = real.position as u64 + 1;
        Said::Standby(StandbyAnswer { replay: lsn(real.position), timeline, snapshot_xmax })
    }

    fn deliver(&mut self, servers: &Servers, place: usize, flight: &Flight, said: Said, now: Micros) {
        self.probes[place].flight = None;
        let (mut sent, mut epoch) = (flight.sent, flight.epoch);
        if self.made(Mistake::ProbeDatedAtItsAnswer) {
            sent = self.cluster.on_probe_sent(id(place), now);
        }
        if let Some((newer, _)) = self.probes[place].connection
            && newer != epoch
            && self.made(Mistake::AnswerOfOldProbeConnection)
        {
            epoch = newer;
            sent = self.cluster.on_probe_sent(id(place), now);
        }
        let met = self.cluster.server_view(id(place), now).and_then(|view| view.identity);
        match (said, met.map(|met| met.role)) {
            (Said::Primary(answer), Some(Role::Primary)) => {
                self.cluster.on_primary_answer(id(place), epoch, sent, &answer, now);
            }
            (Said::Primary(_), _) => self.cluster.on_promoted(id(place), epoch),
            (Said::Standby(mut answer), Some(Role::Standby)) => {
                let blind = self.made(Mistake::PositionWithoutTimeline) || self.made(Mistake::TimelineBlind);
                if let Some(met) = met.filter(|_| blind) {
                    answer.timeline = met.branch.timeline;
                }
                if self.made(Mistake::XmaxReadBeforeReplay) && flight.line.lives(servers) {
                    answer.replay = lsn(servers.all[flight.line.server].position);
                }
                self.cluster.on_standby_answer(id(place), epoch, sent, answer, now);
            }
            // A primary does not become a standby on a living connection.
            (Said::Standby(_), _) => {}
        }
    }

    /// Asks a standby which transactions it has seen commit, if that is a question.
    pub(crate) fn witness(&mut self, servers: &Servers, place: usize) -> bool {
        let lives = self.probes[place].connection.is_some_and(|(_, line)| self.passes(servers, line));
        let may_be_dead = self.made(Mistake::WitnessAskedAfterCrash) && self.reaches(servers, place);
        if !lives && !may_be_dead {
            return false;
        }
        let line = self.probes[place].connection.filter(|_| lives).map(|(_, line)| line);
        let real = &servers.all[line.map_or(servers.leads[place], |line| line.server)];
        if real.role != Role::Standby {
            return false;
        }
        let position = real.position as u64;
        let Some(question) = self.cluster.witness_question(id(place)) else { return false };
        let (name, epoch) = (question.id, question.epoch);
        let committed: Vec<u64> = question.xids.iter().copied().filter(|xid| *xid <= position).collect();
        self.cluster.on_witness_answer(id(place), epoch, name, &committed);
        true
    }

    /// A connection of the pool that leads to the server as it is known; opened where it is missing or dead.
    pub(crate) fn connection(&mut self, servers: &Servers, place: usize, now: Micros) -> Option<Pooled> {
        let held = self.pool[place].filter(|pooled| pooled.line.lives(servers));
        let is_current = |pooled: &Pooled| self.cluster.is_current(&pooled.facts);
        if let Some(pooled) = held.filter(is_current) {
            return Some(pooled);
        }
        if self.made(Mistake::ConnectionKeptOverCrash)
            && let Some(mut pooled) = self.pool[place]
        {
            pooled.line = Line::to(servers, pooled.line.server);
            self.pool[place] = Some(pooled);
            return Some(pooled);
        }
        if !self.reaches(servers, place) {
            return None;
        }
        let server = servers.leads[place];
        let known = self.cluster.server_view(id(place), now)?.identity?;
        // No client's role may ask a standby for its timeline: the rest of the identity ties it to the monitor's.
        let mut met = Identity { branch: known.branch, ..servers.identity(server, SYSTEM_ID) };
        if self.made(Mistake::PlaceTakenOnTrust) {
            met = known;
        }
        let mut facts = self.cluster.admit(id(place), &met)?;
        if self.made(Mistake::ConnectionBackdated) {
            facts.established = Seq(0);
        }
        let pooled = Pooled { facts, role: met.role, line: Line::to(servers, server) };
        self.pool[place] = Some(pooled);
        Some(pooled)
    }

    /// Whether what this connection says must not be passed on: it leads to a primary that has been replaced.
    pub(crate) fn is_superseded(&self, pooled: &Pooled, now: Micros) -> bool {
        let mut facts = pooled.facts;
        if self.made(Mistake::PlaceTakenForInstance)
            && let Some(met) = self.cluster.server_view(facts.server, now).and_then(|view| view.identity)
        {
            facts.identity = met;
        }
        pooled.role == Role::Primary && self.cluster.is_superseded(&facts) && !self.made(Mistake::DeposedPassedOn)
    }
}
