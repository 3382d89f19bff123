//! Order and time as plain numbers. This process has one order of local events ([`Seq`]); time is only ever compared
//! with time handed in by the same shell. Nothing here can read a clock.

/// The order of local events in this process: a later event has a larger number. Not a time and not comparable with the
/// numbers of another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The generation of a server's probe connection. Evidence never outlives its epoch: a server that crash-restarts may
/// come back behind what it already showed, and only the end of every connection tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// Microseconds: a point on the shell's monotonic time line, or a length of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Micros(pub u64);

impl Micros {
    /// Microseconds in `millis` milliseconds; saturates.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Micros {
        Micros(millis.saturating_mul(1000))
    }

    /// The time from `earlier` until this point; zero when `earlier` is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Micros) -> Micros {
        Micros(self.0.saturating_sub(earlier.0))
    }

    /// The point `length` after this one; saturates.
    #[must_use]
    pub const fn plus(self, length: Micros) -> Micros {
        Micros(self.0.saturating_add(length.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates() {
        assert_eq!(Micros(3).since(Micros(5)), Micros(0));
        assert_eq!(Micros(u64::MAX).plus(Micros(5)), Micros(u64::MAX));
        assert_eq!(Micros::from_millis(2), Micros(2000));
    }
}
