//! pgbench: what it is asked to do, and what it says.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::figures::percentile;

/// What pgbench does in a run.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// `-S` or nothing, which is the TPC-B-like script.
    script: &'static [&'static str],
    /// `-M`.
    protocol: &'static str,
    clients: u32,
}

impl Workload {
    /// Whether it uses prepared statements by name.
    pub(crate) fn is_prepared(&self) -> bool {
        self.protocol == "prepared"
    }
}

const SELECT: &[&str] = &["-S"];

/// All workloads.
pub(crate) const WORKLOADS: [Workload; 7] = [
    Workload { name: "select, simple, 1 client", script: SELECT, protocol: "simple", clients: 1 },
    Workload { name: "select, simple, 16 clients", script: SELECT, protocol: "simple", clients: 16 },
    Workload { name: "select, extended, 1 client", script: SELECT, protocol: "extended", clients: 1 },
    Workload { name: "select, extended, 16 clients", script: SELECT, protocol: "extended", clients: 16 },
    Workload { name: "select, prepared, 1 client", script: SELECT, protocol: "prepared", clients: 1 },
    Workload { name: "select, prepared, 16 clients", script: SELECT, protocol: "prepared", clients: 16 },
    Workload { name: "TPC-B, simple, 16 clients", script: &[], protocol: "simple", clients: 16 },
];

/// What one run came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    pub(crate) transactions: u64,
    /// Per second, without the time to connect.
    pub(crate) tps: f64,
    pub(crate) latency_p50: Duration,
    pub(crate) latency_p99: Duration,
    /// Of the proxy, where there is one.
    pub(crate) cpu_time: Option<Duration>,
    /// Statements that Highwater sent to standbys, of all that it sent.
    pub(crate) share_on_standbys: Option<f64>,
    /// Position probes of the primary per second.
    pub(crate) probes_per_second: Option<f64>,
}

/// The share of transactions whose latency is logged: enough for a 99th percentile, and no work for the disk.
const SAMPLED: &str = "--sampling-rate=0.1";

/// Makes pgbench's tables in the database `shop`.
pub(crate) fn fill(port: u16, scale: u32) -> Result<()> {
    pgbench(port, ["-i", "-q", "-s", &scale.to_string()]).map(drop)
}

/// Runs `workload` against the server on `port`.
///
/// # Errors
///
/// When pgbench fails, also in a single transaction.
pub(crate) fn run(port: u16, workload: &Workload, time: Duration) -> Result<Run> {
    let folder = tempfile::tempdir().context("no temporary folder")?;
    let prefix = format!("--log-prefix={}", folder.path().join("log").display());
    let [seconds, clients] = [time.as_secs().to_string(), workload.clients.to_string()];
    // Two threads for many clients, or pgbench itself is what is measured.
    let threads = workload.clients.min(2).to_string();
    let common =
        ["-n", "-M", workload.protocol, "-T", &seconds, "-c", &clients, "-j", &threads, "-l", SAMPLED, &prefix];
    let written = pgbench(port, workload.script.iter().chain(&common))?;
    let mut latencies = latencies(folder.path())?;
    let mut latency = |percent| percentile(&mut latencies, percent).context("pgbench logged nothing");
    let failed: u64 = figure(&written, "number of failed transactions: ")?;
    ensure!(failed == 0, "{failed} transactions failed:\n{written}");
    Ok(Run {
        transactions: figure(&written, "number of transactions actually processed: ")?,
        tps: figure(&written, "tps = ")?,
        latency_p50: latency(50.0)?,
        latency_p99: latency(99.0)?,
        ..Run::default()
    })
}

fn pgbench(port: u16, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<String> {
    let mut command = Command::new("pgbench");
    command.args(arguments).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-U", "trusted", "shop"]);
    let output = command.env("LC_ALL", "C").output().context("cannot run pgbench")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{complaint}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The number that follows `label`.
fn figure<T: std::str::FromStr>(written: &str, label: &str) -> Result<T> {
    let rest = written.split_once(label).map(|(_, rest)| rest);
    let number = rest.and_then(|rest| rest.split([' ', '/', '\n']).next()).and_then(|word| word.parse().ok());
    number.with_context(|| format!("pgbench does not say {label:?}:\n{written}"))
}

/// The third field of each line in the logs: microseconds (PostgreSQL manual, pgbench, "Per-Transaction Logging").
fn latencies(folder: &Path) -> Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(file?.path())?;
        let micros = text.lines().filter_map(|line| line.split(' ').nth(2)?.parse().ok());
        latencies.extend(micros.map(Duration::from_micros));
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_pgbench_prints() {
        let written = "number of transactions actually processed: 1234\n\
                       number of failed transactions: 0 (0.000%)\n\
                       tps = 617.25 (without initial connection time)\n";
        assert_eq!(figure::<u64>(written, "number of transactions actually processed: ").unwrap(), 1234);
        assert_eq!(figure::<u64>(written, "number of failed transactions: ").unwrap(), 0);
        assert_eq!(figure::<f64>(written, "tps = ").unwrap(), 617.25);
        figure::<u64>(written, "latency average = ").unwrap_err();
    }
}
