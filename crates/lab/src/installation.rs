//! The PostgreSQL programs on this machine: where they are, and how they are run.
//!
//! It must not know clusters or servers.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::account::Account;

/// What a server is made with. A folder that lacks one of them is no installation: Debian's `/usr/bin` has wrappers
/// for the clients only.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// It may be of another version and from elsewhere: there are packages with the servers alone.
const PSQL: &str = "psql";

/// `pg_get_wal_replay_pause_state`, without which a pause cannot be waited for, came with this version.
const OLDEST_VERSION: u32 = 14;

/// A folder with PostgreSQL's programs, and the account that they run under.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    bin: PathBuf,
    psql: PathBuf,
    account: Option<Account>,
}

impl Installation {
    /// Looks in `$HIGHWATER_PG_BIN`, then along `PATH`, then in `/usr/lib/postgresql`, then asks `pg_config`.
    pub(crate) fn find() -> Result<Self> {
        if let Some(bin) = std::env::var_os("HIGHWATER_PG_BIN") {
            return Self::at(Path::new(&bin)).context("HIGHWATER_PG_BIN leads nowhere");
        }
        let bin = on_path("initdb")
            .chain(debian_folders())
            .chain(from_pg_config())
            .find(|folder| missing_in(folder).is_none());
        Self::at(&bin.context("PostgreSQL's programs were not found; install PostgreSQL or set HIGHWATER_PG_BIN")?)
    }

    /// The installation in the folder `bin`.
    pub(crate) fn at(bin: &Path) -> Result<Self> {
        if let Some(program) = missing_in(bin) {
            bail!("there is no {program} in {}", bin.display());
        }
        let mut folders = std::iter::once(bin.to_owned()).chain(on_path(PSQL)).chain(debian_folders());
        let psql = folders.find(|folder| folder.join(PSQL).is_file()).context("there is no psql")?.join(PSQL);
        let installation = Self { bin: bin.to_owned(), psql, account: Account::to_drop_to()? };
        let version = installation.version()?;
        ensure!(version >= OLDEST_VERSION, "PostgreSQL {version} is older than {OLDEST_VERSION}: {}", bin.display());
        Ok(installation)
    }

    /// The folder with the programs.
    pub(crate) fn bin(&self) -> &Path {
        &self.bin
    }

    /// The account that everything runs under, where that is not our own.
    pub(crate) fn account(&self) -> Option<Account> {
        self.account
    }

    /// Whether it has `program`, which not all have.
    pub(crate) fn has(&self, program: &str) -> bool {
        self.bin.join(program).is_file()
    }

    /// A command that runs `program` inside `folder`, without privileges and without the caller's `PG...` variables.
    pub(crate) fn command(&self, program: &str, folder: &Path) -> Command {
        let mut command = Command::new(if program == PSQL { self.psql.clone() } else { self.bin.join(program) });
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
            command.env_remove(name);
        }
        if let Some(account) = self.account {
            account.apply(&mut command);
        }
        // English messages, no password file, and not ours to end when somebody presses Ctrl-C in our terminal.
        command.env("LC_ALL", "C").env("HOME", folder).current_dir(folder).stdin(Stdio::null()).process_group(0);
        command
    }

    /// Writes a file that PostgreSQL's programs may read, change and remove.
    pub(crate) fn write(&self, path: &Path, text: &str) -> Result<()> {
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        self.account.map_or(Ok(()), |account| account.give(path))
    }

    fn version(&self) -> Result<u32> {
        let text = run(Command::new(self.bin.join("postgres")).arg("--version"))?;
        // "postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)", "postgres (PostgreSQL) 19rc1"
        let number = text.split_whitespace().nth(2).unwrap_or_default();
        let major = number.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default();
        major.parse().with_context(|| format!("cannot read a version in {text:?}"))
    }
}

/// Runs a command to its end and returns what it wrote.
///
/// # Errors
///
/// What it wrote to standard error, when it did not succeed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("cannot run {name}"))?;
    Ok(String::from_utf8_lossy(&successful(&name, output)?).into_owned())
}

/// The standard output of a command that succeeded, else its standard error as an error.
pub(crate) fn successful(name: &str, output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    bail!("{name}: {}\n{complaint}", output.status)
}

fn missing_in(bin: &Path) -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| !bin.join(program).is_file())
}

fn on_path(program: &str) -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.into_iter().filter_map(move |folder| Some(folder.join(program).canonicalize().ok()?.parent()?.to_owned()))
}

/// Debian and its kin keep each major version in a folder of its own; the newest comes first.
fn debian_folders() -> impl Iterator<Item = PathBuf> {
    let version = |folder: &Path| folder.file_name().and_then(OsStr::to_str).and_then(|name| name.parse::<u32>().ok());
    let entries = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((version(&entry.path())?, entry.path()))).collect();
    folders.sort_unstable_by(|left, right| right.cmp(left));
    folders.into_iter().map(|(_, folder)| folder.join("bin"))
}

fn from_pg_config() -> impl Iterator<Item = PathBuf> {
    run(Command::new("pg_config").arg("--bindir")).ok().map(|text| PathBuf::from(text.trim())).into_iter()
}
