//! The benchmark: pgbench through Highwater, through PgBouncer and without either, in turn on one cluster, so that
//! whatever else the machine does meets all three alike. And what idle clients cost.

mod certificate;
mod contestant;
mod crowd;
mod idle;
mod pgbench;
mod pgbouncer;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use highwater_lab::{Cluster, ClusterOptions};
use indicatif::{ProgressBar, ProgressStyle};

use self::contestant::{Contestant, Field};
use self::pgbench::{Run, WORKLOADS, Workload};

/// How the benchmark is run.
#[derive(Args)]
pub(crate) struct BenchOptions {
    /// How long each run of pgbench takes, in seconds
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often each is run; medians are shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only workloads whose name contains this, such as `prepared` or `16 clients`
    #[arg(long, default_value = "")]
    only: String,
    /// pgbench's scale: this many times 100,000 accounts
    #[arg(long, default_value_t = 10)]
    scale: u32,
    /// Measure the memory of idle clients instead of speed
    #[arg(long)]
    idle: bool,
    /// How many idle clients; local ports are enough for 25,000
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=25_000), requires = "idle")]
    clients: u32,
}

/// All runs of one workload with one contestant.
pub(crate) type Results = BTreeMap<(usize, Contestant), Vec<Run>>;

/// Runs the benchmark, prints a table and leaves it as Markdown beside the programs.
///
/// # Errors
///
/// When something does not start, or a transaction fails.
pub(crate) fn run(options: &BenchOptions) -> Result<()> {
    if options.idle {
        return show(&idle::run(options.clients as usize)?, "bench-idle.md");
    }
    let workloads: Vec<&Workload> = WORKLOADS.iter().filter(|workload| workload.name.contains(&options.only)).collect();
    ensure!(!workloads.is_empty(), "no workload's name contains {:?}", options.only);
    println!("Starting a primary and two standbys, PgBouncer twice and Highwater; filling the tables.");
    let load = load()?;
    let cluster = Cluster::start(ClusterOptions { durable: false, ..ClusterOptions::with_standbys(2) })?;
    pgbench::fill(cluster.primary().port(), options.scale)?;
    cluster.settle(Duration::from_secs(120))?;
    let field = Field::start(&cluster)?;
    let results = race(&field, &workloads, options)?;
    let table = report::Report::new(&workloads, &results, &field.memory_peaks()?, &load);
    show(&[table.for_terminal(), table.as_markdown()], "bench.md")
}

/// Prints the first text, and leaves the second one as a file of this name beside the programs.
fn show([terminal, markdown]: &[String; 2], name: &str) -> Result<()> {
    println!("{terminal}");
    let file = target()?.join(name);
    std::fs::write(&file, markdown).with_context(|| format!("cannot write {}", file.display()))?;
    println!("The same as Markdown: {}", file.display());
    Ok(())
}

/// Round by round, workload by workload, one contestant after the other; each round another one begins.
fn race(field: &Field, workloads: &[&Workload], options: &BenchOptions) -> Result<Results> {
    let steps = options.rounds as usize * workloads.len() * Contestant::ALL.len();
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}").expect("a correct template");
    let bar = ProgressBar::new(steps as u64).with_style(style);
    let mut results = Results::new();
    for round in 0..options.rounds as usize {
        for (index, workload) in workloads.iter().enumerate() {
            let mut order = Contestant::ALL;
            order.rotate_left((round + index) % Contestant::ALL.len());
            for contestant in order {
                bar.set_message(format!("{}, {}", workload.name, contestant.name()));
                let run = field.run(contestant, workload, Duration::from_secs(options.seconds))?;
                results.entry((index, contestant)).or_default().push(run);
                bar.inc(1);
            }
        }
        println!("Round {} of {} is over.", round + 1, options.rounds);
    }
    bar.finish_and_clear();
    Ok(results)
}

/// What the machine has to do before we begin: on a busy one the figures say little.
fn load() -> Result<String> {
    let averages = std::fs::read_to_string("/proc/loadavg").context("no load average")?;
    let last_minute = averages.split(' ').next().unwrap_or_default();
    let cores = std::thread::available_parallelism()?;
    Ok(format!("The machine has {cores} cores; its load average was {last_minute} before the benchmark began."))
}

/// Cargo's target folder.
fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    Ok(program.parent().and_then(|profile| profile.parent()).context("no target folder")?.to_owned())
}
