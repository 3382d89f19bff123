//! What replication slots keep, and what they lose.

use super::Report;
use crate::doctor::facts::{Facts, Slot};

const MIB: i64 = 1024 * 1024;

/// Of a primary, or of a standby that others copy from.
pub(super) fn examine(report: &mut Report, facts: &Facts) {
    let is_unbounded = facts.setting("max_slot_wal_keep_size") == "-1";
    for slot in &facts.slots {
        one(report, slot, is_unbounded);
    }
    if facts.slots.is_empty() {
        return;
    }
    if is_unbounded {
        report.note(
            "slots-unbounded",
            "max_slot_wal_keep_size is -1: a standby that stays away fills the disk here",
            "max_slot_wal_keep_size = what the disk can spare",
        );
    }
    if facts.number("idle_replication_slot_timeout").is_some_and(|timeout| timeout > 0) {
        report.note(
            "slots-expire",
            "idle_replication_slot_timeout is set: a standby that stays away for longer loses its slot",
            "a time that is longer than any maintenance, or 0 and max_slot_wal_keep_size",
        );
    }
}

fn one(report: &mut Report, slot: &Slot, is_unbounded: bool) {
    let name = &slot.name;
    let drop = format!("SELECT pg_drop_replication_slot('{}');", name.replace('\'', "''"));
    match &*slot.wal_status {
        "lost" => report.error(
            "slot-lost",
            format!("the slot {name} is invalid, its log is gone: whoever needs it can never catch up by it"),
            format!("rebuild that standby; {drop}"),
        ),
        "unreserved" => report.warning(
            "slot-expiring",
            format!("the slot {name} has outgrown max_slot_wal_keep_size: the next checkpoint may take its log"),
            format!("let its standby catch up now, and raise max_slot_wal_keep_size; or {drop}"),
        ),
        _ if !slot.active => {
            let end = if is_unbounded { ", without an end (max_slot_wal_keep_size = -1): the disk fills" } else { "" };
            report.warning(
                "slot-idle",
                format!("nobody uses the slot {name}, and it keeps {} MiB of log{end}", slot.retained_bytes / MIB),
                format!("start whoever it is for, or {drop}"),
            );
        }
        _ => {}
    }
}
