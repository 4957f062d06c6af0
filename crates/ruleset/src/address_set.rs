//! Address sets: sorted, disjoint, non-adjacent ranges.
//!
//! Every set of addresses in tierwall passes through [`AddressSet`], whose constructor sorts and
//! merges. Nobody else merges: what comes out is what an nftables interval set accepts, since the
//! kernel answers any overlap of intervals with `EEXIST`.
//!
//! A set may hold millions of ranges, and several versions of it are compared at every change. So a
//! set is a list of chunks that other sets share: a copy costs nothing, a set with one member more
//! costs one chunk, and what two versions share is passed over unread when they are compared.

mod algebra;
mod chunk;
mod merge;

use crate::address::{Address, AddressRange};
use algebra::skip_shared;
use chunk::{Chunk, Cursor};
use merge::{Merge, sort};
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

    /// The number of addresses, known without looking at the ranges; `u128::MAX` also stands for all
    /// of IPv6, which are one more.
    pub fn addresses(&self) -> u128 {
        self.chunks.iter().map(|chunk| chunk.addresses).fold(0, u128::saturating_add)
    }

    /// A hash of the ranges, the same in every build, and known without looking at them. It guards
    /// against accidents, not against somebody who looks for two sets that have the same.
    pub fn digest(&self) -> u128 {
        self.hash
    }

    /// The same set, of the chunks of `other` where it has the same ones: what two versions that came
    /// to be apart from each other have in common takes room once.
    pub fn sharing(&self, other: &Self) -> Self {
        let mut others = other.chunks.iter().peekable();
        let chunks = self.chunks.iter().map(|chunk| {
            while others.next_if(|other| other.first() < chunk.first()).is_some() {}
            let same = others.peek().filter(|other| other.is_same(chunk));
            Arc::clone(same.unwrap_or(&chunk))
        });
        Self { chunks: chunks.collect(), len: self.len, hash: self.hash }
    }

    /// Whether `address` is in the set: a binary search.
    pub fn contains(&self, address: A) -> bool {
        self.range_with(address).is_some()
    }

    /// The range that holds `address`: a binary search.
    pub fn range_with(&self, address: A) -> Option<AddressRange<A>> {
        self.at_or_below(address).filter(|range| range.contains(address))
    }

    /// The last range that begins at `address` or below.
    fn at_or_below(&self, address: A) -> Option<AddressRange<A>> {
        let after = self
            .chunks
            .partition_point(|chunk| chunk.first().is_some_and(|range| range.first <= address));
        self.chunks[after.checked_sub(1)?].at_or_below(address)
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
mod tests;
