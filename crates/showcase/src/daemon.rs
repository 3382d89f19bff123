//! A program that runs beside us for a while: started, watched, asked what it cost, ended.
//!
//! It must not know which program that is.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use highwater_lab::until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};

/// How long a program may take to come up or to end.
const PATIENCE: Duration = Duration::from_secs(20);

/// `USER_HZ`, in which `/proc/PID/stat` counts: 100 on every Linux platform that Rust runs on (proc(5), times(2)).
const TICKS_PER_SECOND: u64 = 100;

/// A running program. Dropping it ends it; so does the end of this process by whatever means.
pub(crate) struct Daemon {
    child: Child,
    name: String,
    log: File,
}

impl Daemon {
    /// Starts `program` as ourselves; what it writes is kept.
    pub(crate) fn start(program: &Path, arguments: &[String]) -> Result<Self> {
        Self::spawn(program, arguments, &[])
    }

    /// Starts `program` under an unprivileged account where we are root, for programs that refuse to run as root.
    pub(crate) fn start_unprivileged(program: &Path, arguments: &[String]) -> Result<Self> {
        if !geteuid().is_root() {
            return Self::start(program, arguments);
        }
        let nobody = User::from_name("nobody")?.context("there is no user nobody")?;
        let [user, group] = [format!("--reuid={}", nobody.uid), format!("--regid={}", nobody.gid)];
        Self::spawn(program, arguments, &[&user, &group, "--clear-groups"])
    }

    /// `setpriv` (util-linux) sets what safe Rust cannot: a signal for when we are gone, however we went.
    fn spawn(program: &Path, arguments: &[String], privileges: &[&str]) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = tempfile::tempfile().context("no temporary file")?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM"])
            .args(privileges)
            .arg("--")
            .arg(program)
            .args(arguments)
            .current_dir("/")
            // Nobody reads the log in colours.
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .spawn()
            .context("cannot run setpriv")?;
        Ok(Self { child, name, log })
    }

    /// Waits until `condition` finds what it looks for in what the program has written so far.
    ///
    /// # Errors
    ///
    /// When the program ended, or with all that it wrote when the time is over.
    pub(crate) fn wait_for<T>(&mut self, what: &str, mut condition: impl FnMut(&str) -> Option<T>) -> Result<T> {
        until(what, PATIENCE, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended: {status}", self.name);
            }
            Ok(condition(&self.written()?))
        })
        .map_err(|error| anyhow!("{error}\n{}", self.written().unwrap_or_default()))
    }

    /// What the program has written so far.
    pub(crate) fn written(&self) -> Result<String> {
        // The program shares our offset in the file; reading at a position leaves it alone.
        let mut bytes = vec![0; usize::try_from(self.log.metadata()?.len())?];
        self.log.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The processor time that it has used since it began, in user and kernel mode, of all its threads.
    pub(crate) fn cpu_time(&self) -> Result<Duration> {
        let stat = self.proc("stat")?;
        // The second field is the name in parentheses; it may hold anything. `utime` and `stime` are the 14th and 15th.
        let fields: Vec<&str> = stat.rsplit_once(')').context("an odd /proc/PID/stat")?.1.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|text| text.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system).context("an odd /proc/PID/stat")?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// The most memory that it ever had at once, in KiB.
    pub(crate) fn memory_peak_kib(&self) -> Result<u64> {
        self.memory_kib("VmHWM:")
    }

    /// The memory that it has now, in bytes.
    pub(crate) fn memory_bytes(&self) -> Result<u64> {
        Ok(self.memory_kib("VmRSS:")? * 1024)
    }

    fn memory_kib(&self, label: &'static str) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(label)).context(label)?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    fn proc(&self, file: &str) -> Result<String> {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))
            .with_context(|| format!("{} is gone", self.name))
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_none() {
            kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        }
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("cannot end {}: {error:#}", self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_heard_measured_and_ended() {
        let script = ["-c", "echo here I am; sleep 60"].map(str::to_owned);
        let mut daemon = Daemon::start(Path::new("/bin/sh"), &script).unwrap();
        daemon.wait_for("the greeting", |written| written.contains("here I am").then_some(())).unwrap();
        assert!(daemon.cpu_time().unwrap() < Duration::from_secs(1));
        assert!(daemon.memory_peak_kib().unwrap() > 0);
        let process = format!("/proc/{}", daemon.child.id());
        drop(daemon);
        assert!(!Path::new(&process).exists());
    }

    #[test]
    fn a_program_that_ends_early_is_quoted() {
        let script = ["-c", "echo no such key >&2; exit 3"].map(str::to_owned);
        let mut daemon = Daemon::start(Path::new("/bin/sh"), &script).unwrap();
        let error = daemon.wait_for("readiness", |_| None::<()>).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such key"), "{error}");
    }
}
