//! Address sets: sorted, disjoint, non-adjacent ranges.
//!
//! Every set of addresses in tierwall passes through [`AddressSet`], whose constructor sorts and
//! merges. Nobody else merges: what comes out is what an nftables interval set accepts, since the
//! kernel answers any overlap of intervals with `EEXIST`.
//!
//! A set may hold millions of ranges, and several versions of it are compared at every change. So a
//! set is a list of chunks that other sets share: a copy costs nothing, a set with one member more
//! costs one chunk, and what two versions share is passed over unread when they are compared.

mod chunk;

use crate::address::{Address, AddressRange};
use chunk::{Builder, Chunk, Cursor};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// A set of addresses of one family: ranges that are sorted, disjoint and not adjacent.
///
/// Two sets that hold the same addresses are equal, however they were written. A copy is cheap.
#[derive(Clone)]
pub struct AddressSet<A> {
    chunks: Arc<[Arc<Chunk<A>>]>,
    len: usize,
    hash: u128,
}

impl<A> Default for AddressSet<A> {
    fn default() -> Self {
        Self { chunks: Arc::from([]), len: 0, hash: 0 }
    }
}

impl<A: Address> AddressSet<A> {
    /// Sorts and merges: overlapping, nested, adjacent and repeated ranges become one.
    ///
    /// Linear when `ranges` is sorted but for a few.
    pub fn new(ranges: Vec<AddressRange<A>>) -> Self {
        let mut merge = Merge::new();
        let (ascending, others) = sort(ranges);
        let mut others = others.into_iter().peekable();
        for range in ascending {
            while let Some(other) = others.next_if(|other| *other < range) {
                merge.push(other);
            }
            merge.push(range);
        }
        others.for_each(|other| merge.push(other));
        merge.finish()
    }

    fn of_chunks(chunks: Vec<Arc<Chunk<A>>>) -> Self {
        let len = chunks.iter().map(|chunk| chunk.len()).sum();
        let hash = chunks.iter().map(|chunk| chunk.hash).fold(0, u128::wrapping_add);
        Self { chunks: chunks.into(), len, hash }
    }

    /// The merged ranges in ascending order.
    pub fn ranges(&self) -> Iter<'_, A> {
        Iter { cursor: Cursor::new(&self.chunks), left: self.len }
    }

    /// The lowest range.
    pub fn first(&self) -> Option<AddressRange<A>> {
        self.chunks.first()?.first()
    }

    /// The highest range.
    pub fn last(&self) -> Option<AddressRange<A>> {
        self.chunks.last()?.last()
    }

    /// Whether the set holds no address.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of ranges, a single address counting as one.
    pub fn len(&self) -> usize {
        self.len
    }

    /// A hash of the ranges, the same in every build, and known without looking at them. It guards
    /// against accidents, not against somebody who looks for two sets that have the same.
    pub fn digest(&self) -> u128 {
        self.hash
    }

    /// Whether `address` is in the set: a binary search.
    pub fn contains(&self, address: A) -> bool {
        self.at_or_below(address).is_some_and(|range| range.contains(address))
    }

    /// The last range that begins at `address` or below.
    fn at_or_below(&self, address: A) -> Option<AddressRange<A>> {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|range| range.first <= address));
        self.chunks[after.checked_sub(1)?].at_or_below(address)
    }

    /// Whether every address of `other` is in this set.
    pub fn covers(&self, other: &Self) -> bool {
        let (mut own, mut others) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        loop {
            skip_shared(&mut own, &mut others, |_| {});
            let Some(range) = others.peek() else { return true };
            own.seek(range.first);
            match own.peek() {
                Some(cover) if cover.first <= range.first && cover.last >= range.last => {
                    others.advance();
                    // Both go on, so that they come to the next shared chunk together.
                    if cover.last == range.last {
                        own.advance();
                    }
                }
                _ => return false,
            }
        }
    }

    /// Whether the two sets share an address.
    pub fn intersects(&self, other: &Self) -> bool {
        let (mut left, mut right) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            if a.last < b.first {
                left.seek(b.first);
            } else if b.last < a.first {
                right.seek(a.first);
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
        if self.is_empty() {
            return other.clone();
        }
        let (mut left, mut right) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        let mut merge = Merge::new();
        loop {
            skip_shared(&mut left, &mut right, |chunk| merge.push_chunk(chunk));
            let (lower, higher) = match (left.peek(), right.peek()) {
                (None, None) => return merge.finish(),
                (Some(_), None) => (&mut left, None),
                (None, Some(_)) => (&mut right, None),
                (Some(a), Some(b)) if a <= b => (&mut left, Some(b)),
                (Some(a), Some(_)) => (&mut right, Some(a)),
            };
            match lower.whole() {
                // Nothing of the other set comes in between or touches its end.
                Some(chunk) if higher.is_none_or(|next| lies_below(chunk, next)) => {
                    merge.push_chunk(chunk);
                    lower.skip();
                }
                _ => {
                    merge.extend(lower.peek());
                    lower.advance();
                }
            }
        }
    }

    /// The addresses of this set that are not in `other`.
    pub fn minus(&self, other: &Self) -> Self {
        let (mut own, mut cuts) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        let mut left = Builder::new();
        loop {
            skip_shared(&mut own, &mut cuts, |_| {});
            let Some(range) = own.peek() else { return Self::of_chunks(left.finish()) };
            cuts.seek(range.first);
            if let Some(chunk) = own.whole()
                && cuts.peek().is_none_or(|cut| lies_below(chunk, cut))
            {
                left.push_chunk(chunk);
                own.skip();
                continue;
            }
            // A cut may reach into the next range: it is passed only when it ends within this one.
            let mut first = Some(range.first);
            while let (Some(from), Some(cut)) = (first, cuts.peek()) {
                if cut.first > range.last {
                    break;
                }
                let before = cut.first.previous().and_then(|end| AddressRange::new(from, end));
                before.into_iter().for_each(|range| left.push(range));
                first = cut.last.next().filter(|next| *next <= range.last);
                if cut.last > range.last {
                    break;
                }
                cuts.advance();
            }
            if let Some(first) = first {
                left.push(AddressRange { first, last: range.last });
            }
            own.advance();
        }
    }

    /// The ranges that stand in this set and not, with the very same bounds, in `other`.
    ///
    /// These are set *elements*: the kernel knows intervals, not addresses, so `10.0.0.1-10.0.0.9`
    /// shrunk by its last address is one element to delete and another to add.
    pub fn elements_missing_in(&self, other: &Self) -> Self {
        let (mut own, mut others) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        let mut missing = Builder::new();
        loop {
            skip_shared(&mut own, &mut others, |_| {});
            let Some(range) = own.peek() else { return Self::of_chunks(missing.finish()) };
            others.seek(range.first);
            if let Some(chunk) = own.whole()
                && others.peek().is_none_or(|next| lies_below(chunk, next))
            {
                missing.push_chunk(chunk);
                own.skip();
                continue;
            }
            // Both go on, so that they come to the next shared chunk together.
            match others.peek() {
                Some(other) if other == range => others.advance(),
                _ => missing.push(range),
            }
            own.advance();
        }
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

    /// The ranges that are exactly one address, and the others. What was split once is split again
    /// without looking at it.
    pub fn split_singles(&self) -> (Self, Self) {
        let mut parts = [Builder::new(), Builder::new()];
        for chunk in &*self.chunks {
            for (builder, part) in parts.iter_mut().zip(Chunk::parts(chunk)) {
                part.into_iter().for_each(|part| builder.push_part(part));
            }
        }
        let [singles, others] = parts.map(|builder| Self::of_chunks(builder.finish()));
        (singles, others)
    }
}

/// Passes over what both hold in the same chunks, and hands it out.
fn skip_shared<'a, A: Address>(
    left: &mut Cursor<'a, A>,
    right: &mut Cursor<'a, A>,
    mut each: impl FnMut(&'a Arc<Chunk<A>>),
) {
    while let (Some(a), Some(b)) = (left.whole(), right.whole())
        && a.is_same(b)
    {
        each(a);
        left.skip();
        right.skip();
    }
}

/// Whether all of `chunk` lies below `range`, without touching it.
fn lies_below<A: Address>(chunk: &Chunk<A>, range: AddressRange<A>) -> bool {
    let after = chunk.last().and_then(|last| last.last.next());
    after.is_some_and(|after| after < range.first)
}

/// Splits into an ascending list and another one of what stood in its way, sorted as well.
fn sort<A: Address>(
    mut ranges: Vec<AddressRange<A>>,
) -> (Vec<AddressRange<A>>, Vec<AddressRange<A>>) {
    /// More than one in so many out of place: that is a list that isn't sorted.
    const FEW: usize = 8;
    let mut others = Vec::new();
    let most = ranges.len() / FEW;
    let mut highest: Option<AddressRange<A>> = None;
    let ascends = ranges.iter().all(|range| {
        if highest.is_some_and(|highest| *range < highest) {
            others.push(*range);
        } else {
            highest = Some(*range);
        }
        others.len() <= most
    });
    if !ascends {
        ranges.sort_unstable();
        return (ranges, Vec::new());
    }
    if !others.is_empty() {
        let mut highest: Option<AddressRange<A>> = None;
        ranges.retain(|range| {
            let in_place = highest.is_none_or(|highest| *range >= highest);
            if in_place {
                highest = Some(*range);
            }
            in_place
        });
        others.sort_unstable();
    }
    (ranges, others)
}

/// A set out of ranges in the order of their first addresses, which may overlap and touch.
struct Merge<A> {
    builder: Builder<A>,
    /// The last range, which the next one may touch.
    last: Option<AddressRange<A>>,
}

impl<A: Address> Merge<A> {
    fn new() -> Self {
        Self { builder: Builder::new(), last: None }
    }

    fn push(&mut self, range: AddressRange<A>) {
        match &mut self.last {
            Some(last) if last.last.next().is_none_or(|after| range.first <= after) => {
                last.last = last.last.max(range.last);
            }
            last => {
                let before = last.replace(range);
                before.into_iter().for_each(|range| self.builder.push(range));
            }
        }
    }

    fn extend(&mut self, range: Option<AddressRange<A>>) {
        range.into_iter().for_each(|range| self.push(range));
    }

    /// Adds a chunk that nothing touches which comes after it.
    fn push_chunk(&mut self, chunk: &Arc<Chunk<A>>) {
        let touches = self.last.is_some_and(|last| {
            let first = chunk.first().map(|range| range.first);
            last.last.next().is_none_or(|after| first.is_none_or(|first| first <= after))
        });
        if touches {
            return (0..chunk.len()).for_each(|index| self.extend(chunk.get(index)));
        }
        self.last.take().into_iter().for_each(|range| self.builder.push(range));
        self.builder.push_chunk(chunk);
    }

    fn finish(mut self) -> AddressSet<A> {
        self.last.take().into_iter().for_each(|range| self.builder.push(range));
        AddressSet::of_chunks(self.builder.finish())
    }
}

/// The ranges of a set, in ascending order.
#[derive(Debug, Clone)]
pub struct Iter<'a, A> {
    cursor: Cursor<'a, A>,
    left: usize,
}

impl<A: Address> Iterator for Iter<'_, A> {
    type Item = AddressRange<A>;

    fn next(&mut self) -> Option<AddressRange<A>> {
        let range = self.cursor.peek()?;
        self.cursor.advance();
        self.left -= 1;
        Some(range)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<A: Address> ExactSizeIterator for Iter<'_, A> {}

impl<A: Address> PartialEq for AddressSet<A> {
    fn eq(&self, other: &Self) -> bool {
        if Arc::ptr_eq(&self.chunks, &other.chunks) {
            return true;
        }
        if (self.len, self.hash) != (other.len, other.hash) {
            return false;
        }
        let (mut left, mut right) = (Cursor::new(&self.chunks), Cursor::new(&other.chunks));
        loop {
            skip_shared(&mut left, &mut right, |_| {});
            match (left.peek(), right.peek()) {
                (None, None) => return true,
                (a, b) if a != b => return false,
                _ => {
                    left.advance();
                    right.advance();
                }
            }
        }
    }
}

impl<A: Address> Eq for AddressSet<A> {}

impl<A: Address> Hash for AddressSet<A> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.len, self.hash).hash(state);
    }
}

/// A list of pairs: the first and the last address of each range.
impl<A: Address> Serialize for AddressSet<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.ranges().map(|range| (range.first, range.last)))
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
        for (index, range) in self.ranges().enumerate() {
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
    use std::net::{Ipv4Addr, Ipv6Addr};

    fn range(first: u32, last: u32) -> AddressRange<Ipv4Addr> {
        AddressRange::new(Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(last)).expect("ordered")
    }

    fn ranges<A: Address>(set: &AddressSet<A>) -> Vec<AddressRange<A>> {
        set.ranges().collect()
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
        assert_eq!(ranges(&set), [range(1, 9), range(20, 30)]);
    }

    #[test]
    fn reaches_both_ends_of_the_address_space() {
        let set = AddressSet::new(vec![range(u32::MAX, u32::MAX), range(0, u32::MAX - 1)]);
        assert_eq!(ranges(&set), [AddressRange::<Ipv4Addr>::ALL]);
        assert!(set.minus(&set).is_empty());
        assert_eq!(set.union(&set), set);
        let all = AddressSet::new(vec![AddressRange::<Ipv6Addr>::ALL]);
        assert!(all.contains(Ipv6Addr::MAX) && all.covers(&all));
        assert_eq!(all.minus(&AddressSet::default()), all);
    }

    #[test]
    fn a_change_makes_anew_what_it_falls_into_and_no_more() {
        let many: Vec<_> = (0..1000).map(|n| range(n * 10, n * 10 + n % 2)).collect();
        let old = AddressSet::new(many.clone());
        let shared = |new: &AddressSet<Ipv4Addr>| {
            let is_old = |chunk: &&Arc<Chunk<_>>| old.chunks.iter().any(|o| Arc::ptr_eq(o, chunk));
            new.chunks.iter().filter(is_old).count()
        };
        assert!(old.chunks.len() > 100, "{}", old.chunks.len());
        for at in [0, 17, 5005, 9995, 20_000] {
            let one = AddressSet::new(vec![range(at, at + 2)]);
            let (more, less) = (old.union(&one), old.minus(&one));
            for new in [&more, &less] {
                assert!(shared(new) + 4 >= old.chunks.len(), "{at}: {}", shared(new));
            }
            // And comes back as it was, down to the chunks, however it was made.
            let lines =
                |set: &AddressSet<_>| AddressSet::new(ranges(set).into_iter().rev().collect());
            for new in [more, less] {
                let read = lines(&new);
                assert_eq!(shared(&read), 0);
                assert!(read == new, "{at}");
                let same = |chunk: &&Arc<Chunk<_>>| old.chunks.iter().any(|own| own.is_same(chunk));
                assert!(read.chunks.iter().filter(same).count() >= shared(&new), "{at}");
                let split = |set: &AddressSet<_>| set.split_singles();
                let (singles, others) = (split(&old).0, split(&old).1);
                let missing = split(&new).0.elements_missing_in(&singles).len()
                    + split(&new).1.elements_missing_in(&others).len();
                assert_eq!(missing, new.elements_missing_in(&old).len());
            }
        }
    }

    fn small_ranges() -> impl Strategy<Value = Vec<AddressRange<Ipv4Addr>>> {
        let few = prop::collection::vec((0u32..200, 0u32..12), 0..40);
        // Nearly all in order, as files are.
        let sorted = prop::collection::vec((0u32..200, 0u32..3), 0..60).prop_map(|mut pairs| {
            let late = pairs.len() - pairs.len() / 10;
            pairs[..late].sort_unstable();
            pairs
        });
        prop_oneof![few, sorted]
            .prop_map(|pairs| pairs.into_iter().map(|(at, more)| range(at, at + more)).collect())
    }

    fn model(ranges: &[AddressRange<Ipv4Addr>]) -> BTreeSet<u32> {
        ranges.iter().flat_map(|r| r.first.to_bits()..=r.last.to_bits()).collect()
    }

    /// What every set has to keep, however it came to be.
    fn check(set: &AddressSet<Ipv4Addr>, expected: &BTreeSet<u32>) {
        let all = ranges(set);
        assert_eq!(&model(&all), expected);
        assert!(all.windows(2).all(|pair| pair[0].last.next().is_some_and(|a| a < pair[1].first)));
        assert_eq!((set.len(), set.ranges().len()), (all.len(), all.len()));
        assert_eq!((set.first(), set.last()), (all.first().copied(), all.last().copied()));
        assert!(set.chunks.iter().all(|chunk| (1..=MOST).contains(&chunk.len())));
        let read = AddressSet::new(all);
        assert_eq!((&read, read.digest()), (set, set.digest()));
    }

    #[test]
    fn what_differs_in_one_place_is_compared_there_only() {
        let steps = |work: &dyn Fn()| {
            chunk::STEPS.set(0);
            work();
            chunk::STEPS.get()
        };
        let many: AddressSet<Ipv4Addr> = (1..1000).map(|n| range(10 * n, 10 * n)).collect();
        for at in [5, 15, 4005, 5555, 9985, 20_000] {
            let one = AddressSet::from_iter([range(at, at)]);
            let more = many.union(&one);
            let work: [(&str, &dyn Fn()); 8] = [
                ("with", &|| assert_eq!(many.with_elements(&one), Some(more.clone()))),
                ("without", &|| assert_eq!(more.without_elements(&one), Some(many.clone()))),
                ("minus", &|| assert_eq!(more.minus(&many), one)),
                ("minus it", &|| assert_eq!(more.minus(&one), many)),
                ("added", &|| assert_eq!(more.elements_missing_in(&many), one)),
                ("gone", &|| assert!(many.elements_missing_in(&more).is_empty())),
                ("covers", &|| assert!(more.covers(&many))),
                ("split", &|| assert_eq!(more.split_singles().0, more)),
            ];
            for (what, work) in work {
                let steps = steps(work);
                assert!(steps < 50, "{what} at {at} took {steps} steps");
            }
        }
    }

    const MOST: usize = 7;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn agrees_with_a_set_of_numbers(a in small_ranges(), b in small_ranges()) {
            let (set_a, set_b) = (AddressSet::new(a.clone()), AddressSet::new(b.clone()));
            let (model_a, model_b) = (model(&a), model(&b));
            check(&set_a, &model_a);
            for number in 0..220 {
                prop_assert_eq!(set_a.contains(Ipv4Addr::from_bits(number)), model_a.contains(&number));
            }
            prop_assert_eq!(set_a.covers(&set_b), model_a.is_superset(&model_b));
            prop_assert_eq!(set_a.intersects(&set_b), !model_a.is_disjoint(&model_b));
            prop_assert_eq!(set_a == set_b, model_a == model_b);
            check(&set_a.union(&set_b), &(&model_a | &model_b));
            check(&set_a.minus(&set_b), &(&model_a - &model_b));
            // Also of sets that share chunks.
            let both = set_a.union(&set_b);
            check(&both.minus(&set_a), &(&model_b - &model_a));
            check(&both.union(&set_b), &(&model_a | &model_b));
            prop_assert!(both.covers(&set_a) && both.covers(&set_b));
            let (singles, others) = both.split_singles();
            prop_assert!(singles.ranges().all(|r| r.is_single()));
            prop_assert!(!others.ranges().any(|r| r.is_single()));
            prop_assert_eq!(singles.union(&others), both);
        }

        #[test]
        fn element_difference_turns_one_set_into_the_other(a in small_ranges(), b in small_ranges()) {
            let (one, other) = (AddressSet::new(a), AddressSet::new(b));
            for (old, new) in [(one.clone(), other.clone()), (one.clone(), one.union(&other))] {
                let removed = old.elements_missing_in(&new);
                let added = new.elements_missing_in(&old);
                let expected: Vec<_> =
                    new.ranges().filter(|range| !old.ranges().any(|own| own == *range)).collect();
                prop_assert_eq!(ranges(&added), expected);
                let kept = old.without_elements(&removed);
                prop_assert_eq!(kept.and_then(|kept| kept.with_elements(&added)), Some(new));
            }
        }
    }
}
