//! Getting a server connection for one unit: ask the core for a route, wait for the facts it needs, take a connection
//! that satisfies it. And giving the connection back clean.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use highwater_core::{
    Ask, Branch, Level, Lsn, Micros, Need, Reason, Refusal, Required, Role, Route, Scope, ServerId, ServerSet, Unit,
    may_use, route,
};
use highwater_wire::TransactionStatus;
use highwater_wire::tracker::Tracker;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::settings::Report;
use super::{Client, Trouble};
use crate::clock::{micros, now};
use crate::error::{Complaint, End};
use crate::limits::{Shortage, Waits};
use crate::monitor::NUDGE_AFTER;
use crate::pool::{Places, Pool, Pooled, Sequences, Statements, Ticket};
use crate::probe;
use crate::server::{Connection, Failure, Login};
use crate::shared::{Detail, Proxy, Routed};
use crate::state;

/// So many times a unit waits for an idle connection's position before it gets a connection of its own.
const OPEN_AFTER_TRIES: u32 = 3;

/// So many connections may fail to take a client's settings before the client is told.
const ALIGN_TRIES_MAX: u32 = 3;

/// A server that went away, or is just coming, is knocked at again after this time.
const REOPEN_AFTER: Duration = Duration::from_millis(50);

/// A witness check passes within a few probes while a standby follows. After this long the primary is asked alone, which
/// costs a transaction id.
const SETTLE_AFTER: Micros = Micros::from_millis(250);

/// A server connection in a client's hands. Dropped without [`Checkout::release`] it is closed, and PostgreSQL rolls
/// back what was open.
pub(crate) struct Checkout {
    pooled: Pooled,
    pool: Arc<Pool>,
    ticket: Ticket,
    pub(crate) reason: Reason,
    waited: Micros,
    /// What it had to show.
    floor: Option<Lsn>,
    _fallback: Option<Fallback>,
}

impl Checkout {
    pub(crate) fn server(&mut self) -> &mut Pooled {
        &mut self.pooled
    }

    pub(crate) fn id(&self) -> ServerId {
        self.pooled.facts.server
    }

    pub(crate) fn role(&self) -> Role {
        self.pooled.role
    }

    pub(crate) fn status(&self) -> TransactionStatus {
        self.pooled.connection.tracker.status()
    }

    /// Whether nothing is outstanding and no transaction is open.
    fn is_clean(&self) -> bool {
        self.pooled.connection.tracker.is_idle() && self.status() == TransactionStatus::Idle
    }

    /// Gives the connection back; a `changed` one, or one in a transaction, is cleaned first. What cannot be cleaned is
    /// closed.
    pub(crate) fn release(self, changed: bool) {
        let changed = changed || self.pooled.disturbed;
        if self.is_clean() && !changed && self.pooled.connection.cancel.is_quiet() {
            self.pool.put(self.pooled);
        } else if self.pooled.connection.tracker.is_idle() {
            tokio::spawn(self.clean(changed));
        }
    }

    async fn clean(mut self, changed: bool) {
        let cleaning = async {
            // A cancel request that is still on its way must not meet the next client's statement.
            if !self.pooled.connection.cancel.when_quiet().await {
                return Err(Failure::Refused("a cancel request may still arrive".into()));
            }
            if self.status() != TransactionStatus::Idle {
                self.pooled.connection.query("ROLLBACK").await?;
            }
            if changed {
                self.pooled.connection.query("DISCARD ALL").await?;
                self.pooled.statements = Statements::default();
                self.pooled.state = state::Shared::default();
                self.pooled.unsaid = None;
                self.pooled.disturbed = false;
                self.pooled.sequences = Sequences::Nobodys;
            }
            self.pooled.connection.tracker = Tracker::new();
            Ok::<(), Failure>(())
        };
        // Long enough for a busy server, short enough not to hold a place in the pool for a dead one.
        match tokio::time::timeout(Duration::from_secs(5), cleaning).await {
            Ok(Ok(())) => {
                let Self { pooled, pool, ticket, .. } = self;
                pool.put(pooled);
                drop(ticket);
            }
            Ok(Err(failure)) => tracing::debug!(%failure, "a server connection could not be cleaned and is closed"),
            Err(_) => tracing::debug!("cleaning a server connection took too long; it is closed"),
        }
    }
}

/// Counts a read that runs on the primary for want of a fresh standby.
struct Fallback(Arc<AtomicU32>);

impl Fallback {
    fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Fallback {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a unit asks of the router.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) unit: Unit,
    pub(super) level: Level,
    pub(super) wait_budget: Micros,
    pub(super) excluded: ServerSet,
}

impl Client {
    /// A server connection on which the unit may run, and whether another server was left out because it would have shown
    /// the past. Waits as long as the budget allows, in the queue of the pool as long as `checkout_timeout`. A loss is to be
    /// told before it is asked again.
    pub(super) async fn checkout(&self, wanted: Wanted) -> Result<(Checkout, bool), Complaint> {
        let proxy = Arc::clone(&self.proxy);
        let mut deadline = Instant::now() + proxy.config.checkout_timeout.0;
        let mut pause_end = None;
        let mut ask = self.ask(&proxy, wanted);
        let arrived_at = ask.arrived_at;
        let mut waited = None;
        let (mut tries, mut turned) = (0, false);
        loop {
            let facts = proxy.facts.notified();
            tokio::pin!(facts);
            facts.as_mut().enable();
            let (decision, at) = self.decide(&proxy, &mut ask);
            match decision {
                Route::Run { server, .. } if proxy.is_closed(server) => {
                    deadline = wait_out_pause(&proxy, facts, &mut pause_end, &mut ask).await?;
                }
                Route::Refuse(Refusal::NoPrimary | Refusal::NoStandby) if proxy.is_any_paused() => {
                    deadline = wait_out_pause(&proxy, facts, &mut pause_end, &mut ask).await?;
                }
                Route::Run { server, reason, floor, prevented } => {
                    tries += 1;
                    // It would have run on a standby, had its position been known in time.
                    let reason = if turned { Reason::BudgetSpent } else { reason };
                    match self.take_aligned(&proxy, server, reason, &floor, deadline, tries).await? {
                        Taken::Got(mut checkout) => {
                            checkout.waited = now().since(arrived_at);
                            return Ok((*checkout, prevented));
                        }
                        Taken::Unreachable(failure) if self.last_resort(&ask, server) => {
                            // Nothing has been sent: it may wait, as it would had the monitor been first to see it.
                            if !failure.is_passing() || at >= ask.failover_deadline() {
                                return Err(Complaint::Server(failure));
                            }
                            proxy.kick(server);
                            sleep(REOPEN_AFTER).await;
                        }
                        Taken::Unreachable(_) => ask.excluded = ask.excluded.with(server),
                        Taken::Closed => {}
                        Taken::NotYet if Instant::now() >= deadline => {
                            return Err(Complaint::NotUsable(proxy.config.checkout_timeout.0));
                        }
                        Taken::NotYet => {
                            proxy.kick(server);
                            self.wait_for_facts(&proxy, facts, deadline).await;
                        }
                    }
                }
                Route::Wait { need, until, .. } => {
                    waited.get_or_insert_with(|| Waits::new(&proxy.waiting));
                    need_facts(&proxy, &need, at.since(ask.arrived_at));
                    let left = Duration::from_micros(until.since(at).0);
                    self.wait_for_facts(&proxy, facts, Instant::now() + left).await;
                    // The wait for a connection begins when there is a server to have one of.
                    deadline = Instant::now() + proxy.config.checkout_timeout.0;
                }
                Route::Tell(loss) => return Err(Complaint::Lost(loss)),
                Route::Refuse(refusal) if ask.unit == Unit::Read && may_turn_to_primary(&ask, &refusal) => {
                    turned = true;
                    ask.unit = Unit::PrimaryRead;
                    ask.wait_budget = micros(proxy.config.visibility_timeout.0);
                }
                Route::Refuse(refusal) => {
                    proxy.stats.refused(&refusal);
                    return Err(Complaint::Refused(refusal));
                }
            }
        }
    }

    /// Gives up a held connection to a server that is not the primary any more: nothing runs there, not even in transactions.
    pub(super) fn leave_deposed(&mut self) -> Result<(), End> {
        let Some(checkout) = &mut self.held else { return Ok(()) };
        let is_old =
            checkout.role() == Role::Primary && self.proxy.cluster.lock().is_superseded(&checkout.server().facts);
        if !is_old && !self.proxy.server(checkout.id()).monitor.deposed.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.held = None;
        Err(End::ServerLost(Failure::Refused("the server has been deposed".into())))
    }

    /// Sees to it that a connection that a pin holds satisfies the level, or ends it where it never will again.
    pub(super) async fn confirm_pinned(&mut self, wanted: Wanted) -> Result<(), Trouble> {
        match self.confirm_held(wanted).await {
            Err(Complaint::Server(failure @ Failure::Changed)) => {
                self.held = None;
                Err(End::ServerLost(failure).into())
            }
            done => Ok(done?),
        }
    }

    /// Waits until a connection that a pin holds satisfies the level too: another connection of the same session may have
    /// seen more since it was last used.
    pub(super) async fn confirm_held(&mut self, wanted: Wanted) -> Result<(), Complaint> {
        let Some((id, role, held)) = self.held.as_mut().map(|held| (held.id(), held.role(), held.server().facts))
        else {
            return Ok(());
        };
        let proxy = Arc::clone(&self.proxy);
        let unit = if role == Role::Primary { Unit::PrimaryRead } else { wanted.unit };
        let mut ask = Ask { scope: Scope::Only(id), ..self.ask(&proxy, Wanted { unit, ..wanted }) };
        let deadline = Instant::now() + proxy.config.checkout_timeout.0;
        while Instant::now() < deadline {
            let facts = proxy.facts.notified();
            tokio::pin!(facts);
            facts.as_mut().enable();
            let (decision, at) = self.decide(&proxy, &mut ask);
            if role == Role::Standby && !proxy.cluster.lock().is_current(&held) {
                // Its probe connection has been made anew: nothing will ever vouch for it again.
                return Err(Complaint::Server(Failure::Changed));
            }
            match decision {
                Route::Run { floor, .. } if role == Role::Primary || may_use(&proxy.cluster.lock(), &floor, &held) => {
                    return Ok(());
                }
                Route::Run { server, .. } => proxy.kick(server),
                Route::Wait { need, .. } => need_facts(&proxy, &need, at.since(ask.arrived_at)),
                Route::Tell(loss) => {
                    self.tell_loss(loss)?;
                    continue;
                }
                Route::Refuse(refusal) => return Err(Complaint::Refused(refusal)),
            }
            let _waits = Waits::new(&proxy.waiting);
            self.wait_for_facts(&proxy, facts, Instant::now() + Duration::from_micros(ask.wait_budget.0)).await;
        }
        Err(Complaint::NotUsable(proxy.config.checkout_timeout.0))
    }

    fn ask(&self, proxy: &Proxy, wanted: Wanted) -> Ask {
        let wait_budget = match wanted.unit {
            Unit::Read => wanted.wait_budget,
            // What must run on the primary has nowhere else to go: it waits longer to see what standbys showed.
            Unit::PrimaryRead | Unit::Write => micros(proxy.config.visibility_timeout.0),
        };
        Ask {
            unit: wanted.unit,
            level: wanted.level,
            arrived: proxy.cluster.lock().next_seq(),
            arrived_at: now(),
            wait_budget,
            failover_wait: micros(proxy.config.failover_wait.0),
            preferred: self.last_standby,
            excluded: wanted.excluded,
            scope: self.scope,
            fallback_allowed: true,
            dice: rand::random(),
        }
    }

    fn decide(&self, proxy: &Proxy, ask: &mut Ask) -> (Route, Micros) {
        ask.fallback_allowed = proxy.fallbacks.load(Ordering::Relaxed) < proxy.config.primary_fallback_max;
        let mut load = [0; 64];
        let load = proxy.load(&mut load);
        let at = now();
        let mut session = self.session.lock();
        (route(&proxy.cluster.lock(), &mut session, ask, load, at), at)
    }

    /// Takes a connection that satisfies `floor` and brings it into the client's state. One that cannot be brought there is
    /// closed: an older one may have grown stubborn (`temp_buffers` after the first temporary table).
    async fn take_aligned(
        &self,
        proxy: &Proxy,
        id: ServerId,
        reason: Reason,
        floor: &Required,
        deadline: Instant,
        tries: u32,
    ) -> Result<Taken, Complaint> {
        let mut taken = self.take(proxy, id, reason, floor, deadline, tries).await?;
        let Taken::Got(checkout) = &mut taken else { return Ok(taken) };
        let is_fresh = checkout.pooled.state.is_empty();
        match self.align(checkout, true).await {
            Ok(_) => Ok(taken),
            Err(failure) if tries > ALIGN_TRIES_MAX => Ok(Taken::Unreachable(failure)),
            Err(Failure::Said(said)) if is_fresh => Ok(Taken::Unreachable(Failure::Said(said))),
            Err(failure) => {
                tracing::debug!(server = id.0, %failure, "a server connection does not take the client's settings");
                Ok(Taken::NotYet)
            }
        }
    }

    /// Takes an idle connection that satisfies `floor`, or opens one.
    async fn take(
        &self,
        proxy: &Proxy,
        id: ServerId,
        reason: Reason,
        floor: &Required,
        deadline: Instant,
        tries: u32,
    ) -> Result<Taken, Complaint> {
        // Whoever waits in the queue gets a connection that was in use a moment ago.
        let now = Instant::now();
        let limit = deadline.saturating_duration_since(now);
        let server = proxy.server(id);
        let Some(ticket) = self.pool.ticket(id, &server.busy, limit).await else {
            return Err(Complaint::CheckoutTimeout(Box::new(self.shortage(proxy, id))));
        };
        if proxy.is_closed(id) {
            return Ok(Taken::Closed);
        }
        let fallback = is_fallback(reason).then(|| Fallback::new(&proxy.fallbacks));
        let (found, others) = {
            let cluster = proxy.cluster.lock();
            let may_use = |facts: &_| may_use(&cluster, floor, facts);
            self.pool.take(id, &self.state, self.info.pid, now, may_use, |facts| cluster.is_current(facts))
        };
        let pooled = match found {
            Some(pooled) => pooled,
            // The next probe usually vouches for an idle connection, and costs less than a new one.
            None if others && (tries < OPEN_AFTER_TRIES || !self.pool.has_room(id)) => return Ok(Taken::NotYet),
            None => match self.open(proxy, id, deadline).await {
                Ok(pooled) => pooled,
                Err(failure) => return Ok(Taken::Unreachable(failure)),
            },
        };
        if !may_use(&proxy.cluster.lock(), floor, &pooled.facts) {
            self.pool.put(pooled);
            return Ok(Taken::NotYet);
        }
        let (pool, waited, floor) = (Arc::clone(&self.pool), Micros(0), floor.floor.map(|watermark| watermark.lsn));
        Ok(Taken::Got(Box::new(Checkout { pooled, pool, ticket, reason, waited, floor, _fallback: fallback })))
    }

    async fn open(&self, proxy: &Proxy, id: ServerId, deadline: Instant) -> Result<Pooled, Failure> {
        // Seldom needed, and larger than all the rest.
        Box::pin(open(proxy, &self.pool, id, deadline.saturating_duration_since(Instant::now()))).await
    }

    /// What the client has waited for in vain.
    fn shortage(&self, proxy: &Proxy, id: ServerId) -> Shortage {
        Shortage {
            user: self.pool.key.user.clone(),
            database: self.pool.key.database.clone(),
            server: proxy.server(id).config.name.clone(),
            size: self.pool.terms().size,
            waiting: self.pool.waiting(id),
            waited: proxy.config.checkout_timeout.0,
        }
    }

    /// Whether there is nowhere else to go once `server` could not be reached.
    fn last_resort(&self, ask: &Ask, server: ServerId) -> bool {
        ask.unit != Unit::Read
            || matches!(self.scope, Scope::Only(_))
            || self.proxy.cluster.lock().primary() == Some(server)
    }

    async fn wait_for_facts(&self, proxy: &Proxy, facts: impl Future<Output = ()>, until: Instant) {
        proxy.stats.waits.add(1);
        let _ = timeout_at(until, facts).await;
    }

    /// The unit runs there.
    pub(super) fn note_route(&mut self, checkout: &Checkout, prevented: bool, retries: u32) {
        let (id, proxy) = (checkout.id(), &self.proxy);
        proxy.stats.routed(id, checkout.reason);
        if prevented {
            proxy.stats.stale_reads_prevented.add(1);
        }
        proxy.server(id).monitor.active.store(true, Ordering::Relaxed);
        checkout.pooled.owner.iter().for_each(|owner| owner.set(self.info.pid));
        self.last_detail = (self.settings.now().report == Some(Report::Detailed)).then(|| Detail {
            floor: checkout.floor,
            applied: match checkout.pooled.role {
                Role::Standby => proxy.cluster.lock().applied(&checkout.pooled.facts),
                Role::Primary => None,
            },
            retries,
        });
        self.last_route = Some(Routed { server: id, reason: checkout.reason, waited: checkout.waited });
        if checkout.pooled.role == Role::Standby {
            self.last_standby = Some(id);
        }
    }
}

enum Taken {
    Got(Box<Checkout>),
    /// None of the connections is known to have the position yet.
    NotYet,
    /// The operator has closed the server.
    Closed,
    Unreachable(Failure),
}

/// Waits for news while an operator has paused what the unit needs. Its budgets begin anew when the pause has ended, and with
/// them the deadline that is returned.
async fn wait_out_pause(
    proxy: &Proxy,
    facts: impl Future<Output = ()>,
    pause_end: &mut Option<Instant>,
    ask: &mut Ask,
) -> Result<Instant, Complaint> {
    let limit = proxy.config.pause_timeout.0;
    let end = *pause_end.get_or_insert_with(|| Instant::now() + limit);
    timeout_at(end, facts).await.map_err(|_| Complaint::Paused(limit))?;
    ask.arrived_at = now();
    Ok(Instant::now() + proxy.config.checkout_timeout.0)
}

/// Opens a connection for a pool, and waits for its places under limits as long as `limit` allows.
pub(crate) async fn open(proxy: &Proxy, pool: &Pool, id: ServerId, limit: Duration) -> Result<Pooled, Failure> {
    let places = proxy.pools.places(pool, id, limit).await.ok_or(Failure::NoPlace)?;
    open_at(proxy, pool, id, places).await
}

/// Opens a connection for a pool and has it admitted by the core.
pub(crate) async fn open_at(proxy: &Proxy, pool: &Pool, id: ServerId, places: Places) -> Result<Pooled, Failure> {
    let key = &pool.key;
    let generation = pool.generation();
    let login = Login::new(&key.user, proxy.secret(&key.user), &key.database, &key.settings);
    let opened = Connection::open(&proxy.server(id).endpoint, &login, proxy.config.connect_timeout.0).await;
    let mut connection = opened.inspect_err(|failure| proxy.on_refused(id, &login, failure))?;
    let introduction = timeout(proxy.config.connect_timeout.0, probe::introduce(&mut connection)).await;
    let mut introduction = introduction.map_err(|_| Failure::Io(std::io::ErrorKind::TimedOut.into()))??;
    let role = introduction.identity.role;
    pool.on_isolation(&introduction.isolation);
    let facts = {
        let mut cluster = proxy.cluster.lock();
        // No client's role may ask a standby for its timeline: the rest of the identity ties it to the monitor's.
        let known = cluster.server_view(id, now()).and_then(|view| view.identity);
        introduction.identity.branch = known.map_or(Branch::FIRST, |identity| identity.branch);
        cluster.admit(id, &introduction.identity)
    };
    let Some(facts) = facts else {
        proxy.server(id).monitor.astray.store(true, Ordering::Relaxed);
        proxy.kick(id);
        return Err(Failure::Changed);
    };
    let (statements, state) = (Statements::default(), state::Shared::default());
    let owner = (role == Role::Primary).then(|| proxy.owners.enter(connection.pid));
    let sequences = Sequences::Nobodys;
    Ok(Pooled {
        connection,
        facts,
        role,
        statements,
        state,
        disturbed: false,
        unsaid: None,
        sequences,
        owner,
        generation,
        ends: pool.terms().end(rand::random()),
        idle_since: Instant::now(),
        places,
    })
}

/// Has the facts brought about for which somebody has `waited`.
fn need_facts(proxy: &Proxy, need: &Need, waited: Micros) {
    let primary = need.primary_probe.then(|| proxy.cluster.lock().primary());
    if primary == Some(None) {
        // One of the standbys may be it by now.
        proxy.kick_all();
    }
    if primary.is_none() && waited >= micros(NUDGE_AFTER) {
        // What is waited for may not have left the primary.
        proxy.help_out();
    }
    let primary = primary.flatten();
    for id in need.standbys.iter().chain(primary) {
        let monitor = &proxy.server(id).monitor;
        if need.witness {
            monitor.witness_wanted.store(true, Ordering::Relaxed);
            monitor.settling_wanted.fetch_or(waited >= SETTLE_AFTER, Ordering::Relaxed);
        }
        proxy.kick(id);
    }
}

/// Whether the read ran on the primary because no standby would do.
fn is_fallback(reason: Reason) -> bool {
    matches!(reason, Reason::BudgetSpent | Reason::StandbysTooFarBehind | Reason::NoHealthyStandby)
}

/// A read that standbys could not serve for want of a *position* may wait longer for the primary, as a write would.
fn may_turn_to_primary(ask: &Ask, refusal: &Refusal) -> bool {
    let position = matches!(refusal, Refusal::PositionUnknown | Refusal::NotYetVisible { .. } | Refusal::NoPrimary);
    position && ask.scope == Scope::Any && ask.fallback_allowed
}
