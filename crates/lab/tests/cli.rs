//! `highwater lab` from up to down, as somebody types it.

use std::path::Path;

use clap::Parser;
use highwater_lab::Cluster;
use highwater_lab::cli::{LabCommand, run};

#[derive(Parser)]
struct CommandLine {
    #[command(subcommand)]
    command: LabCommand,
}

fn lab(folder: &Path, words: &str) -> anyhow::Result<()> {
    let folder = folder.to_string_lossy();
    let words = ["lab"].into_iter().chain(words.split_whitespace()).chain(["--dir", &folder]);
    run(CommandLine::try_parse_from(words)?.command, "CREATE TABLE prepared ()")
}

#[test]
fn a_lab_is_made_disturbed_and_taken_down() -> anyhow::Result<()> {
    let parent = tempfile::tempdir()?;
    // The account of PostgreSQL must be able to pass through.
    std::fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let folder = parent.path().join("lab");
    assert!(lab(&folder, "status").is_err());

    lab(&folder, "up --standbys 2 --delay 20ms --set work_mem=3MB --no-fsync")?;
    let cluster = Cluster::attach(&folder)?;
    let [primary, standby1, standby2] = cluster.servers() else { panic!("three servers") };
    assert_eq!(standby1.value("SELECT current_setting('work_mem') || current_setting('fsync')")?, "3MBoff");
    assert_eq!(standby2.value("SHOW recovery_min_apply_delay")?, "20ms");
    assert!(lab(&folder, "up").unwrap_err().to_string().contains("a lab is up"));

    lab(&folder, "lag standby2 1min")?;
    assert_eq!(standby2.value("SHOW recovery_min_apply_delay")?, "1min");
    lab(&folder, "lag standby2 0")?;
    lab(&folder, "pause standby1")?;
    assert_eq!(standby1.value("SELECT pg_is_wal_replay_paused()")?, "t");
    lab(&folder, "resume standby1")?;
    assert!(lab(&folder, "pause standby7").unwrap_err().to_string().contains("there are primary, standby1, standby2"));

    lab(&folder, "kill primary")?;
    lab(&folder, "status")?;
    lab(&folder, "promote standby1")?;
    assert!(standby2.value("SHOW primary_conninfo")?.contains(&format!("port={}", standby1.port())));
    assert!(lab(&folder, "rebuild standby1").is_err());
    lab(&folder, "rebuild primary")?;
    assert!(primary.is_in_recovery()?);
    lab(&folder, "stop standby2")?;
    assert!(!standby2.is_running());
    lab(&folder, "start standby2")?;

    lab(&folder, "down")?;
    assert!(!folder.exists());
    Ok(())
}
