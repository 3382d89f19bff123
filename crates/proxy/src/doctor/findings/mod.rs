//! From facts to findings, by nothing but thinking. Each finding says what is so, what follows, and what to do.

mod cluster;
mod primary;
mod role;
mod slots;
mod standby;

use highwater_core::Role;
use serde::Serialize;

use super::facts::{Facts, Server, Terms};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// Good to know.
    Note,
    /// It will hurt some day, or some reads now.
    Warning,
    /// Something does not work, or is not safe.
    Error,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// Its name, which stays the same: docs/doctor.md has them all.
    pub(crate) check: &'static str,
    /// The server; `None` when it is about all of them.
    pub(crate) server: Option<String>,
    /// What is so, and what follows.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) fix: String,
}

/// Collects what is found.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    /// Whom the next finding is about.
    server: Option<String>,
}

impl Report {
    fn error(&mut self, check: &'static str, reason: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Error, check, reason.into(), fix.into());
    }

    fn warning(&mut self, check: &'static str, reason: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Warning, check, reason.into(), fix.into());
    }

    fn note(&mut self, check: &'static str, reason: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Note, check, reason.into(), fix.into());
    }

    fn add(&mut self, severity: Severity, check: &'static str, reason: String, fix: String) {
        self.findings.push(Finding { severity, check, server: self.server.clone(), reason, fix });
    }
}

/// Judges; the worst comes first.
pub(super) fn examine(servers: &[Server], terms: &Terms) -> Vec<Finding> {
    let known: Vec<(&Server, &Facts)> =
        servers.iter().filter_map(|server| Some((server, server.facts.as_ref().ok()?))).collect();
    // The cluster is the one that most servers belong to, its primary the one on the newest timeline.
    let members = |id| known.iter().filter(|(_, facts)| facts.system_id == id).count();
    let home = known.iter().rev().map(|(_, facts)| facts.system_id).max_by_key(|id| members(*id));
    let primaries = known.iter().filter(|(_, facts)| facts.role == Role::Primary && Some(facts.system_id) == home);
    let primary = primaries.max_by_key(|(_, facts)| facts.timeline.as_ref().copied().unwrap_or_default()).copied();
    let mut report = Report::default();
    cluster::examine(&mut report, servers, &known, primary);
    for (server, facts) in known.iter().filter(|(_, facts)| Some(facts.system_id) == home) {
        report.server = Some(server.name.clone());
        role::examine(&mut report, server, facts, terms);
        slots::examine(&mut report, facts);
        match facts.role {
            Role::Primary => primary::examine(&mut report, facts, servers, terms),
            Role::Standby => standby::examine(&mut report, facts, servers, primary),
        }
    }
    let mut findings = report.findings;
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

#[cfg(test)]
mod tests;
