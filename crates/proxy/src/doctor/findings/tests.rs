use highwater_core::Lsn;

use super::*;
use crate::doctor::facts::{Receiver, Rights, Sender, Slot};

const GOOD: [(&str, &str); 21] = [
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_read_only", "off"),
    ("fsync", "on"),
    ("full_page_writes", "on"),
    ("hot_standby_feedback", "on"),
    ("max_connections", "100"),
    ("max_locks_per_transaction", "64"),
    ("max_slot_wal_keep_size", "1024"),
    ("max_standby_streaming_delay", "30000"),
    ("max_wal_senders", "10"),
    ("password_encryption", "scram-sha-256"),
    ("recovery_min_apply_delay", "0"),
    ("server_version_num", "150018"),
    ("synchronous_commit", "on"),
    ("synchronous_standby_names", "ANY 1 (standby1)"),
    ("wal_keep_size", "0"),
    ("wal_level", "replica"),
    ("wal_receiver_status_interval", "10"),
    ("wal_receiver_timeout", "60000"),
    ("wal_sender_timeout", "60000"),
    ("wal_writer_delay", "200"),
];

fn facts(role: Role) -> Facts {
    Facts {
        system_id: 7,
        role,
        started: if role == Role::Primary { 1 } else { 2 },
        timeline: Ok(3),
        lsn: Some(Lsn(0x1000_0000)),
        settings: GOOD.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        rights: Rights { superuser: false, replication: true, monitor: true, lookup: true, encrypted: true },
        overrides: Vec::new(),
        senders: Vec::new(),
        slots: Vec::new(),
        receiver: None,
        is_paused: false,
    }
}

/// A primary and a standby that nobody could complain about, before `change`.
fn cluster() -> Vec<Server> {
    let mut primary = facts(Role::Primary);
    primary.senders =
        vec![Sender { application: "standby1".into(), state: "streaming".into(), sync_state: "quorum".into() }];
    primary.slots =
        vec![Slot { name: "standby1".into(), active: true, wal_status: "reserved".into(), retained_bytes: 0 }];
    let mut standby = facts(Role::Standby);
    let from = Some(("db1".to_owned(), 5432));
    standby.receiver = Some(Receiver { status: "streaming".into(), from, slot: Some("standby1".into()) });
    let server = |name: &str, facts| Server { name: name.into(), place: Some((name.into(), 5432)), facts: Ok(facts) };
    vec![server("db1", primary), server("db2", standby)]
}

/// The names of the findings, worst first, but for the note that every synchronous cluster gets.
fn found(change: impl FnOnce(&mut Facts, &mut Facts)) -> String {
    let mut servers = cluster();
    let [primary, standby] = &mut servers[..] else { unreachable!("two servers") };
    change(primary.facts.as_mut().expect("known"), standby.facts.as_mut().expect("known"));
    names(&servers)
}

fn names(servers: &[Server]) -> String {
    let terms = Terms { pool_size: 20, trusts_synchronous_commit: false, looks_up: true };
    let findings = examine(servers, &terms);
    for finding in &findings {
        assert!(!finding.reason.is_empty() && !finding.fix.is_empty(), "{finding:?}");
    }
    let mark = |finding: &Finding| {
        let mark = match finding.severity {
            Severity::Error => "!",
            Severity::Warning => "?",
            Severity::Note => "",
        };
        format!("{}{mark}", finding.check)
    };
    let names: Vec<String> =
        findings.iter().filter(|finding| finding.check != "synchronous-replication").map(mark).collect();
    names.join(" ")
}

fn set(facts: &mut Facts, name: &str, value: &str) {
    facts.settings.insert(name.to_owned(), value.to_owned());
}

fn default_of(whose: &str, what: &str) -> Vec<(String, String)> {
    vec![(whose.to_owned(), what.to_owned())]
}

#[test]
fn a_good_cluster_is_good() {
    assert_eq!(found(|_, _| {}), "");
}

#[test]
fn what_is_wrong_with_a_primary_is_found() {
    assert_eq!(found(|primary, _| set(primary, "fsync", "off")), "fsync!");
    assert_eq!(found(|primary, _| set(primary, "full_page_writes", "off")), "full_page_writes!");
    assert_eq!(found(|primary, _| set(primary, "wal_level", "minimal")), "wal-level!");
    assert_eq!(found(|primary, _| set(primary, "max_wal_senders", "1")), "senders-full?");
    assert_eq!(found(|primary, _| set(primary, "wal_sender_timeout", "0")), "no-sender-timeout?");
    assert_eq!(found(|primary, _| set(primary, "wal_writer_delay", "10000")), "wal-writer-delay");
    assert_eq!(found(|primary, _| set(primary, "default_transaction_read_only", "on")), "read-only?");
    assert_eq!(found(|primary, _| primary.senders.push(primary.senders[0].clone())), "unknown-standby");
}

#[test]
fn what_commits_promise_is_said() {
    assert_eq!(found(|primary, _| set(primary, "synchronous_standby_names", "")), "asynchronous-replication");
    assert_eq!(found(|primary, _| set(primary, "synchronous_standby_names", "FIRST 2 (a, b)")), "nobody-acknowledges!");
    let idle = |primary: &mut Facts, _: &mut Facts| primary.senders[0].sync_state = "potential".into();
    assert_eq!(found(idle), "nobody-acknowledges!");
    assert_eq!(found(|primary, _| set(primary, "synchronous_commit", "off")), "asynchronous-commit?");
    assert_eq!(found(|primary, _| set(primary, "synchronous_commit", "remote_apply")), "remote-apply");
    assert_eq!(found(|primary, _| set(primary, "synchronous_commit", "local")), "local-commit");
    let quick = default_of("role quick in database shop", "synchronous_commit=off");
    assert_eq!(found(|primary, _| primary.overrides = quick), "asynchronous-commit?");
    let terms = Terms { trusts_synchronous_commit: true, ..Terms::default() };
    let mut servers = cluster();
    set(servers[0].facts.as_mut().expect("known"), "synchronous_commit", "off");
    assert_eq!(examine(&servers, &terms)[0].check, "sync-only-broken");
}

#[test]
fn slots_are_looked_after() {
    assert_eq!(found(|primary, _| primary.slots[0].active = false), "slot-idle?");
    assert_eq!(found(|primary, _| primary.slots[0].wal_status = "lost".into()), "slot-lost!");
    assert_eq!(found(|primary, _| set(primary, "max_slot_wal_keep_size", "-1")), "slots-unbounded");
}

#[test]
fn what_is_wrong_with_a_standby_is_found() {
    assert_eq!(found(|_, standby| standby.is_paused = true), "paused?");
    assert_eq!(found(|_, standby| standby.receiver = None), "not-streaming!");
    assert_eq!(found(|_, standby| standby.receiver.as_mut().expect("some").slot = None), "no-slot?");
    assert_eq!(found(|_, standby| standby.lsn = Some(Lsn(0x100_0000))), "far-behind?");
    assert_eq!(found(|_, standby| set(standby, "recovery_min_apply_delay", "5000")), "delayed?");
    assert_eq!(found(|_, standby| set(standby, "wal_receiver_timeout", "0")), "no-receiver-timeout?");
    assert_eq!(found(|_, standby| set(standby, "wal_receiver_status_interval", "0")), "no-feedback?");
    assert_eq!(found(|_, standby| set(standby, "max_standby_streaming_delay", "-1")), "replay-waits-for-ever?");
    assert_eq!(found(|_, standby| set(standby, "hot_standby_feedback", "off")), "cancelled-reads");
    assert_eq!(found(|_, standby| set(standby, "max_locks_per_transaction", "32")), "lower-limit!");
    assert_eq!(found(|_, standby| standby.timeline = Ok(2)), "other-timeline!");
    assert_eq!(found(|_, standby| set(standby, "server_version_num", "160002")), "other-version!");
    assert_eq!(found(|_, standby| standby.system_id = 8), "other-cluster!");
}

#[test]
fn what_the_role_may_not_see_is_said() {
    assert_eq!(found(|primary, _| primary.rights.monitor = false), "no-monitor?");
    assert_eq!(found(|primary, _| primary.rights.superuser = true), "superuser?");
    assert_eq!(found(|primary, _| primary.rights.lookup = false), "no-lookup?");
    assert_eq!(found(|primary, _| primary.rights.encrypted = false), "no-tls?");
    let blind = |_: &mut Facts, standby: &mut Facts| {
        standby.rights = Rights { monitor: false, replication: false, ..standby.rights };
        standby.timeline = Err("permission denied".into());
        standby.receiver = None;
    };
    assert_eq!(found(blind), "no-history? no-monitor?");
}

#[test]
fn what_concerns_every_server_is_found() {
    assert_eq!(found(|primary, _| set(primary, "password_encryption", "md5")), "md5-passwords");
    assert_eq!(found(|_, standby| set(standby, "superuser_reserved_connections", "90")), "few-connections?");
    let isolated = default_of("role careful", "default_transaction_isolation=serializable");
    assert_eq!(found(|_, standby| standby.overrides = isolated), "serializable?");
}

#[test]
fn servers_are_held_against_each_other() {
    assert_eq!(found(|primary, _| primary.role = Role::Standby), "no-primary! not-streaming! cascade");
    assert_eq!(found(|_, standby| standby.role = Role::Primary).split(' ').next(), Some("two-primaries!"));
    let mut servers = cluster();
    servers[1].facts = Err("connection refused".into());
    assert_eq!(names(&servers), "unreachable! no-standby");
    let mut servers = cluster();
    servers.push(servers[1].clone());
    servers[2].name = "db3".into();
    assert_eq!(names(&servers), "same-server?");
    let mut servers = cluster();
    servers.push(Server { name: "db3".into(), place: Some(("db3".into(), 5432)), ..servers[1].clone() });
    let last = servers[2].facts.as_mut().expect("known");
    last.started = 3;
    last.receiver.as_mut().expect("streams").from = Some(("db2".into(), 5432));
    assert_eq!(names(&servers), "cascade");
}
