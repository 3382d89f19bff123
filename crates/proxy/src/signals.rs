//! What others may do to a client: cancel the statement that it runs or waits to run, end it, and ask it to rest.
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
use tokio::time::{sleep, timeout};

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
    /// By `query_timeout`.
    overdue: bool,
    ended: bool,
    rest: Rest,
}

/// Whether the client needs its task.
#[derive(Debug, Default, PartialEq, Eq)]
enum Rest {
    #[default]
    Awake,
    /// It has said nothing since somebody looked, and this unit was its last.
    Silent(u64),
    /// It is asked to rest.
    Asked,
    Resting,
}

/// What a waiting client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// It has been ended.
    End,
    /// It has said nothing for a while, and may rest.
    Rest,
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
        state.overdue = false;
        state.rest = Rest::Awake;
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

    /// Returns when a client that waits has been called.
    pub(crate) async fn called(&self) -> Call {
        self.until(|state| state.ended || state.rest == Rest::Asked).await;
        if self.is_ended() { Call::End } else { Call::Rest }
    }

    /// Somebody looks whether the client says anything: one that has not since the last look is asked to rest.
    pub(crate) fn on_look(&self) {
        let mut state = self.state.lock();
        match (&state.work, &state.rest) {
            (Work::Idle, Rest::Silent(unit)) if *unit == state.unit => state.rest = Rest::Asked,
            (Work::Idle, Rest::Awake | Rest::Silent(_)) => {
                state.rest = Rest::Silent(state.unit);
                return;
            }
            (_, Rest::Asked | Rest::Resting) | (Work::Waiting | Work::Running(_), _) => return,
        }
        drop(state);
        self.news.notify_waiters();
    }

    /// The client needs its task, although it says nothing.
    pub(crate) fn on_stay(&self) {
        self.state.lock().rest = Rest::Awake;
    }

    /// The client rests.
    pub(crate) fn on_rest(&self) {
        self.state.lock().rest = Rest::Resting;
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

    /// The unit takes too long: it is cancelled, again and again. Returns when it is over, or when nothing has helped.
    pub(crate) async fn time_out(&self, limit: Duration) {
        let unit = {
            let mut state = self.state.lock();
            state.overdue = true;
            state.unit
        };
        let insisting = async {
            self.cancel(limit).await;
            while self.goes_on(unit) {
                sleep(REPEAT_AFTER).await;
                if let Some(request) = self.reach(Some(unit)) {
                    request.send(limit).await;
                }
            }
        };
        let _ = timeout(REPEAT_AFTER * REPEATS_MAX, insisting).await;
    }

    fn goes_on(&self, unit: u64) -> bool {
        let state = self.state.lock();
        state.unit == unit && !matches!(state.work, Work::Idle)
    }

    /// Whether the unit has taken too long.
    pub(crate) fn is_overdue(&self) -> bool {
        self.state.lock().overdue
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

#[cfg(test)]
mod tests {
    use super::*;

    fn is_asked(signals: &Signals) -> bool {
        signals.on_look();
        signals.state.lock().rest == Rest::Asked
    }

    #[test]
    fn who_says_nothing_between_two_looks_is_asked_to_rest() {
        let signals = Signals::default();
        assert!(!is_asked(&signals), "it has only just come");
        signals.on_begin();
        assert!(!is_asked(&signals), "it is busy");
        signals.on_end();
        assert!(!is_asked(&signals), "it was busy a moment ago");
        assert!(is_asked(&signals));
        signals.on_stay();
        assert!(!is_asked(&signals), "it has said that it cannot");
    }
}
