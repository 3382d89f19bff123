//! All tests, in the development profile.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::programs::{self, cargo, succeeds};
use crate::setup;

/// Runs the tests of all crates, the examples in the documentation, and the driver tests through the built proxy.
pub(crate) fn run() -> Result<()> {
    setup::run(setup::Options::default())?;
    if succeeds("cargo", &["nextest", "--version"]) {
        programs::run(cargo().args(["nextest", "run", "--workspace"]))?;
        // What nextest leaves out.
        programs::run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    } else {
        programs::run(cargo().args(["test", "--workspace"]))?;
    }
    if Path::new("e2e").exists() { drivers() } else { Ok(()) }
}

fn drivers() -> Result<()> {
    programs::run(cargo().args(["build", "--package", "highwater", "--bins", "--examples"]))?;
    let pytest = Path::new(setup::VENV).join("bin/pytest");
    programs::run(Command::new(pytest).arg("e2e").env("HIGHWATER_BIN", built_proxy()?))
}

/// The program that `cargo build` has just made, wherever the target folder is.
fn built_proxy() -> Result<String> {
    let metadata = programs::output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
    let folder = metadata["target_directory"].as_str().context("cargo names no target folder")?;
    Ok(format!("{folder}/debug/highwater"))
}
