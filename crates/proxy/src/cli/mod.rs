//! The command line.

mod ask;
mod doctor;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use highwater_lab::cli::LabCommand;

/// A PostgreSQL proxy that scales reads over hot standbys and never shows a session the past.
#[derive(Debug, Parser)]
#[command(name = "highwater", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy.
    Run(run::RunArguments),
    /// Read the configuration, complain about it, and do nothing else.
    Check(run::RunArguments),
    /// Examine the servers: what their settings mean for what Highwater promises. Status 1 with warnings, 2 with errors.
    Doctor(doctor::DoctorArguments),
    /// Ask a running proxy what a statement may do and where it would go.
    Explain(ask::ExplainArguments),
    /// Show the servers, lag and routes of a running proxy.
    Status(ask::StatusArguments),
    /// Print the SQL that lets the probing role look passwords up, for a superuser to run.
    AuthSql {
        /// The role of the server URLs.
        #[arg(long, default_value = "highwater")]
        role: String,
        /// Let superusers log in through the proxy too: whoever has the role's password then has their stored passwords.
        #[arg(long)]
        superusers: bool,
    },
    /// Make and handle a throw-away PostgreSQL cluster.
    Lab {
        #[command(subcommand)]
        command: LabCommand,
    },
}

/// Runs the command line; complaints go to stderr, one line each cause.
#[must_use]
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Doctor(arguments) => return doctor::doctor(arguments),
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => run::check(arguments),
        Command::Explain(arguments) => ask::explain(arguments),
        Command::Status(arguments) => ask::status(&arguments),
        Command::AuthSql { role, superusers } => {
            println!("{}", crate::roles::grants(&role, superusers).join("\n"));
            Ok(())
        }
        Command::Lab { command } => {
            highwater_lab::cli::run(command, &crate::roles::grants("highwater", false).join("\n"))
        }
    };
    done.map_or_else(|error| failed(&error, 1), |()| ExitCode::SUCCESS)
}

fn failed(error: &anyhow::Error, status: u8) -> ExitCode {
    eprintln!("highwater: {error:#}");
    ExitCode::from(status)
}
