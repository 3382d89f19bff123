//! `highwater doctor`: prints what is found in the servers' settings, for people or for scripts.

use std::process::ExitCode;

use clap::Args;

use super::run::RunArguments;
use crate::config::Config;
use crate::doctor::{self, Finding, Severity};

/// `highwater doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    #[command(flatten)]
    of_run: RunArguments,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// The status is 2 with errors, or when nothing could be examined, 1 with warnings, else 0.
pub(super) fn doctor(arguments: DoctorArguments) -> ExitCode {
    examine(arguments).map_or_else(|error| super::failed(&error, 2), ExitCode::from)
}

fn examine(arguments: DoctorArguments) -> anyhow::Result<u8> {
    let config = arguments.of_run.into_config()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(doctor::examine(&config));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        print(&findings, &config);
    }
    Ok(match findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Error) => 2,
        Some(Severity::Warning) => 1,
        Some(Severity::Note) | None => 0,
    })
}

fn print(findings: &[Finding], config: &Config) {
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Note => "NOTE",
        };
        let server = finding.server.as_ref().map_or_else(String::new, |server| format!("{server}: "));
        println!("{severity:<8}{server}{} [{}]", finding.reason, finding.check);
        println!("        -> {}", finding.fix);
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    println!(
        "{} servers: {} errors, {} warnings, {} notes",
        config.servers.len(),
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note)
    );
}
