//! What all tasks of one process share, handed on by argument.

use std::collections::{HashMap, VecDeque};
use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use highwater_core::{Cluster, Lsn, Micros, Reason, ServerId};
use highwater_sql::{Catalog, Classifier};
use highwater_wire::SqlState;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};

use crate::census::Census;
use crate::config::{Config, ServerConfig};
use crate::credentials::{Credentials, Stored};
use crate::files::Watched;
use crate::gate::{Gate, Traffic};
use crate::limits::{ClientPlaces, Limits};
use crate::owners::Owners;
use crate::password_file::PasswordFile;
use crate::pool::{PoolKey, Pools};
use crate::prepared::Registry;
use crate::server::{Endpoint, Failure, Login, Secret};
use crate::sessions::Sessions;
use crate::signals::Signals;
use crate::state::States;
use crate::stats::{Counter, Stats};
use crate::storm::RetryBudget;
use crate::tls::ToClients;

/// The process: configuration, cluster, pools, sessions and counters.
pub(crate) struct Proxy {
    pub(crate) config: Config,
    pub(crate) cluster: Mutex<Cluster>,
    /// Woken after every probe answer and every change of a server: whoever waits for a position asks again.
    pub(crate) facts: Notify,
    pub(crate) servers: Vec<Server>,
    pub(crate) census: Census,
    pub(crate) pools: Pools,
    pub(crate) sessions: Sessions,
    pub(crate) classifier: Classifier,
    pub(crate) databases: Mutex<HashMap<String, Arc<Database>>>,
    pub(crate) clients: Mutex<HashMap<u32, Arc<ClientInfo>>>,
    /// A client has been ended by others: one that rests must be told.
    pub(crate) ended: Notify,
    pub(crate) stats: Stats,
    pub(crate) retries: RetryBudget,
    /// Reads that run on the primary because no standby was fresh enough.
    pub(crate) fallbacks: Arc<AtomicU32>,
    /// Units that wait for a position.
    pub(crate) waiting: AtomicU32,
    pub(crate) statements: Registry,
    pub(crate) states: States,
    pub(crate) owners: Owners,
    pub(crate) credentials: Credentials,
    pub(crate) password_file: Option<Watched<PasswordFile>>,
    /// Asks the servers for roles' stored passwords.
    pub(crate) roles: mpsc::Sender<Question>,
    /// What TLS sessions with clients begin with; `None` where they are offered none.
    pub(crate) tls: Option<Watched<ToClients>>,
    pub(crate) limits: Arc<Limits>,
    /// Room for clients that have not logged in yet.
    pub(crate) arriving: Semaphore,
    /// A number that nobody else has: prepared statements, clients' unnamed statements.
    pub(crate) serial: AtomicU64,
}

/// Somebody wants to know what is stored of a role's password.
pub(crate) struct Question {
    pub(crate) user: String,
    /// What was answered shortly before will not do.
    pub(crate) afresh: bool,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What the servers say of a role: nothing for one that may not log in by password.
pub(crate) type Answer = Result<Option<Stored>, Unanswered>;

/// Why the servers did not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// The asking role may not know.
    NotAllowed,
    /// None could be reached.
    Unreachable,
}

/// One server as tasks see it.
pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) config: ServerConfig,
    pub(crate) endpoint: Endpoint,
    /// Its connections in use, over all pools.
    pub(crate) busy: Arc<AtomicU32>,
    /// Whether the operator lets traffic in.
    pub(crate) gate: Gate,
    pub(crate) monitor: Monitor,
}

/// How tasks talk to a server's monitor.
#[derive(Default)]
pub(crate) struct Monitor {
    /// Somebody needs a probe sent from now on.
    pub(crate) kick: Notify,
    /// There was traffic since the last probe.
    pub(crate) active: AtomicBool,
    /// Somebody has waited for long, and it looks after that.
    pub(crate) helps: AtomicBool,
    /// Somebody waits for the witness check.
    pub(crate) witness_wanted: AtomicBool,
    /// Somebody has waited for it so long that no standby seems to help.
    pub(crate) settling_wanted: AtomicBool,
    /// A connection to its address led to another instance than the probe connection does.
    pub(crate) astray: AtomicBool,
    /// It is out of recovery and not the primary: it takes nothing, not even in transactions that run there.
    pub(crate) deposed: AtomicBool,
    pub(crate) probes: Counter,
    /// What keeps the server away, for the console.
    pub(crate) trouble: Mutex<Option<String>>,
}

/// One database: its catalogue and who refreshes it.
pub(crate) struct Database {
    pub(crate) catalog: RwLock<Arc<Catalog>>,
    pub(crate) generation: AtomicU64,
    /// How often somebody has changed the catalogue.
    pub(crate) changes: AtomicU64,
    /// Somebody has just changed it.
    pub(crate) changed: Notify,
    /// Somebody named what it does not hold.
    pub(crate) stale: Notify,
    /// A task refreshes it.
    pub(crate) watched: AtomicBool,
    /// By whose login: those of who came last, the next one to try first.
    pub(crate) readers: Mutex<VecDeque<PoolKey>>,
    /// Somebody else has come.
    pub(crate) came: Notify,
    /// It has been read, or cannot be.
    pub(crate) looked_at: AtomicBool,
    pub(crate) looking: Notify,
}

impl Default for Database {
    fn default() -> Self {
        let catalog = Catalog::empty();
        Self {
            generation: AtomicU64::new(catalog.generation()),
            catalog: RwLock::new(Arc::new(catalog)),
            changes: AtomicU64::new(0),
            changed: Notify::new(),
            stale: Notify::new(),
            watched: AtomicBool::new(false),
            readers: Mutex::default(),
            came: Notify::new(),
            looked_at: AtomicBool::new(false),
            looking: Notify::new(),
        }
    }
}

impl Database {
    /// Somebody changed the catalogue: until it has been read again nothing in it counts as known.
    pub(crate) fn forget_catalog(&self) {
        let mut catalog = self.catalog.write();
        self.changes.fetch_add(1, Ordering::AcqRel);
        *catalog = Arc::new(catalog.outdated());
        self.generation.store(catalog.generation(), Ordering::Release);
        self.changed.notify_one();
    }

    /// Takes a catalogue that was read after `changes` changes; one that has been overtaken by DDL is not used.
    pub(crate) fn accept(&self, read: Catalog, changes: u64) {
        let mut catalog = self.catalog.write();
        if self.changes.load(Ordering::Acquire) == changes {
            *catalog = Arc::new(read);
            self.generation.store(catalog.generation(), Ordering::Release);
        }
    }

    /// The first reading of the catalogue has ended.
    pub(crate) fn on_looked_at(&self) {
        if !self.looked_at.swap(true, Ordering::AcqRel) {
            self.looking.notify_waiters();
        }
    }

    /// Waits for the first reading of the catalogue: a client whose first statements name what is not known yet would be
    /// kept from standbys, and what functions do to its connection would be overlooked.
    pub(crate) async fn when_looked_at(&self) {
        let looked = self.looking.notified();
        if !self.looked_at.load(Ordering::Acquire) {
            looked.await;
        }
    }

    /// The catalogue of the moment.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }
}

/// A client as others see it: the console, and whoever cancels.
pub(crate) struct ClientInfo {
    pub(crate) pid: u32,
    /// Whoever knows it may cancel.
    pub(crate) secret: Box<[u8]>,
    pub(crate) user: Box<str>,
    pub(crate) database: Box<str>,
    /// `None` on a Unix socket.
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) application: Box<str>,
    pub(crate) connected: Micros,
    /// Over TLS.
    pub(crate) encrypted: bool,
    pub(crate) _places: ClientPlaces,
    pub(crate) signals: Signals,
    pub(crate) view: Mutex<ClientView>,
}

/// A client's place among the others, for as long as it lives.
pub(crate) struct Registered {
    proxy: Arc<Proxy>,
    info: Arc<ClientInfo>,
}

impl Registered {
    /// Enters a client that is not there yet.
    pub(crate) fn new(proxy: &Arc<Proxy>, clients: &mut HashMap<u32, Arc<ClientInfo>>, info: ClientInfo) -> Self {
        let info = Arc::new(info);
        clients.insert(info.pid, Arc::clone(&info));
        Self { proxy: Arc::clone(proxy), info }
    }

    /// What others know of it.
    pub(crate) fn info(&self) -> &Arc<ClientInfo> {
        &self.info
    }
}

impl Deref for Registered {
    type Target = ClientInfo;

    fn deref(&self) -> &ClientInfo {
        &self.info
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.proxy.clients.lock().remove(&self.info.pid);
    }
}

/// What the console shows of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientView {
    /// `idle`, `active`, `transaction` or `failed`.
    pub(crate) state: &'static str,
    /// The level that held last.
    pub(crate) level: &'static str,
    /// The session's key.
    pub(crate) session: String,
    /// Whose connection is held.
    pub(crate) server: Option<ServerId>,
    /// Why it is held outside transactions.
    pub(crate) pin: Option<&'static str>,
    pub(crate) last_route: Option<Routed>,
}

/// Where a unit ran, why there, and how long it had waited for that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed {
    pub(crate) server: ServerId,
    pub(crate) reason: Reason,
    pub(crate) waited: Micros,
}

/// How a server came to be the one, for clients that want to know: ` floor=0/3000148 applied=0/3000290 retries=1`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Detail {
    /// What it had to show.
    pub(crate) floor: Option<Lsn>,
    /// What a standby was known to show.
    pub(crate) applied: Option<Lsn>,
    /// How often the unit had run in vain elsewhere.
    pub(crate) retries: u32,
}

impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, position) in [("floor", self.floor), ("applied", self.applied)] {
            if let Some(position) = position {
                write!(f, " {name}={position}")?;
            }
        }
        if self.retries > 0 { write!(f, " retries={}", self.retries) } else { Ok(()) }
    }
}

/// What is shorter than this is work and not waiting.
const WAIT_SHOWN: Micros = Micros(100);

impl Routed {
    /// Two words or three: `standby1 caught_up 12.4ms`.
    pub(crate) fn text(self, proxy: &Proxy) -> String {
        let Self { server, reason, waited } = self;
        let mut text = format!("{} {}", proxy.server(server).config.name, reason.name());
        if waited >= WAIT_SHOWN {
            let _ = write!(text, " {:.1}ms", waited.0 as f64 / 1e3);
        }
        text
    }
}

impl Proxy {
    pub(crate) fn server(&self, id: ServerId) -> &Server {
        &self.servers[usize::from(id.0)]
    }

    /// What the configuration or the password file says of the user's password.
    pub(crate) fn configured(&self, user: &str) -> Option<Stored> {
        if let Some(text) = self.config.password(user) {
            return Some(Stored::read(text));
        }
        let file = self.password_file.as_ref()?.current();
        file.password(user).map(|text| Stored::read(text))
    }

    /// What opens server connections as `user`.
    pub(crate) fn secret(&self, user: &str) -> Secret {
        self.credentials.secret(user, self.configured(user))
    }

    /// A server did not let us in: a key that the primary refuses is of no use any more. A standby may only be late.
    pub(crate) fn on_refused(&self, id: ServerId, login: &Login, failure: &Failure) {
        let refused = match failure {
            Failure::PasswordChanged(_) => true,
            Failure::Said(said) => said.code == SqlState::INVALID_PASSWORD,
            _ => false,
        };
        if refused && self.cluster.lock().primary() == Some(id) {
            self.credentials.forget(&login.user, &login.secret);
        }
    }

    /// Whether what was routed to this server must wait, or be routed once more, by the operator's word.
    pub(crate) fn is_closed(&self, id: ServerId) -> bool {
        match self.server(id).gate.traffic() {
            Traffic::Open => false,
            // It has been promoted meanwhile: nobody else can do what it does.
            Traffic::Draining => self.cluster.lock().primary() != Some(id),
            Traffic::Paused => true,
        }
    }

    /// Somebody commits asynchronously, or may: the promise of `commit_visibility = sync_only` is not kept.
    pub(crate) fn on_asynchronous_commits(&self, who: &str) {
        if self.cluster.lock().on_asynchronous_commits() {
            self.stats.asynchronous_commits.add(1);
            tracing::warn!("commit_visibility = sync_only is not kept, and any is used until the next start: {who}");
        }
    }

    /// Whether the operator has paused a server.
    pub(crate) fn is_any_paused(&self) -> bool {
        self.servers.iter().any(|server| server.gate.is_paused())
    }

    /// Ends a client; what it runs is cancelled first, for which `limit` is the time.
    pub(crate) async fn end(&self, client: &ClientInfo, limit: Duration) {
        Box::pin(client.signals.end(limit)).await;
        self.ended.notify_one();
    }

    /// Leaves a database in which nobody may be for a moment. What is in use there stays.
    pub(crate) fn leave(&self, database: &str) {
        for pool in self.pools.all().iter().filter(|pool| pool.key.database == database) {
            pool.retire();
        }
        if let Some(known) = self.databases.lock().get(database) {
            known.forget_catalog();
        }
    }

    /// The next number that nobody else has; never 0.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The database of this name, known from now on.
    pub(crate) fn database(&self, name: &str) -> Arc<Database> {
        Arc::clone(self.databases.lock().entry(name.to_owned()).or_default())
    }

    /// Busy connections by server, into a caller's array.
    pub(crate) fn load<'a>(&self, into: &'a mut [u32; 64]) -> &'a [u32] {
        for (slot, server) in into.iter_mut().zip(&self.servers) {
            *slot = server.busy.load(Ordering::Relaxed);
        }
        &into[..self.servers.len()]
    }

    /// Has the primary's monitor look whether it must do something for those who wait, if it does not already.
    pub(crate) fn help_out(&self) {
        let Some(primary) = self.cluster.lock().primary() else { return };
        if !self.server(primary).monitor.helps.swap(true, Ordering::Relaxed) {
            self.kick(primary);
        }
    }

    /// Asks every server for a probe sent from now on.
    pub(crate) fn kick_all(&self) {
        self.servers.iter().for_each(|server| server.monitor.kick.notify_one());
    }

    /// Tells the server's monitor that somebody needs a probe sent from now on.
    pub(crate) fn kick(&self, id: ServerId) {
        self.server(id).monitor.kick.notify_one();
    }
}
