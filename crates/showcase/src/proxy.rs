//! A running `highwater` in front of a lab's cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use highwater_lab::Cluster;

use crate::console::Console;
use crate::daemon::Daemon;

/// The proxy as a program, built as it is shipped.
pub(crate) struct Proxy {
    pub(crate) daemon: Daemon,
    pub(crate) port: u16,
}

impl Proxy {
    /// Starts the proxy before `cluster`, with `settings` as on its command line (`key=value`), and waits until it knows
    /// the primary. Clients come without a password.
    ///
    /// # Errors
    ///
    /// When the program was not built, or with its log when it does not come up.
    pub(crate) fn start(cluster: &Cluster, settings: &[String]) -> Result<Self> {
        let mut arguments = ["run", "--listen", "127.0.0.1:0", "--auth", "trust"].map(str::to_owned).to_vec();
        for server in cluster.servers() {
            let url = server.url("highwater", "shop");
            arguments.extend(["--server".to_owned(), format!("{}={url}", server.name())]);
        }
        arguments.extend(settings.iter().flat_map(|setting| ["--set".to_owned(), setting.clone()]));
        let mut daemon = Daemon::start(&program()?, &arguments)?;
        let address = daemon.wait_for("highwater to listen", address_in)?;
        daemon.wait_for("highwater to be ready", |written| written.contains("ready").then_some(()))?;
        Ok(Self { daemon, port: address.port() })
    }

    /// Its admin console.
    pub(crate) fn console(&self) -> Console {
        Console::at(self.port)
    }
}

/// `highwater` lies beside us: both are built by one cargo.
fn program() -> Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("highwater");
    ensure!(program.is_file(), "there is no {}; `cargo xtask` builds it", program.display());
    program.canonicalize().context("a broken link")
}

/// The address in the line that says `listening`.
fn address_in(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find(|line| line.contains("listening"))?;
    line.split(|character: char| character.is_whitespace() || "=\"',".contains(character))
        .find_map(|word| word.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_line_that_says_listening() {
        let address = Some(SocketAddr::from(([127, 0, 0, 1], 6432)));
        assert_eq!(address_in("WARN 127.0.0.1:1\nINFO highwater: listening address=127.0.0.1:6432\n"), address);
        assert_eq!(address_in("INFO highwater: listening on \"127.0.0.1:6432\""), address);
        assert_eq!(address_in("INFO starting"), None);
    }
}
