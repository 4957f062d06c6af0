//! The word of a policy that stands for an address.
//!
//! Of the tiers that hold it, that is the one with the fewest addresses of its family: to be in
//! it says most, and the allow opens least. For this server's own end it must be one that the server
//! is in, since only tiers stand for servers.

use crate::addresses::Addresses;
use crate::explain::Server;
use crate::model::{Policy, Tier};
use crate::reach::Direction;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Tier(String),
    Address(IpAddr),
}

/// The tiers of a policy with their sizes.
pub(super) struct Places<'p> {
    policy: &'p Policy,
    /// Addresses of IPv4 and of IPv6.
    sizes: BTreeMap<&'p str, (u128, u128)>,
}

impl<'p> Places<'p> {
    pub(super) fn new(policy: &'p Policy) -> Self {
        let size =
            |(name, tier): (&'p String, &Tier)| (name.as_str(), Addresses::of_tier(tier).sizes());
        Self { policy, sizes: policy.tiers.iter().map(size).collect() }
    }

    /// The tier that stands for this server where it has this address; none where none does. A
    /// tier that doesn't hold it stands for the server only where an allow there acts on any of its
    /// addresses: on output, and under a role that the file names.
    pub(super) fn own(
        &self,
        server: &Server,
        direction: Direction,
        address: IpAddr,
    ) -> Option<Place> {
        let tiers = || {
            let tiers = server.role.tiers.iter().filter(|name| !self.is_everybody(name));
            tiers.filter_map(|name| self.policy.tiers.get_key_value(name))
        };
        let holding = self.narrowest(tiers().filter(|(_, tier)| tier.holds(address)), address);
        let confined = server.role.auto && direction == Direction::Input;
        let any = || self.narrowest(tiers(), address).filter(|_| !confined);
        holding.or_else(any).map(Place::Tier)
    }

    /// The word for another host, and the wider tiers that hold it too.
    pub(super) fn peer(&self, address: IpAddr) -> (Place, Vec<String>) {
        let tiers = self
            .policy
            .tiers
            .iter()
            .filter(|(name, tier)| tier.holds(address) && !self.is_everybody(name));
        let mut names: Vec<String> = tiers.clone().map(|(name, _)| name.clone()).collect();
        match self.narrowest(tiers, address) {
            None => (Place::Address(address), names),
            Some(tier) => {
                names.retain(|name| *name != tier);
                (Place::Tier(tier), names)
            }
        }
    }

    /// Whether `outer` holds all of `inner`; of two that hold each other, only one does.
    pub(super) fn is_wider(&self, outer: &str, inner: &str) -> bool {
        let of = |name| self.policy.tiers.get(name).map(Addresses::of_tier).unwrap_or_default();
        let (outer_addresses, inner_addresses) = (of(outer), of(inner));
        outer != inner
            && outer_addresses.covers(&inner_addresses)
            && (outer < inner || !inner_addresses.covers(&outer_addresses))
    }

    /// Whether a tier is the world rather than a group: to be in it says nothing.
    fn is_everybody(&self, tier: &str) -> bool {
        let (v4, v6) = self.sizes.get(tier).copied().unwrap_or_default();
        v4 >= 1 << 31 || v6 >= 1 << 125
    }

    fn narrowest<'t>(
        &self,
        tiers: impl Iterator<Item = (&'t String, &'t Tier)>,
        address: IpAddr,
    ) -> Option<String> {
        let size = |name: &String| {
            let (v4, v6) = self.sizes.get(name.as_str()).copied().unwrap_or_default();
            if address.is_ipv4() { (v4, v6) } else { (v6, v4) }
        };
        tiers.map(|(name, _)| name).min_by_key(|name| (size(name), *name)).cloned()
    }
}
