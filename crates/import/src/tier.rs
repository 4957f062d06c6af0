//! The tiers of the policy: the tables' sets of addresses, the two of both families joined, and this
//! server's own.

use crate::condition::set_id;
use crate::draft::{Allow, Entry, Lost};
use crate::intervals::Intervals;
use crate::region::width;
use ruleset::Family;
use ruleset::listing::{Domain, ListedSet, ListedTable, Value};
use std::collections::BTreeMap;
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

/// The tiers in order, and the tier of each set.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    pub(crate) list: Vec<Tier>,
    of_set: BTreeMap<String, String>,
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
    /// The tiers of the tables' sets. Two sets become one tier where each allow that names the one
    /// names the other.
    pub(crate) fn new(tables: &[ListedTable], entries: &[Entry]) -> Self {
        let sets = address_sets(tables);
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
                [one, other] if one.family != other.family && are_one(one, other, entries) => {
                    tiers.add(&stem, &[one, other]);
                }
                [_] => tiers.add(&stem, &[set]),
                _ => tiers.add(set.name, &[set]),
            }
        }
        tiers
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

fn address_sets(tables: &[ListedTable]) -> Vec<AddressSet<'_>> {
    let mut sets = Vec::new();
    for (number, table) in tables.iter().enumerate() {
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
fn are_one(one: &AddressSet<'_>, other: &AddressSet<'_>, entries: &[Entry]) -> bool {
    let names = |allow: &Allow, id: &str| {
        allow.peers.iter().any(|(_, peer)| peer.set.as_ref().is_some_and(|(set, _)| set == id))
    };
    allows(entries).all(|allow| {
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
