//! What Python drives, because we must stay quick to build: other people's test suites, and histories from real clusters.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::programs::{self, cargo};
use crate::setup;
use crate::test::built_proxy;

/// What is passed on as it stands; `--help` tells.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

/// Sets up the machine, builds the proxy as it is shipped, and runs the module in the folder of its name.
pub(crate) fn run(module: &str, setup: setup::Options, options: Options) -> Result<()> {
    setup::run(setup)?;
    programs::run(cargo().args(["build", "--release", "--package", "highwater"]))?;
    let python = Path::new(setup::VENV).join("bin/python");
    // The driver tests' cluster and proxy serve here too.
    let modules = std::env::join_paths([module, "e2e"])?;
    programs::run(
        Command::new(python)
            .args(["-m", module])
            .args(options.options)
            .env("PYTHONPATH", modules)
            .env("HIGHWATER_BIN", built_proxy("release")?),
    )
}
