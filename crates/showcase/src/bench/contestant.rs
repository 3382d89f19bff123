//! Who competes: no proxy, PgBouncer, Highwater; how they are started and what is measured about them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use highwater_lab::Cluster;

use super::pgbench::{self, Run, Workload};
use super::pgbouncer::{PgBouncer, Pooling};
use crate::console::{Console, Row};
use crate::daemon::Daemon;
use crate::proxy::Proxy;

/// Server connections of each proxy, per user and database; PgBouncer's own default.
pub(super) const POOL_SIZE: u32 = 20;

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
            pooled: PgBouncer::start(primary, &Pooling::default())?,
            sessions: PgBouncer::start(primary, &Pooling { mode: "session", ..Pooling::default() })?,
            highwater: Proxy::start(cluster, &settings)?,
            runtime: tokio::runtime::Runtime::new()?,
        })
    }

    /// Runs `workload` with one of them.
    pub(crate) fn run(&self, contestant: Contestant, workload: &Workload, time: Duration) -> Result<Run> {
        let run = match contestant {
            Contestant::Direct => pgbench::run(self.primary, workload, time),
            Contestant::PgBouncer => self.run_pgbouncer(workload, time),
            Contestant::Highwater => self.run_highwater(workload, time),
        };
        run.with_context(|| format!("{}, {}", workload.name, contestant.name()))
    }

    /// The most memory that the proxies ever had, in KiB: PgBouncer's larger one, and Highwater.
    pub(crate) fn memory_peaks(&self) -> Result<[u64; 2]> {
        let pgbouncer = self.pooled.daemon.memory_peak_kib()?.max(self.sessions.daemon.memory_peak_kib()?);
        Ok([pgbouncer, self.highwater.daemon.memory_peak_kib()?])
    }

    fn run_pgbouncer(&self, workload: &Workload, time: Duration) -> Result<Run> {
        let pgbouncer = if workload.is_prepared() { &self.sessions } else { &self.pooled };
        measured(&pgbouncer.daemon, || pgbench::run(pgbouncer.port, workload, time))
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
