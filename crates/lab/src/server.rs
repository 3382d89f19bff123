//! One PostgreSQL server: how it is reached, asked, started, stopped and killed.
//!
//! It must not know the other servers; see `replication` for that.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::installation::{Installation, run};
use crate::postmaster::{self, Postmaster};
use crate::psql;
use crate::wait::until;

/// How long a server may take to do what takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How many lines of its log a complaint about a server ends with.
const LOG_TAIL_LINES: usize = 20;

/// How a server is asked to stop (PostgreSQL manual, "Shutting Down the Server").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// When all clients have left.
    Smart,
    /// Clients are thrown out, a checkpoint is written.
    Fast,
    /// As after a crash, but tidy: no checkpoint, the next start recovers.
    Immediate,
}

impl fmt::Display for StopMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Smart => "smart",
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        })
    }
}

/// One server of a [`Cluster`](crate::Cluster). It may be down.
#[derive(Clone, Debug)]
pub struct Server {
    pub(crate) name: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The cluster's folder.
    pub(crate) folder: PathBuf,
    pub(crate) installation: Arc<Installation>,
}

impl Server {
    /// Its name, also its `cluster_name` and its replication slot's: `primary`, `standby1`. It does not change with
    /// promotions.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its port, on 127.0.0.1 unless the lab's `lab.json` has been told otherwise.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A URL over TCP, with the password where `user` has one.
    pub fn url(&self, user: &str, database: &str) -> String {
        let password = if ["app", "highwater"].contains(&user) { format!(":{user}") } else { String::new() };
        format!("postgres://{user}{password}@{}:{}/{database}", self.host, self.port)
    }

    /// The postmaster's process number, while it runs.
    pub fn pid(&self) -> Option<u32> {
        Postmaster::of(&self.data()).map(|postmaster| postmaster.pid().as_raw().unsigned_abs())
    }

    /// Whether its postmaster runs.
    pub fn is_running(&self) -> bool {
        self.pid().is_some()
    }

    /// Runs `text`, one or more statements, as the superuser and returns the rows of all of them. NULL is the empty
    /// text. Each statement is a transaction of its own unless `text` says BEGIN.
    ///
    /// # Errors
    ///
    /// What `psql` says about the first statement that failed, with SQLSTATE.
    pub fn sql(&self, database: &str, text: &str) -> Result<Vec<Vec<String>>> {
        let mut psql = self.installation.command("psql", &self.folder);
        psql.arg("-h").arg(&self.folder).args(["-p", &self.port.to_string(), "-U", "postgres", "-d", database]);
        psql::rows(&mut psql, text).with_context(|| self.name.clone())
    }

    /// The single value that `text` yields in the database `postgres`.
    ///
    /// # Errors
    ///
    /// As [`Server::sql`], and when there is no value.
    pub fn value(&self, text: &str) -> Result<String> {
        let rows = self.sql("postgres", text)?;
        rows.into_iter().flatten().next().with_context(|| format!("{}: no value from {text}", self.name))
    }

    /// Starts it and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// When it runs already, or with the end of its log when it does not come up.
    pub fn start(&self) -> Result<()> {
        ensure!(!self.is_running(), "{} runs already", self.name);
        self.forget_the_dead()?;
        let folder = self.folder.display();
        // `pg_ctl` hands this text to a shell.
        let options = format!("-c 'config_file={folder}/{}.conf'", self.name);
        let log = self.log();
        let mut command = self.pg_ctl("start");
        command.args(["-o", &options, "-l", &log.to_string_lossy()]);
        run(&mut command).and_then(|_| self.wait_until_ready()).map_err(|error| self.with_log(error))
    }

    /// Stops it and waits until it is down.
    ///
    /// # Errors
    ///
    /// When it is down already, or does not stop within a minute (for `Smart`: clients that stay).
    pub fn stop(&self, mode: StopMode) -> Result<()> {
        run(self.pg_ctl("stop").args(["-m", &mode.to_string()])).map(drop).map_err(|error| self.with_log(error))
    }

    /// Stops it fast and starts it again.
    ///
    /// # Errors
    ///
    /// As [`Server::stop`] and [`Server::start`].
    pub fn restart(&self) -> Result<()> {
        self.stop(StopMode::Fast)?;
        self.start()
    }

    /// Kills the postmaster and its children with SIGKILL, and waits until they are gone.
    ///
    /// # Errors
    ///
    /// When it is down already.
    pub fn kill9(&self) -> Result<()> {
        Postmaster::of(&self.data()).with_context(|| format!("{} is down", self.name))?.kill()
    }

    /// Kills one of its children (the background writer), upon which the postmaster throws everybody out and recovers;
    /// waits until it accepts connections again. Its start time stays, and a standby comes back *behind* what it has
    /// shown before.
    ///
    /// # Errors
    ///
    /// When it is down, or not back within a minute.
    pub fn crash_backend(&self) -> Result<()> {
        let writer = || self.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'background writer'");
        let victim = writer()?;
        postmaster::signal(Pid::from_raw(victim.parse()?), Signal::SIGKILL)?;
        // A refused connection is the recovery that we wait for.
        until("recovery after a crash", PATIENCE, || Ok(writer().ok().filter(|pid| *pid != victim).map(drop)))
            .map_err(|error| self.with_log(error))
    }

    /// Makes it read its configuration files again, and waits until the postmaster has done so and told its children.
    ///
    /// # Errors
    ///
    /// When it is down.
    pub fn reload(&self) -> Result<()> {
        // A new session inherits this time from the postmaster.
        let loaded_at = || self.value("SELECT pg_conf_load_time()");
        let before = loaded_at()?;
        self.value("SELECT pg_reload_conf()")?;
        until(&format!("{} to reload", self.name), PATIENCE, || Ok((loaded_at()? != before).then_some(())))
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(self.log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Removes the lock files of a killed postmaster. PostgreSQL takes a process whose exit status nobody has collected
    /// yet for a living one, and containers have first processes that are slow to collect.
    pub(crate) fn forget_the_dead(&self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let socket_lock = self.folder.join(format!(".s.PGSQL.{}.lock", self.port));
        for file in [self.data().join("postmaster.pid"), socket_lock].iter().filter(|file| file.exists()) {
            std::fs::remove_file(file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
        Ok(())
    }

    /// Adds the end of the log to a complaint.
    pub(crate) fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        anyhow!("{}: {error:#}\nIts log ends with:\n{}", self.name, self.log_tail())
    }

    fn wait_until_ready(&self) -> Result<()> {
        until("connections to be accepted", PATIENCE, || {
            let postmaster = Postmaster::of(&self.data()).context("it went down again")?;
            Ok(postmaster.is_ready().then_some(()))
        })
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    fn pg_ctl(&self, action: &str) -> std::process::Command {
        let mut command = self.installation.command("pg_ctl", &self.folder);
        command.args([action, "-w", "-t", &PATIENCE.as_secs().to_string(), "-D"]).arg(self.data());
        command
    }
}
