//! A cluster: its folder, its servers, and who removes them.
//!
//! It must not know what a single server does with its processes.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::conf;
use crate::installation::{Installation, run};
use crate::ports::Reservation;
use crate::server::Server;
use crate::state::{ServerState, State};
use crate::watchdog::Watchdog;

/// The name of the server that begins as primary.
const PRIMARY: &str = "primary";

/// A Unix socket's path has room for this many bytes (`sun_path` of unix(7), less the final zero).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// What a cluster shall be like.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The standbys, beside the one primary.
    pub standbys: Vec<StandbyOptions>,
    /// Where it lives: a folder that does not exist or is empty, with a short path. `None`: a new temporary folder.
    pub folder: Option<PathBuf>,
    /// Settings of all servers, which win over the lab's own: `("wal_level", "logical")`.
    pub settings: Vec<(String, String)>,
    /// `fsync`. On by default: killed processes lose nothing without it, but it makes the time between "written" and
    /// "flushed", in which a standby may show what the primary does not show yet. Turn it off where only speed counts.
    pub durable: bool,
    /// Whether standbys keep the primary from vacuuming away rows that their queries still see.
    pub hot_standby_feedback: bool,
}

impl ClusterOptions {
    /// A primary and `count` standbys named `standby1`, `standby2` and so on, without delay.
    pub fn with_standbys(count: usize) -> Self {
        let standby = |number| StandbyOptions { name: format!("standby{number}"), delay: Duration::ZERO };
        Self { standbys: (1..=count).map(standby).collect(), ..Self::default() }
    }
}

impl Default for ClusterOptions {
    /// A lone primary.
    fn default() -> Self {
        Self { standbys: Vec::new(), folder: None, settings: Vec::new(), durable: true, hot_standby_feedback: false }
    }
}

/// What one standby shall be like.
#[derive(Clone, Debug)]
pub struct StandbyOptions {
    /// Lower-case letters, digits and underscores.
    pub name: String,
    /// How much later than the primary it shows a commit (`recovery_min_apply_delay`), in whole milliseconds.
    pub delay: Duration,
}

/// A real PostgreSQL cluster. Dropping it stops the servers and removes the folder; so does the end of this process by
/// whatever means, unless the cluster was detached or attached to.
#[derive(Debug)]
pub struct Cluster {
    servers: Vec<Server>,
    folder: PathBuf,
    /// `None` where the cluster outlives this value.
    watchdog: Option<Watchdog>,
    _ports: Vec<Reservation>,
}

impl Cluster {
    /// Makes a cluster and waits until all its servers accept connections and the standbys have all that the primary
    /// has.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed, the folder will not do, or a server does not come up; nothing is left behind.
    pub fn start(options: ClusterOptions) -> Result<Self> {
        let installation = Arc::new(Installation::find()?);
        let folder = new_folder(options.folder.as_deref(), &installation)?;
        let watchdog = Some(Watchdog::guard(&folder)?);
        let mut cluster = Self { servers: Vec::new(), folder, watchdog, _ports: Vec::new() };
        installation.write(&cluster.folder.join("pg_hba.conf"), conf::HBA)?;
        cluster.add_server(&options, &installation, PRIMARY, Duration::ZERO)?;
        for standby in &options.standbys {
            cluster.add_server(&options, &installation, &standby.name, standby.delay)?;
        }
        cluster.create_primary()?;
        cluster.create_standbys()?;
        cluster.state().write(&cluster.folder)?;
        Ok(cluster)
    }

    /// The cluster that lives in `folder`, made by somebody else; it outlives this value.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn attach(folder: &Path) -> Result<Self> {
        let folder = folder.canonicalize().with_context(|| format!("there is no folder {}", folder.display()))?;
        let state = State::read(&folder)?;
        let installation = Arc::new(Installation::at(&state.bin)?);
        let server = |ServerState { name, host, port }| Server {
            name,
            host,
            port,
            folder: folder.clone(),
            installation: Arc::clone(&installation),
        };
        let servers = state.servers.into_iter().map(server).collect();
        Ok(Self { servers, folder, watchdog: None, _ports: Vec::new() })
    }

    /// Lets the cluster outlive this value and this process, and returns its folder. Its ports are no longer reserved
    /// while a server is down.
    ///
    /// # Errors
    ///
    /// When its guard died; the cluster is removed or not then.
    pub fn detach(mut self) -> Result<PathBuf> {
        self.watchdog.take().map_or(Ok(()), Watchdog::release)?;
        Ok(self.folder.clone())
    }

    /// Stops all servers and removes the folder, also of a cluster that was attached to.
    ///
    /// # Errors
    ///
    /// When something is left behind.
    pub fn remove(mut self) -> Result<()> {
        match self.watchdog.take() {
            Some(watchdog) => watchdog.sweep(),
            None => Watchdog::guard(&self.folder)?.sweep(),
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All servers, the one that began as primary first.
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// The server that began as primary.
    pub fn primary(&self) -> &Server {
        self.servers.first().expect("every cluster has a server called primary")
    }

    /// The servers that began as standbys.
    pub fn standbys(&self) -> &[Server] {
        self.servers.get(1..).unwrap_or_default()
    }

    /// The server called `name`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn server(&self, name: &str) -> Result<&Server> {
        self.servers.iter().find(|server| server.name == name).with_context(|| {
            let names: Vec<&str> = self.servers.iter().map(Server::name).collect();
            format!("there is no server {name:?}; there are {}", names.join(", "))
        })
    }

    /// The server that is primary now: of those not in recovery the one with the highest timeline.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn acting_primary(&self) -> Result<&Server> {
        let claims = self.servers.iter().filter_map(|server| Some((server.timeline().ok()?, server)));
        let (_, primary) = claims.max_by_key(|(timeline, _)| *timeline).context("no server is primary")?;
        Ok(primary)
    }

    /// Waits until all running standbys have replayed what is now committed on the acting primary.
    ///
    /// # Errors
    ///
    /// When one has not within `timeout`, or there is no primary.
    pub fn settle(&self, timeout: Duration) -> Result<()> {
        let primary = self.acting_primary()?;
        let lsn = primary.flush_lsn()?;
        let others = self.servers.iter().filter(|server| server.name != primary.name && server.is_running());
        others.into_iter().try_for_each(|server| server.wait_until_replayed(&lsn, timeout))
    }

    fn add_server(
        &mut self,
        options: &ClusterOptions,
        installation: &Arc<Installation>,
        name: &str,
        delay: Duration,
    ) -> Result<()> {
        // A replication slot's name allows no more.
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        ensure!(!name.is_empty() && name.bytes().all(allowed), "{name:?} is no name for a server");
        ensure!(self.server(name).is_err(), "two servers are called {name}");
        let port = Reservation::any()?;
        let text = conf::server(options, &self.folder, name, port.port(), delay);
        installation.write(&self.folder.join(format!("{name}.conf")), &text)?;
        let installation = Arc::clone(installation);
        let folder = self.folder.clone();
        let (name, host) = (name.to_owned(), Ipv4Addr::LOCALHOST.to_string());
        self.servers.push(Server { name, host, port: port.port(), folder, installation });
        self._ports.push(port);
        Ok(())
    }

    fn create_primary(&self) -> Result<()> {
        let primary = self.primary();
        let mut command = primary.installation.command("initdb", &self.folder);
        // Checksums (-k), without which `pg_rewind` refuses.
        command.args(["-k", "-E", "UTF8", "--locale=C", "-U", "postgres", "-A", "trust"]);
        command.args(["--no-sync", "--no-instructions"]);
        run(command.arg("-D").arg(primary.data()))?;
        primary.start()?;
        primary.sql("postgres", conf::ROLES).map(drop)
    }

    /// All at once: each waits for the primary's disk most of the time.
    fn create_standbys(&self) -> Result<()> {
        let primary = self.primary();
        thread::scope(|scope| {
            let builders: Vec<_> =
                self.standbys().iter().map(|standby| scope.spawn(|| standby.rebuild(primary))).collect();
            builders.into_iter().try_for_each(|builder| builder.join().expect("building a standby does not panic"))
        })
    }

    fn state(&self) -> State {
        let server = |server: &Server| {
            let Server { name, host, port, .. } = server.clone();
            ServerState { name, host, port }
        };
        State { bin: self.primary().installation.bin().to_owned(), servers: self.servers.iter().map(server).collect() }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.watchdog.take().map(Watchdog::sweep) {
            eprintln!("{error:#}");
        }
    }
}

/// A folder that belongs to the account that PostgreSQL runs under, with an absolute path without symbolic links.
fn new_folder(wanted: Option<&Path>, installation: &Installation) -> Result<PathBuf> {
    let folder = match wanted {
        Some(folder) => {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
            let is_empty = std::fs::read_dir(folder)?.next().is_none();
            ensure!(is_empty, "{} is not empty", folder.display());
            folder.to_owned()
        }
        None => tempfile::Builder::new().prefix("highwater-").tempdir().context("no temporary folder")?.keep(),
    };
    let folder = folder.canonicalize()?;
    check_path(&folder)
        .and_then(|()| check_access(&folder, installation))
        .inspect_err(|_| drop(std::fs::remove_dir(&folder)))?;
    installation.account().map_or(Ok(()), |account| account.give(&folder))?;
    Ok(folder)
}

/// The path stands between quotes in configuration files and shell commands, and Unix sockets lie in it.
fn check_path(folder: &Path) -> Result<()> {
    let text = folder.to_str().context("a cluster's folder must have a name in UTF-8")?;
    if let Some(bad) = text.chars().find(|character| "'\"\\,\n".contains(*character)) {
        bail!("a cluster's folder must not have {bad:?} in its path: {text}");
    }
    let socket_bytes = text.len() + "/.s.PGSQL.65535".len();
    ensure!(
        socket_bytes <= SOCKET_PATH_BYTES_MAX,
        "{text} is too long for Unix sockets by {} bytes; choose another folder",
        socket_bytes - SOCKET_PATH_BYTES_MAX
    );
    Ok(())
}

/// Where we are root, the programs run under another account, which has to get through to the folder.
fn check_access(folder: &Path, installation: &Installation) -> Result<()> {
    let Some(account) = installation.account() else { return Ok(()) };
    for parent in folder.ancestors().skip(1) {
        ensure!(
            account.may_pass_through(parent)?,
            "PostgreSQL does not run as root, and its account is kept out of {}",
            parent.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_must_leave_room_for_sockets_and_have_no_quotes() {
        check_path(Path::new("/short/lab")).unwrap();
        let long = check_path(Path::new(&"/x".repeat(50))).unwrap_err().to_string();
        assert!(long.contains("by 8 bytes"), "{long}");
        check_path(Path::new("/it's")).unwrap_err();
    }
}
