//! Why a route is as it is. Values without strings; the label and the sentence of each stand here and nowhere else.

use crate::Micros;
use std::fmt;

/// Why a unit runs where it runs, or what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The session asks for nothing yet.
    NothingRequired,
    /// The standby has applied all that the session wrote or saw.
    CaughtUp,
    /// The same run of the same standby as the session's last read.
    SameStandby,
    /// The standby has applied all that was acknowledged before arrival.
    AsFreshAsPrimary,
    /// The standby is not further behind than allowed.
    WithinMaxLag,
    /// Any healthy standby will do.
    AnyStandby,
    /// A single write.
    Write,
    /// The unit must run on the primary.
    MustRunOnPrimary,
    /// The level, or the client's choice of server, says primary.
    PrimaryAsked,
    /// No standby is healthy: the primary at once.
    NoHealthyStandby,
    /// No standby will get there within the budget: the primary at once.
    StandbysTooFarBehind,
    /// No standby got there within the budget: the primary.
    BudgetSpent,
    /// Waiting for the primary's position.
    AwaitPrimaryPosition,
    /// Waiting for the position of the standby that was read last.
    AwaitStandbyPosition,
    /// Waiting for a standby to apply what is required.
    AwaitReplay,
    /// Waiting until the primary shows what a standby showed.
    AwaitVisibility,
    /// Waiting for a primary.
    AwaitPrimary,
    /// Waiting for a healthy standby.
    AwaitStandby,
}

impl Reason {
    /// Every reason, for tables of labels.
    pub const ALL: [Reason; 18] = [
        Reason::NothingRequired,
        Reason::CaughtUp,
        Reason::SameStandby,
        Reason::AsFreshAsPrimary,
        Reason::WithinMaxLag,
        Reason::AnyStandby,
        Reason::Write,
        Reason::MustRunOnPrimary,
        Reason::PrimaryAsked,
        Reason::NoHealthyStandby,
        Reason::StandbysTooFarBehind,
        Reason::BudgetSpent,
        Reason::AwaitPrimaryPosition,
        Reason::AwaitStandbyPosition,
        Reason::AwaitReplay,
        Reason::AwaitVisibility,
        Reason::AwaitPrimary,
        Reason::AwaitStandby,
    ];

    /// The label: one word in snake case, stable across versions.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.words().0
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Reason::NothingRequired => ("nothing_required", "the session has written and seen nothing yet"),
            Reason::CaughtUp => ("caught_up", "the standby has applied everything this session wrote or saw"),
            Reason::SameStandby => ("same_standby", "the session read on this standby last"),
            Reason::AsFreshAsPrimary => {
                ("as_fresh_as_primary", "the standby has applied everything acknowledged before the read arrived")
            }
            Reason::WithinMaxLag => ("within_max_lag", "the standby is not further behind than allowed"),
            Reason::AnyStandby => ("any_standby", "any healthy standby will do"),
            Reason::Write => ("write", "writes run on the primary"),
            Reason::MustRunOnPrimary => ("must_run_on_primary", "the statement or transaction must run on the primary"),
            Reason::PrimaryAsked => ("primary_asked", "the client asked for the primary"),
            Reason::NoHealthyStandby => ("no_healthy_standby", "no healthy standby is available"),
            Reason::StandbysTooFarBehind => {
                ("standbys_too_far_behind", "no standby will catch up within the wait budget")
            }
            Reason::BudgetSpent => ("budget_spent", "no standby caught up within the wait budget"),
            Reason::AwaitPrimaryPosition => ("await_primary_position", "waiting for the position of the primary"),
            Reason::AwaitStandbyPosition => {
                ("await_standby_position", "waiting for the position of the standby the session read on last")
            }
            Reason::AwaitReplay => ("await_replay", "waiting for a standby to catch up"),
            Reason::AwaitVisibility => {
                ("await_visibility", "waiting until the primary shows what the session saw on a standby")
            }
            Reason::AwaitPrimary => ("await_primary", "waiting for a primary"),
            Reason::AwaitStandby => ("await_standby", "waiting for a healthy standby"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words().1)
    }
}

/// Why a unit runs nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// No server is known to be the primary.
    NoPrimary,
    /// The client allows standbys only, and none is healthy.
    NoStandby,
    /// The client's choice of servers leaves out the primary, where this must run.
    PrimaryOutOfScope,
    /// No standby got there, and the client does not allow the primary.
    NotCaughtUp {
        /// What the nearest standby still lacks, in bytes of log.
        missing_bytes: u64,
        /// How long it will probably take; `None` if that is not known.
        catch_up: Option<Micros>,
    },
    /// No standby got there, and the primary has taken as many such reads as it may.
    FallbackSpent {
        /// What the nearest standby still lacks, in bytes of log; 0 if no standby is healthy.
        missing_bytes: u64,
        /// How long it will probably take; `None` if that is not known.
        catch_up: Option<Micros>,
    },
    /// The primary does not yet show what standbys showed: a commit is still waiting for its acknowledgement.
    NotYetVisible {
        /// How far the primary's visible state is behind, in bytes of log; `None` if it is not known.
        missing_bytes: Option<u64>,
    },
    /// A position that is needed did not arrive in time.
    PositionUnknown,
}

impl Refusal {
    /// The label: one word in snake case, stable across versions.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Refusal::NoPrimary => "no_primary",
            Refusal::NoStandby => "no_standby",
            Refusal::PrimaryOutOfScope => "primary_out_of_scope",
            Refusal::NotCaughtUp { .. } => "not_caught_up",
            Refusal::FallbackSpent { .. } => "fallback_spent",
            Refusal::NotYetVisible { .. } => "not_yet_visible",
            Refusal::PositionUnknown => "position_unknown",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NoPrimary => f.write_str("no primary is known"),
            Refusal::NoStandby => f.write_str("no healthy standby is available"),
            Refusal::PrimaryOutOfScope => f.write_str("this must run on the primary, which the connection leaves out"),
            Refusal::NotCaughtUp { missing_bytes, catch_up } => {
                write!(f, "no standby has caught up: {missing_bytes} bytes are missing")?;
                write_catch_up(f, *catch_up)
            }
            Refusal::FallbackSpent { missing_bytes, catch_up } => {
                write!(
                    f,
                    "no standby has caught up ({missing_bytes} bytes are missing) and the primary is taking as many "
                )?;
                f.write_str("such reads as it may")?;
                write_catch_up(f, *catch_up)
            }
            Refusal::NotYetVisible { missing_bytes: Some(bytes) } => {
                write!(f, "the primary does not yet show what a standby showed: it is {bytes} bytes behind")
            }
            Refusal::NotYetVisible { missing_bytes: None } => {
                f.write_str("the primary is not known to show what a standby showed")
            }
            Refusal::PositionUnknown => f.write_str("the position of a server did not arrive in time"),
        }
    }
}

fn write_catch_up(f: &mut fmt::Formatter<'_>, catch_up: Option<Micros>) -> fmt::Result {
    match catch_up {
        Some(Micros(micros)) => write!(f, ", which should take about {} ms", micros.div_ceil(1000)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_are_snake_case_and_differ() {
        let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), Reason::ALL.len());
        assert_eq!(Reason::ALL.iter().map(ToString::to_string).collect::<HashSet<_>>().len(), Reason::ALL.len());
    }

    #[test]
    fn refusals_give_their_figures() {
        let refusal = Refusal::NotCaughtUp { missing_bytes: 1500, catch_up: Some(Micros(2100)) };
        assert_eq!(
            refusal.to_string(),
            "no standby has caught up: 1500 bytes are missing, which should take about 3 ms"
        );
    }
}
