//! The pieces that an address set is made of.
//!
//! A chunk is shared between all sets that hold its ranges, and a change makes anew only the chunk
//! that it falls into. Where a chunk ends follows from the ranges alone (one in [`MEAN`] ends its
//! chunk, by its hash), so two lists that differ in a line differ in a chunk, wherever the line is
//! and however they came to be.

use crate::address::{Address, AddressRange};
use std::sync::{Arc, OnceLock};

/// How many ranges a chunk has on average (a power of two), and at most. A change goes through one
/// chunk, which is in the cache then, and along all of them, which mostly aren't: of a million
/// ranges, 250. Tests have small sets of many chunks.
const MEAN: u64 = if cfg!(test) { 4 } else { 4096 };
const MOST: usize = if cfg!(test) { 7 } else { 16_384 };

/// Some consecutive ranges of a set, at least one.
#[derive(Debug)]
pub(super) struct Chunk<A> {
    ranges: Ranges<A>,
    /// The sum of the ranges' hashes.
    pub(super) hash: u128,
    /// How many of them are single addresses.
    singles: usize,
    /// How many addresses they hold; `u128::MAX` also stands for one more.
    pub(super) addresses: u128,
    /// Where there are both: the single addresses, and the others. Made on first use, and shared
    /// like the chunk, so that splitting a large set again costs nothing.
    parts: OnceLock<[Arc<Chunk<A>>; 2]>,
}

/// A single address takes half of the room of a range, and most large lists hold nothing else.
#[derive(Debug, PartialEq, Eq)]
enum Ranges<A> {
    Single(Box<[A]>),
    Any(Box<[AddressRange<A>]>),
}

impl<A: Address> Chunk<A> {
    fn new(ranges: &[AddressRange<A>], hash: u128) -> Self {
        let singles = ranges.iter().filter(|range| range.is_single()).count();
        let size = |range: &AddressRange<A>| {
            (range.last.to_number() - range.first.to_number()).saturating_add(1)
        };
        let addresses = ranges.iter().map(size).fold(0, u128::saturating_add);
        let ranges = match singles == ranges.len() {
            true => Ranges::Single(ranges.iter().map(|range| range.first).collect()),
            false => Ranges::Any(ranges.into()),
        };
        Self { ranges, hash, singles, addresses, parts: OnceLock::new() }
    }

    pub(super) fn len(&self) -> usize {
        match &self.ranges {
            Ranges::Single(addresses) => addresses.len(),
            Ranges::Any(ranges) => ranges.len(),
        }
    }

    /// The range at `index`, none behind the last.
    pub(super) fn get(&self, index: usize) -> Option<AddressRange<A>> {
        match &self.ranges {
            Ranges::Single(addresses) => {
                addresses.get(index).map(|address| AddressRange::single(*address))
            }
            Ranges::Any(ranges) => ranges.get(index).copied(),
        }
    }

    pub(super) fn first(&self) -> Option<AddressRange<A>> {
        self.get(0)
    }

    pub(super) fn last(&self) -> Option<AddressRange<A>> {
        self.get(self.len().checked_sub(1)?)
    }

    /// The last range that begins at `address` or below.
    pub(super) fn at_or_below(&self, address: A) -> Option<AddressRange<A>> {
        let number = address.to_number();
        let after = match &self.ranges {
            Ranges::Single(addresses) => addresses.partition_point(|a| a.to_number() <= number),
            Ranges::Any(ranges) => ranges.partition_point(|r| r.first.to_number() <= number),
        };
        self.get(after.checked_sub(1)?)
    }

    /// The single addresses of `chunk`, and its other ranges.
    pub(super) fn parts(chunk: &Arc<Self>) -> [Option<Arc<Self>>; 2] {
        let Ranges::Any(ranges) = &chunk.ranges else { return [Some(Arc::clone(chunk)), None] };
        if chunk.singles == 0 {
            return [None, Some(Arc::clone(chunk))];
        }
        let parts = chunk.parts.get_or_init(|| {
            let (single, other): (Vec<_>, Vec<_>) =
                ranges.iter().partition(|range| range.is_single());
            [single, other].map(|ranges| {
                let hash = ranges.iter().map(hash).fold(0, u128::wrapping_add);
                Arc::new(Self::new(&ranges, hash))
            })
        });
        parts.clone().map(Some)
    }

    /// Whether both hold the same ranges.
    pub(super) fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || (self.hash == other.hash && self.ranges == other.ranges)
    }
}

/// Chunks out of ranges that come in ascending order.
#[derive(Debug)]
pub(super) struct Builder<A> {
    chunks: Vec<Arc<Chunk<A>>>,
    /// Ranges that no chunk holds yet, and the sum of their hashes.
    open: Vec<AddressRange<A>>,
    open_hash: u128,
}

impl<A: Address> Builder<A> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), open: Vec::new(), open_hash: 0 }
    }

    /// Adds a range that lies above the others and touches none of them.
    pub(super) fn push(&mut self, range: AddressRange<A>) {
        let hash = hash(&range);
        self.open.push(range);
        self.open_hash = self.open_hash.wrapping_add(hash);
        if hash as u64 & (MEAN - 1) == 0 || self.open.len() == MOST {
            self.close();
        }
    }

    /// Adds the ranges of a chunk, all of which lie above the others and touch none of them.
    pub(super) fn push_chunk(&mut self, chunk: &Arc<Chunk<A>>) {
        match self.is_aligned() {
            true => self.push_part(Arc::clone(chunk)),
            false => (0..chunk.len()).filter_map(|index| chunk.get(index)).for_each(|range| {
                self.push(range);
            }),
        }
    }

    /// The same where the chunk is to be shared in any case: it may end where others don't.
    pub(super) fn push_part(&mut self, chunk: Arc<Chunk<A>>) {
        self.close();
        self.chunks.push(chunk);
    }

    /// Whether the next chunk can be shared.
    fn is_aligned(&self) -> bool {
        self.open.is_empty()
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push(Arc::new(Chunk::new(&self.open, self.open_hash)));
            self.open.clear();
            self.open_hash = 0;
        }
    }

    pub(super) fn finish(mut self) -> Vec<Arc<Chunk<A>>> {
        self.close();
        self.chunks
    }
}

#[cfg(test)]
thread_local! {
    /// How many ranges cursors went over one by one, which is to follow what changed.
    pub(super) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// A place in a list of chunks, from the first range on.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a, A> {
    chunks: &'a [Arc<Chunk<A>>],
    at: usize,
}

impl<'a, A: Address> Cursor<'a, A> {
    pub(super) fn new(chunks: &'a [Arc<Chunk<A>>]) -> Self {
        Self { chunks, at: 0 }
    }

    /// The range here.
    pub(super) fn peek(&self) -> Option<AddressRange<A>> {
        self.chunks.first()?.get(self.at)
    }

    pub(super) fn advance(&mut self) {
        #[cfg(test)]
        STEPS.set(STEPS.get() + 1);
        self.at += 1;
        if self.chunks.first().is_some_and(|chunk| chunk.len() == self.at) {
            self.skip();
        }
    }

    /// The chunk that begins here.
    pub(super) fn whole(&self) -> Option<&'a Arc<Chunk<A>>> {
        self.chunks.first().filter(|_| self.at == 0)
    }

    /// Goes to the next chunk.
    pub(super) fn skip(&mut self) {
        self.chunks = self.chunks.get(1..).unwrap_or_default();
        self.at = 0;
    }

    /// Goes on to the first range that doesn't lie below `address` as a whole.
    pub(super) fn seek(&mut self, address: A) {
        while self.whole().is_some_and(|chunk| chunk.last().is_some_and(|last| last.last < address))
        {
            self.skip();
        }
        while self.peek().is_some_and(|range| range.last < address) {
            self.advance();
        }
    }
}

/// A hash of a range. Sums of them tell sets apart, also sets whose ranges are close to each other:
/// every bit of the bounds changes about half of it.
fn hash<A: Address>(range: &AddressRange<A>) -> u128 {
    let (first, last) = (range.first.to_number(), range.last.to_number());
    let (low, high) = if A::BITS == 32 {
        let both = (first as u64) << 32 | last as u64;
        (mix(both ^ 0x9e37_79b9_7f4a_7c15), mix(both ^ 0xd1b5_4a32_d192_ed03))
    } else {
        let fold = |number: u128, key: u64| {
            mix(mix(number as u64 ^ key).wrapping_add((number >> 64) as u64))
        };
        let (first, last) = (fold(first, 0x9e37_79b9_7f4a_7c15), fold(last, 0xd1b5_4a32_d192_ed03));
        (mix(first ^ last.rotate_left(32)), mix(first.wrapping_add(last ^ 0x2545_f491_4f6c_dd1d)))
    };
    u128::from(high) << 64 | u128::from(low)
}

/// The finalizer of MurmurHash3 (64 bits): a permutation.
fn mix(mut bits: u64) -> u64 {
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits ^= bits >> 33;
    bits = bits.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ (bits >> 33)
}
