//! The sets of a tier, and of all tiers together: what an auditor lists, and what rules look in.

use super::Compiler;
use crate::model::Tier;
use ruleset::{
    Address, AddressSet, Elements, Family, Field, KeyType, Set, SetSpec, Statement, TimedSet,
};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What the sets of `"*"` are called, where a tier's have its name. It has a dot, which no tier's
/// name has.
pub(crate) const EVERY_SERVER: &str = "every.server";

/// What the sets are called in which the log looks for the members of all tiers that allows name.
const EVERY_NAMED: &str = "every.named";

/// In how many tiers' sets the log looks, one after the other, before it has one of them all.
pub(super) const FEW: usize = 8;

/// Above this many elements a tier's single addresses move to a hash set of their own, where a
/// change costs the same at any size: an interval set rebuilds itself at every commit.
const LARGE: usize = 10_000;

/// Below this many they move back. The gap keeps a tier at the border from crossing it with every
/// edit.
pub(super) const NO_LONGER_LARGE: usize = 8_000;

/// A tier's members of one family, and the sets that hold such.
struct Members<A> {
    of: fn(&Tier) -> &AddressSet<A>,
    timed: fn(&Tier) -> &TimedSet<A>,
    elements: fn(AddressSet<A>) -> Elements,
    timed_set: fn(TimedSet<A>) -> Set,
}

const V4: Members<Ipv4Addr> = Members {
    of: |tier| &tier.v4,
    timed: |tier| &tier.timed.v4,
    elements: Elements::Ipv4,
    timed_set: Set::timed_ipv4,
};

const V6: Members<Ipv6Addr> = Members {
    of: |tier| &tier.v6,
    timed: |tier| &tier.timed.v6,
    elements: Elements::Ipv6,
    timed_set: Set::timed_ipv6,
};

impl<'a> Compiler<'a> {
    /// The ways in which `field` can be in `tier`, as a statement each: one lookup, or more where
    /// the tier is large or has members for a time. Makes the sets on first use.
    pub(super) fn tier_lookups(
        &mut self,
        field: Field,
        family: Family,
        tier: &'a str,
    ) -> Vec<Statement> {
        lookups(field, &self.sets_of(family, tier))
    }

    /// The same of `"*"`: the members of all tiers in one set, so that an allow from everybody has as
    /// many rules whatever the number of tiers. A large tier isn't in it, for the set's sake, and is
    /// asked by itself.
    pub(super) fn every_server_lookups(&mut self, field: Field, family: Family) -> Vec<Statement> {
        let large = self.large_tiers(family);
        let mut sets = self.union_sets(EVERY_SERVER, family, &large);
        sets.extend(large.into_iter().flat_map(|tier| self.sets_of(family, tier)));
        lookups(field, &sets)
    }

    /// The ways in which `field` can be in a tier that allows of this server name, for the log: in the
    /// sets that these look in, and from so many tiers on that each lookup counts, in one of them all.
    pub(super) fn member_lookups(&mut self, field: Field, family: Family) -> Vec<Statement> {
        let large = self.large_tiers(family);
        let tiers = self.policy.tiers.keys().map(String::as_str);
        let (named, others): (BTreeSet<&str>, BTreeSet<&str>) =
            tiers.partition(|tier| self.tier_sets.contains_key(&(*tier, family)));
        let every_server = self.tier_sets.get(&(EVERY_SERVER, family)).cloned();
        let is_together = every_server.is_some() || named.len() > FEW;
        let by_itself = named.iter().filter(|tier| !is_together || large.contains(*tier));
        let mut sets: Vec<String> =
            by_itself.flat_map(|tier| self.tier_sets[&(*tier, family)].clone()).collect();
        match every_server {
            Some(every_server) => sets.extend(every_server),
            None if is_together => {
                let left_out = others.union(&large).copied().collect();
                sets.extend(self.union_sets(EVERY_NAMED, family, &left_out));
            }
            None => {}
        }
        lookups(field, &sets)
    }

    /// The names of the sets that hold a tier.
    fn sets_of(&mut self, family: Family, tier: &'a str) -> Vec<String> {
        if let Some(sets) = self.tier_sets.get(&(tier, family)) {
            return sets.clone();
        }
        let sets = match family {
            Family::V4 => self.add_tier(tier, family, &V4),
            Family::V6 => self.add_tier(tier, family, &V6),
        };
        self.tier_sets.insert((tier, family), sets.clone());
        sets
    }

    fn add_tier<A: Address>(
        &mut self,
        name: &str,
        family: Family,
        members: &Members<A>,
    ) -> Vec<String> {
        let tier = &self.policy.tiers[name];
        let (of_tier, timed) = ((members.of)(tier), (members.timed)(tier).clone());
        let name = set_name(name, family);
        let mut sets = self.add_tier_sets(&name, of_tier, family, members.elements);
        sets.extend(self.timed_set(&name, (members.timed_set)(timed)));
        sets
    }

    /// The names of the sets that hold the members of all tiers but those that are left out.
    fn union_sets(
        &mut self,
        name: &'static str,
        family: Family,
        left_out: &BTreeSet<&str>,
    ) -> Vec<String> {
        if let Some(sets) = self.tier_sets.get(&(name, family)) {
            return sets.clone();
        }
        let sets = match family {
            Family::V4 => self.add_union(name, family, &V4, left_out),
            Family::V6 => self.add_union(name, family, &V6, left_out),
        };
        self.tier_sets.insert((name, family), sets.clone());
        sets
    }

    fn add_union<A: Address>(
        &mut self,
        name: &str,
        family: Family,
        members: &Members<A>,
        left_out: &BTreeSet<&str>,
    ) -> Vec<String> {
        let (mut together, mut timed) = (Vec::new(), Vec::new());
        let tiers = self.policy.tiers.iter();
        for (_, tier) in tiers.filter(|(name, _)| !left_out.contains(name.as_str())) {
            together.push((members.of)(tier).clone());
            let of_tier = (members.timed)(tier).elements();
            timed.extend(of_tier.filter_map(|(range, lifetime)| Some((*range, *lifetime?))));
        }
        let name = set_name(name, family);
        let together = AddressSet::union_of(together);
        let mut sets = self.add_tier_sets(&name, &together, family, members.elements);
        sets.extend(self.timed_set(&name, (members.timed_set)(TimedSet::new(timed))));
        sets
    }

    /// Adds the set of members that end by themselves: a set of their own, since a set with timeouts
    /// is stored in a slower way. It is there from the first such member on, so that a tier that
    /// never has any pays nothing, and stays, so that the next one changes no rule.
    fn timed_set(&mut self, name: &str, set: Set) -> Option<String> {
        let name = format!("{name}_timed");
        let table = self.host.previous.and_then(|previous| previous.table.as_ref());
        let was_there = table.is_some_and(|table| table.sets.contains_key(&name));
        if set.elements.is_empty() && !was_there {
            return None;
        }
        self.add_set(&name, set);
        Some(name)
    }

    /// The size of the hash set that a tier had so far; none if its elements are in one set.
    fn previous_hosts(&self, name: &str) -> Option<u32> {
        let table = self.host.previous?.table.as_ref()?;
        table.sets.get(&hosts_name(name))?.spec.size
    }

    /// Above how many elements a tier is large.
    fn border(&self, name: &str) -> usize {
        if self.previous_hosts(name).is_some() { NO_LONGER_LARGE } else { LARGE }
    }

    /// The tiers that a set of several would be too large with.
    fn large_tiers(&self, family: Family) -> BTreeSet<&'a str> {
        let policy = self.policy;
        let large = policy.tiers.iter().filter(|(name, tier)| {
            let members = match family {
                Family::V4 => tier.v4.len(),
                Family::V6 => tier.v6.len(),
            };
            members > self.border(&set_name(name, family))
        });
        large.map(|(name, _)| name.as_str()).collect()
    }

    fn add_tier_sets<A: Address>(
        &mut self,
        name: &str,
        members: &AddressSet<A>,
        family: Family,
        elements: fn(AddressSet<A>) -> Elements,
    ) -> Vec<String> {
        let key = KeyType::Address(family);
        let border = self.border(name);
        let (singles, ranges) = match members.len() > border {
            true => members.split_singles(),
            false => (AddressSet::default(), members.clone()),
        };
        let set = Set { spec: SetSpec::intervals(key), elements: elements(ranges) };
        self.add_set(name, set);
        if members.len() <= border {
            return vec![name.to_owned()];
        }
        let hosts = hosts_name(name);
        let size = hosts_size(singles.len(), self.previous_hosts(name));
        let spec = SetSpec::exact(key, Some(size));
        self.add_set(&hosts, Set { spec, elements: elements(singles) });
        vec![name.to_owned(), hosts]
    }
}

fn lookups(field: Field, sets: &[String]) -> Vec<Statement> {
    sets.iter().map(|set| Statement::lookup(field, set)).collect()
}

/// The set of a tier, or of [`EVERY_SERVER`].
pub(crate) fn set_name(tier: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{tier}_v4"),
        Family::V6 => format!("{tier}_v6"),
    }
}

fn hosts_name(name: &str) -> String {
    format!("{name}_hosts")
}

/// The declared size of a hash set: the kernel makes that many places and refuses more. A quarter
/// of headroom, in steps, so that a growing tier seldom outgrows it; the previous size as long as
/// it fits and isn't far too large.
fn hosts_size(needed: usize, previous: Option<u32>) -> u32 {
    const STEP: usize = 4096;
    let wanted = (needed + needed / 4 + 1).next_multiple_of(STEP);
    let wanted = u32::try_from(wanted).unwrap_or(u32::MAX);
    match previous {
        Some(size) if size as usize >= needed && size / 4 <= wanted => size,
        _ => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::hosts_size;

    #[test]
    fn sizes_leave_headroom_and_stay_while_they_fit() {
        assert_eq!(hosts_size(10_001, None), 16_384);
        assert_eq!(hosts_size(1_000_000, None), 1_253_376);
        assert_eq!(hosts_size(16_000, Some(16_384)), 16_384);
        assert_eq!(hosts_size(16_385, Some(16_384)), 24_576);
        assert_eq!(hosts_size(10_000, Some(1_000_000)), 16_384);
    }
}
