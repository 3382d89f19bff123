//! `highwater doctor`: prints what is found in the servers' settings, for people or for scripts.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use clap::Args;

use super::run::RunArguments;
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
    let text = if arguments.json {
        serde_json::to_string_pretty(&findings)? + "\n"
    } else {
        text(&findings, config.servers.len())
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough; the status says the rest.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(match findings.iter().map(|finding| finding.severity).max() {
        Some(Severity::Error) => 2,
        Some(Severity::Warning) => 1,
        Some(Severity::Note) | None => 0,
    })
}

fn text(findings: &[Finding], servers: usize) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Note => "NOTE",
        };
        let server = finding.server.as_ref().map_or_else(String::new, |server| format!("{server}: "));
        text += &format!("{severity:<8}{server}{} [{}]\n", finding.reason, finding.check);
        text += &format!("        -> {}\n", finding.fix);
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let [servers, errors, warnings, notes] = [
        (servers, "server"),
        (count(Severity::Error), "error"),
        (count(Severity::Warning), "warning"),
        (count(Severity::Note), "note"),
    ]
    .map(|(number, what)| format!("{number} {what}{}", if number == 1 { "" } else { "s" }));
    text + &format!("{servers}: {errors}, {warnings}, {notes}\n")
}
