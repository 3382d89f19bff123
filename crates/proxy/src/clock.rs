//! The process's monotonic clock, as the number that the core takes.

use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use highwater_core::Micros;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Microseconds since the process first asked.
pub(crate) fn now() -> Micros {
    Micros(u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX))
}

/// The wall clock in seconds since 1970, for a token's time of issue and nothing that decides.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A duration as the core counts it.
pub(crate) fn micros(duration: Duration) -> Micros {
    Micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
