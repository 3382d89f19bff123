//! The commands of `highwater lab`: a cluster that stays until it is taken down, and levers to disturb it.
//!
//! It must not know how any of it is done.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

use crate::cluster::{Cluster, ClusterOptions};
use crate::server::{Server, StopMode};

/// A throw-away PostgreSQL cluster to play with.
#[derive(Clone, Debug, Subcommand)]
pub enum LabCommand {
    /// Make a primary and standbys from the installed PostgreSQL, and leave them running
    Up(Up),
    /// Show the servers: who is primary, who is how far
    Status(Place),
    /// Make a standby show every commit later
    Lag(Lag),
    /// Freeze what a standby shows
    Pause(Target),
    /// Let a paused standby replay again
    Resume(Target),
    /// Kill a server with SIGKILL, all its processes
    Kill(Target),
    /// Stop a server: sessions are thrown out, a checkpoint is written
    Stop(Target),
    /// Start a server
    Start(Target),
    /// Make a standby the primary; the other running standbys follow it
    Promote(Target),
    /// Copy a server anew from the acting primary, as its standby
    Rebuild(Target),
    /// Make a former primary a standby of the acting one by pg_rewind: what it alone had is lost
    Rewind(Target),
    /// Stop everything and remove the folder
    Down(Place),
}

/// Which lab is meant.
#[derive(Args, Clone, Debug)]
pub struct Place {
    /// The lab's folder [default: $HIGHWATER_LAB, else a folder under the temporary one]
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// What a new lab shall be like.
#[derive(Args, Clone, Debug)]
pub struct Up {
    /// How many standbys
    #[arg(long, default_value_t = 2)]
    standbys: usize,
    /// How much later than the primary the standbys show a commit: 0, 150ms, 2s, 1min
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    delay: Duration,
    /// A PostgreSQL setting for all servers; may be repeated
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    settings: Vec<(String, String)>,
    /// Let standbys keep the primary from vacuuming rows that they still need
    #[arg(long)]
    hot_standby_feedback: bool,
    /// Turn fsync off
    #[arg(long)]
    no_fsync: bool,
    #[command(flatten)]
    place: Place,
}

/// A standby and how late it shall be.
#[derive(Args, Clone, Debug)]
pub struct Lag {
    #[command(flatten)]
    target: Target,
    /// How much later than the primary it shows a commit: 0, 150ms, 2s, 1min
    #[arg(value_parser = parse_duration)]
    delay: Duration,
}

/// One server of a lab.
#[derive(Args, Clone, Debug)]
pub struct Target {
    /// Its name, such as standby1
    server: String,
    #[command(flatten)]
    place: Place,
}

/// Runs one command and prints what it has to say. A new lab's superuser runs `prepare` in the database `shop`.
///
/// # Errors
///
/// When there is no such lab or server, or PostgreSQL refuses.
pub fn run(command: LabCommand, prepare: &str) -> Result<()> {
    match command {
        LabCommand::Up(options) => up(options, prepare),
        LabCommand::Status(place) => place.cluster().map(|cluster| print!("{}", table(&cluster))),
        LabCommand::Lag(Lag { target, delay }) => target.with(|_, server| server.set_delay(delay)),
        LabCommand::Pause(target) => target.with(|_, server| server.pause_replay()),
        LabCommand::Resume(target) => target.with(|_, server| server.resume_replay()),
        LabCommand::Kill(target) => target.with(|_, server| server.kill9()),
        LabCommand::Stop(target) => target.with(|_, server| server.stop(StopMode::Fast)),
        LabCommand::Start(target) => target.with(|_, server| server.start()),
        LabCommand::Promote(target) => target.with(promote),
        LabCommand::Rebuild(target) => target.with(rebuild),
        LabCommand::Rewind(target) => target.with(|cluster, server| server.rewind(cluster.acting_primary()?)),
        LabCommand::Down(place) => place.cluster()?.remove(),
    }
}

impl Place {
    fn folder(&self) -> PathBuf {
        let named = self.dir.clone().or_else(|| std::env::var_os("HIGHWATER_LAB").map(PathBuf::from));
        // One for each user of the machine.
        named.unwrap_or_else(|| std::env::temp_dir().join(format!("highwater-lab-{}", nix::unistd::geteuid())))
    }

    fn cluster(&self) -> Result<Cluster> {
        Cluster::attach(&self.folder()).context("no lab is up; `highwater lab up` makes one")
    }
}

impl Target {
    /// Does something with the server, then shows how things stand.
    fn with(&self, act: impl FnOnce(&Cluster, &Server) -> Result<()>) -> Result<()> {
        let cluster = self.place.cluster()?;
        act(&cluster, cluster.server(&self.server)?)?;
        print!("{}", table(&cluster));
        Ok(())
    }
}

fn up(options: Up, prepare: &str) -> Result<()> {
    let folder = options.place.folder();
    let mut wanted = ClusterOptions {
        folder: Some(folder.clone()),
        settings: options.settings,
        durable: !options.no_fsync,
        hot_standby_feedback: options.hot_standby_feedback,
        ..ClusterOptions::with_standbys(options.standbys)
    };
    wanted.standbys.iter_mut().for_each(|standby| standby.delay = options.delay);
    ensure!(Cluster::attach(&folder).is_err(), "a lab is up in {}; `highwater lab down` ends it", folder.display());
    let cluster = Cluster::start(wanted)?;
    cluster.primary().sql("shop", prepare)?;
    println!("{}\n{}", table(&cluster), run_line(&cluster));
    cluster.detach().map(drop)
}

fn promote(cluster: &Cluster, server: &Server) -> Result<()> {
    server.promote()?;
    let others = cluster.servers().iter().filter(|other| other.name() != server.name());
    others.filter(|other| other.is_in_recovery().unwrap_or(false)).try_for_each(|standby| standby.follow(server))
}

fn rebuild(cluster: &Cluster, server: &Server) -> Result<()> {
    let primary = cluster.acting_primary()?;
    ensure!(primary.name() != server.name(), "{} is the primary; there is nothing to copy it from", server.name());
    server.rebuild(primary)
}

/// The command that puts the proxy before this lab.
fn run_line(cluster: &Cluster) -> String {
    let servers =
        cluster.servers().iter().map(|server| format!(" \\\n    --server {}", server.url("highwater", "shop")));
    format!("highwater run{}", servers.collect::<String>())
}

/// One line for each server.
fn table(cluster: &Cluster) -> String {
    let mut text = format!("{:<12}{:>6}  {:<9}{:<16}{}\n", "server", "port", "role", "position", "state");
    for server in cluster.servers() {
        let [role, position, state] = describe(server);
        text += &format!("{:<12}{:>6}  {role:<9}{position:<16}{state}\n", server.name(), server.port());
    }
    text
}

fn describe(server: &Server) -> [String; 3] {
    const QUESTION: &str = "
        SELECT 'standby', pg_last_wal_replay_lsn(), concat_ws(', ',
               CASE pg_get_wal_replay_pause_state() WHEN 'not paused' THEN 'replays' ELSE 'paused' END,
               'delay ' || nullif(current_setting('recovery_min_apply_delay'), '0'))
         WHERE pg_is_in_recovery();
        SELECT 'primary', pg_current_wal_insert_lsn(), 'takes writes'
         WHERE NOT pg_is_in_recovery();";
    let unknown = |state: &str| ["-".to_owned(), "-".to_owned(), state.to_owned()];
    match server.sql("postgres", QUESTION) {
        Ok(rows) => rows.into_iter().find_map(|row| row.try_into().ok()).unwrap_or_else(|| unknown("unreadable")),
        Err(_) if server.is_running() => unknown("comes up"),
        Err(_) => unknown("down"),
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|character: char| character.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "write a number and a unit: 150ms, 2s, 1min")?;
    match unit.trim() {
        "" if number == 0 => Ok(Duration::ZERO),
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "min" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err("write a number and a unit: 150ms, 2s, 1min".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_want_a_unit() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("150ms"), Ok(Duration::from_millis(150)));
        assert_eq!(parse_duration("2 s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1min"), Ok(Duration::from_secs(60)));
        for wrong in ["", "2", "ms", "-1s", "1h"] {
            parse_duration(wrong).unwrap_err();
        }
    }
}
