//! Which cluster this is: decided once, by what most of the configured servers say of themselves. A stranger that happens
//! to answer first must not become the cluster to which all others are foreign.

use std::sync::OnceLock;

use parking_lot::Mutex;

/// What each configured server has said of its system identifier.
#[derive(Debug)]
pub(crate) struct Census {
    /// By server: nothing yet, could not be asked, or the identifier.
    votes: Mutex<Vec<Option<Option<u64>>>>,
    decided: OnceLock<u64>,
}

impl Census {
    pub(crate) fn new(servers: usize) -> Self {
        Self { votes: Mutex::new(vec![None; servers]), decided: OnceLock::new() }
    }

    /// Server number `server` was asked: its identifier, or `None` if it could not be reached.
    pub(crate) fn vote(&self, server: usize, system_id: Option<u64>) {
        let mut votes = self.votes.lock();
        if let Some(vote) = votes.get_mut(server) {
            *vote = Some(system_id.or(vote.flatten()));
        }
        if let Some(found) = majority(&votes) {
            let _ = self.decided.set(found);
        }
    }

    /// The cluster's identifier, once it is decided.
    pub(crate) fn decided(&self) -> Option<u64> {
        self.decided.get().copied()
    }
}

/// What more than half of all servers say; once everybody was asked, what most say, of equals the one listed first.
fn majority(votes: &[Option<Option<u64>>]) -> Option<u64> {
    let said = || votes.iter().copied().flatten().flatten();
    let count = |id: u64| said().filter(|other| *other == id).count();
    let best = said().rev().max_by_key(|id| count(*id))?;
    let everybody = votes.iter().all(Option::is_some);
    (everybody || count(best) * 2 > votes.len()).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_that_answers_first_does_not_win() {
        let census = Census::new(4);
        census.vote(3, Some(99));
        census.vote(0, Some(7));
        assert_eq!(census.decided(), None);
        census.vote(1, Some(7));
        assert_eq!(census.decided(), None, "two of four are not more than half");
        census.vote(2, Some(7));
        assert_eq!(census.decided(), Some(7));
    }

    #[test]
    fn servers_that_are_away_do_not_hold_it_up_for_ever() {
        let census = Census::new(3);
        census.vote(0, None);
        census.vote(1, Some(7));
        assert_eq!(census.decided(), None);
        census.vote(2, None);
        assert_eq!(census.decided(), Some(7));
    }

    #[test]
    fn of_equals_the_first_listed_wins() {
        let census = Census::new(2);
        census.vote(1, Some(99));
        census.vote(0, Some(7));
        assert_eq!(census.decided(), Some(7));
    }

    #[test]
    fn nobody_there_decides_nothing() {
        let census = Census::new(1);
        census.vote(0, None);
        assert_eq!(census.decided(), None);
        census.vote(0, Some(7));
        assert_eq!(census.decided(), Some(7));
    }
}
