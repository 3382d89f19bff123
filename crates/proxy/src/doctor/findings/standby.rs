//! What a standby's settings mean for the reads that run there.

use highwater_core::Role;

use super::Report;
use crate::doctor::facts::{Facts, Server};

/// So far behind, in bytes of log, a standby is not busy but in trouble.
const LAG_BYTES: u64 = 64 * 1024 * 1024;

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
    let Some((_, of_primary)) = primary.filter(|(_, of_primary)| of_primary.system_id == facts.system_id) else {
        return;
    };
    if let (Some(own), Some(newest)) = (facts.lsn, of_primary.lsn)
        && newest.0.saturating_sub(own.0) > LAG_BYTES
    {
        let mib = (newest.0 - own.0) / (1024 * 1024);
        report.warning(
            "far-behind",
            format!("it is {mib} MiB of log behind: reads that must be fresh cannot run there"),
            "see whether replay is held up (pg_stat_activity, recovery conflicts) or the machine is too slow",
        );
    }
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
    let upstream = servers.iter().find(|server| server.place.is_some() && server.place == receiver.from);
    if let Some(upstream) = upstream.filter(|upstream| primary.is_none_or(|primary| primary.name != upstream.name)) {
        let is_standby = upstream.facts.as_ref().is_ok_and(|facts| facts.role == Role::Standby);
        if is_standby {
            report.note(
                "cascade",
                format!("it copies from {}, itself a standby, and lags with it", upstream.name),
                "nothing, unless it shall be fresher",
            );
        }
    }
    if receiver.slot.is_none() && facts.setting("wal_keep_size") == "0" {
        report.warning(
            "no-slot",
            "it streams without a slot, and wal_keep_size is 0: after a pause of some length it can never catch up",
            "primary_slot_name, with a slot on the primary, or wal_keep_size there",
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
    match facts.number("max_standby_streaming_delay") {
        Some(-1) => report.warning(
            "replay-waits-for-ever",
            "max_standby_streaming_delay is -1: one long read holds up replay, and all other reads of this server with it",
            "max_standby_streaming_delay = '30s'; what is cancelled runs again elsewhere",
        ),
        Some(delay) if facts.setting("hot_standby_feedback") == "off" => report.note(
            "cancelled-reads",
            format!(
                "hot_standby_feedback is off: reads that need what VACUUM removes are cancelled after {delay} ms \
                 (40001); Highwater runs them elsewhere if nothing was shown yet"
            ),
            "hot_standby_feedback = on, at the price of dead rows that stay longer on the primary",
        ),
        _ => {}
    }
}
