//! What Python drives, because we must stay quick to build: other people's test suites, and histories from real clusters.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::programs::{self, cargo};
use crate::setup;
use crate::test::built;

/// Where the shop's modules lie, with those that it needs.
pub(crate) const SHOP: [&str; 3] = ["examples/shop", "python/src", "e2e"];

/// Where Python's programs find the proxy.
const PROXY: &str = "HIGHWATER_BIN";

/// What is passed on as it stands; `--help` tells.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

impl Options {
    /// Whether `what` is named, or nothing: then everything is meant.
    pub(crate) fn is_for(&self, what: &str) -> bool {
        let named = |word: &OsString| word.to_str().is_some_and(|word| !word.starts_with('-'));
        self.options.iter().any(|word| word == what) || !self.options.iter().any(named)
    }
}

/// Opens the shop: builds the proxy, and runs the shop's own program.
pub(crate) fn shop(options: Options) -> Result<()> {
    setup::run(setup::Options::default())?;
    programs::run(cargo().args(["build", "--release", "--package", "highwater"]))?;
    let modules = std::env::join_paths(SHOP)?;
    programs::run(
        Command::new(Path::new(setup::PACKAGE_VENV).join("bin/python"))
            .args(["-m", "start"])
            .args(options.options)
            .env("PYTHONPATH", modules)
            .env(PROXY, built("release", "highwater")?),
    )
}

/// Sets up the machine, builds the proxy as it is shipped, unless HIGHWATER_BIN names one that is to be taken, and runs the
/// module in the folder of its name.
pub(crate) fn run(module: &str, setup: setup::Options, options: Options) -> Result<()> {
    setup::run(setup)?;
    let proxy = match std::env::var_os(PROXY) {
        Some(proxy) => proxy,
        None => {
            programs::run(cargo().args(["build", "--release", "--package", "highwater"]))?;
            built("release", "highwater")?.into()
        }
    };
    let python = Path::new(setup::VENV).join("bin/python");
    // The driver tests' cluster and proxy serve here too.
    let modules = std::env::join_paths([module, "e2e"])?;
    programs::run(
        Command::new(python).args(["-m", module]).args(options.options).env("PYTHONPATH", modules).env(PROXY, proxy),
    )
}
