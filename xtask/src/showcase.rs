//! Programs of their own, because we must stay quick to build: the demo and the benchmark, and the simulator.

use std::ffi::OsString;

use anyhow::Result;
use clap::Args;

use crate::programs::{self, cargo};
use crate::setup;

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
    let release = ["--release", "--package", "highwater-showcase"];
    programs::run(cargo().arg("build").args(release).args(["--package", "highwater"]))?;
    programs::run(cargo().arg("run").args(release).args(["--quiet", "--", what]).args(options.options))
}
