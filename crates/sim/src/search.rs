//! Many histories on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use crate::{Mistake, Tally, Violation, play};

/// What many seeds have led to.
#[derive(Debug, Default)]
pub struct Search {
    /// The lowest seed among those played that led to something forbidden.
    pub found: Option<(u64, Violation)>,
    /// What has happened in all of them.
    pub tally: Tally,
    /// How many histories were played.
    pub played: u64,
}

/// Plays `count` histories from the seed `first` on, until one is found that is forbidden, or until `end`.
#[must_use]
pub fn search(first: u64, count: u64, mistake: Option<Mistake>, end: Option<Instant>) -> Search {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let all = Mutex::new(Search::default());
    let one_after_another = || {
        let mut own = Search::default();
        while !stop.load(Ordering::Relaxed) && end.is_none_or(|end| Instant::now() < end) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.saturating_add(count) {
                break;
            }
            let history = play(seed, mistake, false);
            own.played += 1;
            own.tally.add(&history.tally);
            if let Some(violation) = history.violation {
                stop.store(true, Ordering::Relaxed);
                own.found = Some((seed, violation));
            }
        }
        let mut all = all.lock().expect("nobody panics with it");
        all.played += own.played;
        all.tally.add(&own.tally);
        let earlier = |(seed, _): &(u64, Violation)| all.found.as_ref().is_none_or(|(other, _)| seed < other);
        if own.found.as_ref().is_some_and(earlier) {
            all.found = own.found;
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(one_after_another);
        }
    });
    all.into_inner().expect("nobody panics with it")
}
