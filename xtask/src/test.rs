//! All tests, in the development profile.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use clap::Args;

use crate::postgresql;
use crate::programs::{self, cargo, succeeds};
use crate::python;
use crate::setup;

/// What depends on the servers' version most: positions, timelines, and what a standby answers.
const OF_EVERY_VERSION: [&str; 11] = [
    "e2e/test_corrections.py",
    "e2e/test_directions.py",
    "e2e/test_doctor.py",
    "e2e/test_failover.py",
    "e2e/test_faults.py",
    "e2e/test_guarantees.py",
    "e2e/test_like_postgresql.py",
    "e2e/test_routing.py",
    "e2e/test_startup.py",
    "e2e/test_topology.py",
    "e2e/test_wait_for_standbys.py",
];
/// Most tests wait for servers. `e2e/harness/spread.py` says what stays in one process, which has a cluster of its own.
const SPREAD: [&str; 4] = ["--numprocesses", "3", "--dist", "loadfile"];
/// Where the version of Django between the oldest and the newest is put.
const DJANGO_BETWEEN: &str = "target/django-6.0";
/// What the Django package does otherwise with another driver, or another version of Django.
const OF_EVERY_DRIVER: [&str; 9] = [
    "tests/test_carrying.py",
    "tests/test_connections.py",
    "tests/test_faults.py",
    "tests/test_requests.py",
    "tests/test_seeing.py",
    "tests/test_settings_in_front.py",
    "tests/test_stories.py",
    "tests/test_telemetry.py",
    "tests/test_transactions.py",
];
/// Where the lab looks for servers first.
const PROGRAMS: &str = "HIGHWATER_PG_BIN";
/// What everybody runs besides the system's.
const NEWEST_VERSION: u32 = 18;

/// Which tests.
#[derive(Args)]
pub(crate) struct Options {
    /// Only those of the lab and of the drivers, on servers of this major version
    #[arg(long, value_name = "VERSION")]
    postgresql: Option<u32>,
    /// Of the drivers' tests only these files
    #[arg(requires = "postgresql")]
    files: Vec<String>,
}

/// Runs the tests of all crates, the examples in the documentation, and the driver tests through the built proxy.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run(setup::Options { postgresql: true, browser: true, postgis: true, ..Default::default() })?;
    if let Some(version) = options.postgresql {
        let bin = postgresql::programs(version)?;
        let lab = ["test", "--package", "highwater-lab"];
        programs::run(cargo().args(lab).env(PROGRAMS, &bin))?;
        let all = ["e2e".to_owned()];
        return drivers(if options.files.is_empty() { &all } else { &options.files }, Some(&bin));
    }
    if succeeds("cargo", &["nextest", "--version"]) {
        programs::run(cargo().args(["nextest", "run", "--workspace"]))?;
        // What nextest leaves out.
        programs::run(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
    } else {
        programs::run(cargo().args(["test", "--workspace"]))?;
    }
    drivers(&["e2e"], None)?;
    if postgresql::IS_AVAILABLE {
        drivers(&OF_EVERY_VERSION, Some(&postgresql::programs(NEWEST_VERSION)?))?;
    }
    package()?;
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

/// Runs the tests of the drivers in these files or folders, on the servers in this folder, else on the system's.
fn drivers(files: &[impl AsRef<OsStr>], servers: Option<&Path>) -> Result<()> {
    // With the features that the crates' own tests were built with: else half of the dependencies would be built again.
    programs::run(cargo().args(["build", "--workspace", "--bins", "--examples"]))?;
    let mut tests = Command::new(pytest());
    tests.args(SPREAD).args(files).env("HIGHWATER_BIN", built("debug", "highwater")?);
    if let Some(bin) = servers {
        println!("on the servers in {}", bin.display());
        tests.env(PROGRAMS, bin);
    }
    programs::run(&mut tests)
}

/// Checks the Django package, and runs its tests with each driver, and on the newer versions of Django.
fn package() -> Result<()> {
    let tool = |name: &str| in_package(setup::PACKAGE_VENV, name);
    programs::run(tool("ruff")?.args(["check", "--quiet"]))?;
    programs::run(tool("ruff")?.args(["format", "--check", "--quiet"]))?;
    programs::run(&mut tool("mypy")?)?;
    programs::run(tool("pyright")?.args(["--pythonpath", "../target/venv-package/bin/python"]))?;
    for (driver, files) in [("psycopg", [].as_slice()), ("psycopg2", &OF_EVERY_DRIVER)] {
        println!("with {driver}");
        programs::run(in_package(setup::PACKAGE_VENV, "pytest")?.args(SPREAD).args(files).env("DRIVER", driver))?;
    }
    if !Path::new(setup::NEWER_VENV).exists() {
        println!("no Python here is new enough for Django 6: it is left out");
        return shop();
    }
    programs::run(in_package(setup::NEWER_VENV, "pytest")?.args(SPREAD))?;
    let python = Path::new(setup::NEWER_VENV).join("bin/python");
    programs::run(Command::new(python).args(["-m", "pip", "install", "-q", "--no-deps", "--upgrade"]).args([
        "--target",
        DJANGO_BETWEEN,
        "Django==6.0.10",
    ]))?;
    let between = Path::new(DJANGO_BETWEEN).canonicalize()?;
    programs::run(
        in_package(setup::NEWER_VENV, "pytest")?.args(SPREAD).args(OF_EVERY_DRIVER).env("PYTHONPATH", between),
    )?;
    shop()
}

/// One of the programs of a Python, to be run in the package's folder.
fn in_package(venv: &str, name: &str) -> Result<Command> {
    let mut command = Command::new(Path::new(venv).join("bin").canonicalize()?.join(name));
    command.current_dir("python").env("HIGHWATER_BIN", built("debug", "highwater")?);
    Ok(command)
}

/// Runs the shop's own tests with replicas on, and looks at its stories in a browser.
fn shop() -> Result<()> {
    let modules = std::env::join_paths(python::SHOP)?;
    let mut stories = Command::new(Path::new(setup::PACKAGE_VENV).join("bin/pytest"));
    stories.args(["-c", "examples/shop/pyproject.toml", "examples/shop/stories"]);
    programs::run(stories.env("PYTHONPATH", modules).env("HIGHWATER_BIN", built("debug", "highwater")?))
}

fn pytest() -> PathBuf {
    Path::new(setup::VENV).join("bin/pytest")
}

/// The program that `cargo build` has just made in this profile's folder, wherever the target folder is.
pub(crate) fn built(profile: &str, program: &str) -> Result<String> {
    let metadata = programs::output(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
    let folder = metadata["target_directory"].as_str().context("cargo names no target folder")?;
    Ok(format!("{folder}/{profile}/{program}"))
}
