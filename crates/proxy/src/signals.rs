//! What others may do to a client: cancel the statement that it runs or waits to run, and end it.
//!
//! ```text
//!   idle --unit begins--> waiting --has a server connection--> running --unit ends--> idle
//!    |                      |                                     |
//!  cancel: nothing   cancel: the wait ends        cancel: passed on to the server
//! ```
//!
//! A server forgets a cancel request that arrives before it has read the statement. So a request for a unit that goes on
//! running is passed on again; never once the unit has ended, and never to whoever uses the connection next.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::server::{CancelRequest, CancelTarget};

/// How long a server gets to act on a cancel request before it is repeated: it mostly takes less than a millisecond.
pub(crate) const REPEAT_AFTER: Duration = Duration::from_millis(100);
/// So often a request is repeated: longer than this only what cannot be interrupted goes on.
pub(crate) const REPEATS_MAX: u32 = 50;

/// The signals to one client.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    work: Work,
    /// Which unit it is: a request is for the unit that it met, and for no later one.
    unit: u64,
    cancelled: bool,
    ended: bool,
}

#[derive(Debug, Default)]
enum Work {
    #[default]
    Idle,
    Waiting,
    Running(Arc<CancelTarget>),
}

impl Signals {
    /// A unit begins.
    pub(crate) fn on_begin(&self) {
        let mut state = self.state.lock();
        state.unit += 1;
        state.work = Work::Waiting;
        state.cancelled = false;
    }

    /// The unit is about to run there; `false` if it has been cancelled and, unless it `must`, will not.
    pub(crate) fn on_run(&self, target: &Arc<CancelTarget>, must: bool) -> bool {
        let mut state = self.state.lock();
        let runs = must || !state.cancelled;
        if runs {
            state.work = Work::Running(Arc::clone(target));
        }
        runs
    }

    /// It runs there no more, and may have to run elsewhere.
    pub(crate) fn on_ran(&self) {
        self.state.lock().work = Work::Waiting;
    }

    /// The unit has ended.
    pub(crate) fn on_end(&self) {
        self.state.lock().work = Work::Idle;
    }

    /// Returns when the unit has been cancelled while it waits.
    pub(crate) async fn cancelled(&self) {
        self.until(|state| state.cancelled || state.ended).await;
    }

    /// Returns when the client has been ended.
    pub(crate) async fn ended(&self) {
        self.until(|state| state.ended).await;
    }

    /// Whether somebody has ended the client.
    pub(crate) fn is_ended(&self) -> bool {
        self.state.lock().ended
    }

    async fn until(&self, condition: impl Fn(&State) -> bool) {
        loop {
            let news = self.news.notified();
            if condition(&self.state.lock()) {
                return;
            }
            news.await;
        }
    }

    /// Ends the client: what it runs is cancelled first.
    pub(crate) async fn end(&self, limit: Duration) {
        self.state.lock().ended = true;
        self.cancel(limit).await;
    }

    /// Cancels what the client runs or waits to run; returns when a server that had to be told has been told.
    pub(crate) async fn cancel(&self, limit: Duration) {
        let reached = self.reach(None);
        self.news.notify_waiters();
        if let Some(request) = reached {
            request.send(limit).await;
        }
    }

    /// Repeats a request for as long as the unit that it met goes on.
    pub(crate) async fn insist(&self, limit: Duration) {
        let unit = self.state.lock().unit;
        for _ in 0..REPEATS_MAX {
            sleep(REPEAT_AFTER).await;
            match self.reach(Some(unit)) {
                Some(request) => request.send(limit).await,
                None => return,
            }
        }
    }

    /// Where the unit runs, if it is this one. Counted under the lock: the connection cannot go to anybody else before the
    /// request is done.
    fn reach(&self, unit: Option<u64>) -> Option<CancelRequest> {
        let mut state = self.state.lock();
        if unit.is_some_and(|unit| unit != state.unit || !state.cancelled) {
            return None;
        }
        state.cancelled = !matches!(state.work, Work::Idle);
        let Work::Running(target) = &state.work else { return None };
        Some(target.begin())
    }
}
