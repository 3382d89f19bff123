use highwater_core::Lsn;

use super::*;
use crate::doctor::facts::{Cause, Place, Receiver, Rights, Sender, Silence, Slot};

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
    let from = place("db1");
    standby.receiver = Some(Receiver { status: "streaming".into(), from, slot: Some("standby1".into()) });
    let server =
        |name: &str, facts| Server { name: name.into(), user: "Pro\"ber".into(), place: place(name), facts: Ok(facts) };
    vec![server("db1", primary), server("db2", standby)]
}

fn place(host: &str) -> Place {
    Place { written: Some((host.to_owned(), 5432)), addresses: Vec::new() }
}

fn silence(cause: Cause) -> Silence {
    Silence { reason: "permission denied".into(), cause }
}

const TERMS: Terms = Terms { pool_size: 20, trusts_synchronous_commit: false, looks_up: true };

/// What every cluster gets that has a synchronous standby, and feedback from it.
const ALWAYS: [&str; 3] = ["synchronous-replication", "feedback", "lag"];

/// The names of the findings, worst first, but for what there is always.
fn found(change: impl FnOnce(&mut Facts, &mut Facts)) -> String {
    let mut servers = cluster();
    let [primary, standby] = &mut servers[..] else { unreachable!("two servers") };
    change(primary.facts.as_mut().expect("known"), standby.facts.as_mut().expect("known"));
    names(&servers)
}

fn names(servers: &[Server]) -> String {
    let findings = examine(servers, &TERMS);
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
    let names: Vec<String> = findings.iter().filter(|finding| !ALWAYS.contains(&finding.check)).map(mark).collect();
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
    let all: Vec<&str> = examine(&cluster(), &TERMS).iter().map(|finding| finding.check).collect();
    assert_eq!(all, ALWAYS);
}

/// The first finding of this name.
fn told(servers: &[Server], check: &str) -> Finding {
    let findings = examine(servers, &TERMS);
    findings.into_iter().find(|finding| finding.check == check).expect("to be found")
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
    assert_eq!(found(|primary, _| set(primary, "synchronous_commit", "remote_write")), "remote-write");
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
    assert_eq!(found(|primary, _| primary.slots[0].wal_status = "unreserved".into()), "slot-expiring?");
    assert_eq!(found(|primary, _| set(primary, "idle_replication_slot_timeout", "3600")), "slots-expire");
    let left = |_: &mut Facts, standby: &mut Facts| {
        standby.slots =
            vec![Slot { name: "old".into(), active: false, wal_status: "extended".into(), retained_bytes: 0 }];
    };
    assert_eq!(found(left), "slot-idle?");
    let mut servers = cluster();
    let primary = servers[0].facts.as_mut().expect("known");
    primary.slots[0].active = false;
    set(primary, "max_slot_wal_keep_size", "-1");
    assert!(
        told(&servers, "slot-idle").reason.ends_with("without an end (max_slot_wal_keep_size = -1): the disk fills")
    );
}

#[test]
fn what_is_wrong_with_a_standby_is_found() {
    assert_eq!(found(|_, standby| standby.is_paused = true), "paused?");
    assert_eq!(found(|_, standby| standby.receiver = None), "not-streaming!");
    let without_slot = |_: &mut Facts, standby: &mut Facts| standby.receiver.as_mut().expect("some").slot = None;
    assert_eq!(found(without_slot), "no-slot?");
    let kept_by = |name: &str| {
        found(|primary, standby| {
            without_slot(primary, standby);
            set(if name == "primary" { primary } else { standby }, "wal_keep_size", "64");
        })
    };
    assert_eq!([kept_by("primary"), kept_by("standby")], ["", "no-slot?"]);
    let from = |place| move |_: &mut Facts, standby: &mut Facts| standby.receiver.as_mut().expect("some").from = place;
    assert_eq!(found(from(place("db7"))), "unknown-upstream");
    assert_eq!(found(from(Place::default())), "unknown-upstream");
    assert_eq!(found(|_, standby| standby.lsn = None), "lag-unknown?");
    assert_eq!(found(|_, standby| standby.lsn = Some(Lsn(0x100_0000))), "far-behind?");
    assert_eq!(found(|_, standby| set(standby, "recovery_min_apply_delay", "5000")), "delayed?");
    assert_eq!(found(|_, standby| set(standby, "wal_receiver_timeout", "0")), "no-receiver-timeout?");
    assert_eq!(found(|_, standby| set(standby, "wal_receiver_status_interval", "0")), "no-feedback?");
    assert_eq!(found(|_, standby| set(standby, "max_standby_streaming_delay", "-1")), "replay-waits-for-ever?");
    assert_eq!(found(|_, standby| set(standby, "max_standby_streaming_delay", "0")), "quick-cancels?");
    assert_eq!(found(|_, standby| set(standby, "hot_standby_feedback", "off")), "cancelled-reads");
    assert_eq!(found(|_, standby| set(standby, "max_locks_per_transaction", "32")), "lower-limit!");
    assert_eq!(found(|_, standby| standby.timeline = Ok(2)), "other-timeline!");
    assert_eq!(found(|_, standby| standby.timeline = Ok(4)), "other-timeline!");
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
        standby.timeline = Err(silence(Cause::Forbidden));
        standby.receiver = None;
    };
    assert_eq!(found(blind), "no-history? no-monitor?");
    assert_eq!(found(|_, standby| standby.timeline = Err(silence(Cause::Full))), "no-history?");
}

#[test]
fn nothing_is_claimed_that_the_role_may_not_see() {
    let mut servers = cluster();
    let primary = servers[0].facts.as_mut().expect("known");
    primary.rights = Rights { monitor: false, ..primary.rights };
    primary.senders[0] = Sender { state: String::new(), sync_state: String::new(), ..primary.senders[0].clone() };
    let reason = told(&servers, "synchronous-replication").reason;
    assert!(reason.contains("(who that is now is not known)"), "{reason}");
    assert_eq!(told(&servers, "no-monitor").fix, "GRANT pg_monitor TO \"Pro\"\"ber\"; on the primary");
}

#[test]
fn silence_is_told_by_its_cause() {
    let cases = [
        (Cause::Away, "unreachable"),
        (Cause::HotStandbyOff, "hot-standby-off"),
        (Cause::Full, "no-room"),
        (Cause::Login, "login-refused"),
        (Cause::Tls, "tls-failed"),
        (Cause::Forbidden, "not-allowed"),
        (Cause::Pooler, "pooler"),
    ];
    for (cause, check) in cases {
        let mut servers = cluster();
        servers[1].facts = Err(silence(cause));
        assert_eq!(names(&servers), format!("{check}! no-standby"));
        assert_eq!(told(&servers, check).server.as_deref(), Some("db2"));
    }
}

#[test]
fn one_place_has_several_names() {
    let address = "192.0.2.7:5432".parse().expect("an address");
    let by_name = Place { addresses: vec![address], ..place("db1") };
    let by_number = Place { addresses: vec![address], ..place("192.0.2.7") };
    assert!(by_name.is(&by_number) && place("db1").is(&by_name));
    assert!(!place("db1").is(&place("db2")) && !Place::default().is(&Place::default()));
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
    servers.push(servers[1].clone());
    servers[2].name = "db3".into();
    assert_eq!(names(&servers), "same-server?");
    let mut servers = cluster();
    servers.push(Server { name: "db3".into(), place: place("db3"), ..servers[1].clone() });
    let last = servers[2].facts.as_mut().expect("known");
    last.started = 3;
    last.receiver.as_mut().expect("streams").from = place("db2");
    assert_eq!(names(&servers), "cascade");
}
