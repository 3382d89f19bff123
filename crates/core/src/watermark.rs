//! How far somebody must see: a position on a branch. Positions of different branches are never compared as numbers.

use crate::{Branch, Lsn};
use std::fmt;

/// A PostgreSQL timeline id. A promotion starts a new one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timeline(pub u32);

/// A lower limit on how much of the log a server must have applied. Deliberately without an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Watermark {
    /// The branch the position was read on.
    pub branch: Branch,
    /// The position.
    pub lsn: Lsn,
}

impl Watermark {
    /// Whether a server that has applied its log up to `position` shows everything this watermark stands for.
    #[must_use]
    pub fn reached_by(self, position: Watermark) -> bool {
        self.branch == position.branch && self.lsn <= position.lsn
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.lsn, self.branch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, lsn: u64) -> Watermark {
        Watermark { branch: Branch { timeline: Timeline(timeline), ..Branch::FIRST }, lsn: Lsn(lsn) }
    }

    #[test]
    fn reached_only_on_the_same_branch() {
        assert!(at(1, 5).reached_by(at(1, 5)));
        assert!(!at(1, 6).reached_by(at(1, 5)));
        assert!(!at(1, 5).reached_by(at(2, 500)));
        assert!(!at(2, 5).reached_by(at(1, 500)));
    }
}
