//! Addresses of both families as one set: what tiers, literals and `"*"` have in common.

use crate::change::Addresses;
use crate::member::Member;
use crate::model::{Endpoint, Policy, Tier};
use ruleset::{Address, AddressRange, AddressSet};
use std::net::IpAddr;

impl Addresses {
    /// One address; a dual-stack socket's view of an IPv4 address is taken for that address.
    pub fn single(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Member::V4(AddressRange::single(address)).into(),
            IpAddr::V6(address) => Member::V6(AddressRange::single(address)).into(),
        }
    }

    /// The members of a tier.
    pub fn of_tier(tier: &Tier) -> Self {
        Self { v4: tier.v4.clone(), v6: tier.v6.clone() }
    }

    /// The literal addresses of an endpoint.
    pub fn of_literals(endpoint: &Endpoint) -> Self {
        Self { v4: endpoint.v4.clone(), v6: endpoint.v6.clone() }
    }

    /// The members of every tier.
    pub fn of_all_tiers(policy: &Policy) -> Self {
        policy.tiers.values().map(Self::of_tier).collect()
    }

    /// Whether `address` is among them.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(address) => self.v4.contains(address),
            IpAddr::V6(address) => self.v6.contains(address),
        }
    }

    /// Whether `other` lies within.
    pub fn covers(&self, other: &Self) -> bool {
        self.v4.covers(&other.v4) && self.v6.covers(&other.v6)
    }

    /// Whether the two have an address in common.
    pub fn intersects(&self, other: &Self) -> bool {
        self.v4.intersects(&other.v4) || self.v6.intersects(&other.v6)
    }

    /// What both hold.
    pub fn meet(&self, other: &Self) -> Self {
        Self { v4: meet(&self.v4, &other.v4), v6: meet(&self.v6, &other.v6) }
    }

    /// What either holds.
    pub fn union(&self, other: &Self) -> Self {
        Self { v4: self.v4.union(&other.v4), v6: self.v6.union(&other.v6) }
    }

    /// What the other doesn't hold.
    pub fn minus(&self, other: &Self) -> Self {
        self.without(other)
    }

    /// How many there are; none beyond what a person counts.
    pub fn count(&self) -> Option<u64> {
        const MOST: u128 = 100_000_000;
        let count = size(&self.v4).saturating_add(size(&self.v6));
        u64::try_from(count).ok().filter(|_| count <= MOST)
    }

    /// How many there are of each family, IPv4 first.
    pub(crate) fn sizes(&self) -> (u128, u128) {
        (size(&self.v4), size(&self.v6))
    }
}

impl From<Member> for Addresses {
    fn from(member: Member) -> Self {
        let mut addresses = Self::default();
        match member {
            Member::V4(range) => addresses.v4 = AddressSet::new(vec![range]),
            Member::V6(range) => addresses.v6 = AddressSet::new(vec![range]),
        }
        addresses
    }
}

impl FromIterator<Self> for Addresses {
    fn from_iter<I: IntoIterator<Item = Self>>(all: I) -> Self {
        let (v4, v6) = all.into_iter().map(|Self { v4, v6 }| (v4, v6)).unzip();
        Self { v4: AddressSet::union_of(v4), v6: AddressSet::union_of(v6) }
    }
}

fn meet<A: Address>(a: &AddressSet<A>, b: &AddressSet<A>) -> AddressSet<A> {
    match a.intersects(b) {
        true => a.minus(&a.minus(b)),
        false => AddressSet::default(),
    }
}

fn size<A: Address>(set: &AddressSet<A>) -> u128 {
    let of_range = |range: AddressRange<A>| {
        (range.last.to_number() - range.first.to_number()).saturating_add(1)
    };
    set.ranges().map(of_range).fold(0, u128::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(members: &[&str]) -> Addresses {
        let member = |text: &&str| text.parse::<Member>().expect("a member").into();
        members.iter().map(member).collect()
    }

    #[test]
    fn meets_in_both_families() {
        let a = addresses(&["10.0.0.0-10.0.0.9", "2001:db8::/64"]);
        let b = addresses(&["10.0.0.5-10.0.0.20", "2001:db8::7"]);
        assert_eq!(a.meet(&b), addresses(&["10.0.0.5-10.0.0.9", "2001:db8::7"]));
        assert_eq!(a.minus(&b).v4, addresses(&["10.0.0.0-10.0.0.4"]).v4);
        assert!(a.meet(&addresses(&["192.0.2.1"])).is_empty());
    }

    #[test]
    fn counts_what_can_be_counted() {
        assert_eq!(addresses(&["10.0.0.0/24", "2001:db8::1"]).count(), Some(257));
        assert_eq!(addresses(&["2001:db8::/64"]).count(), None);
        assert_eq!(addresses(&["::/0"]).count(), None);
    }
}
