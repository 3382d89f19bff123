//! The demo and the benchmark: a program of its own, because it speaks SQL and we must stay quick to build.

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

/// Sets up the machine, builds the proxy as it is shipped, and plays `what`.
pub(crate) fn run(what: &str, setup: setup::Options, options: Options) -> Result<()> {
    setup::run(setup)?;
    let release = ["--release", "--package", "highwater-showcase"];
    programs::run(cargo().arg("build").args(release).args(["--package", "highwater"]))?;
    programs::run(cargo().arg("run").args(release).args(["--quiet", "--", what]).args(options.options))
}
