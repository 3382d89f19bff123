//! From an accepted stream to a logged-in client: the way through the door, proof, and the greeting that a server of this
//! user and database gave.

use std::sync::Arc;
use std::time::Duration;

use highwater_core::{Level, Role, Scope, ServerId};
use highwater_sql::Scratch;
use highwater_wire::Offence;
use highwater_wire::TransactionStatus;
use highwater_wire::backend;
use highwater_wire::startup::{self, Version};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::authenticate::authenticate;
use super::checkout::open;
use super::door::enter;
use super::reading::Reading;
use super::settings::Name;
use super::state::{Pins, Touched};
use super::statements::ClientStatements;
use super::{Client, Settings, Transaction};
use crate::catalog;
use crate::clock::now;
use crate::error::{self, End, LoginFailure};
use crate::net::{Buffer, Stream};
use crate::pool::{Greeting, Pool, PoolKey, Pooled};
use crate::server::Failure;
use crate::shared::{ClientInfo, ClientView, Proxy, Registered};
use crate::signals::Signals;
use crate::state::{self, AT_START_ONLY, Values};

/// A client's statements are short; a longer one makes the buffer grow.
pub(super) const INPUT_BYTES: usize = 4096;
/// No process of a server has a larger number (`PID_MAX_LIMIT` of Linux, and less elsewhere), so that nobody takes a
/// client of ours for one.
const SERVER_PID_MAX: u32 = 1 << 22;
/// The console's database.
pub(crate) const CONSOLE: &str = "highwater";

/// What a stream turned out to be.
pub(crate) enum Arrival {
    /// A cancel request, already passed on.
    Cancelled,
    /// An administrator at the console.
    Console(Stream, Buffer, Registered),
    Client(Box<Client>),
}

/// Who wants in, and what the start-up packet asked for.
pub(super) struct Startup {
    /// What is spoken.
    version: Version,
    pub(super) user: String,
    pub(super) database: String,
    /// Which servers: what stands behind @.
    place: Option<String>,
    /// `highwater.*` settings.
    own: Vec<(String, String)>,
    /// What can only be set while connecting, sorted.
    at_start: Vec<(String, String)>,
    /// Everything else.
    base: Values,
}

/// Leads a stream through login. On failure the client has been told.
pub(crate) async fn arrive(proxy: &Arc<Proxy>, mut stream: Stream) -> Result<Arrival, End> {
    let mut input = Buffer::new(INPUT_BYTES);
    let limit = proxy.config.login_timeout.0;
    let arriving = async {
        let _place = proxy.arriving.try_acquire().map_err(|_| End::TooManyClients)?;
        let Some(entrance) = enter(proxy, &mut stream, &mut input).await? else { return Ok(None) };
        authenticate(proxy, &mut stream, &mut input, &entrance).await?;
        Ok(Some(entrance.startup))
    };
    let done = tokio::time::timeout(limit, arriving).await.unwrap_or(Err(End::LoginTimeout));
    let welcomed = match done {
        Ok(None) => return Ok(Arrival::Cancelled),
        Ok(Some(startup)) if startup.database == CONSOLE => return console(proxy, stream, input, &startup).await,
        Ok(Some(startup)) => welcome(proxy, &mut stream, startup).await,
        Err(end) => Err(end),
    };
    match welcomed {
        Ok(prepared) => Ok(Arrival::Client(Box::new(prepared.with_stream(stream, input)))),
        Err(end) => {
            refuse(proxy, &stream, &end).await;
            Err(end)
        }
    }
}

async fn refuse(proxy: &Proxy, stream: &Stream, end: &End) {
    if let Some(told) = error::end(end) {
        let mut out = Vec::new();
        match end {
            End::Offence(Offence::ProtocolVersion { major: 0..3, .. }) => {
                backend::old_error_response(&mut out, &told.report());
            }
            _ => backend::error_response(&mut out, &told.report()),
        }
        let _ = stream.write_all(&out, proxy.config.login_timeout.0).await;
    }
}

impl Startup {
    pub(super) fn read(version: Version, params: &startup::Params<'_>) -> Result<Self, End> {
        let user = params.get("user").unwrap_or_default().to_owned();
        let failure = |why| End::Login { user: user.clone(), why };
        if user.is_empty() {
            return Err(failure(LoginFailure::NoUser));
        }
        let named = params.get("database").filter(|name| !name.is_empty()).unwrap_or(&user);
        let (database, place) = match named.rsplit_once('@') {
            Some((database, place)) => (database, Some(place.to_owned())),
            None => (named, None),
        };
        let (mut options, mut direct, mut own) = (Vec::new(), Vec::new(), Vec::new());
        for (name, value) in params.iter() {
            match name {
                "user" | "database" => {}
                "replication" if matches!(value, "false" | "off" | "no" | "0") => {}
                "replication" => return Err(failure(LoginFailure::Replication)),
                "options" => {
                    let found = startup::parse_options(value).map_err(End::Offence)?;
                    let (ours, theirs): (Vec<_>, Vec<_>) = found.into_iter().partition(|(name, _)| Name::is_own(name));
                    own.extend(ours);
                    options = theirs;
                }
                _ if name.starts_with(startup::PROTOCOL_OPTION_PREFIX) => {}
                _ if Name::is_own(name) => own.push((name.to_owned(), value.to_owned())),
                _ => direct.push((name.to_owned(), value.to_owned())),
            }
        }
        // As in PostgreSQL, what stands in the packet itself counts more than what stands in its options.
        let mut base: Values = options
            .into_iter()
            .chain(direct)
            .map(|(name, value)| (name.to_ascii_lowercase().into(), value.into()))
            .collect();
        let at_start =
            AT_START_ONLY.into_iter().filter_map(|name| Some((name.into(), base.remove(name)?.into()))).collect();
        Ok(Self { version, database: database.to_owned(), place, own, at_start, base, user })
    }

    fn application(&self) -> &str {
        self.base.get("application_name").map_or("", |name| name)
    }
}

/// A client that is let in and lacks only its stream.
struct Welcomed {
    client: Box<dyn FnOnce(Stream, Buffer) -> Client + Send>,
}

impl Welcomed {
    fn with_stream(self, stream: Stream, input: Buffer) -> Client {
        (self.client)(stream, input)
    }
}

/// Greets the client as a server of its user and database does.
async fn welcome(proxy: &Arc<Proxy>, stream: &mut Stream, startup: Startup) -> Result<Welcomed, End> {
    let failure = |why| End::Login { user: startup.user.clone(), why };
    let (scope, primary_only) = place(proxy, startup.place.as_deref()).map_err(failure)?;
    let key =
        PoolKey { user: startup.user.clone(), database: startup.database.clone(), settings: startup.at_start.clone() };
    let pool = proxy.pools.of(key);
    let base = base(proxy, &startup);
    let greeting = greeting(proxy, &pool, &base).await.map_err(|why| failure(LoginFailure::Server(why)))?;
    let info = register(proxy, stream, &startup)?;
    let database = proxy.database(&startup.database);
    catalog::watch(proxy, &database, &pool);
    let _ = timeout(proxy.config.connect_timeout.0, database.when_looked_at()).await;
    let default_level = match scope {
        // Who names standbys wants their data, not to wait for the primary's; his own reads still never go back.
        Scope::StandbysOnly | Scope::Only(_) if !proxy.config.names_level(&startup.user, &startup.database) => {
            Level::Session
        }
        _ => proxy.config.level(&startup.user, &startup.database),
    };
    let mut reading = Reading::default();
    greeting.parameters.iter().for_each(|(name, value)| reading.on_parameter(name.as_bytes(), value.as_bytes()));
    let mut out = Vec::new();
    backend::authentication_ok(&mut out);
    out.extend_from_slice(&greeting.notices);
    for (name, value) in &greeting.parameters {
        let own = plain_name(&base).filter(|_| name == "application_name");
        backend::parameter_status(&mut out, name, own.unwrap_or(value));
    }
    backend::backend_key_data(&mut out, info.pid, &info.secret);
    let proxy = Arc::clone(proxy);
    let client = Box::new(move |stream, input| Client {
        catalog: database.catalog(),
        session: Arc::default(),
        proxy,
        info,
        stream,
        input,
        used: 0,
        out,
        is_writing: false,
        passing: 0,
        pool,
        database,
        scratch: Scratch::default(),
        statements: ClientStatements::default(),
        settings: Settings::default(),
        session_key: None,
        token_given: false,
        default_level,
        scope,
        primary_only,
        transaction: Transaction::Idle,
        held: None,
        state: Arc::clone(&base),
        base,
        touched: Touched::default(),
        pins: Pins::default(),
        skipping: false,
        last_standby: None,
        last_route: None,
        last_detail: None,
        own_reading: None,
        to_server: Vec::new(),
        sent: 0,
        told_last: false,
        catalog_changed: false,
        reading,
        own_at_start: startup.own,
    });
    Ok(Welcomed { client })
}

/// The state that the client's start-up packet asks for.
fn base(proxy: &Proxy, startup: &Startup) -> state::Shared {
    let base = proxy.states.of(startup.base.clone());
    if base.values().contains_key("synchronous_commit") {
        proxy.on_asynchronous_commits("a client sets synchronous_commit at its start");
    }
    base
}

/// Which servers a client may use, by what stands behind @ in the database's name.
fn place(proxy: &Proxy, place: Option<&str>) -> Result<(Scope, bool), LoginFailure> {
    let named = |name: &str| proxy.servers.iter().find(|server| server.config.name == name).map(|server| server.id);
    match place {
        None => Ok((Scope::Any, false)),
        Some("primary") => Ok((Scope::Any, true)),
        Some("replica") => Ok((Scope::StandbysOnly, false)),
        Some(name) => match named(name) {
            Some(id) => Ok((Scope::Only(id), false)),
            None => Err(LoginFailure::UnknownServer(name.to_owned())),
        },
    }
}

/// The parameters that a server reports to clients with this start-up: learned on the first login, from the primary if it
/// can be had. Opening the connection also proves that the server lets this user in, and takes these settings.
async fn greeting(proxy: &Proxy, pool: &Pool, base: &state::Shared) -> Result<Arc<Greeting>, Failure> {
    let base = proxy.states.of(nameless(base));
    if let Some(known) = pool.greeting(&base) {
        return Ok(known);
    }
    when_any_open(proxy).await;
    let primary = proxy.cluster.lock().primary();
    let others = proxy.servers.iter().map(|server| server.id).filter(|id| Some(*id) != primary);
    let mut first = None;
    // Where all connections are in use, another server may have room; if none has, the primary's next one is waited for.
    let no_time = Duration::ZERO;
    let tries = primary.into_iter().chain(others).map(|id| (id, no_time));
    for (id, limit) in tries.chain(primary.map(|id| (id, proxy.config.checkout_timeout.0))) {
        if limit > no_time && !matches!(first, Some(Failure::NoPlace)) {
            break;
        }
        match Box::pin(learn(proxy, pool, id, &base, limit)).await {
            Ok(greeting) => return Ok(greeting),
            // What the server itself says about this user or database is final.
            Err(Failure::Said(said)) if said.code.class() != *b"57" => return Err(Failure::Said(said)),
            Err(failure) => first = Some(first.unwrap_or(failure)),
        }
    }
    Err(first.unwrap_or_else(|| Failure::Refused("no server can be reached".into())))
}

/// Waits while an administrator has paused all servers: new clients are no worse off than the others.
async fn when_any_open(proxy: &Proxy) {
    loop {
        let facts = proxy.facts.notified();
        if !proxy.servers.iter().all(|server| server.gate.is_paused()) {
            return;
        }
        facts.await;
    }
}

/// Learns it from one server, for which a place in the pool is waited for as long as `limit` allows.
async fn learn(
    proxy: &Proxy,
    pool: &Pool,
    id: ServerId,
    base: &state::Shared,
    limit: Duration,
) -> Result<Arc<Greeting>, Failure> {
    let ticket = pool.ticket(id, &proxy.server(id).busy, limit).await.ok_or(Failure::NoPlace)?;
    if proxy.server(id).gate.is_paused() {
        return Err(Failure::Refused("an administrator has paused it".into()));
    }
    // Many may have come at once.
    if let Some(known) = pool.greeting(base) {
        return Ok(known);
    }
    pool.leave_room(id);
    let greeting = greet(pool, open(proxy, pool, id, proxy.config.checkout_timeout.0).await?, base).await;
    drop(ticket);
    greeting
}

/// What the server reports on a new connection once it has these settings.
async fn greet(pool: &Pool, mut pooled: Pooled, base: &state::Shared) -> Result<Arc<Greeting>, Failure> {
    let plain = pooled.connection.parameters.clone();
    let mut notices = std::mem::take(&mut pooled.connection.notices);
    if !base.is_empty() {
        let rows = pooled.connection.query(&base.change_from(&pooled.state)).await?;
        notices.extend_from_slice(&rows.notices);
        pooled.state = Arc::clone(base);
    }
    let mut parameters = pooled.connection.parameters.clone();
    // The cluster behind us takes writes, whichever server answered.
    for (name, value) in &mut parameters {
        if name == "in_hot_standby" {
            "off".clone_into(value);
        }
    }
    let greeting = Arc::new(Greeting { notices, parameters });
    if pooled.role == Role::Primary {
        pool.on_greeted(&plain, base, Arc::clone(&greeting));
    }
    pool.put(pooled);
    Ok(greeting)
}

/// Start-up settings without the application's name, where the server would report it as it stands: programs have many.
fn nameless(base: &state::Shared) -> Values {
    let mut values = base.values().clone();
    if plain_name(base).is_some() {
        values.remove("application_name");
    }
    values
}

/// An application's name that servers report as it stands: longer ones are cut (NAMEDATALEN), other characters replaced.
fn plain_name(base: &state::Shared) -> Option<&str> {
    let plain = |name: &str| name.len() < 64 && name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    base.values().get("application_name").map(|name| &**name).filter(|name| plain(name))
}

fn register(proxy: &Arc<Proxy>, stream: &Stream, startup: &Startup) -> Result<Registered, End> {
    let places = proxy.limits.client(&startup.user, &startup.database).map_err(|full| End::Login {
        user: startup.user.clone(),
        why: LoginFailure::Full(full, startup.database.clone()),
    })?;
    let mut clients = proxy.clients.lock();
    // An administrator must get in when nobody else does.
    if clients.len() >= proxy.config.clients_max && startup.database != CONSOLE {
        return Err(End::TooManyClients);
    }
    let pid = std::iter::repeat_with(|| rand::random::<u32>() >> 1)
        .find(|pid| *pid > SERVER_PID_MAX && !clients.contains_key(pid))
        .expect("there are far fewer clients than numbers");
    let info = ClientInfo {
        pid,
        secret: std::iter::repeat_with(rand::random).take(startup.version.cancel_key_bytes()).collect(),
        user: startup.user.as_str().into(),
        database: startup.database.as_str().into(),
        peer: stream.peer(),
        application: startup.application().into(),
        connected: now(),
        encrypted: stream.tls().is_some(),
        _places: places,
        signals: Signals::default(),
        view: Mutex::new(ClientView { state: "idle", ..ClientView::default() }),
    };
    Ok(Registered::new(proxy, &mut clients, info))
}

async fn console(proxy: &Arc<Proxy>, stream: Stream, input: Buffer, startup: &Startup) -> Result<Arrival, End> {
    let config = &proxy.config;
    let listed =
        config.admins.contains(&startup.user) || config.servers.iter().any(|server| server.url.user == startup.user);
    if !listed {
        let end = End::Login { user: startup.user.clone(), why: LoginFailure::NotAdministrator };
        refuse(proxy, &stream, &end).await;
        return Err(end);
    }
    let info = match register(proxy, &stream, startup) {
        Ok(info) => info,
        Err(end) => {
            refuse(proxy, &stream, &end).await;
            return Err(end);
        }
    };
    let mut out = Vec::new();
    backend::authentication_ok(&mut out);
    // psycopg2 sets a DateStyle that it is not told of, and there is no SET here.
    for (name, value) in [
        ("server_version", "15.0 (Highwater)"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ] {
        backend::parameter_status(&mut out, name, value);
    }
    backend::backend_key_data(&mut out, info.pid, &info.secret);
    backend::ready_for_query(&mut out, TransactionStatus::Idle);
    stream.write_all(&out, config.login_timeout.0).await.map_err(End::Broken)?;
    Ok(Arrival::Console(stream, input, info))
}
