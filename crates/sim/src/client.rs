//! One session: what it asks for, what it is given, and the judge's account of it.

use highwater_core::{
    Ask, Level, Micros, Need, Role, Route, Scope, Seq, ServerSet, Session, Token, TokenVerdict, Unit, may_use, route,
};

use crate::judge::{self, Account, Commits, Violation};
use crate::proxy::{Mistake, Pooled, Proxy, id};
use crate::servers::Servers;
use crate::tally::Tally;

/// How long a read may wait for standbys, and anything for the primary.
pub(crate) const WAIT_BUDGET: Micros = Micros::from_millis(20);
pub(crate) const FAILOVER_WAIT: Micros = Micros::from_millis(200);
pub(crate) const MAX_LAG: Micros = Micros::from_millis(40);

/// What a session may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Read(Level),
    ReadOnPrimary,
    Write,
}

/// A unit that has arrived.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) wish: Wish,
    arrived: Seq,
    arrived_at: Micros,
    since: Micros,
    patience: Micros,
    excluded: ServerSet,
    /// What a strong read must show, if nothing happens that lifts the promise.
    due: Option<(Commits, usize)>,
}

/// A unit that a connection has been taken for. Whatever comes of it comes on that one.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    pending: Pending,
    pooled: Pooled,
    /// So many steps of the session later it runs.
    steps: u32,
    /// What a bounded read must show.
    bounded_due: Option<Commits>,
}

/// A token that its proxy does not believe yet.
#[derive(Clone, Copy, Debug)]
struct Arriving {
    token: Token,
    arrived: Seq,
    known: Account,
}

/// One session at its proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Client {
    pub(crate) home: usize,
    session: Session,
    account: Account,
    pub(crate) pending: Option<Pending>,
    under_way: Option<UnderWay>,
    arriving: Option<Arriving>,
}

/// What surrounds one step of a session.
pub(crate) struct Around<'a> {
    pub(crate) servers: &'a mut Servers,
    pub(crate) proxy: &'a mut Proxy,
    pub(crate) tally: &'a mut Tally,
    pub(crate) now: Micros,
    pub(crate) dice: u32,
    /// How often a standby has been promoted.
    pub(crate) promotions: usize,
    /// What was visible on the primary longer than [`MAX_LAG`] ago, if nothing has lifted that promise.
    pub(crate) bounded_due: Option<Commits>,
    pub(crate) trace: Option<&'a mut Vec<String>>,
}

impl Around<'_> {
    /// What is not lost for all that the proxy can know: what there is on the branch that it follows.
    fn kept(&self) -> Commits {
        self.proxy.cluster.branch().map_or(0, |follows| self.servers.of_branch(follows)) & self.servers.surviving()
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} ms    {}", self.now.0 as f64 / 1000.0, line()));
        }
    }
}

impl Client {
    pub(crate) fn at(home: usize) -> Self {
        Self { home, ..Self::default() }
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.pending.is_some() || self.under_way.is_some() || self.arriving.is_some()
    }

    /// The unit arrives.
    pub(crate) fn begin(&mut self, wish: Wish, patience: Micros, around: &mut Around<'_>) {
        let arrived = around.proxy.cluster.next_seq();
        let is_strong = wish == Wish::Read(Level::Strong) && !around.servers.has_zombie();
        let due = is_strong.then(|| (around.servers.visible(around.servers.leader), around.promotions));
        let (arrived_at, since) = (around.now, around.now);
        self.pending = Some(Pending { wish, arrived, arrived_at, since, patience, excluded: ServerSet::EMPTY, due });
    }

    /// One attempt to get on. `Ok(true)` when something has ended.
    pub(crate) fn attempt(&mut self, around: &mut Around<'_>) -> Result<bool, Violation> {
        if self.arriving.is_some() {
            return Ok(self.believe(around));
        }
        if self.under_way.is_some() {
            return self.go_on(around);
        }
        let Some(mut pending) = self.pending else { return Ok(false) };
        if around.proxy.made(Mistake::BudgetForgotten) {
            pending.arrived_at = around.now;
        }
        let ask = self.ask(&pending, around);
        match route(&around.proxy.cluster, &mut self.session, &ask, &[], around.now) {
            Route::Run { server, reason, floor, .. } => {
                around.tally.count(reason.name());
                let place = usize::from(server.0);
                let connection = around.proxy.connection(around.servers, place, around.now);
                let passes = |pooled: &Pooled| around.proxy.passes(around.servers, pooled.line);
                let Some(pooled) = connection.filter(passes) else {
                    self.give_up_on(place, around);
                    return Ok(false);
                };
                let unchecked = around.proxy.made(Mistake::ConnectionNotChecked);
                if !unchecked && !may_use(&around.proxy.cluster, &floor, &pooled.facts) {
                    around.proxy.wanted[place] = true;
                    return Ok(false);
                }
                self.pending = None;
                // Half of them at once; transactions may stay open for long.
                let steps = [0, 0, 0, 0, 1, 2, 4, 8][around.dice as usize >> 8 & 7];
                self.under_way = Some(UnderWay { pending, pooled, steps, bounded_due: around.bounded_due });
                self.go_on(around)
            }
            Route::Wait { need, reason, .. } => {
                around.tally.count(reason.name());
                want(need, around);
                let end = pending.since.plus(pending.patience.max(FAILOVER_WAIT));
                if around.now > end {
                    return Err(Violation::Overdue(around.now.since(end).0 / 1000));
                }
                Ok(false)
            }
            Route::Tell(loss) => {
                around.tally.count("losses told");
                around.note(|| format!("is told of {loss:?}"));
                self.session.on_told();
                if !around.proxy.made(Mistake::LossKeptBack) {
                    self.account.on_told(around.kept());
                }
                Ok(false)
            }
            Route::Refuse(refusal) => {
                around.tally.count(refusal.name());
                self.pending = None;
                Ok(true)
            }
        }
    }

    /// The unit that is under way runs, if it is time. A dead connection ends it, and nobody knows what became of it.
    fn go_on(&mut self, around: &mut Around<'_>) -> Result<bool, Violation> {
        let Some(under_way) = &mut self.under_way else { return Ok(false) };
        if under_way.steps > 0 {
            under_way.steps -= 1;
            around.tally.count("units that take time");
            return Ok(false);
        }
        let UnderWay { pending, pooled, bounded_due, .. } = *under_way;
        self.under_way = None;
        if !around.proxy.passes(around.servers, pooled.line) {
            around.tally.count("units cut short");
            return Ok(true);
        }
        match pending.wish {
            Wish::Write => self.write(&pooled, around),
            _ => self.read(&pending, &pooled, bounded_due, around)?,
        }
        Ok(true)
    }

    /// What it waits for, in words.
    pub(crate) fn situation(&self, around: &Around<'_>) -> String {
        if self.arriving.is_some() {
            return "for its token to be believed".to_owned();
        }
        let Some(pending) = self.pending else { return "for nothing".to_owned() };
        let ask = self.ask(&pending, around);
        let decision = route(&around.proxy.cluster, &mut self.session.clone(), &ask, &[], around.now);
        format!("{:?}: {decision:?}", pending.wish)
    }

    fn ask(&self, pending: &Pending, around: &Around<'_>) -> Ask {
        let is_blind = around.proxy.made(Mistake::PrimaryReadAsBlindWrite);
        let (unit, level) = match pending.wish {
            Wish::Read(level) => (Unit::Read, level),
            Wish::ReadOnPrimary if is_blind => (Unit::Write, Level::Session),
            Wish::ReadOnPrimary => (Unit::PrimaryRead, Level::Session),
            Wish::Write => (Unit::Write, Level::Session),
        };
        let wait_budget = pending.patience;
        Ask {
            unit,
            level,
            wait_budget,
            failover_wait: FAILOVER_WAIT,
            excluded: pending.excluded,
            scope: Scope::Any,
            dice: around.dice,
            ..Ask::read(pending.arrived, pending.arrived_at)
        }
    }

    /// The server cannot be reached: nothing was sent. A read tries another one.
    fn give_up_on(&mut self, place: usize, around: &mut Around<'_>) {
        around.proxy.wanted[place] = true;
        let is_primary = around.proxy.cluster.primary() == Some(id(place));
        if let Some(pending) = &mut self.pending
            && !is_primary
        {
            pending.excluded = pending.excluded.with(id(place));
        }
        if is_primary && self.pending.is_some_and(|pending| around.now > pending.since.plus(FAILOVER_WAIT)) {
            around.tally.count("primary unreachable");
            self.pending = None;
        }
    }

    fn read(
        &mut self,
        pending: &Pending,
        pooled: &Pooled,
        bounded_due: Option<Commits>,
        around: &mut Around<'_>,
    ) -> Result<(), Violation> {
        let server = pooled.line.server;
        let shown = around.servers.visible(server);
        around.note(|| format!("reads {shown:b} on server {server}"));
        if self.is_kept_back(pooled, around) {
            return Ok(());
        }
        around.tally.count(if around.servers.all[server].role == Role::Standby {
            "reads on standbys"
        } else {
            "reads on primaries"
        });
        match pooled.role {
            Role::Primary if !around.proxy.made(Mistake::PrimaryReadNotReported) => {
                self.session.on_primary_finished(&mut around.proxy.cluster);
            }
            Role::Standby if !around.proxy.made(Mistake::StandbyReadNotReported) => {
                self.session.on_standby_finished(&mut around.proxy.cluster, &pooled.facts);
            }
            _ => {}
        }
        if pooled.role == Role::Standby {
            self.account.on_unheard_of(shown & !around.servers.of_branch(pooled.facts.identity.branch));
        }
        let binds = !matches!(pending.wish, Wish::Read(Level::Eventual | Level::Bounded { .. }));
        let surviving = around.servers.surviving();
        if let Err(violation) = self.account.on_read(shown, binds) {
            let Violation::WentBack { missing } = violation else { return Err(violation) };
            if self.may_be_split(around) {
                // The old primary is all that the proxy can see: nobody could tell.
                around.tally.count("excused by a split brain");
            } else if self.account.is_excused(missing, surviving) {
                around.tally.count("excused by a promotion unheard of");
            } else {
                return Err(violation);
            }
        }
        if let Some((due, promotions)) = pending.due
            && promotions == around.promotions
            && !around.servers.has_zombie()
            && !self.may_be_split(around)
        {
            around.tally.count("strong reads judged");
            judge::strong(shown, due & surviving)?;
        }
        if let (Wish::Read(Level::Bounded { .. }), Some(due)) = (pending.wish, bounded_due)
            && !self.may_be_split(around)
        {
            around.tally.count("bounded reads judged");
            judge::bounded(shown, due & surviving)?;
        }
        Ok(())
    }

    /// What a primary says that has been replaced is not passed on: the client learns that nobody knows what became of it.
    fn is_kept_back(&self, pooled: &Pooled, around: &mut Around<'_>) -> bool {
        let is_superseded = around.proxy.is_superseded(pooled, around.now);
        if is_superseded {
            around.tally.count("answers kept back");
            around.note(|| format!("is not told what server {} says, which has been replaced", pooled.line.server));
        }
        is_superseded
    }

    /// Whether another primary than the one that the proxy knows has taken over.
    fn may_be_split(&self, around: &Around<'_>) -> bool {
        let servers = &*around.servers;
        let leading = servers.history(servers.all[servers.leader].log).branch();
        around.proxy.cluster.branch() != Some(leading)
    }

    fn write(&mut self, pooled: &Pooled, around: &mut Around<'_>) {
        let (server, place) = (pooled.line.server, usize::from(pooled.facts.server.0));
        if around.servers.all[server].role != Role::Primary || around.servers.is_full() {
            around.tally.count("writes refused by the server");
            around.proxy.wanted[place] = true;
            return;
        }
        let commit = around.servers.commit(server, false);
        around.servers.flush(server);
        around.tally.count("writes");
        if around.dice.is_multiple_of(16) {
            // The connection dies before the answer: the client does not know, and is promised nothing.
            around.tally.count("unknown outcomes");
            around.proxy.pool[place] = None;
            return;
        }
        if self.is_kept_back(pooled, around) {
            return;
        }
        self.account.on_write(1 << commit);
        if !around.proxy.made(Mistake::WriteNotReported) {
            self.session.on_primary_finished(&mut around.proxy.cluster);
        }
    }

    /// The session's token with what it stands for; `None` while something is still to be measured.
    pub(crate) fn token(&mut self, around: &mut Around<'_>) -> Option<(Token, Account)> {
        let cluster = &around.proxy.cluster;
        self.session.resolve(cluster);
        if self.session.loss().is_some() {
            self.session.on_told();
            self.account.on_told(around.kept());
        }
        let token = match self.session.token(cluster, 0) {
            Some(token) if around.proxy.made(Mistake::TokenWithoutReplicaPart) => Token { replica_lsn: None, ..token },
            Some(token) => token,
            None if around.proxy.made(Mistake::TokenWithoutPending) => {
                let position = self.session.watermark()?;
                let replica_lsn = self.session.replica_watermark().map(|seen| seen.lsn);
                Token {
                    system_id: cluster.system_id()?,
                    branch: position.branch,
                    lsn: position.lsn,
                    replica_lsn,
                    issued: 0,
                }
            }
            None => {
                want(Need { primary_probe: true, ..Need::default() }, around);
                around.proxy.wanted.fill(true);
                return None;
            }
        };
        Some((token, self.account))
    }

    /// Begins anew at a proxy with a token, whose bearer is promised `known`.
    pub(crate) fn arrive(&mut self, home: usize, token: Token, known: Account, proxy: &mut Proxy) {
        *self = Self::at(home);
        let arrived = proxy.cluster.next_seq();
        self.arriving = Some(Arriving { token, arrived, known });
    }

    fn believe(&mut self, around: &mut Around<'_>) -> bool {
        let Some(Arriving { token, arrived, known }) = self.arriving else { return false };
        let verdict = around.proxy.cluster.on_token(&token, arrived);
        let unverified = around.proxy.made(Mistake::TokenUnverified);
        match verdict {
            TokenVerdict::NeedsPrimaryProbe if !unverified => {
                around.proxy.wanted.fill(true);
                return false;
            }
            TokenVerdict::Accept => {
                around.tally.count("tokens accepted");
                self.session.absorb(&around.proxy.cluster, token.session());
                self.account.on_token(known);
            }
            _ if unverified => self.session.absorb(&around.proxy.cluster, token.session()),
            // Told by a warning: the session is promised what it sees from now on.
            _ => around.tally.count("tokens refused"),
        }
        self.arriving = None;
        true
    }
}

/// Has what the unit needs brought about.
fn want(need: Need, around: &mut Around<'_>) {
    let primary = around.proxy.cluster.primary().map(|primary| usize::from(primary.0));
    match primary {
        Some(primary) if need.primary_probe => around.proxy.wanted[primary] = true,
        None if need.primary_probe => around.proxy.wanted.fill(true),
        _ => {}
    }
    for standby in need.standbys.iter() {
        let standby = usize::from(standby.0);
        around.proxy.wanted[standby] = true;
        if need.witness {
            around.proxy.witness(around.servers, standby);
        }
    }
}
