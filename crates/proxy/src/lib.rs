//! Highwater: a PostgreSQL proxy that scales reads over hot standbys and never shows a session the past.
//!
//! This crate is the shell: sockets, tasks, clocks and dice around `highwater-core`, which decides. Read
//! [`session`](self) first, then `monitor`, then `pool`. The binary `highwater` is this library's [`cli`].

mod catalog;
mod census;
pub mod cli;
mod clock;
pub mod config;
mod console;
mod control;
mod credentials;
mod doctor;
mod error;
mod files;
mod gate;
mod limits;
mod listener;
mod lobby;
mod monitor;
mod net;
mod owners;
mod password_file;
mod pool;
mod prepared;
mod probe;
mod roles;
mod server;
mod session;
mod sessions;
mod shared;
mod signals;
mod start;
mod state;
mod stats;
mod storm;
mod text;
mod tls;
mod upkeep;

pub use net::Address;
pub use start::{Running, start};
