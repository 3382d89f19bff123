#![doc = include_str!("../README.md")]
// What connections ask of a session.
#![cfg_attr(not(feature = "tokio-postgres"), allow(dead_code))]

pub mod any;
#[cfg(feature = "diesel")]
pub mod diesel;
#[cfg(feature = "tower")]
pub mod layer;
mod level;
mod position;
#[cfg(feature = "tokio-postgres")]
pub mod postgres;
mod session;
mod signed;
#[cfg(feature = "sqlx")]
pub mod sqlx;
mod told;

pub use level::Level;
pub use position::Position;
pub use session::Session;
pub use signed::{EmptySecret, Signer, Verified};
