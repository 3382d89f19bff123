//! What a standby's settings mean for the reads that run there.

use highwater_core::Role;

use super::Report;
use crate::doctor::facts::{Facts, Server};

/// So far behind, in bytes of log, a standby is not busy but in trouble.
const LAG_BYTES: u64 = 64 * 1024 * 1024;

/// Shorter than many a read that is in nobody's way.
const SHORT_DELAY_MS: i64 = 1000;

/// A standby whose limits are lower than its primary's stops replaying (PostgreSQL manual, "Administrator's Overview").
const AT_LEAST_AS_ON_PRIMARY: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

pub(super) fn examine(report: &mut Report, facts: &Facts, servers: &[Server], primary: Option<(&Server, &Facts)>) {
    receiver(report, facts, servers, primary.map(|(server, _)| server));
    replay(report, facts);
    conflicts(report, facts);
    let Some((_, of_primary)) = primary else { return };
    lag(report, facts, of_primary);
    for name in AT_LEAST_AS_ON_PRIMARY {
        if let (Some(own), Some(needed)) = (facts.number(name), of_primary.number(name))
            && own < needed
        {
            report.error(
                "lower-limit",
                format!("{name} is {own} here and {needed} on the primary: replay pauses, or it does not start again"),
                format!("{name} = {needed}, and restart"),
            );
        }
    }
}

/// Positions compare along one timeline only; that it is on another is a finding of its own.
fn lag(report: &mut Report, facts: &Facts, of_primary: &Facts) {
    if let (Ok(own), Ok(newest)) = (&facts.timeline, &of_primary.timeline)
        && own != newest
    {
        return;
    }
    let (Some(own), Some(newest)) = (facts.lsn, of_primary.lsn) else {
        report.warning(
            "lag-unknown",
            "how far it is behind is not known: it has replayed nothing since it was started",
            "correct primary_conninfo; its log says why",
        );
        return;
    };
    // The two were asked at about the same time, not at the same one: a standby may well seem ahead.
    let behind = newest.0.saturating_sub(own.0);
    if behind > LAG_BYTES {
        report.warning(
            "far-behind",
            format!("it is {} MiB of log behind: reads that must be fresh cannot run there", behind / (1024 * 1024)),
            "see whether replay is held up (pg_stat_activity, recovery conflicts) or the machine is too slow",
        );
    } else {
        report.note(
            "lag",
            format!("it has replayed up to {own}, {behind} bytes of log behind the primary"),
            "nothing: fresh reads wait until it has caught up, or run elsewhere",
        );
    }
}

/// Where its log comes from.
fn receiver(report: &mut Report, facts: &Facts, servers: &[Server], primary: Option<&Server>) {
    let streaming = facts.receiver.as_ref().filter(|receiver| receiver.status == "streaming");
    let Some(receiver) = streaming else {
        if facts.rights.monitor || facts.rights.superuser {
            report.error(
                "not-streaming",
                "nothing is streamed to it: what it shows grows older",
                "correct primary_conninfo; its log says why",
            );
        }
        return;
    };
    let Some(upstream) = servers.iter().find(|server| server.place.is(&receiver.from)) else {
        let from =
            receiver.from.written.as_ref().map_or("somebody".to_owned(), |(host, port)| format!("{host}:{port}"));
        report.note(
            "unknown-upstream",
            format!("it copies from {from}, the address of no server here: whether that is the primary is not known"),
            "nothing if it is; else add the upstream's URL, so that it is examined, too",
        );
        return;
    };
    let Ok(of_upstream) = &upstream.facts else { return };
    if of_upstream.role == Role::Standby && primary.is_none_or(|primary| primary.name != upstream.name) {
        report.note(
            "cascade",
            format!("it copies from {}, itself a standby, and lags with it", upstream.name),
            "nothing, unless it shall be fresher",
        );
    }
    // It is the upstream that keeps the log.
    if receiver.slot.is_none() && of_upstream.setting("wal_keep_size") == "0" {
        let above = &upstream.name;
        report.warning(
            "no-slot",
            format!(
                "it streams without a slot, and wal_keep_size is 0 on {above}: after a pause of some length it can never catch up"
            ),
            format!(
                "SELECT pg_create_physical_replication_slot('...'); on {above} and its name as primary_slot_name here, \
                 or wal_keep_size on {above}"
            ),
        );
    }
}

fn replay(report: &mut Report, facts: &Facts) {
    if facts.is_paused {
        report.warning(
            "paused",
            "its replay is paused: it shows the same until somebody resumes it",
            "SELECT pg_wal_replay_resume();",
        );
    }
    if let Some(delay) = facts.number("recovery_min_apply_delay").filter(|delay| *delay > 0) {
        report.warning(
            "delayed",
            format!(
                "recovery_min_apply_delay is {delay} ms: it never shows anything younger, so most reads go elsewhere"
            ),
            "recovery_min_apply_delay = 0, or leave it out here: it serves another purpose",
        );
    }
    if facts.setting("wal_receiver_timeout") == "0" {
        report.warning(
            "no-receiver-timeout",
            "wal_receiver_timeout is 0: it never notices that its upstream has vanished",
            "wal_receiver_timeout = '60s'",
        );
    }
    if facts.setting("wal_receiver_status_interval") == "0" {
        report.warning(
            "no-feedback",
            "wal_receiver_status_interval is 0: the primary hears nothing of it, and hot_standby_feedback has no effect",
            "wal_receiver_status_interval = '10s'",
        );
    }
}

/// Replay against reads.
fn conflicts(report: &mut Report, facts: &Facts) {
    let delay = facts.number("max_standby_streaming_delay");
    match delay {
        Some(-1) => report.warning(
            "replay-waits-for-ever",
            "max_standby_streaming_delay is -1: one long read holds up replay, and all other reads of this server with it",
            "max_standby_streaming_delay = '30s'; what is cancelled runs again elsewhere",
        ),
        Some(delay) if delay < SHORT_DELAY_MS => report.warning(
            "quick-cancels",
            format!("max_standby_streaming_delay is {delay} ms: what replay meets is cancelled almost at once (40001)"),
            "max_standby_streaming_delay = '30s'",
        ),
        _ => {}
    }
    match (facts.setting("hot_standby_feedback"), delay) {
        ("off", Some(delay)) if delay >= 0 => report.note(
            "cancelled-reads",
            format!(
                "hot_standby_feedback is off: reads that need what VACUUM removes are cancelled after {delay} ms \
                 (40001); Highwater runs them elsewhere if nothing was shown yet"
            ),
            "hot_standby_feedback = on, at the price of dead rows that stay longer on the primary",
        ),
        ("on", _) => report.note(
            "feedback",
            "hot_standby_feedback is on: VACUUM hardly cancels reads here, and a long one keeps dead rows on the primary",
            "nothing, unless tables bloat: then end long reads sooner (statement_timeout here), or set it off",
        ),
        _ => {}
    }
}
