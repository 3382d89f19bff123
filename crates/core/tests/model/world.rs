//! The small world: servers as they are, proxies as the shell would drive them, and one session. Knows no state space.

use crate::{Budget, Mistake, Rules};
use highwater_core::{
    Ask, Cluster, ClusterSettings, Epoch, Identity, Level, Lsn, Micros, MvccSnapshot, PrimaryAnswer, Role, Route,
    Scope, Seq, ServerConnection, ServerId, ServerSet, Session, StandbyAnswer, Timeline, Token, TokenVerdict, Unit,
    Watermark, may_use, route,
};

/// Servers at most: the primary and two standbys.
pub(crate) const SERVERS: usize = 3;
pub(crate) const PRIMARY: usize = 0;
pub(crate) const NOW: Micros = Micros(0);

/// A set of commits, one bit per position.
pub(crate) type Commits = u8;

pub(crate) fn up_to(position: u8) -> Commits {
    (1 << position) - 1
}

/// A server as it really is. `run` changes when it crashes: every connection of an earlier run is dead.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) position: u8,
    pub(crate) run: u8,
}

/// A probe under way, with what the server said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Flight {
    pub(crate) sent: Seq,
    pub(crate) epoch: Epoch,
    pub(crate) position: u8,
    pub(crate) hidden: Commits,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Probe {
    pub(crate) epoch: Epoch,
    pub(crate) run: u8,
    pub(crate) flight: Option<Flight>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pooled {
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
    /// Commits in the log that the primary does not show yet.
    pub(crate) hidden: Commits,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) home: usize,
    pub(crate) session: Session,
    /// A token the home proxy does not believe yet.
    pub(crate) arriving: Option<(Token, Seq)>,
    /// A strong read that has arrived, with what it must show.
    pub(crate) strong: Option<(Seq, Commits)>,
    /// Everything the session wrote or saw.
    pub(crate) seen: Commits,
    pub(crate) left: Budget,
    pub(crate) violated: bool,
}

pub(crate) fn identity(server: usize) -> Identity {
    Identity {
        system_id: 1,
        timeline: Timeline(1),
        role: if server == PRIMARY { Role::Primary } else { Role::Standby },
        postmaster_start: 0,
        block_size: 8192,
        segment_size: 16 << 20,
    }
}

pub(crate) fn id(server: usize) -> ServerId {
    ServerId(server as u8)
}

pub(crate) fn lsn(position: u8) -> Lsn {
    Lsn(u64::from(position))
}

impl Proxy {
    /// Connected to everything, and everything probed once.
    pub(crate) fn new(rules: Rules) -> Proxy {
        let settings = ClusterSettings { probes_kept: rules.probes_kept, ..ClusterSettings::default() };
        let mut proxy = Proxy { cluster: Cluster::new(settings, rules.servers), probes: vec![], pool: vec![] };
        for server in 0..rules.servers {
            let epoch = proxy.cluster.on_probe_connected(id(server), identity(server), NOW).unwrap();
            proxy.probes.push(Probe { epoch, run: 0, flight: None });
            let connection = proxy.cluster.admit(id(server), &identity(server), Lsn(0)).unwrap();
            proxy.pool.push(Pooled { connection, run: 0 });
        }
        for server in (1..rules.servers).chain([PRIMARY]) {
            let sent = proxy.cluster.on_probe_sent(id(server), NOW);
            let epoch = proxy.probes[server].epoch;
            proxy.answer(server, &Flight { sent, epoch, position: 0, hidden: 0 }, 0);
        }
        proxy
    }

    /// `xmax_position` bounds the transactions a standby's snapshot knows as ended.
    pub(crate) fn answer(&mut self, server: usize, flight: &Flight, xmax_position: u8) {
        let Flight { sent, epoch, position, hidden } = *flight;
        if server == PRIMARY {
            let answer =
                PrimaryAnswer { insert: lsn(position), flush: lsn(position), snapshot: snapshot(position, hidden) };
            self.cluster.on_primary_answer(id(server), epoch, sent, &answer, NOW);
        } else {
            let answer = StandbyAnswer { replay: lsn(position), snapshot_xmax: u64::from(xmax_position) + 1 };
            self.cluster.on_standby_answer(id(server), epoch, sent, answer, NOW);
        }
    }
}

/// As PostgreSQL builds it: xmax follows the latest *ended* transaction, whatever else runs beyond.
pub(crate) fn snapshot(position: u8, hidden: Commits) -> MvccSnapshot {
    let shown = up_to(position) & !hidden;
    let xmax = u64::from(8 - shown.leading_zeros() as u8) + 1;
    let xip: Vec<u64> = (1..xmax).filter(|xid| hidden >> (xid - 1) & 1 == 1).collect();
    MvccSnapshot { xmin: xip.first().copied().unwrap_or(xmax), xmax, xip }
}

impl World {
    pub(crate) fn new(rules: Rules) -> World {
        World {
            servers: vec![Server { position: 0, run: 0 }; rules.servers],
            hidden: 0,
            proxies: vec![Proxy::new(rules); rules.proxies],
            home: 0,
            session: Session::default(),
            arriving: None,
            strong: None,
            seen: 0,
            left: rules.budget,
            violated: false,
        }
    }

    pub(crate) fn visible(&self, server: usize) -> Commits {
        let all = up_to(self.servers[server].position);
        if server == PRIMARY { all & !self.hidden } else { all }
    }

    pub(crate) fn probe_lives(&self, proxy: usize, server: usize) -> bool {
        self.proxies[proxy].probes[server].run == self.servers[server].run
    }

    /// A probe that nobody waits for and that would say nothing new only multiplies states.
    pub(crate) fn is_worth_probing(&self, rules: Rules, proxy: usize, server: usize) -> bool {
        let view = self.proxies[proxy].cluster.server_view(id(server), NOW).unwrap();
        view.replay.or(view.head) != Some(lsn(self.servers[server].position))
            || (proxy == self.home && self.is_needed(rules, server))
    }

    pub(crate) fn is_needed(&self, rules: Rules, server: usize) -> bool {
        if self.arriving.is_some() {
            return server == PRIMARY;
        }
        let cluster = &self.proxies[self.home].cluster;
        let fresh = cluster.clone().next_seq();
        let (level, arrived) = self.strong.map_or((Level::Session, fresh), |(arrived, _)| (Level::Strong, arrived));
        (0..rules.servers).any(|target| {
            match route(cluster, &mut self.session.clone(), &self.ask(rules, target, level, arrived), &[], NOW) {
                Route::Wait { need, .. } if server == PRIMARY => need.primary_probe,
                Route::Wait { need, .. } => need.standbys.contains(id(server)),
                _ => false,
            }
        })
    }

    /// Whether a read may run on this server now, by the code under test.
    pub(crate) fn may_read(&self, rules: Rules, server: usize, level: Level, arrived: Seq) -> bool {
        let proxy = &self.proxies[self.home];
        let pooled = &proxy.pool[server];
        if pooled.run != self.servers[server].run || self.arriving.is_some() {
            return false;
        }
        let ask = self.ask(rules, server, level, arrived);
        match route(&proxy.cluster, &mut self.session.clone(), &ask, &[], NOW) {
            Route::Run { server: chosen, floor, .. } => {
                assert_eq!(chosen, id(server), "out of scope");
                rules.made(Mistake::ConnectionNotChecked) || may_use(&proxy.cluster, &floor, &pooled.connection)
            }
            Route::Wait { .. } => false,
            Route::Refuse(refusal) => panic!("refused in time: {refusal}"),
        }
    }

    pub(crate) fn ask(&self, rules: Rules, server: usize, level: Level, arrived: Seq) -> Ask {
        let scope = if server == PRIMARY { Scope::Any } else { Scope::Only(id(server)) };
        let excluded = if server == PRIMARY { ServerSet(0b110) } else { ServerSet::EMPTY };
        let blind = server == PRIMARY && rules.made(Mistake::PrimaryReadAsBlindWrite);
        let unit = if blind { Unit::Write } else { Unit::Read };
        Ask { unit, level, scope, excluded, wait_budget: Micros(1), ..Ask::read(arrived, NOW) }
    }

    pub(crate) fn read(&mut self, rules: Rules, server: usize, must_show: Commits) {
        let visible = self.visible(server);
        self.violated |= must_show & !visible != 0;
        self.seen |= visible;
        self.left.statements -= 1;
        let Proxy { cluster, pool, .. } = &mut self.proxies[self.home];
        if server == PRIMARY {
            self.session.on_primary_finished(cluster);
        } else if rules.made(Mistake::CachedPositionAsWatermark) {
            let cached = cluster.applied(&pool[server].connection).unwrap_or_default();
            self.session.on_exact_position(Watermark { timeline: Timeline(1), lsn: cached }, Seq(0));
        } else if !rules.made(Mistake::StandbyReadNotReported) {
            self.session.on_standby_finished(cluster, &pool[server].connection);
        }
    }

    pub(crate) fn write(&mut self, rules: Rules) {
        let head = &mut self.servers[PRIMARY].position;
        self.seen |= 1 << *head;
        *head += 1;
        self.left.statements -= 1;
        if !rules.made(Mistake::WriteNotReported) {
            self.session.on_primary_finished(&mut self.proxies[self.home].cluster);
        }
    }

    pub(crate) fn send(&mut self, proxy: usize, server: usize) {
        let position = self.servers[server].position;
        let hidden = if server == PRIMARY { self.hidden } else { 0 };
        let Proxy { cluster, probes, .. } = &mut self.proxies[proxy];
        let sent = cluster.on_probe_sent(id(server), NOW);
        let epoch = probes[server].epoch;
        probes[server].flight = Some(Flight { sent, epoch, position, hidden });
    }

    pub(crate) fn deliver(&mut self, rules: Rules, proxy: usize, server: usize) {
        let now_at = self.servers[server].position;
        let proxy = &mut self.proxies[proxy];
        let Some(mut flight) = proxy.probes[server].flight.take() else { return };
        let mut xmax_position = flight.position;
        if rules.made(Mistake::ProbeDatedAtItsAnswer) {
            flight.sent = proxy.cluster.on_probe_sent(id(server), NOW);
        }
        if rules.made(Mistake::AnswerOfOldProbeConnection) && flight.epoch != proxy.probes[server].epoch {
            flight.epoch = proxy.probes[server].epoch;
            flight.sent = proxy.cluster.on_probe_sent(id(server), NOW);
        }
        if rules.made(Mistake::XmaxReadBeforeReplay) {
            (xmax_position, flight.position) = (flight.position, now_at);
        }
        proxy.answer(server, &flight, xmax_position);
        self.believe();
    }

    pub(crate) fn witness(&mut self, server: usize) {
        let applied = u64::from(self.servers[server].position);
        let cluster = &mut self.proxies[self.home].cluster;
        let Some(question) = cluster.witness_question(id(server)) else { return };
        let (name, epoch) = (question.id, question.epoch);
        let committed: Vec<u64> = question.xids.iter().copied().filter(|xid| *xid <= applied).collect();
        cluster.on_witness_answer(id(server), epoch, name, &committed);
    }

    pub(crate) fn reconnect_probe(&mut self, rules: Rules, proxy: usize, server: usize) {
        let run = self.servers[server].run;
        let Proxy { cluster, probes, .. } = &mut self.proxies[proxy];
        if !rules.made(Mistake::ProbeConnectionReplacedUnnoticed) {
            probes[server].epoch = cluster.on_probe_connected(id(server), identity(server), NOW).unwrap();
        }
        probes[server].run = run;
        if !rules.made(Mistake::AnswerOfOldProbeConnection) {
            probes[server].flight = None;
        }
    }

    pub(crate) fn replace_connection(&mut self, rules: Rules, proxy: usize, server: usize) {
        let Server { position, run } = self.servers[server];
        let Proxy { cluster, pool, .. } = &mut self.proxies[proxy];
        let mut connection = cluster.admit(id(server), &identity(server), lsn(position)).unwrap();
        if rules.made(Mistake::ConnectionBackdated) {
            connection.established = Seq(0);
        }
        if rules.made(Mistake::ConnectionKeptOverCrash) {
            connection = pool[server].connection;
        }
        pool[server] = Pooled { connection, run };
    }

    pub(crate) fn hand_over(&mut self, rules: Rules) -> Option<()> {
        let cluster = &self.proxies[self.home].cluster;
        self.session.resolve(cluster);
        let at = |position: Watermark, replica: Option<Watermark>| Token {
            system_id: 1,
            timeline: position.timeline,
            lsn: position.lsn,
            replica_lsn: replica.map(|replica| replica.lsn),
            issued: 0,
        };
        let watermark = self.session.watermark();
        let token = match self.session.token(cluster, 0) {
            Some(token) if rules.made(Mistake::TokenWithoutReplicaPart) => Some(Token { replica_lsn: None, ..token }),
            Some(token) => Some(token),
            None if rules.made(Mistake::TokenWithoutPending) => {
                watermark.map(|position| at(position, self.session.replica_watermark()))
            }
            None if self.session.is_resolved() => None,
            None => return None,
        };
        // Nobody will ask the old proxy again: whatever it knows is one and the same state.
        self.proxies[self.home] = Proxy::new(rules);
        self.home = 1 - self.home;
        self.left.hand_overs -= 1;
        self.session = Session::default();
        let arrived = self.proxies[self.home].cluster.next_seq();
        self.arriving = token.map(|token| (Token::decode(&token.encode()).unwrap(), arrived));
        self.believe();
        Some(())
    }

    /// Takes the arriving token over as soon as the home proxy believes it. A genuine one is never refused.
    pub(crate) fn believe(&mut self) {
        let Some((token, arrived)) = self.arriving else { return };
        match self.proxies[self.home].cluster.on_token(&token, arrived) {
            TokenVerdict::Accept => {
                self.session.absorb(token.session());
                self.arriving = None;
            }
            TokenVerdict::NeedsPrimaryProbe => {}
            other => panic!("genuine token refused: {other:?}"),
        }
    }
}
