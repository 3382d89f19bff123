//! Facts about a PostgreSQL cluster in, routing decisions out.
//!
//! This room knows positions, servers as their probes describe them, what a session has seen, and the rules that follow
//! from those. It must not know sockets, clocks, dice, threads, SQL text or the wire protocol: time, order and chance
//! are numbers handed in, so that a recorded list of facts replays exactly and a model checker can run this very code.
//!
//! Start reading at [`route()`], then [`Session`], then [`Cluster`].

mod cluster;
mod connection;
mod history;
mod lsn;
mod order;
mod policy;
mod probe;
mod reason;
mod route;
mod server;
mod session;
mod token;
mod view;
mod watermark;
mod witness;

#[doc(hidden)]
pub use cluster::Numbered;
pub use cluster::{Cluster, ClusterSettings, CommitVisibility, ForeignServer};
pub use connection::ServerConnection;
pub use history::{Branch, History};
pub use lsn::{BadLsn, Lsn};
pub use order::{Epoch, Micros, Seq};
pub use policy::{Ask, Level, Scope, Unit};
pub use probe::{Identity, MvccSnapshot, PrimaryAnswer, Role, StandbyAnswer};
pub use reason::{Reason, Refusal};
pub use route::{Need, Required, Route, may_use, route};
pub use server::{ServerId, ServerSet};
pub use session::{Loss, Session};
pub use token::{Token, TokenOffence, TokenVerdict};
pub use view::ServerView;
pub use watermark::{Timeline, Watermark};
pub use witness::Question;
