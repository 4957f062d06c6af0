//! The sets of a tier: what an auditor lists, and what rules look in.

use super::Compiler;
use ruleset::{Address, AddressSet, Elements, Family, KeyType, Set, SetSpec, Statement};

/// Above this many elements a tier's single addresses move to a hash set of their own, where a
/// change costs the same at any size: an interval set rebuilds itself at every commit.
const LARGE: usize = 10_000;

/// Below this many they move back. The gap keeps a tier at the border from crossing it with every
/// edit.
const NO_LONGER_LARGE: usize = 8_000;

impl<'a> Compiler<'a> {
    /// The ways in which `field` can be in `tier`, as a statement each: one lookup, or more where
    /// the tier is large or has members for a time. Makes the sets on first use.
    pub(super) fn tier_lookups(
        &mut self,
        field: impl Fn(Family) -> ruleset::Field,
        family: Family,
        tier: &'a str,
    ) -> Vec<Statement> {
        let sets = match self.tier_sets.get(&(tier, family)) {
            Some(sets) => sets,
            None => {
                let sets = self.add_tier(tier, family);
                self.tier_sets.entry((tier, family)).or_insert(sets)
            }
        };
        sets.iter().map(|set| Statement::lookup(field(family), set)).collect()
    }

    /// Makes the sets that hold a tier, and returns their names.
    fn add_tier(&mut self, tier: &str, family: Family) -> Vec<String> {
        let name = match family {
            Family::V4 => format!("{tier}_v4"),
            Family::V6 => format!("{tier}_v6"),
        };
        let members = &self.policy.tiers[tier];
        let mut sets = match family {
            Family::V4 => self.add_tier_sets(&name, &members.v4, family, Elements::Ipv4),
            Family::V6 => self.add_tier_sets(&name, &members.v6, family, Elements::Ipv6),
        };
        sets.extend(self.timed_set(&name, family, tier));
        sets
    }

    /// The set of the tier's members that end by themselves: a set of their own, since a set with
    /// timeouts is stored in a slower way. It is there from the first such member on, so that a
    /// tier that never has any pays nothing, and stays, so that the next one changes no rule.
    fn timed_set(&mut self, name: &str, family: Family, tier: &str) -> Option<String> {
        let name = format!("{name}_timed");
        let timed = &self.policy.tiers[tier].timed;
        let set = match family {
            Family::V4 => Set::timed_ipv4(timed.v4.clone()),
            Family::V6 => Set::timed_ipv6(timed.v6.clone()),
        };
        let table = self.host.previous.and_then(|previous| previous.table.as_ref());
        let was_there = table.is_some_and(|table| table.sets.contains_key(&name));
        if set.elements.is_empty() && !was_there {
            return None;
        }
        self.add_set(&name, set);
        Some(name)
    }

    fn add_tier_sets<A: Address>(
        &mut self,
        name: &str,
        members: &AddressSet<A>,
        family: Family,
        elements: fn(AddressSet<A>) -> Elements,
    ) -> Vec<String> {
        let key = KeyType::Address(family);
        let hosts = hosts_name(name);
        let previous = self
            .host
            .previous
            .and_then(|ruleset| ruleset.table.as_ref()?.sets.get(&hosts))
            .and_then(|set| set.spec.size);
        let border = if previous.is_some() { NO_LONGER_LARGE } else { LARGE };
        let (singles, ranges) = match members.len() > border {
            true => members.split_singles(),
            false => (AddressSet::default(), members.clone()),
        };
        let set = Set { spec: SetSpec::intervals(key), elements: elements(ranges) };
        self.add_set(name, set);
        if members.len() <= border {
            return vec![name.to_owned()];
        }
        let spec = SetSpec::exact(key, Some(hosts_size(singles.len(), previous)));
        self.add_set(&hosts, Set { spec, elements: elements(singles) });
        vec![name.to_owned(), hosts]
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
