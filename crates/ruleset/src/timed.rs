//! Timed sets: address ranges that the kernel forgets by itself.
//!
//! When an element ends is a point in time here and not the time it has left: a value that is the
//! same whenever it is looked at. The kernel only knows the latter, so the former stands in the
//! element's comment, where an auditor sees it too. A timed set that is made anew is given what is
//! left, not all of it again.
//!
//! An element expires without a word from the kernel: whoever keeps a copy of a timed set takes
//! [`expire`](TimedSet::expire) to it before comparing.

use crate::address::{Address, AddressRange};
use crate::address_set::AddressSet;
use std::collections::BTreeMap;
use std::fmt;

/// How long an element lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lifetime {
    /// When it ends, in seconds since 1970 (UTC).
    pub until: u64,
    /// How long it was given at first, in seconds, at least 1.
    pub timeout: u64,
}

impl Lifetime {
    /// The comment of an element that lives this long.
    pub fn comment(&self) -> String {
        // As date(1) takes it.
        format!("until @{}", self.until)
    }

    /// The lifetime of an element with this timeout and comment; none if the comment isn't ours.
    pub fn read(timeout: u64, comment: &str) -> Option<Self> {
        let digits = comment.strip_prefix("until @")?;
        let until = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
        (timeout > 0).then_some(Self { until, timeout })
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeout {} comment \"{}\"", Seconds(self.timeout), self.comment())
    }
}

/// As `nft` writes durations: `1d2h`.
pub(crate) struct Seconds(pub(crate) u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (length, unit) in [(86_400, 'd'), (3_600, 'h'), (60, 'm'), (1, 's')] {
            if rest >= length {
                write!(f, "{}{unit}", rest / length)?;
            }
            rest %= length;
        }
        Ok(())
    }
}

/// Ranges of addresses, none of which overlap, each with its lifetime.
///
/// Ranges that touch stay apart: each is an element of its own. A lifetime that is missing is one
/// that tierwall didn't set: that of an element which another program added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimedSet<A> {
    elements: BTreeMap<AddressRange<A>, Option<Lifetime>>,
}

impl<A> Default for TimedSet<A> {
    fn default() -> Self {
        Self { elements: BTreeMap::new() }
    }
}

impl<A: Address> TimedSet<A> {
    /// Where ranges overlap, an address lives as long as the longest of them.
    pub fn new(mut ranges: Vec<(AddressRange<A>, Lifetime)>) -> Self {
        ranges.sort_unstable_by_key(|(range, lifetime)| (*range, std::cmp::Reverse(*lifetime)));
        ranges.dedup_by_key(|(range, _)| *range);
        let elements = ranges.iter().map(|(range, lifetime)| (*range, Some(*lifetime))).collect();
        if let Some(set) = Self::from_elements(elements) {
            return set;
        }
        ranges.sort_by_key(|(_, lifetime)| std::cmp::Reverse(*lifetime));
        let mut covered = AddressSet::default();
        let mut elements = BTreeMap::new();
        for (range, lifetime) in ranges {
            let own = AddressSet::new(vec![range]);
            let left = own.minus(&covered);
            elements.extend(left.ranges().map(|range| (range, Some(lifetime))));
            covered = covered.union(&own);
        }
        Self { elements }
    }

    /// The elements of a set as they are; none where any overlap.
    pub fn from_elements(elements: BTreeMap<AddressRange<A>, Option<Lifetime>>) -> Option<Self> {
        let disjoint = elements.keys().zip(elements.keys().skip(1)).all(|(a, b)| a.last < b.first);
        disjoint.then_some(Self { elements })
    }

    /// The elements in ascending order.
    pub fn elements(&self) -> impl ExactSizeIterator<Item = (&AddressRange<A>, Option<&Lifetime>)> {
        self.elements.iter().map(|(range, lifetime)| (range, lifetime.as_ref()))
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.elements.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Whether `address` is in the set.
    pub fn contains(&self, address: A) -> bool {
        let up_to = AddressRange { first: address, last: A::MAX };
        let last = self.elements.range(..=up_to).next_back();
        last.is_some_and(|(range, _)| range.contains(address))
    }

    /// Whether an element has ended by `now`, in seconds since 1970.
    pub fn has_ended(&self, now: u64) -> bool {
        self.elements.values().flatten().any(|lifetime| lifetime.until <= now)
    }

    /// Drops the elements that ended by `now`, in seconds since 1970. Says whether there were any.
    pub fn expire(&mut self, now: u64) -> bool {
        let before = self.len();
        self.elements.retain(|_, lifetime| lifetime.is_none_or(|lifetime| lifetime.until > now));
        self.len() < before
    }

    /// The elements that are not, with these bounds and this lifetime, in `other`.
    pub fn elements_missing_in(&self, other: &Self) -> Self {
        let missing = |(range, lifetime): &(&AddressRange<A>, &_)| {
            other.elements.get(range) != Some(lifetime)
        };
        let elements = self.elements.iter().filter(missing).map(|(range, life)| (*range, *life));
        Self { elements: elements.collect() }
    }

    /// The set with the elements of `more` added; none where any overlaps one that is there.
    pub fn with_elements(&self, more: &Self) -> Option<Self> {
        let mut elements = self.elements.clone();
        elements.extend(&more.elements);
        Self::from_elements(elements).filter(|union| union.len() == self.len() + more.len())
    }

    /// The set without the elements of `gone`; none where one of them isn't there.
    pub fn without_elements(&self, gone: &Self) -> Option<Self> {
        let left = self.elements_missing_in(gone);
        (left.len() + gone.len() == self.len()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn range(first: u32, last: u32) -> AddressRange<Ipv4Addr> {
        AddressRange::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)).expect("ordered")
    }

    fn life(until: u64) -> Lifetime {
        Lifetime { until, timeout: 7_384 }
    }

    #[test]
    fn prints_and_reads_its_comment() {
        let lifetime = life(1_795_258_948);
        assert_eq!(lifetime.to_string(), "timeout 2h3m4s comment \"until @1795258948\"");
        assert_eq!(Lifetime::read(7_384, &lifetime.comment()), Some(lifetime));
        for comment in ["", "until 5", "until @", "until @x", "until @+5", "until @-5", " until @5"]
        {
            assert_eq!(Lifetime::read(1, comment), None, "{comment}");
        }
        assert_eq!(Lifetime::read(0, "until @5"), None);
    }

    #[test]
    fn touching_ranges_stay_apart_and_overlapping_ones_are_cut() {
        let set = TimedSet::new(vec![(range(1, 1), life(5)), (range(2, 2), life(5))]);
        assert_eq!(set.len(), 2);
        let set = TimedSet::new(vec![(range(0, 15), life(5)), (range(3, 3), life(9))]);
        let elements: Vec<_> = set.elements().map(|(r, l)| (*r, l.map(|l| l.until))).collect();
        let expected = [(range(0, 2), 5), (range(3, 3), 9), (range(4, 15), 5)];
        assert_eq!(elements, expected.map(|(range, until)| (range, Some(until))));
    }

    type Ranges = Vec<(AddressRange<Ipv4Addr>, Lifetime)>;

    fn ranges() -> impl Strategy<Value = Ranges> {
        let one = (0u32..50, 0u32..9, 1u64..6);
        prop::collection::vec(one, 0..12).prop_map(|all| {
            all.into_iter().map(|(at, more, until)| (range(at, at + more), life(until))).collect()
        })
    }

    proptest! {
        #[test]
        fn an_address_lives_as_long_as_the_longest(all in ranges(), now in 0u64..7) {
            let mut set = TimedSet::new(all.clone());
            let has_ended = set.has_ended(now);
            prop_assert_eq!(TimedSet::from_elements(set.elements.clone()), Some(set.clone()));
            prop_assert_eq!(set.expire(now), has_ended);
            prop_assert!(!set.has_ended(now));
            for number in 0..60 {
                let address = Ipv4Addr::from_bits(number);
                let alive = all.iter().any(|(r, life)| r.contains(address) && life.until > now);
                prop_assert_eq!(set.contains(address), alive);
            }
        }

        #[test]
        fn differences_lead_from_one_to_the_other(a in ranges(), b in ranges()) {
            let (old, new) = (TimedSet::new(a), TimedSet::new(b));
            let (gone, more) = (old.elements_missing_in(&new), new.elements_missing_in(&old));
            let kept = old.without_elements(&gone);
            prop_assert_eq!(kept.and_then(|kept| kept.with_elements(&more)), Some(new));
        }
    }
}
