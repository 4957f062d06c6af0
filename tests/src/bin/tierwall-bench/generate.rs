//! Lists of members: made from a seed and spread over the whole space, or real ones.

use anyhow::{Context, Result};
use ruleset::Family;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// What the members are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Addresses,
    Ranges,
}

/// Members of one family.
#[derive(Debug, Clone)]
pub(crate) struct List {
    pub(crate) family: Family,
    pub(crate) shape: Shape,
    /// In ascending order, disjoint, and none adjacent to another.
    pub(crate) is_neat: bool,
    pub(crate) members: Vec<String>,
}

/// Where the first member may be, and the number of addresses from there on. Below are the server
/// and the members that are added one by one.
const SPACE_V4: (u128, u128) = (0x0c00_0000, 0xe000_0000 - 0x0c00_0000);
const SPACE_V6: (u128, u128) = (0x2000 << 112, 1 << 125);

impl List {
    /// `count` members. The space is cut into as many slots, with one member in the first quarter
    /// of each.
    pub(crate) fn generate(family: Family, shape: Shape, count: usize) -> Self {
        let members = (0..count).map(|slot| member(family, shape, count, slot, false)).collect();
        Self { family, shape, is_neat: true, members }
    }

    /// The same with `changed` members, evenly spread, exchanged for others.
    pub(crate) fn changed(&self, changed: usize) -> Self {
        let (count, mut list) = (self.members.len(), self.clone());
        for number in 0..changed {
            let slot = number * (count / changed);
            list.members[slot] = member(self.family, self.shape, count, slot, true);
        }
        list
    }

    /// A real list of `tests/data`. It is neither sorted nor without overlaps.
    pub(crate) fn real(file: &str, family: Family, shape: Shape) -> Result<Self> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(file);
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("can't read {}", path.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let members = lines.map(str::to_owned).collect();
        Ok(Self { family, shape, is_neat: false, members })
    }

    /// As a list file: one member a line.
    pub(crate) fn text(&self) -> String {
        self.joined("\n")
    }

    pub(crate) fn joined(&self, separator: &str) -> String {
        let mut text = self.members.join(separator);
        text.push('\n');
        text
    }
}

/// `10k IPv4 addresses`
impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = if self.family == Family::V4 { "IPv4" } else { "IPv6" };
        let shape = if self.shape == Shape::Addresses { "addresses" } else { "ranges" };
        write!(f, "{} {family} {shape}", crate::report::short(self.members.len()))
    }
}

/// A member to be added by itself: in no list, and of the shape of one.
pub(crate) fn another(shape: Shape) -> &'static str {
    match shape {
        Shape::Addresses => "11.1.2.3",
        Shape::Ranges => "11.1.2.4-11.1.2.9",
    }
}

fn member(family: Family, shape: Shape, count: usize, slot: usize, changed: bool) -> String {
    let (start, size) = if family == Family::V4 { SPACE_V4 } else { SPACE_V6 };
    let step = size / count as u128;
    let random = random(slot as u64);
    let half = if changed { step / 2 } else { 0 };
    let first = start + slot as u128 * step + half + random % (step / 4);
    let text = |number: u128| match family {
        Family::V4 => Ipv4Addr::from_bits(number as u32).to_string(),
        Family::V6 => Ipv6Addr::from_bits(number).to_string(),
    };
    match shape {
        Shape::Addresses => text(first),
        Shape::Ranges => {
            format!("{}-{}", text(first), text(first + 1 + (random >> 64) % (step / 8)))
        }
    }
}

/// Always the same for a slot (SplitMix64, twice).
fn random(slot: u64) -> u128 {
    let mix = |seed: u64| {
        let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    u128::from(mix(2 * slot + 1)) << 64 | u128::from(mix(2 * slot + 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruleset::AddressSet;

    #[test]
    fn members_neither_overlap_nor_touch_and_as_many_change_as_are_asked_for() {
        for shape in [Shape::Addresses, Shape::Ranges] {
            for family in [Family::V4, Family::V6] {
                let list = List::generate(family, shape, 1000);
                let other = list.changed(10);
                assert_eq!(merged(&list), 1000);
                assert_eq!(merged(&other), 1000);
                let pairs = list.members.iter().zip(&other.members);
                assert_eq!(pairs.filter(|(before, after)| before != after).count(), 10);
                let both = [list.members.clone(), other.members].concat();
                assert_eq!(merged(&List { members: both, ..list }), 1010);
            }
        }
    }

    /// How many ranges the members of a list come to.
    fn merged(list: &List) -> usize {
        let members = list.members.iter().map(|text| text.parse().expect("a member"));
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        members.for_each(|member| match member {
            policy::Member::V4(range) => v4.push(range),
            policy::Member::V6(range) => v6.push(range),
        });
        AddressSet::new(v4).len() + AddressSet::new(v6).len()
    }
}
