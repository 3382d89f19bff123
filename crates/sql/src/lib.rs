//! Statement text -> facts, by PostgreSQL's own grammar behind a cache.
//!
//! [`Classifier::classify`] says of a message whether a hot standby may answer it, why not if not, and what it leaves
//! behind in the server connection. One rule stands above all others: **what is not understood is never a read**.
//!
//! This room knows statement text and a database's catalogue as rows; it must not know servers, sessions, positions
//! or the wire. It is the only one that knows the C library of the grammar.

mod builtin;
mod cache;
mod catalog;
mod children;
mod classifier;
mod effort;
mod facts;
mod fold;
mod found;
mod hints;
mod leading;
mod scope;
mod setting;
mod state;
mod statement;
mod transaction;
mod walk;
mod why;

pub use catalog::{BadRow, Catalog};
pub use classifier::Classifier;
pub use facts::{Class, Facts, Isolation, Kind, Pin, Statement, TableName, Touch, TransactionControl};
pub use fold::Scratch;
pub use hints::{Hints, hints};
pub use leading::{LeadingSettings, leading_settings};
pub use setting::{Flag, Setting, Value};
pub use why::Why;
