//! The one who tidies up: a shell that outlives us and removes the cluster when we are gone, however we went.
//!
//! It waits on a pipe whose other end only this process holds. The end of the pipe means: stop the servers at once,
//! remove the folder. A line means: let the cluster live. An orderly end takes the same way, so there is one way only.
//!
//! A process is ended only if it works inside the data folder whose `postmaster.pid` names it: numbers of processes are
//! used again. A server that was killed leaves a segment of System V shared memory, which has a limit per machine; its
//! key is in the seventh line of that file (`miscadmin.h`, LOCK_FILE_LINE_SHMEM_KEY).

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Three hundred rounds of a tenth of a second: an immediate stop takes at most five seconds (SIGKILL_CHILDREN_AFTER_SECS
/// in `postmaster.c`), and a program that was just starting may come late.
const SCRIPT: &str = r#"
if read -r line; then exit 0; fi
round=0
while [ "$round" -lt 300 ]; do
    round=$((round + 1))
    running=no
    for file in "$1"/*/postmaster.pid; do
        [ -f "$file" ] || continue
        read -r pid < "$file"
        if [ "$(readlink "/proc/$pid/cwd")" = "${file%/*}" ]; then
            running=yes
            kill -QUIT "$pid"
            kill -CONT "$pid"
        else
            ipcrm -M "$(sed -n '7s/^ *\([0-9]*\).*/\1/p' "$file")"
        fi
    done
    if [ "$running" = no ]; then
        rm -rf "$1"
        [ -e "$1" ] || exit 0
    fi
    sleep 0.1
done
exit 1
"#;

/// Guards one cluster's folder.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    folder: PathBuf,
}

impl Watchdog {
    /// Begins to guard `folder`: an absolute path without symbolic links.
    pub(crate) fn guard(folder: &Path) -> Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", SCRIPT, "watchdog"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Whoever ends our whole process group must not end the one who tidies up.
            .process_group(0)
            .spawn()
            .context("cannot start a shell to guard the cluster")?;
        Ok(Self { shell, folder: folder.to_owned() })
    }

    /// Leaves the cluster alone from now on.
    pub(crate) fn release(mut self) -> Result<()> {
        let mut pipe = self.shell.stdin.take().context("the guard has no pipe")?;
        pipe.write_all(b"let it live\n").context("the guard of the cluster is gone")?;
        drop(pipe);
        ensure!(self.shell.wait()?.success(), "the guard of the cluster did not let go");
        Ok(())
    }

    /// Stops the servers, removes the folder and waits until that is done.
    pub(crate) fn sweep(mut self) -> Result<()> {
        // The end of the pipe is the signal; `wait` closes it.
        let status = self.shell.wait()?;
        ensure!(status.success() && !self.folder.exists(), "could not remove {}: {status}", self.folder.display());
        Ok(())
    }
}
