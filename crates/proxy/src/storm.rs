//! The guard against storms of retries: a standby that cancels reads because it must replay is not helped by running them
//! all again beside it.

use std::time::Instant;

use parking_lot::Mutex;

/// So many cancelled reads run again at once, as one lock on the primary cancels all that use the table.
const BURST: f64 = 200.0;
/// And so many a second for as long as it goes on.
const PER_SECOND: f64 = 20.0;

/// How many cancelled reads may still run again unseen. Taken from on errors only.
#[derive(Debug)]
pub(crate) struct RetryBudget(Mutex<Level>);

#[derive(Debug)]
struct Level {
    left: f64,
    at: Instant,
}

impl RetryBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self(Mutex::new(Level { left: BURST, at: now }))
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut level = self.0.lock();
        let since = now.saturating_duration_since(level.at).as_secs_f64();
        let left = since.mul_add(PER_SECOND, level.left).min(BURST);
        let may = left >= 1.0;
        *level = Level { left: if may { left - 1.0 } else { left }, at: now };
        may
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_is_let_through_and_then_so_many_a_second() {
        let start = Instant::now();
        let budget = RetryBudget::new(start);
        let taken = |after: Duration| (0..1000).filter(|_| budget.take(start + after)).count();
        assert_eq!(taken(Duration::ZERO), 200);
        assert_eq!(taken(Duration::from_millis(40)), 0);
        assert_eq!(taken(Duration::from_millis(1100)), 22);
        assert_eq!(taken(Duration::from_secs(3600)), 200);
    }
}
