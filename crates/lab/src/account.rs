//! The operating system account that PostgreSQL's programs run under. They refuse to run as root.
//!
//! It must not know which programs these are.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{Gid, Uid, User, chown, geteuid};

/// An unprivileged account to drop to. It exists only where we are root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    uid: Uid,
    gid: Gid,
}

impl Account {
    /// The account to drop to: `postgres`, else `nobody`; `None` where we are not root and stay who we are.
    pub(crate) fn to_drop_to() -> Result<Option<Self>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("cannot read the list of users")? {
                return Ok(Some(Self { uid: user.uid, gid: user.gid }));
            }
        }
        anyhow::bail!("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody")
    }

    /// Makes `command` run under this account. The standard library clears the supplementary groups with it.
    pub(crate) fn apply(self, command: &mut Command) {
        command.uid(self.uid.as_raw()).gid(self.gid.as_raw());
    }

    /// Hands a file or folder over to this account.
    pub(crate) fn give(self, path: &Path) -> Result<()> {
        chown(path, Some(self.uid), Some(self.gid)).with_context(|| format!("cannot give {} away", path.display()))
    }

    /// Whether the folder's permissions let this account through. Only the coarse ones are looked at: its owner, or
    /// everybody.
    pub(crate) fn may_pass_through(self, folder: &Path) -> Result<bool> {
        let about = std::fs::metadata(folder).with_context(|| format!("cannot look at {}", folder.display()))?;
        let needed = if about.uid() == self.uid.as_raw() { 0o100 } else { 0o001 };
        Ok(about.mode() & needed != 0)
    }
}
