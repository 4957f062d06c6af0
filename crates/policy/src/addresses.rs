//! Addresses of both families as one set: what tiers, literals and `"*"` have in common.

use crate::member::Member;
use crate::model::{Endpoint, Policy, Tier};
use ruleset::{Address, AddressRange, AddressSet, Elements, TimedSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Ranges named in full where addresses are listed; what is beyond is counted.
const SHOWN: usize = 8;

/// Addresses of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Addresses {
    pub v4: AddressSet<Ipv4Addr>,
    pub v6: AddressSet<Ipv6Addr>,
}

impl Addresses {
    /// Every address there is: `any`.
    pub fn every() -> Self {
        let (v4, v6) = (vec![AddressRange::ALL], vec![AddressRange::ALL]);
        Self { v4: AddressSet::new(v4), v6: AddressSet::new(v6) }
    }

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
        Self { v4: self.v4.minus(&other.v4), v6: self.v6.minus(&other.v6) }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// All of them, as they are written in a policy.
    pub fn ranges(&self) -> impl Iterator<Item = String> {
        let v4 = self.v4.ranges().map(|range| range.to_string());
        v4.chain(self.v6.ranges().map(|range| range.to_string()))
    }

    /// What a set of addresses in a table holds; nothing for sets of other kinds, and for one that
    /// wasn't read.
    pub(crate) fn of_elements(elements: &Elements) -> Self {
        let (v4, v6) = match elements {
            Elements::Ipv4(set) => (set.clone(), AddressSet::default()),
            Elements::Ipv6(set) => (AddressSet::default(), set.clone()),
            Elements::TimedIpv4(set) => (untimed(set), AddressSet::default()),
            Elements::TimedIpv6(set) => (AddressSet::default(), untimed(set)),
            _ => Default::default(),
        };
        Self { v4, v6 }
    }

    /// How many there are; none beyond what a person counts.
    pub fn count(&self) -> Option<u64> {
        const MOST: u128 = 100_000_000;
        let count = self.v4.addresses().saturating_add(self.v6.addresses());
        u64::try_from(count).ok().filter(|_| count <= MOST)
    }

    /// How many there are of each family, IPv4 first.
    pub(crate) fn sizes(&self) -> (u128, u128) {
        (self.v4.addresses(), self.v6.addresses())
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

/// The first few, and how many more there are.
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.ranges().take(SHOWN).collect();
        f.write_str(&shown.join(", "))?;
        let more = self.v4.len() + self.v6.len() - shown.len();
        if more == 0 {
            return Ok(());
        }
        let v4 = self.v4.ranges().take(SHOWN).collect::<AddressSet<_>>();
        let v6 = self.v6.ranges().take(SHOWN - v4.len()).collect::<AddressSet<_>>();
        match self.minus(&Self { v4, v6 }).count() {
            Some(count) => write!(f, " and {count} more"),
            None => write!(f, " and {more} more ranges"),
        }
    }
}

fn untimed<A: Address>(set: &TimedSet<A>) -> AddressSet<A> {
    set.elements().map(|(range, _)| *range).collect()
}

fn meet<A: Address>(a: &AddressSet<A>, b: &AddressSet<A>) -> AddressSet<A> {
    match a.intersects(b) {
        true => a.minus(&a.minus(b)),
        false => AddressSet::default(),
    }
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
