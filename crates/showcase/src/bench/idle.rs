//! What clients cost a proxy that are logged in and say nothing: memory per client, of PgBouncer and of Highwater.

use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use highwater_lab::{Cluster, ClusterOptions};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rustls::ClientConfig;

use super::certificate::Certificate;
use super::contestant::Contestant;
use super::crowd::Crowd;
use super::pgbouncer::{PgBouncer, Pooling};
use super::report::idle_table;
use crate::daemon::Daemon;
use crate::proxy::Proxy;

/// Clients that come before anything is measured, so that pools, catalogue and caches are there.
const EARLY_CLIENTS: usize = 20;
/// Descriptors beside those of clients: server connections, listeners, logs.
const OTHER_DESCRIPTORS: u64 = 200;
/// Memory counts as settled when it has not moved for so long by more than so much: Highwater lets clients rest that say
/// nothing for some seconds.
const SETTLED: Duration = Duration::from_secs(6);
const SETTLED_BYTES: u64 = 128 * 1024;
/// What does not settle is measured as it is.
const SETTLING_MAX: Duration = Duration::from_secs(40);

/// One measurement.
pub(super) struct Measured {
    pub(super) tls: bool,
    pub(super) contestant: Contestant,
    /// Bytes per client after all have logged in.
    pub(super) logged_in: f64,
    /// And after each has run one statement.
    pub(super) asked: f64,
    /// Of the whole process, then.
    pub(super) resident_bytes: u64,
}

/// Measures both proxies with `clients` clients, with and without TLS; the table as text for the terminal and a document.
///
/// # Errors
///
/// When something does not start, or a client is refused.
pub(super) fn run(clients: usize) -> Result<[String; 2]> {
    allow_descriptors(clients as u64 + OTHER_DESCRIPTORS)?;
    println!("Starting a primary and two standbys.");
    let cluster = Cluster::start(ClusterOptions { durable: false, ..ClusterOptions::with_standbys(2) })?;
    cluster.settle(Duration::from_secs(120))?;
    let certificate = Certificate::make()?;
    let mut measured = Vec::new();
    for encrypted in [None, Some(&certificate)] {
        for contestant in [Contestant::PgBouncer, Contestant::Highwater] {
            let name = contestant.name();
            println!("{clients} clients of {name}{} log in.", if encrypted.is_some() { " over TLS" } else { "" });
            measured.push(measure(&cluster, contestant, clients, encrypted).context(name)?);
        }
    }
    Ok(idle_table(clients, &measured))
}

/// Raises the limit on open descriptors, for us and for the programs that we start.
fn allow_descriptors(least: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < least {
        setrlimit(Resource::RLIMIT_NOFILE, least, hard.max(least))
            .with_context(|| format!("so many clients need {least} descriptors, and {hard} are allowed"))?;
    }
    Ok(())
}

fn measure(
    cluster: &Cluster,
    contestant: Contestant,
    clients: usize,
    certificate: Option<&Certificate>,
) -> Result<Measured> {
    let tls = certificate.map(Certificate::client).transpose()?;
    let most = u32::try_from(clients + EARLY_CLIENTS)?;
    match contestant {
        Contestant::Highwater => {
            let mut settings = vec![format!("clients_max={most}"), "consistency=session".to_owned()];
            settings.extend(certificate.iter().flat_map(|certificate| {
                [format!("tls_cert={}", certificate.cert.display()), format!("tls_key={}", certificate.key.display())]
            }));
            let proxy = Proxy::start(cluster, &settings)?;
            weigh(contestant, &proxy.daemon, proxy.port, clients, tls.as_ref())
        }
        Contestant::PgBouncer | Contestant::Direct => {
            let pooling = Pooling { clients: most, certificate, ..Pooling::default() };
            let pgbouncer = PgBouncer::start(cluster.primary().port(), &pooling)?;
            weigh(contestant, &pgbouncer.daemon, pgbouncer.port, clients, tls.as_ref())
        }
    }
}

fn weigh(
    contestant: Contestant,
    daemon: &Daemon,
    port: u16,
    clients: usize,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Measured> {
    let mut early = Crowd::log_in(port, EARLY_CLIENTS, tls)?;
    early.ask()?;
    let before = settled(daemon)?;
    let mut crowd = Crowd::log_in(port, clients, tls)?;
    let logged_in = settled(daemon)?;
    crowd.ask()?;
    let asked = settled(daemon)?;
    let each = |after: u64| after.saturating_sub(before) as f64 / clients as f64;
    let (logged_in, per_client) = (each(logged_in), each(asked));
    Ok(Measured { tls: tls.is_some(), contestant, logged_in, asked: per_client, resident_bytes: asked })
}

/// The program's resident memory in bytes, once it has settled.
fn settled(daemon: &Daemon) -> Result<u64> {
    let began = Instant::now();
    let (mut since, mut at) = (began, daemon.memory_bytes()?);
    while since.elapsed() < SETTLED && began.elapsed() < SETTLING_MAX {
        sleep(Duration::from_millis(200));
        let bytes = daemon.memory_bytes()?;
        if bytes.abs_diff(at) > SETTLED_BYTES {
            (since, at) = (Instant::now(), bytes);
        }
    }
    daemon.memory_bytes()
}
