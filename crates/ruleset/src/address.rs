//! Address sets: sorted, disjoint, non-adjacent ranges.
//!
//! Every set of addresses in tierwall passes through [`AddressSet`], whose constructor sorts and
//! merges. Nobody else merges: what comes out is what an nftables interval set accepts, since the
//! kernel answers any overlap of intervals with `EEXIST`.

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IPv4 or IPv6 address, as a number.
pub trait Address:
    Copy + Ord + Hash + fmt::Debug + fmt::Display + FromStr + Serialize + DeserializeOwned + 'static
{
    /// Width in bits: 32 or 128.
    const BITS: u8;
    /// The lowest address of the family.
    const MIN: Self;
    /// The highest address of the family.
    const MAX: Self;
    /// The address as a number; the upper bits are zero for IPv4.
    fn to_number(self) -> u128;
    /// The address of a number; bits above [`Self::BITS`] are cut off.
    fn from_number(number: u128) -> Self;
    /// The next higher address, none after [`Self::MAX`].
    fn next(self) -> Option<Self>;
    /// The next lower address, none before [`Self::MIN`].
    fn previous(self) -> Option<Self>;
    /// The same address without its family in the type.
    fn to_ip(self) -> IpAddr;
}

impl Address for Ipv4Addr {
    const BITS: u8 = 32;
    const MIN: Self = Self::UNSPECIFIED;
    const MAX: Self = Self::BROADCAST;
    fn to_number(self) -> u128 {
        u128::from(self.to_bits())
    }
    fn from_number(number: u128) -> Self {
        Self::from_bits(number as u32)
    }
    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }
    fn previous(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }
    fn to_ip(self) -> IpAddr {
        self.into()
    }
}

impl Address for Ipv6Addr {
    const BITS: u8 = 128;
    const MIN: Self = Self::UNSPECIFIED;
    const MAX: Self = Self::from_bits(u128::MAX);
    fn to_number(self) -> u128 {
        self.to_bits()
    }
    fn from_number(number: u128) -> Self {
        Self::from_bits(number)
    }
    fn next(self) -> Option<Self> {
        self.to_bits().checked_add(1).map(Self::from_bits)
    }
    fn previous(self) -> Option<Self> {
        self.to_bits().checked_sub(1).map(Self::from_bits)
    }
    fn to_ip(self) -> IpAddr {
        self.into()
    }
}

/// All addresses from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange<A> {
    /// The lowest address.
    pub first: A,
    /// The highest address, never below `first`.
    pub last: A,
}

impl<A: Address> AddressRange<A> {
    /// Every address of the family.
    pub const ALL: Self = Self { first: A::MIN, last: A::MAX };

    /// The range from `first` to `last`, or none if they are inverted.
    pub fn new(first: A, last: A) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// One address.
    pub fn single(address: A) -> Self {
        Self { first: address, last: address }
    }

    /// The prefix `address/length`, with host bits cut off. None if `length` is over the width.
    pub fn prefix(address: A, length: u8) -> Option<Self> {
        let host_bits = A::BITS.checked_sub(length)?;
        let mask = if host_bits == 128 { u128::MAX } else { (1u128 << host_bits) - 1 };
        let number = address.to_number();
        Some(Self { first: A::from_number(number & !mask), last: A::from_number(number | mask) })
    }

    /// Whether this is one address only.
    pub fn is_single(&self) -> bool {
        self.first == self.last
    }

    /// Whether `address` lies in the range.
    pub fn contains(&self, address: A) -> bool {
        self.first <= address && address <= self.last
    }

    /// The prefix length, where the range is exactly one prefix.
    pub fn prefix_length(&self) -> Option<u8> {
        let span = self.last.to_number() - self.first.to_number();
        let host_bits = span.trailing_ones();
        let aligned = self.first.to_number() & span == 0;
        let is_power = span.checked_add(1).is_none_or(|size| size.is_power_of_two());
        (aligned && is_power).then(|| A::BITS - host_bits as u8)
    }
}

/// As nftables writes it: an address, a prefix where it is one, else `first-last`.
impl<A: Address> fmt::Display for AddressRange<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_length() {
            Some(length) if length == A::BITS => write!(f, "{}", self.first),
            Some(length) => write!(f, "{}/{length}", self.first),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// A set of addresses of one family: ranges that are sorted, disjoint and not adjacent.
///
/// Two sets that hold the same addresses are equal, however they were written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AddressSet<A> {
    ranges: Vec<AddressRange<A>>,
}

impl<A> Default for AddressSet<A> {
    fn default() -> Self {
        Self { ranges: Vec::new() }
    }
}

impl<A: Address> AddressSet<A> {
    /// Sorts and merges: overlapping, nested, adjacent and repeated ranges become one.
    ///
    /// Linear when `ranges` is sorted already.
    pub fn new(mut ranges: Vec<AddressRange<A>>) -> Self {
        if !ranges.is_sorted() {
            ranges.sort_unstable();
        }
        ranges.dedup_by(|next, kept| {
            // `dedup_by` hands the later element first; the earlier one is kept when this is true.
            let touches = kept.last.next().is_none_or(|after| next.first <= after);
            if touches {
                kept.last = kept.last.max(next.last);
            }
            touches
        });
        Self { ranges }
    }

    /// The merged ranges in ascending order.
    pub fn ranges(&self) -> &[AddressRange<A>] {
        &self.ranges
    }

    /// Whether the set holds no address.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The number of ranges, a single address counting as one.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether `address` is in the set: a binary search.
    pub fn contains(&self, address: A) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= address);
        after.checked_sub(1).is_some_and(|index| self.ranges[index].contains(address))
    }

    /// Whether every address of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        other.ranges.iter().all(|range| {
            let after = self.ranges.partition_point(|own| own.first <= range.first);
            after.checked_sub(1).is_some_and(|index| self.ranges[index].last >= range.last)
        })
    }

    /// Whether the two sets share an address.
    pub fn intersects(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            if a.last < b.first {
                left.next();
            } else if b.last < a.first {
                right.next();
            } else {
                return true;
            }
        }
        false
    }

    /// All addresses of both sets.
    pub fn union(&self, other: &Self) -> Self {
        if other.is_empty() {
            return self.clone();
        }
        Self::new(self.ranges.iter().chain(&other.ranges).copied().collect())
    }

    /// The addresses of this set that are not in `other`.
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        let mut cuts = other.ranges.iter().peekable();
        for range in &self.ranges {
            let mut first = Some(range.first);
            while cuts.next_if(|cut| cut.last < range.first).is_some() {}
            // A cut may reach into the next range: it is passed only when it ends within this one.
            while let (Some(from), Some(cut)) = (first, cuts.peek()) {
                if cut.first > range.last {
                    break;
                }
                let before = cut.first.previous().and_then(|end| AddressRange::new(from, end));
                left.extend(before);
                first = cut.last.next().filter(|next| *next <= range.last);
                if cut.last <= range.last {
                    cuts.next();
                } else {
                    break;
                }
            }
            left.extend(first.map(|first| AddressRange { first, last: range.last }));
        }
        Self { ranges: left }
    }

    /// The ranges that stand in this set and not, with the very same bounds, in `other`.
    ///
    /// These are set *elements*: the kernel knows intervals, not addresses, so `10.0.0.1-10.0.0.9`
    /// shrunk by its last address is one element to delete and another to add.
    pub fn elements_missing_in(&self, other: &Self) -> Self {
        let mut missing = Vec::new();
        let mut others = other.ranges.iter().peekable();
        for range in &self.ranges {
            while others.next_if(|candidate| *candidate < range).is_some() {}
            if others.peek() != Some(&range) {
                missing.push(*range);
            }
        }
        Self { ranges: missing }
    }

    /// The set with the elements of `more` added. None where one of them overlaps or touches
    /// another, which would make them one element.
    pub fn with_elements(&self, more: &Self) -> Option<Self> {
        let union = self.union(more);
        (union.len() == self.len() + more.len()).then_some(union)
    }

    /// The set without the elements of `gone`. None where one of them is not an element of this
    /// set with these very bounds.
    pub fn without_elements(&self, gone: &Self) -> Option<Self> {
        let left = self.elements_missing_in(gone);
        (left.len() + gone.len() == self.len()).then_some(left)
    }
}

/// A list of pairs: the first and the last address of each range.
impl<A: Address> Serialize for AddressSet<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges.iter().map(|range| (range.first, range.last)))
    }
}

/// Merges again: a file may hold anything.
impl<'de, A: Address> Deserialize<'de> for AddressSet<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(A, A)>::deserialize(deserializer)?;
        let ranges = pairs.into_iter().map(|(first, last)| {
            AddressRange::new(first, last).ok_or_else(|| D::Error::custom("an inverted range"))
        });
        ranges.collect::<Result<Vec<_>, _>>().map(Self::new)
    }
}

impl<A: Address> FromIterator<AddressRange<A>> for AddressSet<A> {
    fn from_iter<I: IntoIterator<Item = AddressRange<A>>>(ranges: I) -> Self {
        Self::new(ranges.into_iter().collect())
    }
}

impl<A: Address> fmt::Debug for AddressSet<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// As an nftables element list: `{ 10.0.0.1, 10.1.0.0/16 }`.
impl<A: Address> fmt::Display for AddressSet<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (index, range) in self.ranges.iter().enumerate() {
            write!(f, "{} {range}", if index > 0 { "," } else { "" })?;
        }
        f.write_str(" }")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn range(first: u32, last: u32) -> AddressRange<Ipv4Addr> {
        AddressRange::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)).expect("ordered")
    }

    #[test]
    fn merges_overlapping_nested_adjacent_and_repeated() {
        let set = AddressSet::new(vec![
            range(5, 9),
            range(1, 3),
            range(4, 4),
            range(2, 2),
            range(20, 30),
            range(25, 26),
            range(20, 30),
        ]);
        assert_eq!(set.ranges(), [range(1, 9), range(20, 30)]);
    }

    #[test]
    fn reaches_both_ends_of_the_address_space() {
        let set = AddressSet::new(vec![range(u32::MAX, u32::MAX), range(0, u32::MAX - 1)]);
        assert_eq!(set.ranges(), [AddressRange::<Ipv4Addr>::ALL]);
        assert_eq!(set.ranges()[0].to_string(), "0.0.0.0/0");
        assert_eq!(AddressRange::<Ipv6Addr>::ALL.to_string(), "::/0");
        assert_eq!(AddressRange::prefix(Ipv6Addr::MIN, 0), Some(AddressRange::ALL));
    }

    #[test]
    fn prints_prefixes_only_where_they_are_exact() {
        assert_eq!(range(0x0a00_0000, 0x0a00_00ff).to_string(), "10.0.0.0/24");
        assert_eq!(range(0x0a00_0001, 0x0a00_0002).to_string(), "10.0.0.1-10.0.0.2");
        assert_eq!(range(0x0a00_0000, 0x0a00_00fe).to_string(), "10.0.0.0-10.0.0.254");
    }

    fn small_ranges() -> impl Strategy<Value = Vec<AddressRange<Ipv4Addr>>> {
        prop::collection::vec((0u32..200, 0u32..12), 0..40)
            .prop_map(|pairs| pairs.into_iter().map(|(at, more)| range(at, at + more)).collect())
    }

    fn model(ranges: &[AddressRange<Ipv4Addr>]) -> BTreeSet<u32> {
        ranges.iter().flat_map(|r| r.first.to_bits()..=r.last.to_bits()).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(a in small_ranges(), b in small_ranges()) {
            let (set_a, set_b) = (AddressSet::new(a.clone()), AddressSet::new(b.clone()));
            let (model_a, model_b) = (model(&a), model(&b));
            prop_assert_eq!(model(set_a.ranges()), model_a.clone());
            for pair in set_a.ranges().windows(2) {
                prop_assert!(pair[0].last.next().is_some_and(|after| after < pair[1].first));
            }
            for number in 0..220 {
                prop_assert_eq!(set_a.contains(Ipv4Addr::from_bits(number)), model_a.contains(&number));
            }
            prop_assert_eq!(set_a.covers(&set_b), model_a.is_superset(&model_b));
            prop_assert_eq!(set_a.intersects(&set_b), !model_a.is_disjoint(&model_b));
            prop_assert_eq!(model(set_a.union(&set_b).ranges()), &model_a | &model_b);
            prop_assert_eq!(set_a == set_b, model_a == model_b);
            let minus = set_a.minus(&set_b);
            prop_assert_eq!(model(minus.ranges()), &model_a - &model_b);
            prop_assert_eq!(&AddressSet::new(minus.ranges().to_vec()), &minus);
        }

        #[test]
        fn element_difference_turns_one_set_into_the_other(a in small_ranges(), b in small_ranges()) {
            let (old, new) = (AddressSet::new(a), AddressSet::new(b));
            let removed = old.elements_missing_in(&new);
            let added = new.elements_missing_in(&old);
            let kept = old.without_elements(&removed);
            prop_assert_eq!(kept.and_then(|kept| kept.with_elements(&added)), Some(new));
        }
    }
}
