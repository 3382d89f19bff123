//! `cargo xtask sim`: plays histories by their seeds.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use highwater_sim::{Found, Mistake, Search, play, search};

/// Histories within which a broken rule must be found.
const HISTORIES_TO_FIND: u64 = 200_000;

/// Play seeded histories of a simulated cluster around the core that decides in production.
#[derive(Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim")]
struct Options {
    /// How many histories
    #[arg(long, default_value_t = 1_000_000)]
    histories: u64,
    /// Stop after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// The first seed; with --trace the only one
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Play one history and print what happens
    #[arg(long)]
    trace: bool,
    /// Break each of the shell's rules in turn; fails when one is not found out
    #[arg(long)]
    rules: bool,
    /// Break this rule
    #[arg(long, value_name = "RULE", value_parser = rule)]
    without: Option<Mistake>,
}

fn rule(name: &str) -> Result<Mistake, String> {
    let known = Mistake::ALL.into_iter().find(|mistake| format!("{mistake:?}").eq_ignore_ascii_case(name));
    known.ok_or_else(|| format!("there are {:?}", Mistake::ALL))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let is_well = match &options {
        Options { trace: true, seed, without, .. } => trace(*seed, *without),
        Options { rules: true, .. } => rules(&options),
        _ => histories(&options),
    };
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn trace(seed: u64, mistake: Option<Mistake>) -> bool {
    let Found { violation, trace, .. } = play(seed, mistake, true);
    trace.iter().for_each(|line| println!("{line}"));
    match violation {
        None => println!("seed {seed}: nothing forbidden"),
        Some(ref violation) => println!("seed {seed}: {violation}"),
    }
    violation.is_none()
}

fn histories(options: &Options) -> bool {
    let began = Instant::now();
    let end = options.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let Search { found, tally, played } = search(options.seed, options.histories, options.without, end);
    let seconds = began.elapsed().as_secs_f64();
    println!("{played} histories in {seconds:.1} s ({:.0} per second)", played as f64 / seconds);
    tally.iter().for_each(|(what, count)| println!("{count:>12}  {what}"));
    if let Some((seed, violation)) = &found {
        let without = options.without.map(|rule| format!(" --without {rule:?}")).unwrap_or_default();
        println!("seed {seed}: {violation}\ncargo xtask sim --seed {seed} --trace{without}");
    }
    found.is_none()
}

fn rules(options: &Options) -> bool {
    let mut all_found = true;
    for mistake in Mistake::ALL {
        let Search { found, played, .. } = search(options.seed, HISTORIES_TO_FIND, Some(mistake), None);
        match &found {
            Some((seed, violation)) => println!("{:<34} seed {seed}: {violation}", format!("{mistake:?}")),
            None => println!("{:<34} NOT FOUND in {played} histories", format!("{mistake:?}")),
        }
        all_found &= found.is_some();
    }
    all_found
}
