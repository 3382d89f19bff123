//! A base backup without `pg_basebackup`, for installations that are servers and nothing else: PostgreSQL's own low-level
//! API (PostgreSQL manual, "Making a Base Backup Using the Low Level API") around a plain copy of the files.
//!
//! It can be that short because all servers of a lab lie on one machine. WAL comes by streaming, from the slot.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::server::Server;

/// Folders whose contents belong to the running server alone, or are fetched anew.
const OWN_FOLDERS: [&str; 4] = ["pg_dynshmem", "pg_notify", "pg_replslot", "pg_wal"];
const OWN_FILES: [&str; 2] = ["postmaster.pid", "postmaster.opts"];

/// Copies the data of the running server `source` to the new folder `target`.
///
/// # Errors
///
/// When `source` is down, or the copy cannot be finished.
pub(crate) fn copy(source: &Server, target: &Path) -> Result<()> {
    let (from, to) = (source.data(), target.display());
    let from = from.display();
    // The backup lasts as long as the session that began it, so the copy is made from inside of it. Files that vanish
    // meanwhile are no matter: what cp says of them goes unread, and a target that is not whole does not start. The
    // control file comes last: of a standby it says up to where the copied pages must be replayed.
    let rows = source.sql(
        "postgres",
        &format!(
            "SELECT pg_backup_start('lab', true);
             \\! cp -a '{from}' '{to}' 2>/dev/null; cp -a '{from}/global/pg_control' '{to}/global/pg_control'
             SELECT labelfile FROM pg_backup_stop(false);"
        ),
    )?;
    let label = rows.last().and_then(|row| row.first()).context("the backup came without a label")?;
    for file in OWN_FILES {
        remove_if_there(&target.join(file))?;
    }
    for folder in OWN_FOLDERS {
        for entry in fs::read_dir(target.join(folder)).with_context(|| format!("there is no {folder} in {to}"))? {
            empty(&entry?.path())?;
        }
    }
    source.installation.write(&target.join("backup_label"), label)
}

/// Removes a file, or the files in a folder: PostgreSQL expects the folders below `pg_wal` to be there.
fn empty(path: &Path) -> Result<()> {
    let is_slot = path.parent().is_some_and(|parent| parent.ends_with("pg_replslot"));
    if is_slot {
        return fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()));
    }
    if !path.is_dir() {
        return remove_if_there(path);
    }
    fs::read_dir(path)?.try_for_each(|entry| remove_if_there(&entry?.path()))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
