//! Who says whether a session was shown the past. Knows sets of commits, and nothing of the code that is judged.

use std::fmt;

/// A set of commits, one bit each.
pub(crate) type Commits = u128;

/// What a session has done and seen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Account {
    /// Everything that it wrote, saw, or was handed by a token.
    seen: Commits,
    /// What it saw of branches that the servers which showed them had gone to without anybody's hearing of it.
    unheard_of: Commits,
}

/// What must never happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A read did not show what its session had written or seen, and nobody had told of a loss.
    WentBack {
        /// What was missing.
        missing: Commits,
    },
    /// A strong read did not show what was acknowledged before it arrived.
    NotStrong {
        /// What was missing.
        missing: Commits,
    },
    /// A bounded read did not show what was acknowledged longer ago than allowed.
    TooStale {
        /// What was missing.
        missing: Commits,
    },
    /// Everything was well again, and somebody waited all the same.
    WaitsForEver(String),
    /// A token that a session had been given was refused.
    TokenRefused(String),
    /// A unit waited longer than its budgets.
    Overdue(u64),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missing = |commits: &Commits| {
            let numbers: Vec<String> =
                (0..128).filter(|bit| commits >> bit & 1 == 1).map(|bit| format!("#{bit}")).collect();
            numbers.join(" ")
        };
        match self {
            Self::WentBack { missing: commits } => write!(f, "a session went back: {} missing", missing(commits)),
            Self::NotStrong { missing: commits } => write!(f, "a strong read lacks {}", missing(commits)),
            Self::TooStale { missing: commits } => write!(f, "a bounded read lacks {}", missing(commits)),
            Self::WaitsForEver(what) => write!(f, "all is well, and still waiting: {what}"),
            Self::TokenRefused(why) => write!(f, "a good token was refused: {why}"),
            Self::Overdue(millis) => write!(f, "waited {millis} ms longer than allowed"),
        }
    }
}

impl Account {
    /// The session wrote something, and was told that it is committed.
    pub(crate) fn on_write(&mut self, commit: Commits) {
        self.seen |= commit;
    }

    /// The session was shown this.
    ///
    /// # Errors
    ///
    /// It had seen more.
    pub(crate) fn on_read(&mut self, shown: Commits, binds: bool) -> Result<(), Violation> {
        let missing = self.seen & !shown;
        self.seen |= shown;
        if binds && missing != 0 { Err(Violation::WentBack { missing }) } else { Ok(()) }
    }

    /// The session was told of a loss: it cannot ask for what is gone. What is still there it may ask for.
    pub(crate) fn on_told(&mut self, surviving: Commits) {
        self.seen &= surviving;
    }

    /// A server whose connection still counts as one to a standby of another branch showed this.
    pub(crate) fn on_unheard_of(&mut self, shown: Commits) {
        self.unheard_of |= shown;
    }

    /// Whether what is missing is gone with a branch of which nobody has heard: then there was nobody to tell of the loss.
    pub(crate) fn is_excused(&self, missing: Commits, surviving: Commits) -> bool {
        missing & !(self.unheard_of & !surviving) == 0
    }

    /// It takes over what another session knew when a token was made.
    pub(crate) fn on_token(&mut self, known: Account) {
        self.seen |= known.seen;
        self.unheard_of |= known.unheard_of;
    }
}

/// Whether a strong read shows what it must.
pub(crate) fn strong(shown: Commits, due: Commits) -> Result<(), Violation> {
    if due & !shown == 0 { Ok(()) } else { Err(Violation::NotStrong { missing: due & !shown }) }
}

/// Whether a bounded read shows what it must.
pub(crate) fn bounded(shown: Commits, due: Commits) -> Result<(), Violation> {
    if due & !shown == 0 { Ok(()) } else { Err(Violation::TooStale { missing: due & !shown }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_goes_back_is_found() {
        let mut account = Account::default();
        account.on_write(0b1);
        assert_eq!(account.on_read(0b10, true), Err(Violation::WentBack { missing: 0b1 }));
        let mut account = Account::default();
        assert_eq!(account.on_read(0b11, true), Ok(()));
        assert_eq!(account.on_read(0b01, true), Err(Violation::WentBack { missing: 0b10 }));
        assert_eq!(Account::default().on_read(0, true), Ok(()));
    }

    #[test]
    fn a_level_that_does_not_bind_may_go_back_and_is_remembered() {
        let mut account = Account::default();
        account.on_write(0b1);
        assert_eq!(account.on_read(0b10, false), Ok(()));
        assert_eq!(account.on_read(0b01, true), Err(Violation::WentBack { missing: 0b10 }));
    }

    #[test]
    fn a_word_excuses_what_is_lost_and_nothing_else() {
        let mut account = Account::default();
        account.on_write(0b11);
        account.on_told(0b01);
        assert_eq!(account.clone().on_read(0b01, true), Ok(()));
        assert_eq!(account.on_read(0b00, true), Err(Violation::WentBack { missing: 0b01 }));
    }

    #[test]
    fn a_token_carries_what_was_known() {
        let mut first = Account::default();
        first.on_write(0b1);
        let mut second = Account::default();
        second.on_token(first);
        assert_eq!(second.on_read(0, true), Err(Violation::WentBack { missing: 0b1 }));
    }

    #[test]
    fn what_nobody_has_heard_of_may_vanish_and_must_be_shown_while_it_is_there() {
        let mut account = Account::default();
        account.on_unheard_of(0b10);
        assert!(account.is_excused(0b10, 0b01));
        assert!(!account.is_excused(0b10, 0b11));
        assert!(!account.is_excused(0b11, 0b00));
    }

    #[test]
    fn strong_and_bounded_reads_lack_nothing_that_is_due() {
        assert_eq!(strong(0b11, 0b01), Ok(()));
        assert_eq!(strong(0b10, 0b01), Err(Violation::NotStrong { missing: 0b01 }));
        assert_eq!(bounded(0b10, 0b11), Err(Violation::TooStale { missing: 0b01 }));
    }
}
