//! The judge: what a user wrote and saw, and whether the next answer contradicts it.
//!
//! It looks at values in rows and at nothing else. It must not know the ways, nor what any router says of itself.

use std::time::Duration;

use crate::figures::Count;

/// What one user knows of a value that only ever grows: the number of the last item on a list, a count of messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Witness {
    value: i64,
    by: Option<Knowledge>,
}

/// How the user came to know the value last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    Wrote,
    Read,
}

impl Witness {
    /// The user wrote `value`, and was told that it is saved.
    pub(crate) fn wrote(&mut self, value: i64) {
        *self = Self { value, by: Some(Knowledge::Wrote) };
    }

    /// The user was shown `value`. Returns whether that contradicts what he wrote or was shown just before; if it does,
    /// he believes the screen from now on.
    pub(crate) fn was_shown(&mut self, value: i64, tally: &mut Tally) -> bool {
        let is_past = self.by.is_some() && value < self.value;
        match self.by {
            Some(Knowledge::Wrote) => tally.write_then_read.add(is_past),
            Some(Knowledge::Read) => tally.read_then_read.add(is_past),
            None => {}
        }
        *self = Self { value, by: Some(Knowledge::Read) };
        is_past
    }
}

/// What happened to one user, or to many. In the pairs and stories the hits are the broken ones.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Items missing right after they were saved.
    pub(crate) wishlist: Count,
    /// Messages after which some page counted less than the page before.
    pub(crate) badge: Count,
    /// Logins that the next request did not find.
    pub(crate) login: Count,
    /// A write and the same user's next read of that value: read-your-writes.
    pub(crate) write_then_read: Count,
    /// Two reads of a value by one user with no write of his between: monotonic reads.
    pub(crate) read_then_read: Count,
    /// Reads that ran on standbys.
    pub(crate) on_standbys: Count,
    /// The same, of those reads only that had no young write to see.
    pub(crate) on_standbys_outside_window: Count,
    /// How long each read took, with its connection.
    pub(crate) read_times: Vec<Duration>,
}

impl Tally {
    /// Counts what `other` counted too.
    pub(crate) fn merge(&mut self, other: Self) {
        self.wishlist.merge(other.wishlist);
        self.badge.merge(other.badge);
        self.login.merge(other.login);
        self.write_then_read.merge(other.write_then_read);
        self.read_then_read.merge(other.read_then_read);
        self.on_standbys.merge(other.on_standbys);
        self.on_standbys_outside_window.merge(other.on_standbys_outside_window);
        self.read_times.extend(other.read_times);
    }

    /// Write-then-read and read-then-read pairs.
    pub(crate) fn pairs(&self) -> [u64; 2] {
        [self.write_then_read.all, self.read_then_read.all]
    }

    /// Both kinds of pairs in which the past was shown.
    pub(crate) fn violations(&self) -> u64 {
        self.write_then_read.hits + self.read_then_read.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(history: &[(char, i64)]) -> (Count, Count) {
        let (mut witness, mut tally) = (Witness::default(), Tally::default());
        for (event, value) in history {
            match event {
                'w' => witness.wrote(*value),
                _ => drop(witness.was_shown(*value, &mut tally)),
            }
        }
        (tally.write_then_read, tally.read_then_read)
    }

    #[test]
    fn a_missing_write_and_a_step_back_are_found() {
        let count = |hits, all| Count { hits, all };
        assert_eq!(shown(&[('w', 1), ('r', 1), ('r', 1)]), (count(0, 1), count(0, 1)));
        assert_eq!(shown(&[('w', 2), ('r', 1)]), (count(1, 1), count(0, 0)));
        assert_eq!(shown(&[('r', 3), ('r', 4), ('r', 3), ('r', 3)]), (count(0, 0), count(1, 3)));
        assert_eq!(shown(&[('r', 3), ('w', 4), ('r', 9)]), (count(0, 1), count(0, 0)), "others may write too");
    }

    #[test]
    fn a_first_look_is_no_pair() {
        assert_eq!(shown(&[('r', 0)]), (Count::default(), Count::default()));
    }
}
