//! Which timelines led to a server's, and where each was left. Two positions compare as numbers only as far as their
//! histories are the same; beyond that one of them is on a branch that the other has never seen.
//!
//! ```text
//! 1 ----------+--x          x: written on 1 after 2 had left it, and lost once 2 is the cluster's
//!             |
//!             +------- 2
//!         switch point
//! ```
//!
//! A timeline's number does not name it: two standbys promoted apart both start a timeline 2. Hence [`Branch`].

use crate::{Lsn, Timeline};
use std::fmt;

/// One timeline of one history, in a few bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    /// The timeline.
    pub timeline: Timeline,
    /// FNV-1a, 32 bits, over the timelines before it and where they were left.
    pub origin: u32,
}

/// A timeline and its past.
///
/// ```
/// use highwater_core::{History, Lsn, Timeline};
/// let old = History::first();
/// let new = History::new(Timeline(2), vec![(Timeline(1), Lsn(500))]);
/// assert_eq!(new.shared_with(&old), Some(Lsn(500)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct History {
    /// Oldest first, each with its switch point.
    ancestors: Vec<(Timeline, Lsn)>,
    timeline: Timeline,
}

impl Branch {
    /// Timeline 1, which has no past.
    pub const FIRST: Branch = Branch { timeline: Timeline(1), origin: NO_PAST };
}

impl History {
    /// `ancestors` as in the server's history file: oldest first, each with the position where the next one left it. A
    /// timeline beyond the first without any is one whose past could not be learnt: it shares nothing with others.
    #[must_use]
    pub fn new(timeline: Timeline, ancestors: Vec<(Timeline, Lsn)>) -> History {
        History { ancestors, timeline }
    }

    /// Timeline 1.
    #[must_use]
    pub fn first() -> History {
        History::new(Timeline(1), Vec::new())
    }

    /// What positions read on a server with this history belong to.
    #[must_use]
    pub fn branch(&self) -> Branch {
        Branch { timeline: self.timeline, origin: origin(&self.ancestors) }
    }

    /// The position where this timeline began; `None` for one without a known past.
    #[must_use]
    pub fn began_at(&self) -> Option<Lsn> {
        self.ancestors.last().map(|(_, left)| *left)
    }

    /// Up to which position both histories are one; `None` if they are the same.
    #[must_use]
    pub fn shared_with(&self, other: &History) -> Option<Lsn> {
        let mut shared = Lsn(0);
        for (one, two) in self.stretches().zip(other.stretches()) {
            if one == two {
                shared = one.1;
            } else if one.0 == two.0 {
                return Some(one.1.min(two.1));
            } else {
                return Some(shared);
            }
        }
        None
    }

    /// Up to which position this history contains the branch's; `None` if it is not one of its own.
    pub(crate) fn contains(&self, branch: Branch) -> Option<Lsn> {
        let found = self.stretches().position(|(timeline, _)| timeline == branch.timeline)?;
        let (_, left) = self.stretches().nth(found)?;
        (origin(&self.ancestors[..found]) == branch.origin).then_some(left)
    }

    /// Every timeline with the end of what there is of it; the newest has none yet.
    ///
    /// Of a standby that is promoted before it has replayed up to the switch point of the timeline that it follows,
    /// PostgreSQL writes that it left that one before it began (`writeTimeLineHistory` takes the timeline aimed at for the
    /// parent). What came before counts only as far, too.
    fn stretches(&self) -> impl Iterator<Item = (Timeline, Lsn)> {
        let end = |from: usize| self.ancestors[from..].iter().map(|(_, left)| *left).min().unwrap_or(Lsn(u64::MAX));
        let timelines = self.ancestors.iter().map(|(timeline, _)| *timeline).chain([self.timeline]);
        timelines.enumerate().map(move |(place, timeline)| (timeline, end(place)))
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.timeline.0)
    }
}

/// FNV-1a of nothing.
const NO_PAST: u32 = 0x811C_9DC5;

fn origin(ancestors: &[(Timeline, Lsn)]) -> u32 {
    let bytes =
        ancestors.iter().flat_map(|(timeline, left)| timeline.0.to_be_bytes().into_iter().chain(left.0.to_be_bytes()));
    fnv_1a(bytes)
}

/// FNV-1a, 32 bits: short, and sensitive to every changed, lost or swapped byte of something this short.
pub(crate) fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u32 {
    bytes.fold(NO_PAST, |digits, byte| (digits ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(timeline: u32, ancestors: &[(u32, u64)]) -> History {
        History::new(Timeline(timeline), ancestors.iter().map(|(id, left)| (Timeline(*id), Lsn(*left))).collect())
    }

    #[test]
    fn histories_are_one_up_to_the_first_difference() {
        let first = History::first();
        let second = history(2, &[(1, 50)]);
        let third = history(3, &[(1, 50), (2, 70)]);
        let rival = history(2, &[(1, 60)]);
        let unknown = history(5, &[]);
        for (one, two, shared) in [
            (&first, &second, Some(50)),
            (&first, &third, Some(50)),
            (&second, &third, Some(70)),
            (&second, &rival, Some(50)),
            (&third, &rival, Some(50)),
            (&second, &second, None),
            (&unknown, &third, Some(0)),
        ] {
            assert_eq!(one.shared_with(two), shared.map(Lsn), "{one:?} {two:?}");
            assert_eq!(two.shared_with(one), shared.map(Lsn), "{two:?} {one:?}");
        }
    }

    #[test]
    fn a_timeline_may_be_left_before_it_began() {
        let second = history(2, &[(1, 50)]);
        let third = history(3, &[(1, 50), (2, 30)]);
        assert_eq!(third.contains(Branch::FIRST), Some(Lsn(30)));
        assert_eq!(third.contains(second.branch()), Some(Lsn(30)));
        assert_eq!(second.shared_with(&third), Some(Lsn(30)));
        assert_eq!(History::first().shared_with(&third), Some(Lsn(30)));
    }

    #[test]
    fn a_branch_is_known_by_its_past() {
        let third = history(3, &[(1, 50), (2, 70)]);
        assert_eq!(third.contains(Branch::FIRST), Some(Lsn(50)));
        assert_eq!(third.contains(history(2, &[(1, 50)]).branch()), Some(Lsn(70)));
        assert_eq!(third.contains(history(2, &[(1, 60)]).branch()), None, "another timeline 2");
        assert_eq!(third.contains(history(4, &[(1, 50)]).branch()), None);
        assert_eq!(history(3, &[]).contains(Branch::FIRST), None, "a past that could not be learnt");
        assert_eq!(History::first().branch(), Branch::FIRST);
    }
}
