//! Figures and how a reader gets them: medians, percentiles, shares.

use std::time::Duration;

/// How many of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) hits: u64,
    pub(crate) all: u64,
}

impl Count {
    /// Counts one more.
    pub(crate) fn add(&mut self, hit: bool) {
        self.hits += u64::from(hit);
        self.all += 1;
    }

    /// Counts what `other` counted too.
    pub(crate) fn merge(&mut self, other: Self) {
        self.hits += other.hits;
        self.all += other.all;
    }

    /// Between 0 and 1; nothing at all is no share.
    pub(crate) fn share(self) -> Option<f64> {
        (self.all > 0).then(|| self.hits as f64 / self.all as f64)
    }

    /// `97.3 %`, or a dash.
    pub(crate) fn percent(self) -> String {
        self.share().map_or("-".to_owned(), |share| format!("{:.1} %", share * 100.0))
    }

    /// `3 of 12,345`.
    pub(crate) fn hits_of_all(self) -> String {
        format!("{} of {}", grouped(self.hits), grouped(self.all))
    }
}

/// The value below or at which `percent` of the values lie (nearest rank). Sorts `values`; `None` when there are none.
pub(crate) fn percentile<T: Copy + Ord>(values: &mut [T], percent: f64) -> Option<T> {
    values.sort_unstable();
    let rank = (values.len() as f64 * percent / 100.0).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

/// The value in the middle, the lower one of two. `None` when there are none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// `1.23 ms`.
pub(crate) fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let head = digits.len() % 3;
    let (first, rest) = digits.split_at(head);
    let groups = rest.as_bytes().chunks(3).map(|group| String::from_utf8_lossy(group).into_owned());
    let first = (head > 0).then(|| first.to_owned());
    first.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_take_the_nearest_rank() {
        let mut values: Vec<u32> = (1..=100).rev().collect();
        assert_eq!(percentile(&mut values, 50.0), Some(50));
        assert_eq!(percentile(&mut values, 99.0), Some(99));
        assert_eq!(percentile(&mut [7], 1.0), Some(7));
        assert_eq!(percentile::<u32>(&mut [], 50.0), None);
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0].into_iter()), Some(1.0));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1000, 20_000, 1_234_567].map(grouped), ["0", "999", "1,000", "20,000", "1,234,567"]);
    }
}
