//! Counters that the console shows. Written with relaxed atomics from every task; never read to decide anything.

use std::sync::atomic::{AtomicU64, Ordering};

use highwater_core::{Reason, Refusal, ServerId};
use highwater_sql::Pin;
use parking_lot::Mutex;

/// A counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where statements went and why, and what was corrected on the way.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    routes: Mutex<Vec<(ServerId, Reason, u64)>>,
    refusals: Mutex<Vec<(&'static str, u64)>>,
    pins: Mutex<Vec<(Pin, u64)>>,
    /// Reads that a blind choice of standby would have answered with an older state than the session required.
    pub(crate) stale_reads_prevented: Counter,
    /// Statements that a standby refused and the primary then ran.
    pub(crate) corrections: Counter,
    /// Reads run again elsewhere because their server was lost or cancelled them.
    pub(crate) retries: Counter,
    /// Reads that standbys cancelled and that did not run again, because too many had.
    pub(crate) retries_refused: Counter,
    /// Transactions that read on a standby and moved to the primary.
    pub(crate) transactions_moved: Counter,
    /// Tokens refused: forged, foreign or impossible.
    pub(crate) tokens_refused: Counter,
    /// Sessions that were told of a loss.
    pub(crate) losses: Counter,
    /// Commits that standbys did not show in time, though a client had asked for it.
    pub(crate) standbys_late: Counter,
    /// Whether `commit_visibility = sync_only` has turned out not to be kept.
    pub(crate) asynchronous_commits: Counter,
    /// Reads that waited for a position.
    pub(crate) waits: Counter,
}

impl Stats {
    pub(crate) fn routed(&self, server: ServerId, reason: Reason) {
        let mut routes = self.routes.lock();
        match routes.iter_mut().find(|row| row.0 == server && row.1 == reason) {
            Some(row) => row.2 += 1,
            None => routes.push((server, reason, 1)),
        }
    }

    pub(crate) fn refused(&self, refusal: &Refusal) {
        let name = refusal.name();
        let mut refusals = self.refusals.lock();
        match refusals.iter_mut().find(|row| row.0 == name) {
            Some(row) => row.1 += 1,
            None => refusals.push((name, 1)),
        }
    }

    /// A client begins to keep its server connection.
    pub(crate) fn pinned(&self, pin: Pin) {
        let mut pins = self.pins.lock();
        match pins.iter_mut().find(|row| row.0 == pin) {
            Some(row) => row.1 += 1,
            None => pins.push((pin, 1)),
        }
    }

    pub(crate) fn pins(&self) -> Vec<(Pin, u64)> {
        self.pins.lock().clone()
    }

    pub(crate) fn routes(&self) -> Vec<(ServerId, Reason, u64)> {
        self.routes.lock().clone()
    }

    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        self.refusals.lock().clone()
    }
}
