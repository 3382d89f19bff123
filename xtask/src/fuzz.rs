//! Fuzzing: builds the targets of `fuzz/`, runs one after the other, and tells in a table what came of it.
//!
//! What a target needs is in `fuzz/`: its seeds, perhaps a dictionary, and the flags that it is built with, which cargo
//! finds there. What a run makes goes to `target/fuzz`: inputs worth keeping, findings, logs.

mod report;
mod seeds;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::programs::{self, cargo, output};
use crate::setup;

const FOLDER: &str = "fuzz";
const MADE: &str = "target/fuzz";

/// Longer inputs find little that shorter ones do not, and cost much.
const INPUT_BYTES_MAX: u32 = 1024;
/// An input that takes longer than this hangs, in seconds: the slowest honest one takes some milliseconds.
const TIMEOUT_SECONDS: u32 = 10;
/// Memory of the whole process. The targets also count what a single input takes, and that it gives it back.
const MEMORY_MB_MAX: u32 = 768;

/// What to fuzz, and how long.
#[derive(Args)]
pub(crate) struct Options {
    /// Targets [default: all]
    targets: Vec<String>,
    /// Inputs for each target
    #[arg(long, default_value_t = 10_000_000)]
    inputs: u64,
    /// So many seconds for all targets together, instead of a number of inputs
    #[arg(long, conflicts_with = "inputs")]
    seconds: Option<u64>,
    /// Run one target on one file, such as a finding, and show what happens
    #[arg(long, value_name = "FILE", conflicts_with_all = ["inputs", "seconds"])]
    replay: Option<PathBuf>,
}

/// Runs the targets; fails if anything was found.
pub(crate) fn run(options: Options) -> Result<()> {
    setup::run(setup::Options::default())?;
    let known = targets()?;
    if let Some(unknown) = options.targets.iter().find(|name| !known.contains(name)) {
        bail!("{unknown} is no target; there are {}", known.join(", "));
    }
    let targets = if options.targets.is_empty() { known } else { options.targets };
    build(&targets)?;
    if let Some(file) = options.replay {
        ensure!(targets.len() == 1, "--replay needs one target");
        return replay(&targets[0], &file);
    }
    let each = options.seconds.map(|seconds| seconds.div_ceil(targets.len() as u64));
    let limits = match each {
        // The same inputs each time, as far as the time allows: a change must not fail by chance.
        Some(each) => vec![format!("-max_total_time={each}"), "-seed=1".to_owned()],
        None => vec![format!("-runs={}", options.inputs)],
    };
    println!("{}", report::HEAD);
    let mut findings = Vec::new();
    for target in &targets {
        let row = fuzz(target, &limits)?;
        println!("{}", report::line(&row));
        findings.extend(row.findings.iter().map(|file| report::replay(target, file)));
    }
    findings.iter().for_each(|command| println!("{command}"));
    ensure!(findings.is_empty(), "{} findings; each can be seen again by the command above", findings.len());
    Ok(())
}

/// The names of all targets.
fn targets() -> Result<Vec<String>> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let metadata: Value = serde_json::from_str(&output(cargo().args(arguments).current_dir(FOLDER))?)?;
    let targets = metadata["packages"][0]["targets"].as_array().context("cargo names no targets")?;
    let programs = targets.iter().filter(|target| target["kind"][0] == "bin");
    Ok(programs.filter_map(|target| target["name"].as_str()).map(str::to_owned).collect())
}

fn build(targets: &[String]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--release", "--quiet"]).current_dir(FOLDER);
    // These would override what stands in `fuzz/.cargo`.
    for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET"] {
        build.env_remove(name);
    }
    build.args(targets.iter().flat_map(|target| ["--bin", target]));
    programs::run(&mut build)
}

/// The program of a target. Cargo puts what is built for a named platform into a folder of that name.
fn program(target: &str) -> Result<PathBuf> {
    let version = output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(Path::new(MADE).join(host).join("release").join(target))
}

fn fuzz(target: &str, limits: &[String]) -> Result<report::Row> {
    let [corpus, seeds, findings] = ["corpus", "seeds", "findings"].map(|sort| Path::new(MADE).join(sort).join(target));
    seeds::unpack(target, &seeds)?;
    fs::create_dir_all(&corpus)?;
    // So that what is there in the end is of this run.
    let _ = fs::remove_dir_all(&findings);
    fs::create_dir_all(&findings)?;
    let log = Path::new(MADE).join(format!("{target}.log"));
    let mut command = Command::new(program(target)?);
    command.args(limits).arg("-print_final_stats=1").arg(format!("-artifact_prefix={}/", findings.display()));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}")).arg(format!("-timeout={TIMEOUT_SECONDS}"));
    command.arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"));
    let dictionary = Path::new(FOLDER).join(format!("dictionaries/{target}.dict"));
    if dictionary.exists() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command.args([&corpus, &seeds]).stderr(File::create(&log)?);
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {target}"))?;
    report::read(target, status.success(), started.elapsed(), &log, &findings)
}

fn replay(target: &str, file: &Path) -> Result<()> {
    let story = [("FUZZ_STORY", "1"), ("RUST_BACKTRACE", "1")];
    programs::run(Command::new(program(target)?).arg(file).envs(story))
}
