//! Names for servers inside one cluster: a small number, and a set of them. What a server *is* stands in `probe`.

use std::fmt;

/// One server of the cluster, by its place in the configuration. Places 0 to 63 exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u8);

/// A set of servers, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerSet(pub u64);

impl ServerSet {
    /// The set without members.
    pub const EMPTY: ServerSet = ServerSet(0);
    /// How many servers a set, and so a cluster, can hold.
    pub const CAPACITY: usize = 64;

    /// This set and `server`. A server beyond the capacity is left out: such a server does not exist.
    #[must_use]
    pub fn with(self, server: ServerId) -> ServerSet {
        ServerSet(self.0 | bit(server))
    }

    /// This set without `server`.
    #[must_use]
    pub fn without(self, server: ServerId) -> ServerSet {
        ServerSet(self.0 & !bit(server))
    }

    /// Members of either set.
    #[must_use]
    pub fn union(self, other: ServerSet) -> ServerSet {
        ServerSet(self.0 | other.0)
    }

    /// Whether `server` is a member.
    #[must_use]
    pub fn contains(self, server: ServerId) -> bool {
        self.0 & bit(server) != 0
    }

    /// Whether there are no members.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The number of members.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The members, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = ServerId> {
        (0..64).map(ServerId).filter(move |server| self.contains(*server))
    }

    /// The member at `index % len()` in ascending order; `None` in the empty set.
    #[must_use]
    pub fn pick(self, index: usize) -> Option<ServerId> {
        self.iter().nth(index.checked_rem(self.len())?)
    }
}

fn bit(server: ServerId) -> u64 {
    1u64.checked_shl(u32::from(server.0)).unwrap_or(0)
}

impl FromIterator<ServerId> for ServerSet {
    fn from_iter<I: IntoIterator<Item = ServerId>>(servers: I) -> ServerSet {
        servers.into_iter().fold(ServerSet::EMPTY, ServerSet::with)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let set = ServerSet::EMPTY.with(ServerId(3)).with(ServerId(63)).with(ServerId(3));
        assert_eq!(set.len(), 2);
        assert_eq!(set.iter().collect::<Vec<_>>(), [ServerId(3), ServerId(63)]);
        assert_eq!(set.iter().collect::<ServerSet>(), set);
        assert!(set.without(ServerId(3)).contains(ServerId(63)));
        assert!(!set.without(ServerId(3)).contains(ServerId(3)));
    }

    #[test]
    fn places_beyond_the_capacity_do_not_exist() {
        assert!(ServerSet::EMPTY.with(ServerId(64)).is_empty());
        assert!(!ServerSet(u64::MAX).contains(ServerId(200)));
    }

    #[test]
    fn picking_goes_round() {
        let set = ServerSet(0b1010);
        assert_eq!(set.pick(0), Some(ServerId(1)));
        assert_eq!(set.pick(3), Some(ServerId(3)));
        assert_eq!(ServerSet::EMPTY.pick(3), None);
    }
}
