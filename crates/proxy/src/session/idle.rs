//! Clients that say nothing.

use tokio::time::timeout;

use super::{Client, Transaction};
use crate::error::End;

impl Client {
    /// Waits for the client, outside of transactions no longer than `client_idle_timeout`. A transaction's idleness is the
    /// server's to end (`idle_in_transaction_session_timeout`).
    pub(super) async fn wait_in_time(&mut self) -> Result<(), End> {
        let limit = self.proxy.config.client_idle_timeout.0;
        let is_idle = self.transaction == Transaction::Idle && self.input.filled().is_empty();
        if limit.is_zero() || !is_idle {
            return self.wait_for_client().await;
        }
        timeout(limit, self.wait_for_client()).await.unwrap_or(Err(End::Idle))
    }
}
