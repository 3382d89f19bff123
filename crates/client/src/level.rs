//! What a read may see, in Highwater's words.

/// From the loosest to the strictest; README.md of Highwater says what each promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Some state that the primary had, or will have had.
    Eventual,
    /// A state at most `max_lag` old, as Highwater is configured.
    Bounded,
    /// What this session wrote and has been shown.
    Session,
    /// Every commit that was acknowledged before the read arrived.
    Strong,
    /// On the primary.
    Primary,
}

impl Level {
    /// The word for `SET highwater.consistency`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Bounded => "bounded",
            Self::Session => "session",
            Self::Strong => "strong",
            Self::Primary => "primary",
        }
    }
}
