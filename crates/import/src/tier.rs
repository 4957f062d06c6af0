//! The tiers of the policy: the tables' sets of addresses, the two of both families joined, and this
//! server's own.

use crate::condition::set_id;
use crate::entry::{Allow, Entry, Lost};
use crate::intervals::Intervals;
use crate::region::{Addresses, width};
use crate::zones::{Sources, zones};
use ruleset::Family;
use ruleset::listing::{Domain, ListedSet, ListedTable, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest name of a tier.
const LONGEST: usize = 48;

/// A tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tier {
    pub(crate) name: String,
    pub(crate) v4: Intervals,
    pub(crate) v6: Intervals,
    /// The sets that it was.
    pub(crate) sets: Vec<String>,
    /// Members that end by themselves, which no policy file names.
    pub(crate) timed: usize,
    /// What a reader should know.
    pub(crate) note: Option<String>,
}

impl Tier {
    /// Its members of a family.
    pub(crate) fn ranges(&self, family: Family) -> &Intervals {
        if family == Family::V4 { &self.v4 } else { &self.v6 }
    }
}

/// The tiers in order, and the tier of each set.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    pub(crate) list: Vec<Tier>,
    of_set: BTreeMap<String, String>,
    zones: Vec<(Sources, String)>,
}

/// A table's set of addresses.
struct AddressSet<'l> {
    id: String,
    name: &'l str,
    family: Family,
    set: &'l ListedSet,
}

/// The name of a set without the mark of its family: `web_v4`, `web4` and `web-ipv6` are `web`.
pub(crate) fn stem(id: &str, family: Family) -> String {
    let name = id.split_once('/').map_or(id, |(_, name)| name);
    let marks: &[&str] = match family {
        Family::V4 => &["_ipv4", "-ipv4", "_ip4", "-ip4", "_v4", "-v4", "_4", "-4", "v4", "4"],
        Family::V6 => &["_ipv6", "-ipv6", "_ip6", "-ip6", "_v6", "-v6", "_6", "-6", "v6", "6"],
    };
    let lower = name.to_ascii_lowercase();
    let cut = marks.iter().find_map(|mark| lower.strip_suffix(mark)).map(str::len);
    match cut {
        Some(length) if length > 0 => name[..length].to_owned(),
        _ => name.to_owned(),
    }
}

impl Tiers {
    /// Peers in the policy's words: tiers where they are sets, else addresses.
    pub(crate) fn words(&self, peers: &BTreeSet<(Family, Addresses)>) -> Vec<String> {
        let is_all =
            |wanted: Family| peers.iter().any(|(f, peer)| *f == wanted && peer.is_all(wanted));
        if is_all(Family::V4) && is_all(Family::V6) {
            return vec!["any".into()];
        }
        let (mut words, rest) = self.zones_of(peers);
        for (family, peer) in rest {
            let tier = peer.set.as_ref().and_then(|(id, _)| self.of_set(id));
            let these = match tier {
                Some(tier) => vec![tier.to_owned()],
                None => member_words(&peer.ranges, *family),
            };
            for word in these {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        words
    }

    /// The tiers of the tables' sets. Two sets become one tier where each allow that names the one
    /// names the other.
    /// Sets that are the same in the tables of several hosts are one.
    pub(crate) fn new(hosts: &[&[ListedTable]], entries: &[Vec<Entry>]) -> Self {
        let (sets, same) = unified(address_sets(hosts.iter().copied().flatten()));
        let mut groups: BTreeMap<String, Vec<&AddressSet<'_>>> = BTreeMap::new();
        for set in &sets {
            groups.entry(stem(&set.id, set.family)).or_default().push(set);
        }
        let mut tiers = Self::default();
        for set in &sets {
            if tiers.of_set.contains_key(&set.id) {
                continue;
            }
            let stem = stem(&set.id, set.family);
            let group = groups.get(&stem).map(Vec::as_slice).unwrap_or_default();
            match group {
                [one, other]
                    if one.family != other.family && are_one(one, other, &same, entries) =>
                {
                    tiers.add(&stem, &[one, other]);
                }
                [_] => tiers.add(&stem, &[set]),
                _ => tiers.add(set.name, &[set]),
            }
        }
        for (zone, sources) in hosts.iter().flat_map(|tables| zones(tables)) {
            tiers.add_zone(&zone, sources);
        }
        for (id, same) in &same {
            if let Some(tier) = tiers.of_set.get(same).cloned() {
                tiers.of_set.insert(id.clone(), tier);
            }
        }
        tiers
    }

    fn add_zone(&mut self, zone: &str, sources: Sources) {
        if self.zones.iter().any(|(known, _)| *known == sources) {
            return;
        }
        let name = self.free(zone);
        let Sources { v4, v6 } = sources.clone();
        let note = Some("A zone of firewalld, with the sources that are bound to it.".to_owned());
        self.list.push(Tier { name: name.clone(), v4, v6, sets: vec![], timed: 0, note });
        self.zones.push((sources, name));
    }

    /// The zones whose sources are among these peers, and the peers that are of none.
    pub(crate) fn zones_of<'p>(
        &self,
        peers: &'p BTreeSet<(Family, Addresses)>,
    ) -> (Vec<String>, Vec<&'p (Family, Addresses)>) {
        let (mut zones, mut rest) = (Vec::new(), peers.iter().collect::<Vec<_>>());
        for (sources, name) in &self.zones {
            let is_theirs = |(family, peer): &(Family, Addresses)| {
                peer.set.is_none() && peer.ranges == *sources.of(*family)
            };
            let has = |family: Family| {
                let mut of_family = rest.iter().filter(|(other, _)| *other == family);
                sources.of(family).is_empty() || of_family.any(|peer| is_theirs(peer))
            };
            if Family::BOTH.into_iter().all(has) {
                zones.push(name.clone());
                rest.retain(|peer| !is_theirs(peer));
            }
        }
        (zones, rest)
    }

    fn add(&mut self, name: &str, sets: &[&AddressSet<'_>]) {
        let name = self.free(name);
        let of = |family| {
            let of_family = sets.iter().filter(|set| set.family == family);
            of_family.fold(Intervals::default(), |all, set| all.union(&members(set.set, family)))
        };
        let timed = |set: &&AddressSet<'_>| set.set.elements.iter().filter(|e| e.timed).count();
        for set in sets {
            self.of_set.insert(set.id.clone(), name.clone());
        }
        self.list.push(Tier {
            name,
            v4: of(Family::V4),
            v6: of(Family::V6),
            sets: sets.iter().map(|set| set.name.to_owned()).collect(),
            timed: sets.iter().map(timed).sum(),
            note: None,
        });
    }

    /// A name that no tier has, as near to `name` as can be.
    pub(crate) fn free(&self, name: &str) -> String {
        let plain =
            |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
        let mut base: String = name.chars().map(plain).collect();
        if !base.starts_with(|c: char| c.is_ascii_alphabetic()) {
            base = format!("set-{base}");
        }
        base.truncate(LONGEST - 4);
        let mut free = base.clone();
        let mut number = 2;
        // A tier that is called like a setting is taken for one.
        let is_fit = |name: &str| policy::is_name(name) && !policy::is_top_level_key(name);
        while !is_fit(&free) || self.list.iter().any(|tier| tier.name == free) {
            free = format!("{base}-{number}");
            number += 1;
        }
        free
    }

    /// The tier that a set became.
    pub(crate) fn of_set(&self, id: &str) -> Option<&str> {
        self.of_set.get(id).map(String::as_str)
    }
}

fn address_sets<'l>(tables: impl Iterator<Item = &'l ListedTable>) -> Vec<AddressSet<'l>> {
    let mut sets = Vec::new();
    for (number, table) in tables.enumerate() {
        for (name, set) in &table.sets {
            let [Domain::Address(family)] = set.domains.as_slice() else { continue };
            let is_map = set.other_map || set.elements.iter().any(|e| e.verdict.is_some());
            if !is_map && !set.dynamic {
                sets.push(AddressSet { id: set_id(number, name), name, family: *family, set });
            }
        }
    }
    sets
}

/// Each set once, and of the others the one that they are the same as: by name, family and elements.
fn unified(sets: Vec<AddressSet<'_>>) -> (Vec<AddressSet<'_>>, BTreeMap<String, String>) {
    let mut kept: Vec<AddressSet<'_>> = Vec::new();
    let mut same = BTreeMap::new();
    for set in sets {
        let is_it = |one: &&AddressSet<'_>| {
            (one.name, one.family) == (set.name, set.family) && one.set.elements == set.set.elements
        };
        match kept.iter().find(is_it) {
            Some(one) => drop(same.insert(set.id.clone(), one.id.clone())),
            None => kept.push(set),
        }
    }
    (kept, same)
}

/// The members that are there to stay.
fn members(set: &ListedSet, family: Family) -> Intervals {
    let range = |value: &Value| match value {
        Value::Range(first, last) => Some((*first, *last)),
        Value::Word(_) => None,
    };
    let stay = set.elements.iter().filter(|element| !element.timed);
    let ranges = stay.filter_map(|element| element.key.first().and_then(range)).collect();
    Intervals::new(ranges).intersection(&Intervals::all(width(family)))
}

/// Whether one tier can stand for both: no allow would gain the other's members by it.
fn are_one(
    one: &AddressSet<'_>,
    other: &AddressSet<'_>,
    same: &BTreeMap<String, String>,
    entries: &[Vec<Entry>],
) -> bool {
    let names = |allow: &Allow, id: &str| {
        let is_it = |set: &String| same.get(set).unwrap_or(set) == id;
        allow.peers.iter().any(|(_, peer)| peer.set.as_ref().is_some_and(|(set, _)| is_it(set)))
    };
    entries.iter().flat_map(|entries| allows(entries)).all(|allow| {
        let (first, second) = (names(allow, &one.id), names(allow, &other.id));
        first == second
            || (first && members(other.set, other.family).is_empty())
            || (second && members(one.set, one.family).is_empty())
    })
}

fn allows(entries: &[Entry]) -> impl Iterator<Item = &Allow> {
    entries.iter().flat_map(|entry| match entry {
        Entry::Allow(allow) => std::slice::from_ref(allow),
        Entry::Lost(Lost { nearest, .. }) => nearest.as_slice(),
        _ => &[],
    })
}

/// Addresses as a policy names them.
pub(crate) fn member_words(ranges: &Intervals, family: Family) -> Vec<String> {
    let text = |number: u128| match family {
        Family::V4 => Ipv4Addr::from(number as u32).to_string(),
        Family::V6 => Ipv6Addr::from(number).to_string(),
    };
    let bits = if family == Family::V4 { 32 } else { 128 };
    let word = |(first, last): &(u128, u128)| {
        if first == last {
            return text(*first);
        }
        if (*first, *last) == (0, width(family)) {
            return format!("{}/0", text(0));
        }
        let host = last - first;
        let length = bits - (128 - host.leading_zeros());
        match (host + 1).is_power_of_two() && first & host == 0 {
            true => format!("{}/{length}", text(*first)),
            false => format!("{}-{}", text(*first), text(*last)),
        }
    };
    let mut ranges = ranges.clone();
    // No packet has such an address, and a policy names none; what is around them may be one range.
    let is_end =
        |&(first, last): &(u128, u128)| [first, last].iter().any(|end| end >> 32 == 0xffff);
    if family == Family::V6 && ranges.ranges().iter().any(is_end) {
        ranges = ranges.minus(&Intervals::range(0xffff << 32, (0xffff << 32) | 0xffff_ffff));
    }
    ranges.ranges().iter().map(word).collect()
}
