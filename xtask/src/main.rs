//! The project's own commands: `cargo xtask setup`, `tidy`, `test`, `suites`, `model`, `sim`, `torture`, `fuzz`, `demo`, `shop`, `bench`.
//!
//! They must build on a fresh machine: without PostgreSQL, without libclang, from few crates.

mod fuzz;
mod postgresql;
mod programs;
mod python;
mod setup;
mod showcase;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Command {
    /// Install what building and testing need and this machine lacks
    Setup(setup::Options),
    /// Check what no compiler checks: who may import whom, sizes, words, links
    Tidy,
    /// Run all tests: Rust's, then those of the drivers through the proxy
    Test(test::Options),
    /// Run Django's tests, psycopg's, rust-postgres' and pgbench directly and through the proxy, and compare
    #[command(disable_help_flag = true)]
    Suites(python::Options),
    /// Go through every order of events in small worlds around the core, and break each rule once; takes minutes
    Model,
    /// Play histories of a simulated cluster around the core that decides in production; fails when one shows the past
    #[command(disable_help_flag = true)]
    Sim(showcase::Options),
    /// Torment a real cluster behind several proxies, and have what its clients saw judged; fails when one saw the past
    #[command(disable_help_flag = true)]
    Torture(python::Options),
    /// Feed everything that reads other people's bytes with inputs nobody would send; fails when anything is found
    Fuzz(fuzz::Options),
    /// Play the stories of stale reads four ways on a real cluster; fails when Highwater shows the past once
    #[command(disable_help_flag = true)]
    Demo(showcase::Options),
    /// Open a Django shop before a cluster with lag to be set, to see stale reads with one's own eyes, and then not
    #[command(disable_help_flag = true)]
    Shop(python::Options),
    /// Compare Highwater's speed with PgBouncer's and with no proxy at all
    #[command(disable_help_flag = true)]
    Bench(showcase::Options),
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    std::env::set_current_dir(root()?).context("cannot enter the project's folder")?;
    match command {
        Command::Setup(options) => setup::run(options),
        Command::Tidy => tidy::run(),
        Command::Test(options) => test::run(&options),
        Command::Suites(options) => {
            let postgis = options.is_for("geodjango");
            python::run("suites", setup::Options { postgis, ..Default::default() }, options)
        }
        Command::Model => test::model(),
        Command::Sim(options) => showcase::simulate(options),
        Command::Torture(options) => {
            python::run("torture", setup::Options { namespaces: true, ..Default::default() }, options)
        }
        Command::Fuzz(options) => fuzz::run(options),
        Command::Shop(options) => python::shop(options),
        Command::Demo(options) => showcase::run("demo", setup::Options::default(), options),
        Command::Bench(options) => {
            showcase::run("bench", setup::Options { bench: true, ..Default::default() }, options)
        }
    }
}

/// The project's folder. All paths below are relative to it.
fn root() -> Result<PathBuf> {
    let own = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?);
    own.parent().map(PathBuf::from).context("the project has no folder")
}
