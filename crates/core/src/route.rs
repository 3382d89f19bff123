//! The decision: where one unit runs, what it waits for, or why it is refused. Reads facts, changes nothing but what the
//! session had still to measure; must not know how probes are made, connections are kept or time passes.
//!
//! ```text
//! something the session saw was lost     -> say so
//! a standby satisfies the level          -> run there
//! else within the budget, if it may help -> wait for the answers that decide
//! else the primary, if allowed and shown to be no step back
//! else refuse
//! ```

use crate::session::{Missing, StandbyRead};
use crate::{Ask, Cluster, Level, Loss, Lsn, Micros, Reason, Refusal, Scope, ServerConnection, ServerId, ServerSet};
use crate::{Session, Unit, Watermark};

/// The answer to one [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Run it on this server, on a connection that passes [`may_use`].
    Run {
        /// The server.
        server: ServerId,
        /// Why there.
        reason: Reason,
        /// What the connection must satisfy.
        floor: Required,
        /// A standby chosen blindly by the same dice had not applied what this read required.
        prevented: bool,
    },
    /// Bring about these facts, and ask again after each one, or at `until` when none came.
    Wait {
        /// What would decide.
        need: Need,
        /// The end of the wait budget.
        until: Micros,
        /// What is waited for.
        reason: Reason,
    },
    /// Say first that this is lost, then [`Session::on_told`], and ask again.
    Tell(Loss),
    /// Run it nowhere.
    Refuse(Refusal),
}

/// Facts a waiting unit needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// An answer of the primary to a probe sent from now on.
    pub primary_probe: bool,
    /// Answers of these standbys to probes sent from now on.
    pub standbys: ServerSet,
    /// Answers to the witness questions that may be open ([`Cluster::witness_question`]).
    pub witness: bool,
}

/// What a server connection must satisfy to take the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Required {
    /// The server.
    pub server: ServerId,
    /// How much the connection must be known to show.
    pub floor: Option<Watermark>,
    /// The last read, not yet measured: the connection must lead into the same run of the server.
    same_run_as: Option<StandbyRead>,
}

/// Whether this very connection may take the unit that was routed to its server. If no connection of the server passes,
/// the shell waits for its next probe answer and asks for the route again.
#[must_use]
pub fn may_use(cluster: &Cluster, required: &Required, connection: &ServerConnection) -> bool {
    let shows = |floor: Watermark| {
        let live = cluster.live_in(connection.server, connection.epoch);
        let applied = live.zip(cluster.applied(connection));
        applied.is_some_and(|(live, lsn)| floor.reached_by(Watermark { branch: live.identity.branch, lsn }))
    };
    let same_run = |read: StandbyRead| {
        let (server, epoch) = (connection.server, connection.epoch);
        read.epoch == epoch && cluster.same_run(server, epoch, read.established, connection.established)
    };
    connection.server == required.server
        && cluster.is_current(connection)
        && required.floor.is_none_or(shows)
        && required.same_run_as.is_none_or(same_run)
}

/// Decides. `load` is the number of busy server connections by server; missing places count as idle.
pub fn route(cluster: &Cluster, session: &mut Session, ask: &Ask, load: &[u32], now: Micros) -> Route {
    session.resolve(cluster);
    if let Some(loss) = session.loss() {
        return Route::Tell(loss);
    }
    let question = Deciding { cluster, session, ask, load, now };
    let names_primary = cluster.primary().is_some_and(|primary| ask.scope == Scope::Only(primary));
    match ask.unit {
        Unit::Write => question.primary(Reason::Write),
        Unit::PrimaryRead => question.primary(Reason::MustRunOnPrimary),
        Unit::Read if ask.level == Level::Primary || names_primary => question.primary(Reason::PrimaryAsked),
        Unit::Read => question.standby(),
    }
}

struct Deciding<'a> {
    cluster: &'a Cluster,
    session: &'a Session,
    ask: &'a Ask,
    load: &'a [u32],
    now: Micros,
}

/// What a standby must satisfy, and what to call it when one does.
#[derive(Clone, Copy)]
struct Floor {
    watermark: Option<Watermark>,
    same_run_as: Option<StandbyRead>,
    reason: Reason,
}

/// Why nothing runs yet: what would help, and what to say when it does not come.
#[derive(Clone, Copy)]
struct Hold {
    need: Need,
    reason: Reason,
    refusal: Refusal,
    /// How long it will probably take.
    takes: Option<Micros>,
}

impl Deciding<'_> {
    /// A read that prefers a standby.
    fn standby(&self) -> Route {
        let healthy = self.healthy();
        if healthy.is_empty() {
            return self.no_standby();
        }
        let hold = match self.floor() {
            Err(hold) => hold,
            Ok(floor) => match self.choose(self.ready(healthy, &floor)) {
                Some(server) => return self.run(server, floor.reason, Some(&floor)),
                None => self.behind(healthy, &floor),
            },
        };
        let hopeless = hold.takes.is_some_and(|takes| takes > self.ask.deadline().since(self.now));
        if self.in_time() && !(hopeless && self.may_fall_back()) {
            return self.wait(hold.reason, hold.need.and(self.primary_need()));
        }
        self.fall_back(if hopeless { Reason::StandbysTooFarBehind } else { Reason::BudgetSpent }, hold.refusal)
    }

    /// No standby is healthy: waiting for one would only delay what the primary can do now.
    fn no_standby(&self) -> Route {
        if self.may_fall_back() {
            return self.primary(Reason::NoHealthyStandby);
        }
        if self.in_time() {
            let standbys = self.cluster.standbys().map(|(server, _)| server);
            let need =
                Need { standbys: standbys.filter(|server| self.ask.permits(*server)).collect(), ..Need::default() };
            return self.wait(Reason::AwaitStandby, need);
        }
        self.fall_back(Reason::NoHealthyStandby, Refusal::NoStandby)
    }

    /// The primary instead of a standby.
    fn fall_back(&self, reason: Reason, refusal: Refusal) -> Route {
        if self.may_fall_back() {
            return self.primary(reason);
        }
        Route::Refuse(match refusal {
            Refusal::NotCaughtUp { missing_bytes, catch_up } if self.ask.scope == Scope::Any => {
                Refusal::FallbackSpent { missing_bytes, catch_up }
            }
            Refusal::NoStandby if self.ask.scope == Scope::Any => {
                Refusal::FallbackSpent { missing_bytes: 0, catch_up: None }
            }
            other => other,
        })
    }

    fn may_fall_back(&self) -> bool {
        self.ask.scope == Scope::Any && self.ask.fallback_allowed
    }

    /// Whatever must or may run on the primary, once that is no step back.
    fn primary(&self, reason: Reason) -> Route {
        let known = self.cluster.primary();
        let in_scope = match self.ask.scope {
            Scope::Any => true,
            Scope::StandbysOnly => false,
            Scope::Only(server) => known.is_none_or(|primary| primary == server),
        };
        if !in_scope {
            return Route::Refuse(Refusal::PrimaryOutOfScope);
        }
        let Some(server) = known.filter(|server| self.is_fresh(*server) && self.ask.permits(*server)) else {
            let need = Need { primary_probe: true, ..Need::default() };
            let until = self.ask.failover_deadline();
            if self.now < until {
                return Route::Wait { need, until, reason: Reason::AwaitPrimary };
            }
            return Route::Refuse(Refusal::NoPrimary);
        };
        match self.primary_hold() {
            Some(hold) => self.wait_or_refuse(hold),
            None => self.run(server, reason, None),
        }
    }

    /// What keeps the primary from being no step back for this session; nothing for a write, which shows nothing.
    fn primary_hold(&self) -> Option<Hold> {
        if self.ask.unit == Unit::Write || !self.ask.level.binds_session() {
            return None;
        }
        if let Some(missing) = self.session.missing_for_primary() {
            return Some(Hold::position(missing));
        }
        let seen = self.session.replica_watermark().and_then(|seen| self.visibility_hold(seen));
        seen.or_else(|| self.strong_hold())
    }

    /// Reading strongly on the primary: it must show everything that standbys may have shown before arrival. Enough is
    /// either the primary's own head after arrival, or every reachable standby's position after arrival.
    ///
    /// A standby that is lost, or has restarted since arrival, is left out: what it alone showed to others is not covered,
    /// or one dead standby would end strong reads. What was *acknowledged* is covered even so: a commit is visible on the
    /// primary before it is acknowledged.
    fn strong_hold(&self) -> Option<Hold> {
        if self.ask.level != Level::Strong {
            return None;
        }
        let through = self.cluster.visible_through();
        let head = self.cluster.bound_after(self.ask.arrived);
        if head.zip(through).is_some_and(|(head, through)| head.reached_by(through)) {
            return None;
        }
        let reachable = self.cluster.standbys().filter(|(server, _)| self.is_fresh(*server));
        let shown = reachable.map(|(_, live)| {
            let answer = live.trail.first_sent_after(self.ask.arrived)?;
            Some(Watermark { branch: live.identity.branch, lsn: answer.position })
        });
        shown.into_iter().find_map(|shown| match shown {
            Some(shown) => self.visibility_hold(shown),
            None => Some(Hold::new(self.witness_need(), Reason::AwaitVisibility, Refusal::PositionUnknown)),
        })
    }

    /// Whether the primary is known to show everything up to `seen`.
    fn visibility_hold(&self, seen: Watermark) -> Option<Hold> {
        let through = self.cluster.visible_through();
        if through.is_some_and(|through| seen.reached_by(through)) {
            return None;
        }
        let missing_bytes = through.map(|through| seen.lsn.bytes_since(through.lsn));
        let refusal = Refusal::NotYetVisible { missing_bytes };
        Some(Hold::new(self.witness_need(), Reason::AwaitVisibility, refusal))
    }

    fn witness_need(&self) -> Need {
        let standbys = self.cluster.standbys().map(|(server, _)| server).collect();
        Need { primary_probe: true, standbys, witness: true }
    }

    /// What the primary would need if standbys do not get there in time: brought about meanwhile, so that the fallback
    /// does not begin to wait when the budget is spent.
    fn primary_need(&self) -> Need {
        if self.ask.scope != Scope::Any {
            return Need::default();
        }
        self.primary_hold().map_or(Need::default(), |hold| hold.need)
    }

    /// What a standby must have applied for this level.
    fn floor(&self) -> Result<Floor, Hold> {
        let required = |watermark, reason| Ok(Floor { watermark, same_run_as: None, reason });
        let unknown = Err(Hold::position(Missing::PrimaryAnswer));
        match self.ask.level {
            Level::Eventual => required(None, Reason::AnyStandby),
            Level::Bounded { max_lag } => {
                let window = Micros(self.now.0.saturating_sub(max_lag.0));
                let sample = self.cluster.primary_trail().and_then(|trail| trail.oldest_sent_at(window));
                let bound = sample.zip(self.cluster.branch());
                let floor = bound.map(|(sample, branch)| Watermark { branch, lsn: sample.position });
                floor.map_or(unknown, |floor| required(Some(floor), Reason::WithinMaxLag))
            }
            // The primary's head after arrival covers what the session wrote or saw as well, measured or not.
            Level::Strong => self.cluster.bound_after(self.ask.arrived).map_or(unknown, |head| {
                let seen = self.session.watermark().map_or(head.lsn, |seen| seen.lsn.max(head.lsn));
                required(Some(Watermark { lsn: seen, ..head }), Reason::AsFreshAsPrimary)
            }),
            Level::Session | Level::Primary => self.session_floor(),
        }
    }

    fn session_floor(&self) -> Result<Floor, Hold> {
        let watermark = self.session.watermark();
        match self.session.missing_for_standby() {
            Some(Missing::PrimaryAnswer) => Err(Hold::position(Missing::PrimaryAnswer)),
            Some(Missing::StandbyAnswer(read)) => {
                Ok(Floor { watermark, same_run_as: Some(read), reason: Reason::SameStandby })
            }
            None => {
                let reason = if watermark.is_some() { Reason::CaughtUp } else { Reason::NothingRequired };
                Ok(Floor { watermark, same_run_as: None, reason })
            }
        }
    }

    /// Standbys on the newest timeline with fresh evidence that client, operator and earlier failures leave in the race.
    fn healthy(&self) -> ServerSet {
        let standbys = self.cluster.standbys().map(|(server, _)| server);
        standbys
            .filter(|server| self.ask.permits(*server) && self.is_fresh(*server) && !self.is_draining(*server))
            .collect()
    }

    fn is_draining(&self, server: ServerId) -> bool {
        self.cluster.server(server).is_some_and(|place| place.draining)
    }

    fn is_fresh(&self, server: ServerId) -> bool {
        let newest = self.cluster.live(server).and_then(|live| live.trail.newest());
        newest.is_some_and(|sample| self.now.since(sample.sent_at) <= self.cluster.settings.evidence_max_age)
    }

    fn ready(&self, healthy: ServerSet, floor: &Floor) -> ServerSet {
        let same = |server| floor.same_run_as.is_none_or(|read| read.server == server);
        healthy.iter().filter(|server| same(*server) && self.lacks(*server, floor) == 0).collect()
    }

    /// Bytes of log between the server's newest known position and what is required.
    fn lacks(&self, server: ServerId, floor: &Floor) -> u64 {
        let replay = self.replay(server);
        floor.watermark.map_or(0, |watermark| watermark.lsn.bytes_since(replay))
    }

    fn replay(&self, server: ServerId) -> Lsn {
        let newest = self.cluster.live(server).and_then(|live| live.trail.newest());
        newest.map_or(Lsn(0), |sample| sample.position)
    }

    /// Healthy standbys, none of them ready.
    fn behind(&self, healthy: ServerSet, floor: &Floor) -> Hold {
        if let Some(read) = floor.same_run_as {
            return Hold::position(Missing::StandbyAnswer(read));
        }
        let target = floor.watermark.map_or(Lsn(0), |watermark| watermark.lsn);
        let takes = healthy.iter().map(|server| self.cluster.catch_up(self.replay(server), target, self.now));
        // One standby of which nothing tells how long it takes may be the first to get there.
        let takes = takes.reduce(|one, two| one.zip(two).map(|(one, two)| one.min(two))).flatten();
        let missing_bytes = healthy.iter().map(|server| self.lacks(server, floor)).min().unwrap_or(0);
        let need = Need { standbys: healthy, ..Need::default() };
        let refusal = Refusal::NotCaughtUp { missing_bytes, catch_up: takes };
        Hold { takes, ..Hold::new(need, Reason::AwaitReplay, refusal) }
    }

    /// The less busy of two by the dice, for its weight; the preferred one instead unless it is much busier.
    fn choose(&self, ready: ServerSet) -> Option<ServerId> {
        let dice = self.ask.dice as usize;
        let one = ready.pick(dice >> 8)?;
        let two = ready.without(one).pick(dice >> 16).unwrap_or(one);
        let best = if self.busyness(two) < self.busyness(one) { two } else { one };
        let preferred = self.ask.preferred.filter(|server| ready.contains(*server));
        // Twice as busy is worth a warm cache, and a handful of connections is never "much".
        let limit = self.busyness(best).saturating_mul(2).saturating_add(4 * BUSYNESS_UNIT);
        Some(preferred.filter(|server| self.busyness(*server) <= limit).unwrap_or(best))
    }

    fn busyness(&self, server: ServerId) -> u64 {
        let load = self.load.get(usize::from(server.0)).copied().unwrap_or(0);
        let weight = self.cluster.server(server).map_or(1, |place| place.weight);
        u64::from(load) * BUSYNESS_UNIT / u64::from(weight.max(1))
    }

    fn run(&self, server: ServerId, reason: Reason, floor: Option<&Floor>) -> Route {
        let watermark = floor.and_then(|floor| floor.watermark);
        let required = Required { server, floor: watermark, same_run_as: floor.and_then(|floor| floor.same_run_as) };
        Route::Run { server, reason, floor: required, prevented: self.prevented() }
    }

    /// Judged by the blind choice's first answer after arrival if there is one: a standby that caught up while the read
    /// waited was behind when it arrived, and one that answers later was at most as far when it arrived.
    fn prevented(&self) -> bool {
        let read = self.ask.unit == Unit::Read && self.ask.level != Level::Primary;
        let floor = self.floor().ok().and_then(|floor| floor.watermark);
        let blind = self.healthy().pick(self.ask.dice as usize);
        let Some((floor, blind)) = floor.zip(blind).filter(|_| read) else { return false };
        let trail = self.cluster.live(blind).map(|live| &live.trail);
        let position = trail.and_then(|trail| trail.first_sent_after(self.ask.arrived).or(trail.newest()));
        position.is_some_and(|sample| sample.position < floor.lsn)
    }

    fn in_time(&self) -> bool {
        self.now < self.ask.deadline()
    }

    fn wait(&self, reason: Reason, need: Need) -> Route {
        Route::Wait { need, until: self.ask.deadline(), reason }
    }

    fn wait_or_refuse(&self, hold: Hold) -> Route {
        if self.in_time() { self.wait(hold.reason, hold.need) } else { Route::Refuse(hold.refusal) }
    }
}

/// Loads are compared as multiples of this, so that weights up to it still make a difference.
const BUSYNESS_UNIT: u64 = 1 << 16;

impl Hold {
    fn new(need: Need, reason: Reason, refusal: Refusal) -> Hold {
        Hold { need, reason, refusal, takes: None }
    }

    fn position(missing: Missing) -> Hold {
        let (need, reason) = match missing {
            Missing::PrimaryAnswer => (Need { primary_probe: true, ..Need::default() }, Reason::AwaitPrimaryPosition),
            Missing::StandbyAnswer(read) => {
                let standbys = ServerSet::EMPTY.with(read.server);
                (Need { standbys, ..Need::default() }, Reason::AwaitStandbyPosition)
            }
        };
        Hold::new(need, reason, Refusal::PositionUnknown)
    }
}

impl Need {
    fn and(self, other: Need) -> Need {
        Need {
            primary_probe: self.primary_probe || other.primary_probe,
            standbys: self.standbys.union(other.standbys),
            witness: self.witness || other.witness,
        }
    }
}
