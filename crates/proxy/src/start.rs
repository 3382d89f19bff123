//! Puts a process together: shared state, monitors, sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use anyhow::Context;
use highwater_core::{Cluster, ClusterSettings, CommitVisibility, ServerId};
use highwater_sql::Classifier;
use parking_lot::Mutex;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::census::Census;
use crate::clock::micros;
use crate::config::{Auth, Config, Listen, Visibility};
use crate::credentials::Credentials;
use crate::gate::Gate;
use crate::limits::Limits;
use crate::listener::{Socket, accept_all};
use crate::lobby::{self, Lobby};
use crate::pool::{Pools, Terms};
use crate::server::Endpoint;
use crate::sessions::Sessions;
use crate::shared::{Monitor, Proxy, Question, Server};
use crate::storm::RetryBudget;
use crate::{monitor, password_file, roles, tls, upkeep};

/// The port in a Unix socket's name when there is no TCP address.
const DEFAULT_PORT: u16 = 6432;
/// How soon a changed certificate or password file is noticed. A look costs a system call for each file.
const FILES_INTERVAL: Duration = Duration::from_secs(1);
/// Logins that wait for a role's stored password; more wait for a place here.
const QUESTIONS_MAX: usize = 1024;

/// A proxy that accepts clients. Dropped, it stops accepting and watching.
pub struct Running {
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
    _watch: lobby::Watch,
}

impl Running {
    /// The TCP addresses it listens on, with the real ports.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits for ever, or until a task of the proxy ends, which is a bug.
    pub async fn wait(&mut self) {
        let _ = self.tasks.join_next().await;
    }
}

/// Binds the listeners and starts the monitors. Servers need not be there yet.
///
/// # Errors
/// An address that cannot be bound, a certificate or password file that cannot be used.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let sockets = bind(&config).await?;
    let (proxy, questions) = assemble(config)?;
    let mut tasks = JoinSet::new();
    tasks.spawn(roles::answer(Arc::clone(&proxy), questions));
    tasks.spawn(follow_files(Arc::clone(&proxy), signal(SignalKind::hangup())?));
    for server in &proxy.servers {
        tasks.spawn(monitor::watch(Arc::clone(&proxy), server.id));
    }
    tasks.spawn(say_when_ready(Arc::clone(&proxy)));
    let (lobby, watch) = Lobby::open(&proxy).context("cannot watch clients that rest")?;
    tasks.spawn(upkeep::look_after(Arc::clone(&proxy)));
    tasks.spawn(lobby::tend(Arc::clone(&lobby), Arc::clone(&proxy)));
    let addresses = sockets.iter().filter_map(Socket::address).collect();
    for socket in sockets {
        tracing::info!(address = socket.name(), "listening");
        tasks.spawn(accept_all(Arc::clone(&proxy), Arc::clone(&lobby), socket));
    }
    Ok(Running { addresses, tasks, _watch: watch })
}

/// Binds the TCP addresses first: Unix sockets are named after the port of the first one, as PostgreSQL names its own.
async fn bind(config: &Config) -> anyhow::Result<Vec<Socket>> {
    let (tcp, unix): (Vec<_>, Vec<_>) = config.listen.iter().partition(|listen| matches!(listen, Listen::Tcp(_)));
    let mut sockets: Vec<Socket> = Vec::new();
    for listen in tcp.into_iter().chain(unix) {
        let port = sockets.iter().find_map(Socket::address).map_or(DEFAULT_PORT, |address| address.port());
        sockets.push(Socket::bind(listen, port, config.unix_socket_mode).await?);
    }
    Ok(sockets)
}

/// Complains about files that the configuration names and that cannot be used.
///
/// # Errors
/// The first such file.
pub(crate) fn check_files(config: &Config) -> anyhow::Result<()> {
    tls::to_clients(config)?;
    password_file::watch(&config.password_file).context("password_file")?;
    config.servers.iter().try_for_each(|server| {
        Endpoint::new(&server.url, config.keep_alive()).map(drop).with_context(|| server.name.clone())
    })
}

/// Reads certificates and passwords again when their files have changed, and on SIGHUP in any case.
async fn follow_files(proxy: Arc<Proxy>, mut hangup: Signal) {
    loop {
        let in_any_case = tokio::select! {
            _ = hangup.recv() => true,
            () = tokio::time::sleep(FILES_INTERVAL) => false,
        };
        let refreshed = Arc::clone(&proxy);
        // Reading files may take its time; no client waits for it.
        let refreshing = tokio::task::spawn_blocking(move || {
            refreshed.tls.iter().for_each(|files| files.refresh(in_any_case));
            refreshed.password_file.iter().for_each(|file| file.refresh(in_any_case));
            refreshed.servers.iter().for_each(|server| server.endpoint.refresh(in_any_case));
        });
        drop(refreshing.await);
    }
}

/// What holds for the connections of every pool.
fn terms(config: &Config) -> Terms {
    Terms {
        size: config.pool_size,
        size_min: config.pool_size_min,
        lifetime: config.server_lifetime.0,
        idle_timeout: config.server_idle_timeout.0,
    }
}

fn assemble(config: Config) -> anyhow::Result<(Arc<Proxy>, mpsc::Receiver<Question>)> {
    let settings = ClusterSettings {
        commit_visibility: match config.commit_visibility {
            Visibility::Any => CommitVisibility::Any,
            Visibility::SyncOnly => CommitVisibility::SyncOnly,
        },
        evidence_max_age: micros(config.evidence_age_max.0),
        ..ClusterSettings::default()
    };
    let servers: Vec<Server> = (0..)
        .zip(&config.servers)
        .map(|(index, server)| {
            Ok(Server {
                id: ServerId(index),
                config: server.clone(),
                endpoint: Endpoint::new(&server.url, config.keep_alive()).with_context(|| server.name.clone())?,
                busy: Arc::default(),
                gate: Gate::default(),
                monitor: Monitor::default(),
            })
        })
        .collect::<anyhow::Result<_>>()?;
    let limits = Arc::new(Limits::new(&config));
    let (roles, questions) = mpsc::channel(QUESTIONS_MAX);
    let proxy = Proxy {
        cluster: Mutex::new(Cluster::new(settings, servers.len())),
        facts: Notify::new(),
        census: Census::new(servers.len()),
        pools: Pools::new(servers.len(), terms(&config), Arc::clone(&limits)),
        servers,
        sessions: Sessions::new(config.sessions_max),
        classifier: Classifier::new(config.statement_cache),
        databases: Mutex::new(HashMap::new()),
        clients: Mutex::new(HashMap::new()),
        ended: Notify::new(),
        stats: Default::default(),
        retries: RetryBudget::new(Instant::now()),
        fallbacks: Arc::new(AtomicU32::new(0)),
        waiting: AtomicU32::new(0),
        statements: Default::default(),
        states: Default::default(),
        owners: Default::default(),
        serial: AtomicU64::new(0),
        credentials: Credentials::new(rand::random()),
        password_file: password_file::watch(&config.password_file).context("password_file")?,
        roles,
        tls: tls::to_clients(&config)?,
        limits,
        arriving: Semaphore::new(config.clients_max.min(Semaphore::MAX_PERMITS)),
        config,
    };
    Ok((Arc::new(proxy), questions))
}

/// Logs once when the primary is known; says what is missing while it is not.
async fn say_when_ready(proxy: Arc<Proxy>) {
    let mut complained = false;
    loop {
        let facts = proxy.facts.notified();
        if let Some(primary) = proxy.cluster.lock().primary() {
            tracing::info!(primary = proxy.server(primary).config.name, "ready");
            break;
        }
        let late = tokio::time::timeout(Duration::from_secs(3), facts).await.is_err();
        if late && !complained {
            tracing::warn!("no primary has been found yet; clients will be told so");
            complained = true;
        }
    }
    // Nobody's password is configured, so all must be looked up: better said now than at the first login.
    let configured = proxy.password_file.is_some() || proxy.config.users.iter().any(|user| user.password.is_some());
    if proxy.config.auth == Auth::Scram && !configured {
        roles::rehearse(&proxy).await;
    }
    // The set of tasks treats an ended one as a bug.
    std::future::pending().await
}
