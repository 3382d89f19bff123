//! Shows what Highwater is for, and what it costs: `demo` plays the stories of stale reads on a real cluster and judges
//! them, `bench` compares speed with PgBouncer and with no proxy at all.
//!
//! It stands where an application stands: it starts the built `highwater` as a program and speaks PostgreSQL to it. It
//! must not know anything of the proxy's inside, for it is the judge.

mod bench;
mod console;
mod daemon;
mod demo;
mod figures;
mod proxy;

use std::process::ExitCode;

use clap::Parser;

/// Shows what Highwater is for, and what it costs.
#[derive(Parser)]
#[command(name = "showcase")]
enum Command {
    /// Play the stories of stale reads four ways, and fail when Highwater shows the past once
    Demo(demo::DemoOptions),
    /// Compare speed with PgBouncer and with no proxy at all
    Bench(bench::BenchOptions),
}

fn main() -> ExitCode {
    let promise_kept = match Command::parse() {
        Command::Demo(options) => demo::run(&options),
        Command::Bench(options) => bench::run(&options).map(|()| true),
    };
    match promise_kept {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
