//! What the primary's settings promise, and what they do not.

use highwater_core::Role;

use super::Report;
use crate::doctor::facts::{Facts, Server, Terms};

pub(super) fn examine(report: &mut Report, facts: &Facts, servers: &[Server], terms: &Terms) {
    commits(report, facts, terms);
    synchronous(report, facts);
    for name in ["fsync", "full_page_writes"] {
        if facts.setting(name) == "off" {
            report.error(
                name,
                format!("{name} is off: a crash of the machine can lose or tear what was acknowledged"),
                format!("{name} = on"),
            );
        }
    }
    if facts.setting("wal_level") == "minimal" {
        report.error("wal-level", "wal_level is minimal: nothing can be streamed", "wal_level = replica, and restart");
    }
    let senders = i64::try_from(facts.senders.len()).unwrap_or(i64::MAX);
    let places = facts.number("max_wal_senders").unwrap_or(i64::MAX);
    if senders >= places {
        report.warning(
            "senders-full",
            format!("all {places} max_wal_senders are taken: neither a standby nor Highwater's own questions get in"),
            "raise max_wal_senders, and restart",
        );
    }
    if facts.setting("wal_sender_timeout") == "0" {
        report.warning(
            "no-sender-timeout",
            "wal_sender_timeout is 0: a standby that has vanished is never noticed, and commits may wait for it",
            "wal_sender_timeout = '60s'",
        );
    }
    if let Some(delay) = facts.number("wal_writer_delay").filter(|delay| *delay >= 1000) {
        report.note(
            "wal-writer-delay",
            format!("wal_writer_delay is {delay} ms: so long asynchronous commits stay unflushed when nobody hurries"),
            "wal_writer_delay = '200ms'; reads that wait have it flushed sooner in any case",
        );
    }
    let is_primary = |server: &&Server| server.facts.as_ref().is_ok_and(|facts| facts.role == Role::Primary);
    let standbys = servers.len() - servers.iter().filter(is_primary).count();
    if facts.rights.monitor && facts.senders.len() > standbys {
        report.note(
            "unknown-standby",
            format!("{senders} stream from it, {standbys} standbys are configured"),
            "add the others, if they shall be read",
        );
    }
}

/// Whether acknowledged means kept.
fn commits(report: &mut Report, facts: &Facts, terms: &Terms) {
    let general = ("the server".to_owned(), format!("synchronous_commit={}", facts.setting("synchronous_commit")));
    let all = std::iter::once(&general).chain(&facts.overrides);
    for (whose, one) in all {
        let Some(("synchronous_commit", value)) = one.split_once('=') else { continue };
        let is_off = ["off", "false", "no", "0"].contains(&&*value.to_ascii_lowercase());
        if is_off && terms.trusts_synchronous_commit {
            report.error(
                "sync-only-broken",
                format!("commit_visibility is sync_only, and {whose} commits asynchronously"),
                "commit_visibility = \"any\" here, or synchronous_commit = on there",
            );
        } else if is_off {
            report.warning(
                "asynchronous-commit",
                format!(
                    "synchronous_commit is off for {whose}: a crash loses what was acknowledged in the last moments"
                ),
                "synchronous_commit = on, or off only where a loss does not matter",
            );
        } else if value == "remote_apply" {
            report.note(
                "remote-apply",
                format!(
                    "commits of {whose} wait until synchronous standbys show them; reads here are fresh without that, \
                     and it holds for those standbys alone"
                ),
                "synchronous_commit = on; highwater.wait_for_standbys where somebody reads past Highwater",
            );
        } else if value == "remote_write" {
            report.note(
                "remote-write",
                format!(
                    "commits of {whose} wait until synchronous standbys have handed them to their systems, not to their disks"
                ),
                "synchronous_commit = on, unless a power cut on both sides is ruled out",
            );
        } else if value == "local" {
            report.note(
                "local-commit",
                format!("commits of {whose} wait for no standby, whatever synchronous_standby_names says"),
                "synchronous_commit = on, unless that is meant",
            );
        }
    }
}

/// What `synchronous_standby_names` means here.
fn synchronous(report: &mut Report, facts: &Facts) {
    let names = facts.setting("synchronous_standby_names").trim();
    if names.is_empty() {
        report.note(
            "asynchronous-replication",
            "no standby is synchronous: a failover can lose acknowledged commits; Highwater tells the sessions whose they were",
            "synchronous_standby_names = 'ANY 1 (...)', if commits must survive one server",
        );
        return;
    }
    let rule = Rule::read(names);
    let waited: Vec<&str> = facts
        .senders
        .iter()
        .filter(|sender| ["sync", "quorum"].contains(&&*sender.sync_state) && sender.state == "streaming")
        .map(|sender| &*sender.application)
        .collect();
    let now = match (facts.rights.monitor, waited.is_empty()) {
        (false, _) => "who that is now is not known".to_owned(),
        (true, true) => "now nobody".to_owned(),
        (true, false) => format!("now {}", waited.join(", ")),
    };
    let meaning = rule.meaning();
    if facts.rights.monitor && waited.len() < rule.count {
        report.error(
            "nobody-acknowledges",
            format!("synchronous_standby_names = '{names}' means {meaning} ({now}): commits wait for ever"),
            "start the standbys that are named, or name (by application_name in primary_conninfo) those that are there",
        );
        return;
    }
    report.note(
        "synchronous-replication",
        format!(
            "synchronous_standby_names = '{names}' means {meaning} ({now}): they have it on disk, which does not mean \
             that reads there show it"
        ),
        "nothing: Highwater waits for what a read must show",
    );
}

/// How a list of synchronous standbys is meant.
struct Rule<'a> {
    quorum: bool,
    count: usize,
    names: &'a str,
}

impl<'a> Rule<'a> {
    /// Reads `a, b`, `2 (a, b)`, `FIRST 2 (a, b)` and `ANY 2 (a, b)`.
    fn read(text: &'a str) -> Self {
        let Some((head, rest)) = text.split_once('(') else { return Self { quorum: false, count: 1, names: text } };
        let mut words = head.split_whitespace();
        let first = words.next().unwrap_or_default();
        let count = words.next().unwrap_or(first).parse().unwrap_or(1);
        Self { quorum: first.eq_ignore_ascii_case("any"), count, names: rest.trim_end().trim_end_matches(')') }
    }

    fn meaning(&self) -> String {
        let count = self.count;
        match (self.names.trim(), self.quorum) {
            ("*", false) => format!("that a commit waits for {count}, whichever came first, and for no other"),
            ("*", true) => format!("that a commit waits for any {count}, each time perhaps for another"),
            (names, false) => format!("that a commit waits for the first {count} of {names} that are there"),
            (names, true) => format!("that a commit waits for any {count} of {names}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_synchronous_standbys_are_read() {
        let cases = [
            ("*", "that a commit waits for 1, whichever came first, and for no other"),
            ("a, b", "that a commit waits for the first 1 of a, b that are there"),
            ("2 (a, b, c)", "that a commit waits for the first 2 of a, b, c that are there"),
            ("FIRST 1 (a)", "that a commit waits for the first 1 of a that are there"),
            ("ANY 2(a, \"B c\")", "that a commit waits for any 2 of a, \"B c\""),
            ("any 1 (*)", "that a commit waits for any 1, each time perhaps for another"),
        ];
        for (text, meaning) in cases {
            assert_eq!(Rule::read(text).meaning(), meaning, "{text}");
        }
    }
}
