//! A server among others: from whom it copies, how far it lags, when it takes over.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::backup;
use crate::conf::quoted;
use crate::installation::run;
use crate::postmaster;
use crate::server::{PATIENCE, Server, StopMode};
use crate::wait::until;

impl Server {
    /// Whether it is a standby.
    ///
    /// # Errors
    ///
    /// When it is down.
    pub fn is_in_recovery(&self) -> Result<bool> {
        Ok(self.value("SELECT pg_is_in_recovery()")? == "t")
    }

    /// A primary's timeline. From the name of the WAL file that it writes: `pg_control_checkpoint` still says the old
    /// one right after a promotion.
    ///
    /// # Errors
    ///
    /// When it is down or a standby.
    pub fn timeline(&self) -> Result<u32> {
        let name = self.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")?;
        let digits = name.get(..8).with_context(|| format!("{name:?} is no name of a WAL file"))?;
        Ok(u32::from_str_radix(digits, 16)?)
    }

    /// A primary's flush LSN, such as `0/3000148`: everything that was committed before lies below it.
    ///
    /// # Errors
    ///
    /// When it is down or a standby.
    pub fn flush_lsn(&self) -> Result<String> {
        self.value("SELECT pg_current_wal_flush_lsn()")
    }

    /// Waits until it has replayed at least up to `lsn`.
    ///
    /// # Errors
    ///
    /// When it has not within `timeout`, when it is down, when it never was a standby.
    pub fn wait_until_replayed(&self, lsn: &str, timeout: Duration) -> Result<()> {
        let question = format!("SELECT pg_last_wal_replay_lsn() >= {}::pg_lsn", quoted(lsn));
        until(&format!("{} to replay up to {lsn}", self.name), timeout, || {
            Ok((self.value(&question)? == "t").then_some(()))
        })
    }

    /// Freezes what a standby shows, and waits until it is frozen. WAL is still received.
    ///
    /// # Errors
    ///
    /// When it is down or a primary; after a minute when `recovery_min_apply_delay` holds a commit back for longer,
    /// which only then is known to be paused.
    pub fn pause_replay(&self) -> Result<()> {
        self.sql("postgres", "SELECT pg_wal_replay_pause()")?;
        until(&format!("the replay of {} to pause", self.name), PATIENCE, || {
            Ok((self.value("SELECT pg_get_wal_replay_pause_state()")? == "paused").then_some(()))
        })
    }

    /// Lets a paused standby replay again.
    ///
    /// # Errors
    ///
    /// When it is down or a primary.
    pub fn resume_replay(&self) -> Result<()> {
        self.sql("postgres", "SELECT pg_wal_replay_resume()").map(drop)
    }

    /// Makes a standby show each commit `delay` (whole milliseconds) after the primary made it.
    ///
    /// # Errors
    ///
    /// When it is down.
    pub fn set_delay(&self, delay: Duration) -> Result<()> {
        self.set("recovery_min_apply_delay", &format!("{}ms", delay.as_millis()))
    }

    /// Makes a standby the primary of a new timeline, and waits until it takes writes.
    ///
    /// # Errors
    ///
    /// When it is down or a primary already.
    pub fn promote(&self) -> Result<()> {
        let done = self.value(&format!("SELECT pg_promote(true, {})", PATIENCE.as_secs()))?;
        ensure!(done == "t", "{} was not promoted", self.name);
        Ok(())
    }

    /// Makes a running standby stream from `primary`.
    ///
    /// # Errors
    ///
    /// When one of them is down. Whether their histories fit, the log tells: see [`Server::rewind`] and
    /// [`Server::rebuild`].
    pub fn follow(&self, primary: &Self) -> Result<()> {
        self.ensure_slot_on(primary)?;
        self.set("primary_conninfo", &self.conninfo_of(primary))?;
        self.set("primary_slot_name", &self.name)
    }

    /// Makes it a standby of `primary` anew, from a base backup; it may be running, down or without any data. Its delay
    /// is again the one it was born with.
    ///
    /// # Errors
    ///
    /// When `primary` is down, or the server does not come up.
    pub fn rebuild(&self, primary: &Self) -> Result<()> {
        if self.is_running() {
            self.stop(StopMode::Immediate)?;
        }
        if self.data().exists() {
            postmaster::remove_shared_memory(&self.data());
            std::fs::remove_dir_all(self.data()).with_context(|| format!("cannot remove the data of {}", self.name))?;
        }
        self.ensure_slot_on(primary)?;
        if self.installation.has("pg_basebackup") {
            let mut command = self.installation.command("pg_basebackup", &self.folder);
            // A fast checkpoint and no fsync: what a crash of the machine would lose is thrown away anyway.
            command.args(["-c", "fast", "--no-sync", "-S", &self.name, "-d", &self.conninfo_of(primary), "-D"]);
            run(command.arg(self.data()))?;
        } else {
            backup::copy(primary, &self.data())?;
        }
        self.start_as_standby_of(primary)
    }

    /// Makes a former primary, or a standby that went too far, a standby of `primary` by `pg_rewind`: what it alone
    /// had is lost. It may be running or down, also killed. Where that program is not installed, it is rebuilt.
    ///
    /// # Errors
    ///
    /// When `primary` is down, when the WAL since the histories parted is gone, or when the server does not come up.
    pub fn rewind(&self, primary: &Self) -> Result<()> {
        if !self.installation.has("pg_rewind") {
            return self.rebuild(primary);
        }
        if self.is_running() {
            self.stop(StopMode::Fast)?;
        }
        self.forget_the_dead()?;
        // The control file, which `pg_rewind` reads, learns of a promotion with the next checkpoint.
        primary.sql("postgres", "CHECKPOINT")?;
        self.ensure_slot_on(primary)?;
        let mut command = self.installation.command("pg_rewind", &self.folder);
        command.args(["--no-sync", "--source-server", &format!("{} dbname=postgres", self.conninfo_of(primary))]);
        run(command.arg("--target-pgdata").arg(self.data()))?;
        self.start_as_standby_of(primary)
    }

    /// What ALTER SYSTEM said on the server that the data came from is not for this one: the file is written anew.
    fn start_as_standby_of(&self, primary: &Self) -> Result<()> {
        let source = format!(
            "primary_conninfo = {}\nprimary_slot_name = {}\n",
            quoted(&self.conninfo_of(primary)),
            quoted(&self.name)
        );
        self.installation.write(&self.data().join("postgresql.auto.conf"), &source)?;
        self.installation.write(&self.data().join("standby.signal"), "")?;
        self.start()
    }

    /// Over TCP as in life, and with the standby's name in the primary's `pg_stat_replication`.
    fn conninfo_of(&self, primary: &Self) -> String {
        let Self { host, port, .. } = primary;
        format!("host={host} port={port} user=postgres sslmode=disable application_name={}", self.name)
    }

    /// The slot keeps WAL from now on, not only from the first connection: a checkpoint may come in between.
    fn ensure_slot_on(&self, primary: &Self) -> Result<()> {
        let name = quoted(&self.name);
        primary
            .sql(
                "postgres",
                &format!(
                    "SELECT pg_create_physical_replication_slot({name}, true)
                     WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {name})"
                ),
            )
            .map(drop)
    }

    /// Changes a setting that needs no restart.
    fn set(&self, setting: &str, value: &str) -> Result<()> {
        self.sql("postgres", &format!("ALTER SYSTEM SET {setting} = {}", quoted(value)))?;
        self.reload()
    }
}
