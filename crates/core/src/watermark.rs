//! How far somebody must see: a position on a history. Positions of different timelines are never compared as numbers.

use crate::Lsn;
use std::fmt;

/// A PostgreSQL timeline id. A promotion starts a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(pub u32);

/// A lower limit on how much of the log a server must have applied. Deliberately without an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watermark {
    /// The timeline the position was read on.
    pub timeline: Timeline,
    /// The position.
    pub lsn: Lsn,
}

impl Watermark {
    /// Whether a server that has applied its log up to `position` shows everything this watermark stands for.
    #[must_use]
    pub fn reached_by(self, position: Watermark) -> bool {
        self.timeline == position.timeline && self.lsn <= position.lsn
    }

    /// The watermark that asks for both. Of two histories the older one is kept: once the cluster has moved on, the
    /// session is then told about it, where taking the larger number would silently drop one of the two demands.
    #[must_use]
    pub fn raised_to(self, other: Watermark) -> Watermark {
        match self.timeline.cmp(&other.timeline) {
            std::cmp::Ordering::Less => self,
            std::cmp::Ordering::Greater => other,
            std::cmp::Ordering::Equal => Watermark { lsn: self.lsn.max(other.lsn), ..self },
        }
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.lsn, self.timeline.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, lsn: u64) -> Watermark {
        Watermark { timeline: Timeline(timeline), lsn: Lsn(lsn) }
    }

    #[test]
    fn reached_only_on_the_same_timeline() {
        assert!(at(1, 5).reached_by(at(1, 5)));
        assert!(!at(1, 6).reached_by(at(1, 5)));
        assert!(!at(1, 5).reached_by(at(2, 500)));
        assert!(!at(2, 5).reached_by(at(1, 500)));
    }

    #[test]
    fn raising_never_lowers_and_keeps_the_older_history() {
        assert_eq!(at(1, 5).raised_to(at(1, 3)), at(1, 5));
        assert_eq!(at(1, 3).raised_to(at(1, 5)), at(1, 5));
        assert_eq!(at(2, 3).raised_to(at(1, 5)), at(1, 5));
        assert_eq!(at(1, 5).raised_to(at(2, 9)), at(1, 5));
    }
}
