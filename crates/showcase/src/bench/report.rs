//! The benchmark's table, for the terminal and as Markdown.

use std::time::Duration;

use comfy_table::presets::{ASCII_MARKDOWN, UTF8_FULL_CONDENSED};
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::Results;
use super::contestant::Contestant;
use super::idle::Measured;
use super::pgbench::{Run, Workload};
use crate::figures::{grouped, median};

const HEADER: [&str; 11] = [
    "workload",
    "through",
    "tps",
    "of direct",
    "of PgBouncer",
    "p50 ms",
    "p99 ms",
    "proxy's CPU us/txn",
    "of PgBouncer's",
    "on standbys",
    "probes/s",
];

const CAPTION: &str = "\
Medians over the rounds; one cluster of a primary and two standbys without delay, fsync off, everything on one machine.
PgBouncer and direct use the primary alone; Highwater runs at consistency = session, its probes go to the primary too.
PgBouncer is in transaction mode, but in session mode where statements are prepared: versions before 1.21 know no other
way. Latencies are from a tenth of the transactions; CPU is user and system time of the proxy's process.";

/// What is to be shown.
pub(crate) struct Report {
    rows: Vec<[String; HEADER.len()]>,
    circumstances: String,
}

impl Report {
    /// Takes the medians of `results`. The peaks of memory are PgBouncer's and Highwater's, in KiB; `load` is what the
    /// machine had to do besides.
    pub(crate) fn new(workloads: &[&Workload], results: &Results, memory_peaks: &[u64; 2], load: &str) -> Self {
        let rows = results.iter().map(|(&(index, contestant), runs)| {
            let name = if contestant == Contestant::Direct { workloads[index].name } else { "" };
            let of = |other| results.get(&(index, other)).map(|runs| Medians::of(runs));
            let [direct, pgbouncer] = [Contestant::Direct, Contestant::PgBouncer].map(of);
            row(name, contestant, &Medians::of(runs), direct.as_ref(), pgbouncer.as_ref())
        });
        let [pgbouncer, highwater] = memory_peaks.map(|kib| kib as f64 / 1024.0);
        let circumstances = format!("Peak memory: PgBouncer {pgbouncer:.1} MiB, Highwater {highwater:.1} MiB.\n{load}");
        Self { rows: rows.collect(), circumstances }
    }

    /// With lines drawn.
    pub(crate) fn for_terminal(&self) -> String {
        format!("{}\n{CAPTION}\n{}", self.table(UTF8_FULL_CONDENSED), self.circumstances)
    }

    /// For a document.
    pub(crate) fn as_markdown(&self) -> String {
        format!("{}\n\n{CAPTION}\n\n{}\n", self.table(ASCII_MARKDOWN), self.circumstances)
    }

    fn table(&self, preset: &str) -> Table {
        let mut table = Table::new();
        table.load_preset(preset).set_content_arrangement(ContentArrangement::Disabled).set_header(HEADER);
        table.add_rows(&self.rows);
        table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table
    }
}

/// The middle of some runs, each figure by itself.
struct Medians {
    tps: Option<f64>,
    latency_p50: Option<f64>,
    latency_p99: Option<f64>,
    cpu_micros: Option<f64>,
    share_on_standbys: Option<f64>,
    probes_per_second: Option<f64>,
}

impl Medians {
    fn of(runs: &[Run]) -> Self {
        let of = |figure: fn(&Run) -> Option<f64>| median(runs.iter().filter_map(figure));
        Self {
            tps: of(|run| Some(run.tps)),
            latency_p50: of(|run| Some(millis(run.latency_p50))),
            latency_p99: of(|run| Some(millis(run.latency_p99))),
            cpu_micros: of(|run| Some(run.cpu_time?.as_micros() as f64 / run.transactions as f64)),
            share_on_standbys: of(|run| run.share_on_standbys),
            probes_per_second: of(|run| run.probes_per_second),
        }
    }
}

fn row(
    name: &str,
    contestant: Contestant,
    own: &Medians,
    direct: Option<&Medians>,
    pgbouncer: Option<&Medians>,
) -> [String; HEADER.len()] {
    let decimals = |figure: Option<f64>, digits| figure.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let percent = |figure: Option<f64>| figure.map_or("-".to_owned(), |value| format!("{:.1} %", value * 100.0));
    let ratio_to = |other: Option<&Medians>, figure: fn(&Medians) -> Option<f64>| {
        decimals(other.and_then(|other| Some(figure(own)? / figure(other)?)), 2)
    };
    [
        name.to_owned(),
        contestant.name().to_owned(),
        own.tps.map_or("-".to_owned(), |tps| grouped(tps.round() as u64)),
        ratio_to(direct, |medians| medians.tps),
        ratio_to(pgbouncer, |medians| medians.tps),
        decimals(own.latency_p50, 3),
        decimals(own.latency_p99, 3),
        decimals(own.cpu_micros, 1),
        ratio_to(pgbouncer, |medians| medians.cpu_micros),
        percent(own.share_on_standbys),
        decimals(own.probes_per_second, 0),
    ]
}

const IDLE_HEADER: [&str; 7] = [
    "connections",
    "to",
    "logged in, bytes each",
    "of PgBouncer's",
    "after one statement, bytes each",
    "of PgBouncer's",
    "whole process, MiB",
];

const IDLE_CAPTION: &str = "\
Resident memory of the proxy's process beyond what it had with 20 clients, per client, once it has settled. Kernel memory
of sockets is not in it; it is the same for both. PgBouncer is in transaction mode; Highwater runs at consistency = session.";

/// What idle clients cost, for the terminal and for a document.
pub(super) fn idle_table(clients: usize, measured: &[Measured]) -> [String; 2] {
    let head = format!("{} idle clients.", grouped(clients as u64));
    let rows: Vec<_> = measured.iter().map(|row| idle_row(row, measured)).collect();
    let table = |preset| {
        let mut table = Table::new();
        table.load_preset(preset).set_content_arrangement(ContentArrangement::Disabled).set_header(IDLE_HEADER);
        table.add_rows(&rows);
        table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table
    };
    [
        format!("{head}\n{}\n{IDLE_CAPTION}", table(UTF8_FULL_CONDENSED)),
        format!("{head}\n\n{}\n\n{IDLE_CAPTION}\n", table(ASCII_MARKDOWN)),
    ]
}

fn idle_row(row: &Measured, all: &[Measured]) -> [String; IDLE_HEADER.len()] {
    let other = all.iter().find(|other| other.contestant == Contestant::PgBouncer && other.tls == row.tls);
    let ratio = |figure: fn(&Measured) -> f64| {
        other.map_or("-".to_owned(), |other| format!("{:.2}", figure(row) / figure(other)))
    };
    [
        if row.tls { "TLS" } else { "plain" }.to_owned(),
        row.contestant.name().to_owned(),
        grouped(row.logged_in.round() as u64),
        ratio(|row| row.logged_in),
        grouped(row.asked.round() as u64),
        ratio(|row| row.asked),
        format!("{:.1}", row.resident_bytes as f64 / 1024.0 / 1024.0),
    ]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
