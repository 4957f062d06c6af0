//! Whose table it is: this server's tier, by which the allows name it.

use crate::intervals::Intervals;
use crate::region::Addresses;
use ruleset::Family;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// This server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Owner {
    /// Its addresses; none where they aren't known.
    pub(crate) addresses: Vec<IpAddr>,
    /// The sets that its tier is made of.
    pub(crate) sets: BTreeSet<String>,
}

impl Owner {
    /// Whether these are all addresses that the server has, so that an allow needn't name them.
    pub(crate) fn is_all_of(&self, own: &Addresses, family: Family) -> bool {
        if own.is_all(family) {
            return true;
        }
        if own.set.as_ref().is_some_and(|(id, negated)| !negated && self.sets.contains(id)) {
            return true;
        }
        let known = self.ranges(family);
        !known.is_empty() && own.ranges.covers(&known)
    }

    pub(crate) fn ranges(&self, family: Family) -> Intervals {
        let of = |address: &IpAddr| {
            let number = match address {
                IpAddr::V4(address) => u32::from(*address).into(),
                IpAddr::V6(address) => u128::from(*address),
            };
            (Family::of(*address) == family).then_some((number, number))
        };
        Intervals::new(self.addresses.iter().filter_map(of).collect())
    }
}
