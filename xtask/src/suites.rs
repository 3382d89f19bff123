//! Other people's test suites through the proxy. Python drives them, because we must stay quick to build.

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

/// Sets up the machine, builds the proxy as it is shipped, and runs the suites.
pub(crate) fn run(options: Options) -> Result<()> {
    setup::run(setup::Options::default())?;
    programs::run(cargo().args(["build", "--release", "--package", "highwater"]))?;
    let python = Path::new(setup::VENV).join("bin/python");
    // The driver tests' cluster and proxy serve here too.
    let modules = std::env::join_paths(["suites", "e2e"])?;
    programs::run(
        Command::new(python)
            .args(["-m", "suites"])
            .args(options.options)
            .env("PYTHONPATH", modules)
            .env("HIGHWATER_BIN", built_proxy("release")?),
    )
}
