//! All tests, in the development profile.

use std::path::{Path, PathBuf};
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
    drivers()?;
    for judges in ["suites", "torture"] {
        programs::run(Command::new(pytest()).args([
            "-c",
            &format!("{judges}/pyproject.toml"),
            &format!("{judges}/tests"),
        ]))?;
    }
    Ok(())
}

/// Runs the model with all its worlds, also those that are too large for every day, and prints how many states each has.
pub(crate) fn model() -> Result<()> {
    let tests = ["test", "--release", "--package", "highwater-core", "--test", "model"];
    // One after the other: each takes all cores, and the largest some GiB.
    programs::run(cargo().args(tests).args(["--", "--include-ignored", "--nocapture", "--test-threads=1"]))
}

fn drivers() -> Result<()> {
    programs::run(cargo().args(["build", "--package", "highwater", "--bins", "--examples"]))?;
    programs::run(Command::new(pytest()).arg("e2e").env("HIGHWATER_BIN", built_proxy("debug")?))
}

fn pytest() -> PathBuf {
    Path::new(setup::VENV).join("bin/pytest")
}

/// The program that `cargo build` has just made in this profile's folder, wherever the target folder is.
pub(crate) fn built_proxy(profile: &str) -> Result<String> {
    let metadata = programs::output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
    let folder = metadata["target_directory"].as_str().context("cargo names no target folder")?;
    Ok(format!("{folder}/{profile}/highwater"))
}
