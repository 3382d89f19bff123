//! What is asked for: the level of freshness, the kind of unit, and the limits of one routing question. Knows no servers
//! beyond their names; the answer is made in `route`.

use crate::{Micros, Seq, ServerId, ServerSet};
use std::fmt;

/// What a read must see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Everything acknowledged to anyone before the read arrived.
    Strong,
    /// Everything this session wrote or has already seen.
    Session,
    /// A state at most `max_lag` old.
    Bounded {
        /// How old, by this process's clock alone.
        max_lag: Micros,
    },
    /// Some consistent past state.
    Eventual,
    /// Read on the primary.
    Primary,
}

impl Level {
    /// Whether the level promises that what the session saw does not disappear again.
    #[must_use]
    pub fn binds_session(self) -> bool {
        matches!(self, Level::Strong | Level::Session | Level::Primary)
    }

    /// The level's name in settings and labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Level::Strong => "strong",
            Level::Session => "session",
            Level::Bounded { .. } => "bounded",
            Level::Eventual => "eventual",
            Level::Primary => "primary",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What must run as one, on one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Reads only: may run on a standby.
    Read,
    /// Reads, or reads and writes, and must run on the primary.
    PrimaryRead,
    /// A single write that shows nothing it did not write itself.
    Write,
}

/// Which servers the client allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All of them.
    #[default]
    Any,
    /// Standbys only.
    StandbysOnly,
    /// This one only.
    Only(ServerId),
}

/// One routing question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What is to run.
    pub unit: Unit,
    /// What it must see.
    pub level: Level,
    /// When it arrived, in local order ([`Cluster::next_seq`](crate::Cluster::next_seq)).
    pub arrived: Seq,
    /// When it arrived, in time.
    pub arrived_at: Micros,
    /// How long after arrival it may be kept waiting.
    pub wait_budget: Micros,
    /// How long after arrival it may be kept waiting for a primary while there is none; never less than the wait budget.
    pub failover_wait: Micros,
    /// The server to use unless it is much busier than another.
    pub preferred: Option<ServerId>,
    /// Servers on which this unit has failed already.
    pub excluded: ServerSet,
    /// Which servers the client allows.
    pub scope: Scope,
    /// Whether the primary has room for another read that standbys should have taken.
    pub fallback_allowed: bool,
    /// A random number thrown by the shell.
    pub dice: u32,
}

impl Ask {
    /// A session-level read that arrived now and may run anywhere, without preference and without waiting.
    #[must_use]
    pub fn read(arrived: Seq, arrived_at: Micros) -> Ask {
        Ask {
            unit: Unit::Read,
            level: Level::Session,
            arrived,
            arrived_at,
            wait_budget: Micros(0),
            failover_wait: Micros(0),
            preferred: None,
            excluded: ServerSet::EMPTY,
            scope: Scope::Any,
            fallback_allowed: true,
            dice: 0,
        }
    }

    /// The end of the wait budget.
    #[must_use]
    pub fn deadline(&self) -> Micros {
        self.arrived_at.plus(self.wait_budget)
    }

    /// The end of the wait for a primary.
    #[must_use]
    pub fn failover_deadline(&self) -> Micros {
        self.arrived_at.plus(self.wait_budget.max(self.failover_wait))
    }

    /// Whether the client and earlier failures leave this server in the race.
    pub(crate) fn permits(&self, server: ServerId) -> bool {
        let in_scope = match self.scope {
            Scope::Any | Scope::StandbysOnly => true,
            Scope::Only(only) => only == server,
        };
        in_scope && !self.excluded.contains(server)
    }
}
