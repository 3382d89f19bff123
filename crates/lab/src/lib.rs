//! A real throw-away PostgreSQL cluster: one primary and hot standbys, made from the installed binaries.
//!
//! The commands of `highwater lab`, the demo, the tests and the benchmarks use it to have what no imitation gives: real
//! replication lag, real crashes, real promotions. It is synchronous, starts programs and waits for conditions with a
//! deadline; it never sleeps in the hope that something has happened meanwhile.
//!
//! It must not know the proxy, nor what consistency means: it makes weather, others judge. It reads `/proc`, so it
//! wants Linux.
//!
//! ```no_run
//! use highwater_lab::{Cluster, ClusterOptions};
//!
//! # fn main() -> anyhow::Result<()> {
//! let cluster = Cluster::start(ClusterOptions::with_standbys(2))?;
//! cluster.server("standby1")?.pause_replay()?;
//! cluster.primary().sql("shop", "CREATE TABLE wish (id int)")?;
//! println!("{}", cluster.primary().url("app", "shop"));
//! # Ok(())
//! # }
//! ```
//!
//! | role        | password    | what it is for                                             |
//! |-------------|-------------|------------------------------------------------------------|
//! | `postgres`  | none        | superuser                                                  |
//! | `app`       | `app`       | owner of the database `shop`, SCRAM                        |
//! | `highwater` | `highwater` | the proxy's probe role: REPLICATION, `pg_monitor`, SCRAM   |
//! | `trusted`   | none        | has all rights of `app` without a password                 |

mod account;
mod backup;
pub mod cli;
mod cluster;
mod conf;
mod installation;
mod ports;
mod postmaster;
mod psql;
mod replication;
mod server;
mod state;
mod wait;
mod watchdog;

pub use cluster::{Cluster, ClusterOptions, StandbyOptions};
pub use server::{Server, StopMode};
pub use wait::until;

/// The folder with the PostgreSQL programs that a lab would be made with.
///
/// # Errors
///
/// When they are not installed, or too old.
pub fn find_postgresql() -> anyhow::Result<std::path::PathBuf> {
    installation::Installation::find().map(|installation| installation.bin().to_owned())
}
