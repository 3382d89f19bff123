//! A lab does what it says, on a real PostgreSQL, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test; the lint does not see that of its helper functions")]

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use highwater_lab::{Cluster, ClusterOptions, Server, StandbyOptions, StopMode, until};

const PATIENCE: Duration = Duration::from_secs(30);

fn lab(standbys: usize) -> Cluster {
    Cluster::start(ClusterOptions { durable: false, ..ClusterOptions::with_standbys(standbys) }).unwrap()
}

/// Writes one wish on `primary` and returns the position that shows it.
fn write_wish(primary: &Server, wish: &str) -> String {
    primary.sql("shop", "CREATE TABLE IF NOT EXISTS wish (name text)").unwrap();
    primary.sql("shop", &format!("INSERT INTO wish VALUES ('{wish}')")).unwrap();
    primary.flush_lsn().unwrap()
}

fn wishes(server: &Server) -> Vec<String> {
    server.sql("shop", "SELECT name FROM wish ORDER BY name").unwrap().into_iter().flatten().collect()
}

fn wait_until_received(standby: &Server, lsn: &str) {
    let question = format!("SELECT pg_last_wal_receive_lsn() >= '{lsn}'");
    until("the standby to receive", PATIENCE, || Ok((standby.value(&question)? == "t").then_some(()))).unwrap();
}

/// Processes that work in `folder`, or did when it still existed.
fn processes_in(folder: &Path) -> Vec<PathBuf> {
    let inside = |process: &PathBuf| {
        let folder_of_process = std::fs::read_link(process.join("cwd")).unwrap_or_default();
        folder_of_process.starts_with(folder)
    };
    std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path()).filter(inside).collect()
}

fn assert_nothing_is_left(folder: &Path) {
    assert!(!folder.exists(), "{} is left", folder.display());
    // The last children of a stopped postmaster may be a moment behind it.
    until("all processes to end", PATIENCE, || Ok(processes_in(folder).is_empty().then_some(()))).unwrap();
}

#[test]
fn starts_quickly_replicates_and_goes_without_a_trace() {
    let begin = Instant::now();
    let cluster = Cluster::start(ClusterOptions::with_standbys(2)).unwrap();
    println!("a primary and two standbys took {} ms", begin.elapsed().as_millis());
    write_wish(cluster.primary(), "kite");
    cluster.settle(PATIENCE).unwrap();
    for server in cluster.servers() {
        assert_eq!(wishes(server), ["kite"], "{}", server.name());
        assert_eq!(server.is_in_recovery().unwrap(), server.name() != "primary");
    }
    let senders =
        cluster.primary().value("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").unwrap();
    assert_eq!(senders, "2");
    let folder = cluster.folder().to_owned();
    assert!(!processes_in(&folder).is_empty());
    let begin = Instant::now();
    drop(cluster);
    println!("removing it took {} ms", begin.elapsed().as_millis());
    assert_nothing_is_left(&folder);
}

#[test]
fn roles_and_settings_are_as_promised() {
    let settings = vec![("work_mem".to_owned(), "3MB".to_owned())];
    let cluster = Cluster::start(ClusterOptions { settings, ..ClusterOptions::default() }).unwrap();
    let primary = cluster.primary();
    assert_eq!(primary.value("SHOW work_mem").unwrap(), "3MB");
    assert_eq!(primary.value("SHOW fsync").unwrap(), "on");
    assert_eq!(primary.url("app", "shop"), format!("postgres://app:app@127.0.0.1:{}/shop", primary.port()));
    assert_eq!(primary.url("trusted", "shop"), format!("postgres://trusted@127.0.0.1:{}/shop", primary.port()));

    let methods = "SELECT string_agg(user_name::text || ' ' || auth_method, ';' ORDER BY rule_number)
                     FROM (SELECT line_number AS rule_number, user_name, auth_method FROM pg_hba_file_rules
                            WHERE type = 'host') AS rule";
    assert_eq!(primary.value(methods).unwrap(), "{app,highwater} scram-sha-256;{all} trust");
    let connect = |url: String, text: &str| {
        let psql = Command::new("psql").args(["-XAtqw", "-c", text, &url]).output().unwrap();
        (psql.status.success(), String::from_utf8(psql.stdout).unwrap())
    };
    assert!(connect(primary.url("app", "shop"), "CREATE TABLE wish (name text)").0);
    assert!(connect(primary.url("trusted", "shop"), "CREATE TABLE more (); INSERT INTO wish VALUES ('x')").0);
    let monitor = connect(primary.url("highwater", "shop"), "SELECT pg_has_role('pg_monitor', 'member')");
    assert_eq!(monitor, (true, "t\n".to_owned()));
    assert!(!connect(primary.url("app", "shop").replace("app:app", "app:wrong"), "SELECT 1").0);

    let error = primary.sql("shop", "SELECT 1; SELECT nothing").unwrap_err();
    assert!(format!("{error:#}").contains("42703"), "{error:#}");
}

#[test]
fn a_paused_standby_shows_the_past_until_it_is_resumed() {
    let cluster = lab(1);
    let (primary, standby) = (cluster.primary(), cluster.server("standby1").unwrap());
    write_wish(primary, "kite");
    cluster.settle(PATIENCE).unwrap();

    standby.pause_replay().unwrap();
    let lsn = write_wish(primary, "rope");
    wait_until_received(standby, &lsn);
    assert_eq!(wishes(standby), ["kite"]);
    let error = standby.wait_until_replayed(&lsn, Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("standby1 to replay"), "{error:#}");

    standby.resume_replay().unwrap();
    standby.wait_until_replayed(&lsn, PATIENCE).unwrap();
    assert_eq!(wishes(standby), ["kite", "rope"]);
}

#[test]
fn a_delay_holds_commits_back_and_can_be_lifted() {
    let hour = Duration::from_secs(3600);
    let standbys = vec![StandbyOptions { name: "late".to_owned(), delay: hour }];
    let cluster = Cluster::start(ClusterOptions { standbys, ..ClusterOptions::default() }).unwrap();
    let (primary, late) = (cluster.primary(), cluster.server("late").unwrap());
    assert_eq!(late.value("SHOW recovery_min_apply_delay").unwrap(), "1h");
    late.set_delay(Duration::ZERO).unwrap();
    write_wish(primary, "kite");
    cluster.settle(PATIENCE).unwrap();

    late.set_delay(hour).unwrap();
    let lsn = write_wish(primary, "rope");
    wait_until_received(late, &lsn);
    assert_eq!(wishes(late), ["kite"]);

    late.set_delay(Duration::ZERO).unwrap();
    late.wait_until_replayed(&lsn, PATIENCE).unwrap();
    assert_eq!(wishes(late), ["kite", "rope"]);
}

#[test]
fn servers_come_back_after_stops_kills_and_crashes() {
    let cluster = Cluster::start(ClusterOptions::with_standbys(1)).unwrap();
    let (primary, standby) = (cluster.primary(), cluster.server("standby1").unwrap());
    write_wish(primary, "kite");
    cluster.settle(PATIENCE).unwrap();

    for server in [primary, standby] {
        let (pid, port) = (server.pid().unwrap(), server.port());
        server.kill9().unwrap();
        assert!(!server.is_running());
        assert!(server.sql("shop", "SELECT 1").is_err());
        assert!(server.kill9().is_err());
        server.start().unwrap();
        assert_ne!(server.pid().unwrap(), pid);
        assert_eq!(server.port(), port);
        assert!(server.start().unwrap_err().to_string().contains("runs already"));
    }
    for server in [primary, standby] {
        let facts = "SELECT pg_postmaster_start_time(), pg_is_in_recovery()";
        let (pid, before) = (server.pid(), server.sql("shop", facts).unwrap());
        server.crash_backend().unwrap();
        assert_eq!((server.pid(), server.sql("shop", facts).unwrap()), (pid, before));
    }
    standby.stop(StopMode::Immediate).unwrap();
    standby.start().unwrap();
    primary.restart().unwrap();
    let lsn = write_wish(primary, "rope");
    standby.wait_until_replayed(&lsn, PATIENCE).unwrap();
    assert_eq!(wishes(standby), ["kite", "rope"]);
}

#[test]
fn a_standby_takes_over_and_the_old_primary_returns_without_what_it_alone_had() {
    let cluster = lab(3);
    let old = cluster.primary();
    let [new, second, third] = cluster.standbys() else { panic!("three standbys") };
    write_wish(old, "kite");
    cluster.settle(PATIENCE).unwrap();
    assert_eq!(old.timeline().unwrap(), 1);

    // Lost with the old primary: nobody received it.
    for standby in cluster.standbys() {
        standby.stop(StopMode::Fast).unwrap();
    }
    write_wish(old, "lost");
    old.kill9().unwrap();
    for standby in cluster.standbys() {
        standby.start().unwrap();
    }
    assert!(cluster.acting_primary().is_err());
    new.promote().unwrap();
    assert_eq!(new.timeline().unwrap(), 2);
    second.follow(new).unwrap();

    // The old primary is back for a moment: two claim to be it, the higher timeline is.
    old.start().unwrap();
    assert_eq!(wishes(old), ["kite", "lost"]);
    assert_eq!(cluster.acting_primary().unwrap().name(), "standby1");

    old.rewind(new).unwrap();
    third.rebuild(new).unwrap();
    write_wish(new, "rope");
    cluster.settle(PATIENCE).unwrap();
    for server in cluster.servers() {
        assert_eq!(wishes(server), ["kite", "rope"], "{}", server.name());
    }
}

#[test]
fn a_killed_primary_can_be_rewound_without_being_started() {
    let cluster = lab(1);
    let (old, new) = (cluster.primary(), cluster.server("standby1").unwrap());
    write_wish(old, "kite");
    cluster.settle(PATIENCE).unwrap();
    old.kill9().unwrap();
    new.promote().unwrap();
    let lsn = write_wish(new, "rope");
    old.rewind(new).unwrap();
    old.wait_until_replayed(&lsn, PATIENCE).unwrap();
    assert_eq!(wishes(old), ["kite", "rope"]);
}

#[test]
fn a_detached_cluster_lives_until_it_is_removed() {
    let parent = tempfile::tempdir().unwrap();
    // The account of PostgreSQL must be able to pass through.
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let wanted = parent.path().join("lab");
    let options = ClusterOptions { folder: Some(wanted), ..ClusterOptions::with_standbys(1) };
    let folder = Cluster::start(options.clone()).unwrap().detach().unwrap();
    let complaint = Cluster::start(options).unwrap_err().to_string();
    assert!(complaint.contains("is not empty"), "{complaint}");

    let cluster = Cluster::attach(&folder).unwrap();
    cluster.primary().kill9().unwrap();
    drop(cluster);
    let cluster = Cluster::attach(&folder).unwrap();
    assert!(!cluster.primary().is_running());
    assert!(cluster.server("standby1").unwrap().is_running());
    cluster.remove().unwrap();
    assert_nothing_is_left(&folder);
}

#[test]
fn a_cluster_that_cannot_start_leaves_nothing_and_says_why() {
    let parent = tempfile::tempdir().unwrap();
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let folder = parent.path().join("lab");
    let settings = vec![("shared_buffers".to_owned(), "many".to_owned())];
    let options = ClusterOptions { folder: Some(folder.clone()), settings, ..ClusterOptions::default() };
    let complaint = Cluster::start(options).unwrap_err().to_string();
    assert!(complaint.contains("invalid value for parameter \"shared_buffers\""), "{complaint}");
    assert_nothing_is_left(&folder);
}

#[test]
fn root_is_told_who_keeps_the_unprivileged_account_out() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let options = ClusterOptions { folder: Some(parent.path().join("lab")), ..ClusterOptions::default() };
    let complaint = Cluster::start(options).unwrap_err().to_string();
    assert!(complaint.contains(&format!("kept out of {}", parent.path().display())), "{complaint}");
}

#[test]
fn a_panic_leaves_nothing() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let doomed = std::thread::spawn(move || {
        let cluster = lab(0);
        sender.send(cluster.folder().to_owned()).unwrap();
        panic!("on purpose");
    });
    assert!(doomed.join().is_err());
    assert_nothing_is_left(&receiver.recv().unwrap());
}

#[test]
fn a_killed_owner_leaves_nothing() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "an_owner_to_be_killed", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let folder = lines.into_iter().find_map(|line| Some(PathBuf::from(line.split_once("it lives in ")?.1))).unwrap();
    assert!(!processes_in(&folder).is_empty());
    owner.kill().unwrap();
    owner.wait().unwrap();
    until("the guard to tidy up", PATIENCE, || Ok((!folder.exists()).then_some(()))).unwrap();
    assert_nothing_is_left(&folder);
}

#[test]
#[ignore = "run by the test of a killed owner"]
fn an_owner_to_be_killed() {
    let cluster = lab(1);
    println!("it lives in {}", cluster.folder().display());
    // A server that was killed is tidied up like the others.
    cluster.standbys()[0].kill9().unwrap();
    println!("waiting");
    std::io::stdin().read_line(&mut String::new()).unwrap();
}
