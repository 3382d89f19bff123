//! PostgreSQL's processes as the operating system sees them: who is the postmaster of a data folder, and its children.
//!
//! It must not know SQL, nor how a server is started.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::until;

/// A running postmaster.
#[derive(Debug)]
pub(crate) struct Postmaster {
    pid: Pid,
    ready: bool,
}

impl Postmaster {
    /// The postmaster that runs on the folder `data`, by its `postmaster.pid`. After a crash that file names nobody, or
    /// a stranger: a postmaster works inside its data folder.
    pub(crate) fn of(data: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(data.join("postmaster.pid")).ok()?;
        let pid = Pid::from_raw(text.lines().next()?.trim().parse().ok()?);
        // The eighth line is the state (`miscadmin.h`, LOCK_FILE_LINE_PM_STATUS): a standby says "standby" until it is
        // consistent, and "ready" when it accepts connections.
        let ready = text.lines().nth(7).is_some_and(|line| line.trim() == "ready");
        (folder_of(pid)? == data).then_some(Self { pid, ready })
    }

    /// Its number.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether it accepts connections.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready
    }

    /// Kills it with all its children and returns when they are gone, as after a fault of the machine: nobody writes a
    /// last word.
    pub(crate) fn kill(self) -> Result<()> {
        // Stopped first, so that no child is born behind our back. A child that is left keeps the shared memory and
        // would prevent the next start.
        signal(self.pid, Signal::SIGSTOP)?;
        let mut doomed = children(self.pid)?;
        doomed.push(self.pid);
        for pid in &doomed {
            signal(*pid, Signal::SIGKILL)?;
        }
        until("killed processes to vanish", Duration::from_secs(10), || {
            // The postmaster's number must be free: the next start takes even an uncollected one for a running server.
            let collected = kill(self.pid, None).is_err();
            Ok((collected && doomed.iter().all(|pid| folder_of(*pid).is_none())).then_some(()))
        })
    }
}

/// Removes the segment of System V shared memory that a killed postmaster left, for which there is a limit per machine.
/// Only where its data goes too: the next start takes the segment over, and refuses while a child still uses it. Without
/// effect after an orderly end, which removes the file that names it.
pub(crate) fn remove_shared_memory(data: &Path) {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    // The seventh line is key and number (`miscadmin.h`, LOCK_FILE_LINE_SHMEM_KEY).
    if let Some(key) = text.lines().nth(6).and_then(|line| line.split_whitespace().next()) {
        // Whether it is gone already, and whether there is an `ipcrm`, makes no difference to anybody here.
        let _ = Command::new("ipcrm").args(["-M", key]).output();
    }
}

/// Sends a signal; a process that is gone already is fine.
pub(crate) fn signal(pid: Pid, signal: Signal) -> Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot send {signal} to process {pid}")),
    }
}

/// The folder that a process works in; `None` when it has ended, even if nobody has collected its exit status yet.
fn folder_of(pid: Pid) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn children(parent: Pid) -> Result<Vec<Pid>> {
    let entries = std::fs::read_dir("/proc").context("cannot read /proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok().map(Pid::from_raw));
    Ok(pids.filter(|pid| parent_of(*pid) == Some(parent)).collect())
}

/// The second field after the command's name, which stands in parentheses and may hold anything (proc(5)).
fn parent_of(pid: Pid) -> Option<Pid> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok().map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_parent_of_a_process() {
        assert_eq!(parent_of(Pid::this()), Some(Pid::parent()));
    }

    #[test]
    fn a_file_that_names_a_stranger_names_nobody() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("postmaster.pid"), format!("{}\n", Pid::this())).unwrap();
        assert!(Postmaster::of(folder.path()).is_none());
    }
}
