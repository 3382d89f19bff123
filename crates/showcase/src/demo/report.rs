//! What was found: one line for each way, one table for all, and what is wrong with it.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};

use super::shop::Way;
use super::stage::Outcome;
use crate::figures::{Count, grouped, millis, percentile};

/// What the promise has to withstand before we say that it holds: pairs of each kind, in both ways of Highwater
/// together.
pub(crate) const PAIRS_MIN: u64 = 20_000;

/// What Highwater has to bring: reads on standbys, of those with no young write to show.
const SHARE_MIN: f64 = 0.9;

/// How the table is to be read.
pub(crate) const CAPTION: &str = "\
Every request is a connection of its own: connect, one statement, disconnect; read times include that. 60 users play
a and b, 500 play c and d. A pair is a write or a read of a value and the same user's next read of it; it is broken when
that read shows an older value. Which server ran a read the server says in the same statement (inet_server_port).
The lag window is open while a write that the read has to show is younger than 2.1 s, the slower standby's delay: the
user's own writes, and with nothing carried everybody's; then the reads outside the window are those of the evening,
when nobody writes.";

/// One line of progress.
pub(crate) fn line(outcome: &Outcome) -> String {
    let tally = &outcome.tally;
    format!(
        "{} pairs judged, {} of them broken ({} s)",
        grouped(tally.pairs().into_iter().sum()),
        grouped(tally.violations()),
        outcome.took.as_secs(),
    )
}

/// All ways beside each other.
pub(crate) fn table(played: &[(Way, Outcome)]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    let titles = played.iter().map(|(way, _)| format!("{}) {}", way.letter(), way.title()));
    table.set_header(["".to_owned()].into_iter().chain(titles));
    for (name, cell) in ROWS {
        let cells = played.iter().map(|(way, outcome)| cell(*way, outcome));
        table.add_row([name.to_owned()].into_iter().chain(cells));
    }
    let figures = table.column_iter_mut().skip(1);
    figures.for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table.to_string()
}

type Cell = fn(Way, &Outcome) -> String;

const ROWS: [(&str, Cell); 12] = [
    ("wishlist: the saved item is missing", |_, outcome| outcome.tally.wishlist.hits_of_all()),
    ("badge: unread messages go backwards", |_, outcome| outcome.tally.badge.hits_of_all()),
    ("login: the session is not found", |_, outcome| outcome.tally.login.hits_of_all()),
    ("write-then-read pairs", |_, outcome| grouped(outcome.tally.write_then_read.all)),
    ("  broken (read-your-writes)", |_, outcome| broken(outcome.tally.write_then_read)),
    ("read-then-read pairs", |_, outcome| grouped(outcome.tally.read_then_read.all)),
    ("  broken (monotonic reads)", |_, outcome| broken(outcome.tally.read_then_read)),
    ("reads on standbys", |_, outcome| outcome.tally.on_standbys.percent()),
    ("  outside the lag window", |_, outcome| outcome.tally.on_standbys_outside_window.percent()),
    ("read time, median", |_, outcome| read_time(outcome, 50.0)),
    ("read time, 99th percentile", |_, outcome| read_time(outcome, 99.0)),
    ("stale reads prevented", prevented),
];

fn broken(pairs: Count) -> String {
    format!("{} ({})", grouped(pairs.hits), pairs.percent())
}

fn prevented(way: Way, outcome: &Outcome) -> String {
    if way.is_highwater() { grouped(outcome.stale_reads_prevented) } else { "-".to_owned() }
}

fn read_time(outcome: &Outcome, percent: f64) -> String {
    percentile(&mut outcome.tally.read_times.clone(), percent).map_or("-".to_owned(), millis)
}

/// Why the demo has not shown what it claims; nothing when it has.
pub(crate) fn complaints(played: &[(Way, Outcome)]) -> Vec<String> {
    let mut complaints: Vec<String> = played.iter().filter_map(|(way, outcome)| complaint(*way, outcome)).collect();
    let promised = || played.iter().filter(|(way, _)| way.is_highwater()).map(|(_, outcome)| &outcome.tally);
    let kinds = [
        ("write-then-read", promised().map(|tally| tally.write_then_read.all).sum::<u64>()),
        ("read-then-read", promised().map(|tally| tally.read_then_read.all).sum()),
    ];
    for (kind, pairs) in kinds.into_iter().filter(|(_, pairs)| *pairs < PAIRS_MIN) {
        let (pairs, least) = (grouped(pairs), grouped(PAIRS_MIN));
        complaints
            .push(format!("only {pairs} {kind} pairs through Highwater, {least} are wanted: give it more --seconds"));
    }
    complaints
}

fn complaint(way: Way, Outcome { tally, .. }: &Outcome) -> Option<String> {
    let letter = way.letter();
    if way == Way::Random {
        let [mut rounds, others @ ..] = [tally.wishlist, tally.badge, tally.login];
        others.into_iter().for_each(|other| rounds.merge(other));
        let finds_most = rounds.share().is_some_and(|share| share > 0.5) && tally.badge.hits > 0;
        return (!finds_most).then(|| format!("{letter}) the control broke only {} rounds", rounds.hits_of_all()));
    }
    if !way.is_highwater() {
        return None;
    }
    if tally.violations() > 0 {
        return Some(format!("{letter}) Highwater showed the past {} times", tally.violations()));
    }
    let outside = tally.on_standbys_outside_window;
    let is_offloaded = outside.share().is_some_and(|share| share >= SHARE_MIN);
    (!is_offloaded)
        .then(|| format!("{letter}) only {} of the reads outside the lag window ran on standbys", outside.percent()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::demo::judge::Tally;

    fn outcome(rounds: Count, write_then_read: Count, on_standbys_outside_window: Count) -> Outcome {
        let read_then_read = Count { hits: 0, all: 10_000 };
        let [wishlist, badge, login] = [rounds; 3];
        let tally = Tally {
            wishlist,
            badge,
            login,
            write_then_read,
            read_then_read,
            on_standbys_outside_window,
            ..Tally::default()
        };
        Outcome { tally, stale_reads_prevented: 0, took: Duration::ZERO }
    }

    fn count(hits: u64, all: u64) -> Count {
        Count { hits, all }
    }

    #[test]
    fn a_demo_that_shows_all_it_claims_passes() {
        let played = [
            (Way::Random, outcome(count(60, 100), count(60, 100), count(9, 9))),
            (Way::Token, outcome(count(0, 9), count(0, 10_000), count(9, 10))),
            (Way::Strong, outcome(count(0, 9), count(0, 10_000), count(9, 10))),
        ];
        assert_eq!(complaints(&played), Vec::<String>::new());
    }

    #[test]
    fn everything_that_is_missing_is_named() {
        let played = [
            (Way::Random, outcome(count(0, 100), count(0, 100), count(9, 9))),
            (Way::Token, outcome(count(0, 9), count(1, 10_000), count(9, 10))),
            (Way::Strong, outcome(count(0, 9), count(0, 9_999), count(8, 10))),
        ];
        let complaints = complaints(&played);
        let expected = ["a) the control", "c) Highwater showed", "d) only 80.0 %", "only 19,999 write-then-read"];
        assert_eq!(complaints.len(), expected.len(), "{complaints:#?}");
        for (complaint, start) in complaints.iter().zip(expected) {
            assert!(complaint.starts_with(start), "{complaint}");
        }
    }
}
