//! The elements of sets as the kernel dumps them, back into values.
//!
//! An interval comes as two elements, which are sorted and paired here. What our sets can't hold
//! (a counter on an element, intervals that touch or don't pair, a catch-all) makes the whole set
//! foreign: it is then collected as opaque bytes, so that it never equals one of ours. Were two
//! touching intervals merged in reading, deleting the merged one would miss the kernel's.

use crate::attribute::{Attribute, Malformed, put};
use crate::expression::verdict;
use crate::lower::key_number;
use crate::set::host_order;
use crate::uapi::*;
use crate::userdata::{self, COMMENT};
use ruleset::{
    Address, AddressRange, AddressSet, Elements, Family, Interval, KeyType, Lifetime, SetSpec,
    TimedSet, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Why a set couldn't be read as one of ours.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    Malformed,
    /// It holds what ours never do.
    Foreign(String),
}

impl From<Malformed> for Obstacle {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

fn foreign<T>(what: &str) -> Result<T, Obstacle> {
    Err(Obstacle::Foreign(what.to_owned()))
}

/// A key, and whether it ends an interval instead of beginning one.
type Point<K> = (K, bool);

/// Elements of one set as they arrive.
#[derive(Debug)]
pub(crate) struct Collector {
    spec: SetSpec,
    points: Points,
}

#[derive(Debug)]
enum Points {
    Ipv4(Vec<Point<Ipv4Addr>>),
    Ipv6(Vec<Point<Ipv6Addr>>),
    /// Addresses by number, and the lifetimes of those that begin an interval.
    Timed(Vec<Point<u128>>, BTreeMap<u128, Option<Lifetime>>),
    Keys(Vec<Point<u128>>),
    Verdicts(Vec<Point<u128>>, BTreeMap<u128, Verdict>),
    Opaque(BTreeSet<Vec<u8>>),
}

impl Collector {
    /// Collects the kind of elements that a set of this specification has.
    pub(crate) fn new(spec: &SetSpec) -> Self {
        let points = match Elements::empty(spec) {
            Elements::Ipv4(_) => Points::Ipv4(Vec::new()),
            Elements::Ipv6(_) => Points::Ipv6(Vec::new()),
            Elements::TimedIpv4(_) | Elements::TimedIpv6(_) => {
                Points::Timed(Vec::new(), BTreeMap::new())
            }
            Elements::Keys(_) => Points::Keys(Vec::new()),
            Elements::Verdicts(_) => Points::Verdicts(Vec::new(), BTreeMap::new()),
            Elements::Opaque(_) | Elements::Dynamic | Elements::Unread => {
                Points::Opaque(BTreeSet::new())
            }
        };
        Self { spec: spec.clone(), points }
    }

    /// How many have arrived; both ends of an interval count.
    pub(crate) fn len(&self) -> usize {
        match &self.points {
            Points::Ipv4(points) => points.len(),
            Points::Ipv6(points) => points.len(),
            Points::Timed(points, _) | Points::Keys(points) | Points::Verdicts(points, _) => {
                points.len()
            }
            Points::Opaque(elements) => elements.len(),
        }
    }

    /// Takes the elements of one message (`NFTA_SET_ELEM_LIST_ELEMENTS`).
    pub(crate) fn take(&mut self, list: Attribute<'_>) -> Result<(), Obstacle> {
        for element in list.nested() {
            let element = element?;
            if let Points::Opaque(elements) = &mut self.points {
                elements.insert(without_state(element)?);
                continue;
            }
            self.take_one(element)?;
        }
        Ok(())
    }

    fn take_one(&mut self, element: Attribute<'_>) -> Result<(), Obstacle> {
        let (mut key, mut data, mut flags) = (None, None, 0);
        let (mut timeout, mut comment) = (None, None);
        for attribute in element.nested() {
            let attribute = attribute?;
            match attribute.kind {
                NFTA_SET_ELEM_KEY => key = value(attribute)?,
                NFTA_SET_ELEM_DATA => data = Some(attribute),
                NFTA_SET_ELEM_FLAGS => flags = attribute.u32()?,
                // Beside the two together in a timed set, neither is part of what a set holds.
                NFTA_SET_ELEM_TIMEOUT => timeout = Some(attribute.u64()?),
                NFTA_SET_ELEM_USERDATA => comment = userdata::text(attribute, COMMENT),
                NFTA_SET_ELEM_EXPIRATION | NFTA_SET_ELEM_PAD => {}
                _ => return foreign("elements with expressions or objects"),
            }
        }
        if flags & !NFT_SET_ELEM_INTERVAL_END != 0 {
            return foreign("a catch-all element");
        }
        let key = key.ok_or(Malformed)?;
        if key.len() != self.spec.key.length() {
            return Err(Obstacle::Malformed);
        }
        let is_end = flags != 0;
        match &mut self.points {
            Points::Ipv4(points) => {
                points.push((Ipv4Addr::from_bits(key_number(key, false) as u32), is_end));
            }
            Points::Ipv6(points) => {
                points.push((Ipv6Addr::from_bits(key_number(key, false)), is_end));
            }
            Points::Timed(points, lifetimes) => {
                let key = key_number(key, false);
                points.push((key, is_end));
                if !is_end {
                    lifetimes.insert(key, lifetime(timeout, comment.as_deref()));
                }
            }
            Points::Keys(points) => {
                points.push((key_number(key, host_order(self.spec.key)), is_end));
            }
            Points::Verdicts(points, verdicts) => {
                let key = key_number(key, host_order(self.spec.key));
                points.push((key, is_end));
                if !is_end {
                    let Some(verdict) = data.and_then(verdict) else {
                        return foreign("another verdict than ours");
                    };
                    verdicts.insert(key, verdict);
                }
            }
            Points::Opaque(_) => {}
        }
        Ok(())
    }

    /// The elements, when all have arrived.
    pub(crate) fn finish(self) -> Result<Elements, Obstacle> {
        let spec = &self.spec;
        match self.points {
            Points::Ipv4(points) => Ok(Elements::Ipv4(addresses(points, spec)?)),
            Points::Ipv6(points) => Ok(Elements::Ipv6(addresses(points, spec)?)),
            Points::Timed(points, lifetimes) => match spec.key {
                KeyType::Address(Family::V6) => {
                    Ok(Elements::TimedIpv6(timed(points, &lifetimes, spec)?))
                }
                _ => Ok(Elements::TimedIpv4(timed(points, &lifetimes, spec)?)),
            },
            Points::Keys(points) => {
                let intervals = pair(points, &numbers(spec))?;
                Ok(Elements::Keys(
                    intervals.into_iter().map(|(first, last)| Interval { first, last }).collect(),
                ))
            }
            Points::Verdicts(points, mut verdicts) => {
                let mut map = BTreeMap::new();
                for (first, last) in pair(points, &numbers(spec))? {
                    let verdict = verdicts.remove(&first).ok_or(Obstacle::Malformed)?;
                    map.insert(Interval { first, last }, verdict);
                }
                Ok(Elements::Verdicts(map))
            }
            Points::Opaque(elements) => Ok(Elements::Opaque(elements)),
        }
    }
}

/// The bytes of a key or other value.
fn value(attribute: Attribute<'_>) -> Result<Option<&[u8]>, Malformed> {
    let first = attribute.nested().next().transpose()?;
    Ok(first.filter(|value| value.kind == NFTA_DATA_VALUE).map(|value| value.payload))
}

/// An element as bytes, less padding and what changes as packets and time pass: two dumps are equal.
fn without_state(element: Attribute<'_>) -> Result<Vec<u8>, Malformed> {
    let mut kept = Vec::new();
    for attribute in element.nested() {
        let attribute = attribute?;
        let left_out = [
            NFTA_SET_ELEM_EXPIRATION,
            NFTA_SET_ELEM_EXPR,
            NFTA_SET_ELEM_EXPRESSIONS,
            NFTA_SET_ELEM_PAD,
        ];
        if !left_out.contains(&attribute.kind) {
            put(&mut kept, attribute.kind, attribute.payload);
        }
    }
    Ok(kept)
}

/// What pairing has to know of keys.
struct Keys<K> {
    interval: bool,
    /// Whether the beginning of an interval may have expired: the kernel leaves it out of a dump at
    /// once, its end only when it is collected.
    expires: bool,
    lowest: K,
    highest: K,
    previous: fn(K) -> Option<K>,
}

fn numbers(spec: &SetSpec) -> Keys<u128> {
    Keys {
        interval: spec.interval,
        expires: spec.timeout,
        lowest: 0,
        highest: spec.key.max(),
        previous: |key| key.checked_sub(1),
    }
}

fn addresses<A: Address>(points: Vec<Point<A>>, spec: &SetSpec) -> Result<AddressSet<A>, Obstacle> {
    let keys = Keys {
        interval: spec.interval,
        expires: false,
        lowest: A::MIN,
        highest: A::MAX,
        previous: A::previous,
    };
    let ranges = pair(points, &keys)?;
    let count = ranges.len();
    let set: AddressSet<A> =
        ranges.into_iter().map(|(first, last)| AddressRange { first, last }).collect();
    if spec.interval && set.len() != count {
        return foreign("intervals that touch");
    }
    Ok(set)
}

/// The lifetime that an element was given, if tierwall gave it.
fn lifetime(timeout: Option<u64>, comment: Option<&str>) -> Option<Lifetime> {
    let milliseconds = timeout.filter(|timeout| timeout % 1000 == 0)?;
    Lifetime::read(milliseconds / 1000, comment?)
}

fn timed<A: Address>(
    points: Vec<Point<u128>>,
    lifetimes: &BTreeMap<u128, Option<Lifetime>>,
    spec: &SetSpec,
) -> Result<TimedSet<A>, Obstacle> {
    let mut elements = BTreeMap::new();
    for (first, last) in pair(points, &numbers(spec))? {
        let range = AddressRange { first: A::from_number(first), last: A::from_number(last) };
        let lifetime = lifetimes.get(&first).ok_or(Obstacle::Malformed)?;
        elements.insert(range, *lifetime);
    }
    TimedSet::from_elements(elements).ok_or(Obstacle::Malformed)
}

/// First and last key of each interval, in ascending order.
fn pair<K: Copy + Ord>(mut points: Vec<Point<K>>, keys: &Keys<K>) -> Result<Vec<(K, K)>, Obstacle> {
    // Where one interval ends another may begin. The kernel walks its tree in one direction or the
    // other, a hash table in none.
    let order = |point: &Point<K>| (point.0, !point.1);
    if !points.is_sorted_by_key(order) {
        points.reverse();
        if !points.is_sorted_by_key(order) {
            points.sort_unstable_by_key(order);
        }
    }
    if !keys.interval {
        return if points.iter().any(|(_, is_end)| *is_end) {
            Err(Obstacle::Malformed)
        } else {
            Ok(points.into_iter().map(|(key, _)| (key, key)).collect())
        };
    }
    let mut intervals = Vec::with_capacity(points.len().div_ceil(2));
    let mut begun = None;
    for (key, is_end) in points {
        match (begun.take(), is_end) {
            (None, false) => begun = Some(key),
            (Some(first), true) => {
                intervals.push((first, (keys.previous)(key).ok_or(Obstacle::Malformed)?));
            }
            // `nft` marks the lowest key as outside, if no interval begins there.
            (None, true) if key == keys.lowest || keys.expires => {}
            (None, true) => return foreign("an interval that ends without a beginning"),
            (Some(_), false) => return foreign("an interval without an end"),
        }
    }
    intervals.extend(begun.map(|first| (first, keys.highest)));
    Ok(intervals)
}

/// An element of ours in words.
pub(crate) fn describe(element: Attribute<'_>, spec: &SetSpec) -> Option<String> {
    let part = |kind| element.nested().flatten().find(|attribute| attribute.kind == kind);
    let key = value(part(NFTA_SET_ELEM_KEY)?).ok()??;
    if key.len() != spec.key.length() || key.len() > 16 {
        return None;
    }
    let number = key_number(key, host_order(spec.key));
    let show = |number: u128| match spec.key {
        KeyType::Address(Family::V4) => Ipv4Addr::from_bits(number as u32).to_string(),
        KeyType::Address(Family::V6) => Ipv6Addr::from_bits(number).to_string(),
        _ => number.to_string(),
    };
    Some(match part(NFTA_SET_ELEM_FLAGS) {
        Some(_) => format!("the element that ends at {}", show(number.checked_sub(1)?)),
        None => format!("element {}", show(number)),
    })
}
