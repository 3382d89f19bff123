//! Puts a process together: shared state, monitors, sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Duration;

use highwater_core::{Cluster, ClusterSettings, CommitVisibility, ServerId};
use highwater_sql::Classifier;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::census::Census;
use crate::clock::micros;
use crate::config::{Config, Listen, Visibility};
use crate::listener::{Socket, accept_all};
use crate::monitor;
use crate::pool::Pools;
use crate::sessions::Sessions;
use crate::shared::{Monitor, Proxy, Server};
use crate::verifiers::Verifiers;

/// The port in a Unix socket's name when there is no TCP address.
const DEFAULT_PORT: u16 = 6432;

/// A proxy that accepts clients. Dropped, it stops accepting and watching.
pub struct Running {
    addresses: Vec<SocketAddr>,
    tasks: JoinSet<()>,
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
/// An address that cannot be bound.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let sockets = bind(&config.listen).await?;
    let proxy = assemble(config);
    let mut tasks = JoinSet::new();
    for server in &proxy.servers {
        tasks.spawn(monitor::watch(Arc::clone(&proxy), server.id));
    }
    tasks.spawn(say_when_ready(Arc::clone(&proxy)));
    let addresses = sockets.iter().filter_map(Socket::address).collect();
    for socket in sockets {
        tracing::info!(address = socket.name(), "listening");
        tasks.spawn(accept_all(Arc::clone(&proxy), socket));
    }
    Ok(Running { addresses, tasks })
}

/// Binds the TCP addresses first: Unix sockets are named after the port of the first one, as PostgreSQL names its own.
async fn bind(listen: &[Listen]) -> anyhow::Result<Vec<Socket>> {
    let (tcp, unix): (Vec<_>, Vec<_>) = listen.iter().partition(|listen| matches!(listen, Listen::Tcp(_)));
    let mut sockets: Vec<Socket> = Vec::new();
    for listen in tcp.into_iter().chain(unix) {
        let port = sockets.iter().find_map(Socket::address).map_or(DEFAULT_PORT, |address| address.port());
        sockets.push(Socket::bind(listen, port).await?);
    }
    Ok(sockets)
}

fn assemble(config: Config) -> Arc<Proxy> {
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
        .map(|(index, server)| Server {
            id: ServerId(index),
            config: server.clone(),
            busy: Arc::default(),
            monitor: Monitor::default(),
        })
        .collect();
    Arc::new(Proxy {
        cluster: Mutex::new(Cluster::new(settings, servers.len())),
        facts: Notify::new(),
        census: Census::new(servers.len()),
        pools: Pools::new(servers.len(), config.pool_size),
        servers,
        sessions: Sessions::new(config.sessions_max),
        classifier: Classifier::new(config.statement_cache),
        databases: Mutex::new(HashMap::new()),
        clients: Mutex::new(HashMap::new()),
        stats: Default::default(),
        fallbacks: Arc::new(AtomicU32::new(0)),
        waiting: AtomicU32::new(0),
        statements: Default::default(),
        serial: AtomicU64::new(0),
        verifiers: Verifiers::new(rand::random()),
        config,
    })
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
    // The set of tasks treats an ended one as a bug.
    std::future::pending().await
}
