//! Histories of fixed seeds are clean and rich, and every broken rule is found out.

use highwater_sim::{Mistake, search};

/// Enough for everything that can happen to happen often, in a few seconds.
const HISTORIES: u64 = 20_000;
/// The rarest breach needs some ten thousand.
const HISTORIES_TO_FIND: u64 = 100_000;

/// What a rich run has met.
const EVENTS: &[&str] = &[
    "promotions",
    "crashes",
    "partitions",
    "proxies restarted",
    "servers gone",
    "servers follow",
    "long silences",
    "places that lead elsewhere",
    "units that take time",
    "units cut short",
    "answers kept back",
    "replay paused or resumed",
    "commits shown late",
    "asynchronous commits",
    "logs flushed late",
    "unknown outcomes",
    "tokens accepted",
    "tokens refused",
    "losses told",
    "strong reads judged",
    "bounded reads judged",
    "reads on standbys",
    "reads on primaries",
    "writes",
    // Reasons and refusals by their names in the core.
    "caught_up",
    "same_standby",
    "as_fresh_as_primary",
    "within_max_lag",
    "any_standby",
    "must_run_on_primary",
    "no_healthy_standby",
    "standbys_too_far_behind",
    "budget_spent",
    "nothing_required",
    "await_primary",
    "await_primary_position",
    "await_standby_position",
    "await_replay",
    "await_visibility",
    "no_primary",
    "not_yet_visible",
    "position_unknown",
];

#[test]
fn histories_are_clean_and_rich() {
    let run = search(0, HISTORIES, None, None);
    assert!(run.found.is_none(), "cargo xtask sim --trace --seed {}", run.found.expect("there is one").0);
    assert_eq!(run.played, HISTORIES);
    let missing: Vec<_> = EVENTS.iter().filter(|event| run.tally.of(event) < 10).collect();
    assert!(missing.is_empty(), "hardly ever: {missing:?}");
}

#[test]
fn every_broken_rule_is_found_out() {
    for mistake in Mistake::ALL {
        let run = search(0, HISTORIES_TO_FIND, Some(mistake), None);
        assert!(run.found.is_some(), "{mistake:?} is not found in {HISTORIES_TO_FIND} histories");
    }
}
