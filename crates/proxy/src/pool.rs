//! Server connections by user, database and start-up settings, one shelf per server.
//! Knows no client and no position: whether a connection may serve a session is the caller's question.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use highwater_core::{Role, ServerConnection as Facts, ServerId};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::limits::{Cap, Limits, Waits};
use crate::owners::Owner;
use crate::server::Connection;
use crate::state::{self, State};

/// Whose connections a pool holds. They differ in their states only, which are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    pub(crate) user: String,
    pub(crate) database: String,
    /// Settings that can only be set while connecting, sorted by name.
    pub(crate) settings: Vec<(String, String)>,
}

/// A server connection with what its pool knows of it.
#[derive(Debug)]
pub(crate) struct Pooled {
    pub(crate) connection: Connection,
    /// What the core knows: server, epoch, floor.
    pub(crate) facts: Facts,
    pub(crate) role: Role,
    /// Prepared statements that live on it.
    pub(crate) statements: Statements,
    /// Its settings.
    pub(crate) state: state::Shared,
    /// It holds what nobody knows: to be cleaned before anybody else gets it.
    pub(crate) disturbed: bool,
    /// What is still to be said to it so that it has them: in front of the next unit, whose answer does not hang on it.
    pub(crate) unsaid: Option<String>,
    /// Whose sequences' values it holds.
    pub(crate) sequences: Sequences,
    /// Who uses it, where notifications come from; `None` on a standby.
    pub(crate) owner: Option<Owner>,
    /// The pool's generation when it was opened.
    pub(crate) generation: u32,
    /// When its life ends; it is closed as soon as nobody uses it then.
    pub(crate) ends: Option<Instant>,
    /// Since when nobody uses it.
    pub(crate) idle_since: Instant,
    /// Its places under the limits of its user and database.
    pub(crate) places: Places,
}

/// Whose the values are that sequences have given to a connection (`currval`, `lastval`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sequences {
    /// There are none.
    #[default]
    Nobodys,
    /// This client's alone.
    Of(u32),
    /// Of several clients.
    Mixed,
}

/// Places under limits, given back when the connection is closed; none where there are no limits.
pub(crate) type Places = Vec<OwnedSemaphorePermit>;

/// The prepared statements of one server connection, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Statements {
    held: VecDeque<u64>,
    /// Those that are there and must not be used any more.
    outdated: Vec<u64>,
    /// Sent and not yet confirmed, in order; 0 is one that we do not keep.
    unconfirmed: VecDeque<u64>,
    /// Who parsed the unnamed statement last: a number that no two of them share.
    pub(crate) unnamed: u64,
}

impl Statements {
    /// Whether `id` is there, or will be by the time that what is sent next arrives.
    pub(crate) fn holds(&self, id: u64) -> bool {
        self.held.contains(&id) || self.unconfirmed.contains(&id)
    }

    /// The names of those that are there.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.held.iter().map(|id| format!("hw_{id}"))
    }

    /// A Parse was sent; `id` is 0 for the unnamed statement.
    pub(crate) fn on_parse_sent(&mut self, id: u64) {
        self.unconfirmed.push_back(id);
    }

    /// A ParseComplete arrived.
    pub(crate) fn on_parsed(&mut self) {
        match self.unconfirmed.pop_front() {
            None | Some(0) => {}
            Some(id) => self.held.push_back(id),
        }
    }

    /// An error arrived: what was not confirmed was never parsed.
    pub(crate) fn on_error(&mut self) {
        self.unconfirmed.clear();
        self.unnamed = 0;
    }

    /// It is not there any more.
    pub(crate) fn forget(&mut self, id: u64) {
        self.held.retain(|held| *held != id);
        self.outdated.retain(|outdated| *outdated != id);
    }

    /// It is there and must not be used any more.
    pub(crate) fn outdate(&mut self, id: u64) {
        self.forget(id);
        self.outdated.push(id);
    }

    /// An outdated statement, or the oldest if there are more than `most`; the caller closes it.
    pub(crate) fn evict(&mut self, most: usize) -> Option<u64> {
        if let Some(outdated) = self.outdated.pop() {
            return Some(outdated);
        }
        if self.held.len() > most { self.held.pop_front() } else { None }
    }
}

/// What a server says at login.
#[derive(Debug)]
pub(crate) struct Greeting {
    /// Whole messages, as they came: a name that was cut, a warning of the database's.
    pub(crate) notices: Vec<u8>,
    /// What it reports, in its order.
    pub(crate) parameters: Vec<(String, String)>,
}

/// What servers report to clients at login, by the settings of their start-up.
#[derive(Debug, Default)]
struct Greetings {
    /// What the primary reports without any; others are of the same age.
    plain: Vec<(String, String)>,
    by_state: HashMap<state::Shared, Arc<Greeting>>,
}

/// What was in use so shortly before is believed to be alive as far as the runtime knows, which costs no system call: it hears
/// of the end of a connection within about as much time.
const FRESH: Duration = Duration::from_millis(5);

/// So many combinations of start-up settings are remembered; programs have few.
const GREETINGS_MAX: usize = 1000;

/// The connections of one key.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(crate) key: PoolKey,
    greetings: Mutex<Greetings>,
    /// Connections of earlier generations are not wanted any more.
    generation: AtomicU32,
    /// Some client has asked for sequences' values: they are kept apart from now on.
    asks_sequences: AtomicBool,
    /// New connections begin with READ COMMITTED as the default.
    read_committed: AtomicBool,
    terms: Terms,
    shelves: Vec<Shelf>,
    /// The limits that hold for its connections, by server; empty where there are none.
    caps: Vec<Vec<Arc<Cap>>>,
}

/// How many connections a pool has to each server, and for how long.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) size: usize,
    pub(crate) size_min: usize,
    /// Zero for ever, as the next one.
    pub(crate) lifetime: Duration,
    pub(crate) idle_timeout: Duration,
}

impl Terms {
    /// When a connection ends that is opened now; `share` of its life, between 0 and 1, decides how much earlier than others.
    pub(crate) fn end(&self, share: f64) -> Option<Instant> {
        let early = self.lifetime.mul_f64(share.clamp(0.0, 1.0) / 10.0);
        (!self.lifetime.is_zero()).then(|| Instant::now() + (self.lifetime - early))
    }
}

#[derive(Debug)]
struct Shelf {
    /// Who has been idle longest comes first.
    idle: Mutex<Vec<Pooled>>,
    room: Arc<Semaphore>,
    waiting: AtomicU32,
    /// Somebody opens connections that are to be there always.
    is_filling: AtomicBool,
}

impl Shelf {
    fn busy(&self, size: usize) -> usize {
        size - self.room.available_permits()
    }
}

/// The right to one connection of a server, whether it is there already or must be opened.
#[derive(Debug)]
pub(crate) struct Ticket {
    _permit: OwnedSemaphorePermit,
    busy: Arc<AtomicU32>,
}

impl Ticket {
    fn new(permit: OwnedSemaphorePermit, busy: &Arc<AtomicU32>) -> Self {
        // In one order with the operator's gates: see `Gate::set`.
        busy.fetch_add(1, Ordering::SeqCst);
        Self { _permit: permit, busy: Arc::clone(busy) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One line of `SHOW POOLS`.
pub(crate) struct PoolView {
    pub(crate) server: ServerId,
    pub(crate) idle: usize,
    pub(crate) busy: usize,
    pub(crate) waiting: u32,
}

impl Pool {
    fn new(key: PoolKey, servers: usize, terms: Terms, limits: &Limits) -> Self {
        let (least, caps) = limits.caps(&key.user, &key.database);
        // Whoever waits for his own pool gets its next connection as it is; whoever waits for a limit needs a new one.
        let size = terms.size.min(least);
        let shelf = || Shelf {
            idle: Mutex::default(),
            room: Arc::new(Semaphore::new(size)),
            waiting: AtomicU32::new(0),
            is_filling: AtomicBool::new(false),
        };
        Self {
            key,
            greetings: Mutex::default(),
            generation: AtomicU32::new(0),
            asks_sequences: AtomicBool::new(false),
            read_committed: AtomicBool::new(false),
            terms: Terms { size, size_min: terms.size_min.min(size), ..terms },
            shelves: (0..servers).map(|_| shelf()).collect(),
            caps,
        }
    }

    /// The right to a connection of `server`, in turn; `None` when `limit` passed first.
    pub(crate) async fn ticket(&self, server: ServerId, busy: &Arc<AtomicU32>, limit: Duration) -> Option<Ticket> {
        let shelf = self.shelf(server);
        let permit = match Arc::clone(&shelf.room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let _waits = Waits::new(&shelf.waiting);
                timeout(limit, Arc::clone(&shelf.room).acquire_owned()).await.ok()?.ok()?
            }
        };
        Some(Ticket::new(permit, busy))
    }

    fn shelf(&self, server: ServerId) -> &Shelf {
        &self.shelves[usize::from(server.0)]
    }

    /// An idle connection that is alive `now` and of which `may_use` approves: rather one that holds what sequences have given
    /// to this client, or one in this state, and of those the one used last. The flag says whether there are only others;
    /// those that can never serve again are closed.
    pub(crate) fn take(
        &self,
        server: ServerId,
        state: &state::Shared,
        client: u32,
        now: Instant,
        may_use: impl Fn(&Facts) -> bool,
        is_current: impl Fn(&Facts) -> bool,
    ) -> (Option<Pooled>, bool) {
        let mut idle = self.shelf(server).idle.lock();
        let alike = |pooled: &Pooled| Arc::ptr_eq(&pooled.state, state) && may_use(&pooled.facts);
        let usable = |pooled: &Pooled| may_use(&pooled.facts);
        let own = |pooled: &Pooled| pooled.sequences == Sequences::Of(client) && may_use(&pooled.facts);
        let find = |idle: &[Pooled]| {
            let own = if self.asks_sequences() { idle.iter().rposition(own) } else { None };
            own.or_else(|| idle.iter().rposition(alike)).or_else(|| idle.iter().rposition(usable))
        };
        while let Some(at) = find(&idle) {
            let pooled = idle.remove(at);
            let stream = &pooled.connection.stream;
            let is_alive = match now.saturating_duration_since(pooled.idle_since) < FRESH {
                true => !stream.has_known_news(),
                false => !stream.has_news(),
            };
            if is_alive {
                return (Some(pooled), false);
            }
        }
        idle.retain(|pooled| is_current(&pooled.facts));
        (None, !idle.is_empty())
    }

    /// Whether another connection of `server` may be opened beside the idle ones and those in use.
    pub(crate) fn has_room(&self, server: ServerId) -> bool {
        let shelf = self.shelf(server);
        shelf.room.available_permits() > shelf.idle.lock().len()
    }

    /// Puts a clean connection back; closes it if somebody waits for its place under a limit, if its life has ended, or if it
    /// is of an earlier generation.
    pub(crate) fn put(&self, mut pooled: Pooled) {
        let now = Instant::now();
        if pooled.ends.is_some_and(|end| end <= now) {
            return;
        }
        pooled.idle_since = now;
        if !pooled.places.is_empty() && self.caps_of(pooled.facts.server).iter().any(|cap| cap.is_wanted()) {
            return;
        }
        let mut idle = self.shelf(pooled.facts.server).idle.lock();
        // Under the lock: whoever begins a new generation sweeps the shelf afterwards.
        if pooled.generation == self.generation() {
            idle.push(pooled);
        }
    }

    /// Closes the idle connection that has been so longest if the pool would have too many with one more: the caller holds the
    /// place for it.
    pub(crate) fn leave_room(&self, server: ServerId) {
        let shelf = self.shelf(server);
        let mut idle = shelf.idle.lock();
        let excess = (idle.len() + shelf.busy(self.terms.size)).saturating_sub(self.terms.size);
        let closed = excess.min(idle.len());
        idle.drain(..closed);
    }

    /// What holds for its connections.
    pub(crate) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Closes idle connections whose servers have ended them, whose life has ended, or that have been idle too long; of the
    /// last as many stay as shall always be there for clients.
    pub(crate) fn close_aged(&self, now: Instant, has_clients: bool) {
        let Terms { size, idle_timeout, .. } = self.terms;
        let size_min = if has_clients { self.terms.size_min } else { 0 };
        for shelf in &self.shelves {
            let mut idle = shelf.idle.lock();
            idle.retain(|pooled| pooled.ends.is_none_or(|end| now < end) && !pooled.connection.stream.has_news());
            let spare = (idle.len() + shelf.busy(size)).saturating_sub(size_min);
            let too_long = |pooled: &&Pooled| !idle_timeout.is_zero() && now >= pooled.idle_since + idle_timeout;
            let aged = idle.iter().take_while(too_long).count().min(spare);
            idle.drain(..aged);
        }
    }

    /// Whether a connection of `server` is missing that is to be there always: then nobody else opens such ones until the
    /// caller says [`Pool::on_filled`].
    pub(crate) fn begins_filling(&self, server: ServerId) -> bool {
        self.is_short(server) && !self.shelf(server).is_filling.swap(true, Ordering::AcqRel)
    }

    /// Whoever opened connections that are to be there always has done what he could.
    pub(crate) fn on_filled(&self, server: ServerId) {
        self.shelf(server).is_filling.store(false, Ordering::Release);
    }

    /// The right to open one more connection that is to be there always; `None` when enough are there. No client waits
    /// longer for it: it takes nobody's turn, and whoever comes meanwhile would have to open one himself.
    pub(crate) fn filling_ticket(&self, server: ServerId, busy: &Arc<AtomicU32>) -> Option<Ticket> {
        let permit = Arc::clone(&self.shelf(server).room).try_acquire_owned().ok();
        // Asked with the place in hand, which counts as a connection in use.
        let ticket = permit.map(|permit| Ticket::new(permit, busy))?;
        (self.count(server) <= self.terms.size_min).then_some(ticket)
    }

    fn is_short(&self, server: ServerId) -> bool {
        self.count(server) < self.terms.size_min
    }

    /// Connections of `server`, idle or not.
    fn count(&self, server: ServerId) -> usize {
        let shelf = self.shelf(server);
        let idle = shelf.idle.lock().len();
        idle + shelf.busy(self.terms.size)
    }

    /// How many clients wait for a connection of `server`.
    pub(crate) fn waiting(&self, server: ServerId) -> u32 {
        self.shelf(server).waiting.load(Ordering::Relaxed)
    }

    fn is_empty(&self) -> bool {
        self.shelves.iter().all(|shelf| shelf.idle.lock().is_empty() && shelf.busy(self.terms.size) == 0)
    }

    /// A client asks for sequences' values.
    pub(crate) fn on_sequences_asked(&self) {
        self.asks_sequences.store(true, Ordering::Relaxed);
    }

    /// Whether clients ask for them here.
    pub(crate) fn asks_sequences(&self) -> bool {
        self.asks_sequences.load(Ordering::Relaxed)
    }

    /// A new connection tells its default isolation.
    pub(crate) fn on_isolation(&self, level: &str) {
        self.read_committed.store(["read committed", "read uncommitted"].contains(&level), Ordering::Relaxed);
    }

    /// Whether transactions are READ COMMITTED if nobody says otherwise.
    pub(crate) fn is_read_committed(&self) -> bool {
        self.read_committed.load(Ordering::Relaxed)
    }

    /// Which connections are still wanted: those that are opened now.
    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// The role's or the database's defaults have changed, or somebody wants others: connections end as soon as they are idle.
    pub(crate) fn retire(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        *self.greetings.lock() = Greetings::default();
        self.retain(|_| false);
    }

    /// What a server reports at login to clients with these start-up settings, if that is known.
    pub(crate) fn greeting(&self, state: &State) -> Option<Arc<Greeting>> {
        self.greetings.lock().by_state.get(state).map(Arc::clone)
    }

    /// The primary reports `plain` on a new connection, and says `greeting` once the connection is in this state. What it
    /// reported before, if that was something else, is forgotten.
    pub(crate) fn on_greeted(&self, plain: &[(String, String)], state: &state::Shared, greeting: Arc<Greeting>) {
        let mut greetings = self.greetings.lock();
        if greetings.plain != plain || greetings.by_state.len() >= GREETINGS_MAX {
            *greetings = Greetings { plain: plain.to_vec(), by_state: HashMap::new() };
        }
        greetings.by_state.insert(Arc::clone(state), greeting);
    }

    /// Closes the idle connections that `keep` does not approve.
    pub(crate) fn retain(&self, keep: impl Fn(&Facts) -> bool) {
        for shelf in &self.shelves {
            let mut idle = shelf.idle.lock();
            idle.retain(|pooled| keep(&pooled.facts));
        }
    }

    fn caps_of(&self, server: ServerId) -> &[Arc<Cap>] {
        self.caps.get(usize::from(server.0)).map_or(&[], Vec::as_slice)
    }

    /// Closes the connection of `server` that has been idle longest, if it counts under `cap`.
    fn make_room(&self, server: ServerId, cap: &Arc<Cap>) -> bool {
        if !self.caps_of(server).iter().any(|one| Arc::ptr_eq(one, cap)) {
            return false;
        }
        let mut idle = self.shelf(server).idle.lock();
        let found = !idle.is_empty();
        if found {
            drop(idle.remove(0));
        }
        found
    }

    pub(crate) fn views(&self) -> impl Iterator<Item = PoolView> + '_ {
        self.shelves.iter().enumerate().map(|(index, shelf)| PoolView {
            server: ServerId(u8::try_from(index).expect("there are at most 64 servers")),
            idle: shelf.idle.lock().len(),
            busy: shelf.busy(self.terms.size),
            waiting: shelf.waiting.load(Ordering::Relaxed),
        })
    }
}

/// All pools of the process.
#[derive(Debug)]
pub(crate) struct Pools {
    by_key: Mutex<HashMap<PoolKey, Arc<Pool>>>,
    servers: usize,
    terms: Terms,
    limits: Arc<Limits>,
}

impl Pools {
    pub(crate) fn new(servers: usize, terms: Terms, limits: Arc<Limits>) -> Self {
        Self { by_key: Mutex::default(), servers, terms, limits }
    }

    /// Places for one more connection under the limits of the pool's user and database, in turn; `None` when `limit`
    /// passed first. Idle connections of other pools make room.
    pub(crate) async fn places(&self, pool: &Pool, server: ServerId, limit: Duration) -> Option<Places> {
        let mut places = Places::new();
        // In the same order for everybody, so that no two wait for each other.
        for cap in pool.caps_of(server) {
            let place = match cap.try_place() {
                Some(place) => place,
                None => {
                    self.all().iter().any(|other| other.make_room(server, cap));
                    cap.place(limit).await?
                }
            };
            places.push(place);
        }
        Some(places)
    }

    /// Places that are free and that nobody waits for.
    pub(crate) fn free_places(&self, pool: &Pool, server: ServerId) -> Option<Places> {
        pool.caps_of(server).iter().map(|cap| if cap.is_wanted() { None } else { cap.try_place() }).collect()
    }

    /// All of them, and whether they have clients. Those that have none and no connections either are forgotten.
    pub(crate) fn survey(&self) -> Vec<(Arc<Pool>, bool)> {
        let mut pools = self.by_key.lock();
        // Clients hold theirs, and nobody takes one but under this lock.
        let has_clients = |pool: &Arc<Pool>| Arc::strong_count(pool) > 1;
        pools.retain(|_, pool| has_clients(pool) || !pool.is_empty());
        let seen = |pool| {
            let has_clients = has_clients(pool);
            (Arc::clone(pool), has_clients)
        };
        pools.values().map(seen).collect()
    }

    pub(crate) fn of(&self, key: PoolKey) -> Arc<Pool> {
        let mut pools = self.by_key.lock();
        Arc::clone(
            pools
                .entry(key.clone())
                .or_insert_with(|| Arc::new(Pool::new(key, self.servers, self.terms, &self.limits))),
        )
    }

    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        self.by_key.lock().values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pipeline_leaves_no_statement_behind() {
        let mut statements = Statements::default();
        statements.on_parse_sent(7);
        statements.on_parse_sent(8);
        assert!(statements.holds(8));
        statements.on_parsed();
        statements.on_error();
        assert!(statements.holds(7) && !statements.holds(8));
    }

    #[test]
    fn the_oldest_statement_is_evicted_first() {
        let mut statements = Statements::default();
        for id in 1..=3 {
            statements.on_parse_sent(id);
            statements.on_parsed();
        }
        assert_eq!((statements.evict(2), statements.evict(2)), (Some(1), None));
    }

    #[test]
    fn lives_end_at_different_times_and_never_late() {
        let terms = Terms { lifetime: Duration::from_secs(1000), ..Terms::default() };
        let left = |share| terms.end(share).expect("it ends").duration_since(Instant::now()).as_secs_f64().round();
        assert_eq!([0.0, 0.5, 1.0].map(left), [1000.0, 950.0, 900.0]);
        assert_eq!(Terms::default().end(0.5), None);
    }
}
