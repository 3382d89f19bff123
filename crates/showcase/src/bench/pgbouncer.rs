//! A running PgBouncer before one server, for comparison.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::certificate::Certificate;
use super::contestant::POOL_SIZE;
use crate::daemon::Daemon;

/// How it pools.
pub(super) struct Pooling<'a> {
    /// `pool_mode`.
    pub(super) mode: &'static str,
    /// Clients at once.
    pub(super) clients: u32,
    /// What it shows to clients, who then must use TLS.
    pub(super) certificate: Option<&'a Certificate>,
}

impl Default for Pooling<'_> {
    fn default() -> Self {
        Self { mode: "transaction", clients: 200, certificate: None }
    }
}

/// The program.
pub(super) struct PgBouncer {
    pub(super) daemon: Daemon,
    pub(super) port: u16,
    /// Its configuration.
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// Starts it before the server on the port `primary`.
    pub(super) fn start(primary: u16, pooling: &Pooling<'_>) -> Result<Self> {
        let folder = tempfile::tempdir().context("no temporary folder")?;
        let port = free_port()?;
        let users = folder.path().join("users.txt");
        std::fs::write(&users, "\"trusted\" \"\"\n")?;
        let Pooling { mode, clients, certificate } = pooling;
        let tls = certificate.map(|certificate| {
            let (cert, key) = (certificate.cert.display(), certificate.key.display());
            format!("client_tls_sslmode = require\nclient_tls_cert_file = {cert}\nclient_tls_key_file = {key}\n")
        });
        let text = format!(
            "[databases]\nshop = host=127.0.0.1 port={primary}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = {POOL_SIZE}\n\
             max_client_conn = {clients}\nlog_connections = 0\nlog_disconnections = 0\nlog_pooler_errors = 1\nlog_stats = 0\n\
             ignore_startup_parameters = extra_float_digits\n{}",
            users.display(),
            tls.unwrap_or_default()
        );
        let config = folder.path().join("pgbouncer.ini");
        std::fs::write(&config, text)?;
        readable_by_all(folder.path())?;
        let arguments = [config.to_string_lossy().into_owned()];
        let mut daemon = Daemon::start_unprivileged(&program()?, &arguments)?;
        daemon.wait_for("PgBouncer to be up", |written| written.contains("process up").then_some(()))?;
        Ok(Self { daemon, port, _folder: folder })
    }
}

fn program() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps it where an ordinary user's PATH does not lead.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.map(|folder| folder.join("pgbouncer")).find(|program| program.is_file());
    found.context("there is no pgbouncer on this machine")
}

/// PgBouncer does not tell which port the kernel chose, so we choose: one that is free at this moment.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn readable_by_all(folder: &Path) -> Result<()> {
    std::fs::set_permissions(folder, Permissions::from_mode(0o755)).context("cannot open the folder")
}
