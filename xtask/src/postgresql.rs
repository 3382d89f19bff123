//! PostgreSQL's servers in versions that the system does not have, from packages of npm.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::programs;

/// Which versions there are, and where they are installed.
pub(crate) const LISTS: &str = "e2e/postgresql";
pub(crate) const FOLDER: &str = "target/postgresql";

/// The packages are for this platform alone.
pub(crate) const IS_AVAILABLE: bool = cfg!(all(target_os = "linux", target_arch = "x86_64"));

/// The folder with the programs of this major version, where the account that they run under can get at it.
pub(crate) fn programs(version: u32) -> Result<PathBuf> {
    let root = Path::new(FOLDER).join(format!("node_modules/postgresql-{version}/native"));
    ensure!(root.is_dir(), "no servers of PostgreSQL {version} are known; see {LISTS}/package.json");
    let root = root.canonicalize().context("cannot find the servers' folder")?;
    if root.ancestors().all(is_open) {
        return Ok(root.join("bin"));
    }
    // We are root inside of a folder of root's own.
    let copy = std::env::temp_dir().join(format!("highwater-postgresql-{version}"));
    programs::run(Command::new("cp").args(["-a", "-T"]).arg(root).arg(&copy))?;
    Ok(copy.join("bin"))
}

/// Whether everybody may pass through.
fn is_open(folder: &Path) -> bool {
    folder.metadata().is_ok_and(|about| about.permissions().mode() & 0o001 != 0)
}
