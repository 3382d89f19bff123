//! Who competes: no proxy, PgBouncer, Highwater; how they are started and what is measured about them.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use highwater_lab::Cluster;

use super::pgbench::{self, Run, Workload};
use crate::console::{Console, Row};
use crate::daemon::Daemon;
use crate::proxy::Proxy;

/// Server connections of each proxy, per user and database; PgBouncer's own default.
const POOL_SIZE: u32 = 20;

/// One of those who compete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Contestant {
    Direct,
    PgBouncer,
    Highwater,
}

impl Contestant {
    pub(crate) const ALL: [Self; 3] = [Self::Direct, Self::PgBouncer, Self::Highwater];

    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::PgBouncer => "PgBouncer",
            Self::Highwater => "Highwater",
        }
    }
}

/// All who compete, running.
pub(crate) struct Field {
    primary: u16,
    pooled: PgBouncer,
    /// PgBouncer before 1.21 knows no prepared statements in transaction mode.
    sessions: PgBouncer,
    highwater: Proxy,
    runtime: tokio::runtime::Runtime,
}

impl Field {
    /// Starts the proxies before `cluster`.
    pub(crate) fn start(cluster: &Cluster) -> Result<Self> {
        let primary = cluster.primary().port();
        let settings = ["consistency=session".to_owned(), format!("pool_size={POOL_SIZE}")];
        Ok(Self {
            primary,
            pooled: PgBouncer::start(primary, "transaction")?,
            sessions: PgBouncer::start(primary, "session")?,
            highwater: Proxy::start(cluster, &settings)?,
            runtime: tokio::runtime::Runtime::new()?,
        })
    }

    /// Runs `workload` with one of them.
    pub(crate) fn run(&self, contestant: Contestant, workload: &Workload, time: Duration) -> Result<Run> {
        let run = match contestant {
            Contestant::Direct => pgbench::run(self.primary, workload, time),
            Contestant::PgBouncer => self.pgbouncer_for(workload).run(workload, time),
            Contestant::Highwater => self.run_highwater(workload, time),
        };
        run.with_context(|| format!("{}, {}", workload.name, contestant.name()))
    }

    /// The most memory that the proxies ever had, in KiB: PgBouncer's larger one, and Highwater.
    pub(crate) fn memory_peaks(&self) -> Result<[u64; 2]> {
        let pgbouncer = self.pooled.daemon.memory_peak_kib()?.max(self.sessions.daemon.memory_peak_kib()?);
        Ok([pgbouncer, self.highwater.daemon.memory_peak_kib()?])
    }

    fn pgbouncer_for(&self, workload: &Workload) -> &PgBouncer {
        if workload.is_prepared() { &self.sessions } else { &self.pooled }
    }

    fn run_highwater(&self, workload: &Workload, time: Duration) -> Result<Run> {
        let console = self.highwater.console();
        let look = || self.runtime.block_on(Look::at(&console));
        let before = look()?;
        let mut run = measured(&self.highwater.daemon, || pgbench::run(self.highwater.port, workload, time))?;
        let after = look()?;
        let [standbys, all] = [after.on_standbys - before.on_standbys, after.routed - before.routed];
        run.share_on_standbys = (all > 0).then(|| standbys as f64 / all as f64);
        let elapsed = after.at - before.at;
        run.probes_per_second = Some((after.probes - before.probes) as f64 / elapsed.as_secs_f64());
        Ok(run)
    }
}

/// Adds what `daemon` used meanwhile.
fn measured(daemon: &Daemon, run: impl FnOnce() -> Result<Run>) -> Result<Run> {
    let before = daemon.cpu_time()?;
    let mut run = run()?;
    run.cpu_time = Some(daemon.cpu_time()? - before);
    Ok(run)
}

/// What Highwater's console says at a moment.
struct Look {
    at: Instant,
    /// Statements routed so far, and those of them to standbys.
    routed: u64,
    on_standbys: u64,
    /// Position probes of the primary so far.
    probes: u64,
}

impl Look {
    async fn at(console: &Console) -> Result<Self> {
        let servers = console.show("SERVERS").await?;
        let primary = servers.iter().find(|row| row.get("name").is_some_and(|name| name == "primary"));
        let probes = number(primary.context("SHOW SERVERS has no primary")?, "probes")?;
        let mut look = Self { at: Instant::now(), routed: 0, on_standbys: 0, probes };
        for route in &console.show("ROUTES").await? {
            let count = number(route, "count")?;
            look.routed += count;
            look.on_standbys +=
                if route.get("server").is_some_and(|name| name.starts_with("standby")) { count } else { 0 };
        }
        Ok(look)
    }
}

fn number(row: &Row, column: &str) -> Result<u64> {
    let text = row.get(column).with_context(|| format!("the console has no column {column}"))?;
    text.parse().with_context(|| format!("{column} is {text:?}"))
}

/// A running PgBouncer.
struct PgBouncer {
    daemon: Daemon,
    port: u16,
    /// Its configuration.
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    fn start(primary: u16, pool_mode: &str) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let port = free_port()?;
        let users = folder.path().join("users.txt");
        std::fs::write(&users, "\"trusted\" \"\"\n")?;
        let text = format!(
            "[databases]\nshop = host=127.0.0.1 port={primary}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {pool_mode}\ndefault_pool_size = {POOL_SIZE}\n\
             max_client_conn = 200\nlog_connections = 0\nlog_disconnections = 0\nlog_pooler_errors = 1\nlog_stats = 0\n\
             ignore_startup_parameters = extra_float_digits\n",
            users.display()
        );
        let config = folder.path().join("pgbouncer.ini");
        std::fs::write(&config, text)?;
        readable_by_all(folder.path())?;
        let arguments = [config.to_string_lossy().into_owned()];
        let mut daemon = Daemon::start_unprivileged(&program()?, &arguments)?;
        daemon.wait_for("PgBouncer to be up", |written| written.contains("process up").then_some(()))?;
        Ok(Self { daemon, port, _folder: folder })
    }

    fn run(&self, workload: &Workload, time: Duration) -> Result<Run> {
        measured(&self.daemon, || pgbench::run(self.port, workload, time))
    }
}

fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps it where an ordinary user's PATH does not lead.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file());
    found.context("there is no pgbouncer on this machine")
}

/// PgBouncer does not tell which port the kernel chose, so we choose: one that is free at this moment.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn readable_by_all(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).context("cannot open the folder")
}
