//! Histories of a cluster that exists nowhere, around the very code that decides in production: servers that lag, crash, step
//! back, are cut off and promoted, places that come to lead to other servers, proxies that forget, sessions that wander with
//! tokens. All of it by the dice of one seed, so that what is found once is found again.
//!
//! The model (`core/tests/model`) knows *every* order of events in a world of three commits; this knows few orders of many
//! events, in a world of a hundred.

mod client;
mod judge;
mod proxy;
mod search;
mod servers;
mod tally;
mod world;

pub use judge::Violation;
pub use proxy::Mistake;
pub use search::{Search, search};
pub use tally::Tally;
pub use world::{Found, play};
