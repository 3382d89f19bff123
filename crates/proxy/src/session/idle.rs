//! Clients that say nothing: how long they may.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::unit::Heard;
use super::{Client, Transaction};
use crate::error::End;

/// How long a client may say nothing.
#[derive(Debug)]
pub(super) enum Patience {
    ForEver,
    /// Outside of transactions (`client_idle_timeout`).
    Idle(Instant),
    /// Inside of one (`idle_in_transaction_timeout`): it holds a server connection, and locks.
    InTransaction(Instant),
}

impl Patience {
    /// When it ends, if it does.
    pub(super) fn until(&self) -> Option<Instant> {
        match self {
            Self::ForEver => None,
            Self::Idle(until) | Self::InTransaction(until) => Some(*until),
        }
    }
}

impl Client {
    /// How long the client may say nothing from now on.
    pub(super) fn patience(&self) -> Patience {
        let config = &self.proxy.config;
        let (limit, patience): (Duration, fn(Instant) -> Patience) = match self.transaction {
            Transaction::Idle => (config.client_idle_timeout.0, Patience::Idle),
            Transaction::Lazy { .. } | Transaction::Leading { .. } | Transaction::Open | Transaction::Aborted => {
                (config.idle_in_transaction_timeout.0, Patience::InTransaction)
            }
        };
        if limit.is_zero() { Patience::ForEver } else { patience(Instant::now() + limit) }
    }

    /// Waits for the client as long as patience lasts. Half a statement counts as something outside of transactions only:
    /// inside, PostgreSQL waits for whole ones too.
    pub(super) async fn wait_in_time(&mut self, patience: &Patience) -> Result<Heard, End> {
        let (until, end) = match patience {
            Patience::Idle(until) if self.input.filled().is_empty() => (*until, End::Idle),
            Patience::InTransaction(until) => (*until, End::IdleInTransaction),
            Patience::ForEver | Patience::Idle(_) => return self.wait_for_client().await,
        };
        timeout_at(until, self.wait_for_client()).await.unwrap_or(Err(end))
    }
}
