//! Programs of their own, because we must stay quick to build: the demo and the benchmark, and the simulator.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::programs::{self, cargo};
use crate::setup;
use crate::test::built;

/// What is passed on as it stands; `--help` tells.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

/// Builds the simulator and runs it.
pub(crate) fn simulate(options: Options) -> Result<()> {
    let simulator = ["run", "--release", "--quiet", "--package", "highwater-sim", "--"];
    programs::run(cargo().args(simulator).args(options.options))
}

/// Sets up the machine, builds the proxy as it is shipped, and plays `what`.
pub(crate) fn run(what: &str, setup: setup::Options, options: Options) -> Result<()> {
    setup::run(setup)?;
    let both = ["--package", "highwater", "--package", "highwater-showcase"];
    programs::run(cargo().args(["build", "--release"]).args(both))?;
    // Not by `cargo run`: alone, it would be built once more, for other features of what it depends on.
    let program = built("release", "highwater-showcase")?;
    programs::run(Command::new(program).arg(what).args(options.options))
}
