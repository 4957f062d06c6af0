//! The ports cut into segments on which the same allows hold.
//!
//! Where few allows overlap, a segment simply names its allows. A thousand ranges, each inside the
//! one before or overlapping the next, would name half a million in this way, so from a certain
//! number on, allows are held by blocks: ranges of ports that begin at a multiple of their size, a
//! power of two. Every range is made of 30 blocks at most, and over every port there are 17 at most.
//! What blocks a range has depends on nothing else, so those of other allows stay when one comes or
//! goes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Positions in the list of active allows.
pub(super) type Group = BTreeSet<usize>;

/// Ports on which the same allows hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) first: u16,
    pub(super) last: u16,
    /// The allows, those of the fewest ports first. No allow is in two of them.
    pub(super) parts: Vec<Part>,
}

/// Allows that hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// The block of ports that they are held by, where it may be less or more than the segment.
    pub(super) block: Option<(u16, u16)>,
    /// Shared, since a block lies over many segments.
    pub(super) group: Rc<Group>,
}

/// So many allows may be named by segments for each range, and in any case.
const NAMED_PER_RANGE: usize = 8;
const NAMED: usize = 256;

/// A port range and the position of its allow.
pub(super) type Range = (RangeInclusive<u16>, usize);

/// The segments of all these ranges, ascending and disjoint.
pub(super) fn segments(ranges: &[Range]) -> Vec<Segment> {
    match named(ranges) <= NAMED + NAMED_PER_RANGE * ranges.len() {
        true => flat(ranges),
        false => blocks(ranges),
    }
}

/// At each port where something changes, which allows begin and which end before it.
fn edges(ranges: &[Range]) -> BTreeMap<u32, (Vec<usize>, Vec<usize>)> {
    let mut edges: BTreeMap<u32, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (range, position) in ranges {
        edges.entry((*range.start()).into()).or_default().0.push(*position);
        edges.entry(u32::from(*range.end()) + 1).or_default().1.push(*position);
    }
    edges
}

/// How many allows segments of several would name.
fn named(ranges: &[Range]) -> usize {
    let (mut open, mut named) = (0usize, 0usize);
    for (begin, end) in edges(ranges).into_values() {
        open = open + begin.len() - end.len();
        named += if open > 1 { open } else { 0 };
    }
    named
}

/// Each segment with its allows.
fn flat(ranges: &[Range]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut open = Group::new();
    let mut since = 0;
    for (port, (begin, end)) in edges(ranges) {
        if !open.is_empty() {
            let parts = vec![Part { block: None, group: Rc::new(open.clone()) }];
            segments.push(Segment { first: since as u16, last: (port - 1) as u16, parts });
        }
        end.iter().for_each(|position| {
            open.remove(position);
        });
        open.extend(begin);
        since = port;
    }
    join(segments)
}

/// A block: its first port, and its size as a power of two. In order, one that holds another stands
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    first: u32,
    height: std::cmp::Reverse<u8>,
}

impl Block {
    const ALL: Self = Self::new(0, 16);

    const fn new(first: u32, height: u8) -> Self {
        Self { first, height: std::cmp::Reverse(height) }
    }

    fn last(self) -> u32 {
        self.first + (1 << self.height.0) - 1
    }

    fn ports(self) -> (u16, u16) {
        (self.first as u16, self.last() as u16)
    }

    fn halves(self) -> Option<[Self; 2]> {
        let height = self.height.0.checked_sub(1)?;
        Some([Self::new(self.first, height), Self::new(self.first + (1 << height), height)])
    }

    /// The fewest blocks that make up a range, ascending.
    fn of(range: &RangeInclusive<u16>) -> impl Iterator<Item = Self> {
        let (mut first, end) = (u32::from(*range.start()), u32::from(*range.end()) + 1);
        std::iter::from_fn(move || {
            let left = end.checked_sub(first).filter(|left| *left > 0)?;
            let height = first.trailing_zeros().min(left.ilog2()).min(16) as u8;
            let block = Self::new(first, height);
            first = block.last() + 1;
            Some(block)
        })
    }
}

/// Each segment with the blocks that lie over it.
fn blocks(ranges: &[Range]) -> Vec<Segment> {
    let mut held: BTreeMap<Block, Group> = BTreeMap::new();
    for (range, position) in ranges {
        for block in Block::of(range) {
            held.entry(block).or_default().insert(*position);
        }
    }
    let held = held.into_iter().map(|(block, group)| (block, Rc::new(group))).collect();
    let mut segments = Vec::new();
    descend(Block::ALL, &held, &mut Vec::new(), &mut segments);
    join(segments)
}

/// Adds the segments within `block`, over which the blocks `above` lie.
fn descend(
    block: Block,
    held: &BTreeMap<Block, Rc<Group>>,
    above: &mut Vec<Part>,
    segments: &mut Vec<Segment>,
) {
    let own = held.get(&block);
    if let Some(group) = own {
        above.push(Part { block: Some(block.ports()), group: Rc::clone(group) });
    }
    let within = Block::new(block.last(), 0);
    let is_cut = held.range(block..=within).any(|(below, _)| *below != block);
    match block.halves().filter(|_| is_cut) {
        Some(halves) => halves.into_iter().for_each(|half| descend(half, held, above, segments)),
        None if above.is_empty() => {}
        None => {
            let (first, last) = block.ports();
            segments.push(Segment { first, last, parts: above.iter().rev().cloned().collect() });
        }
    }
    if own.is_some() {
        above.pop();
    }
}

/// Neighbours on which the same allows hold made one: of an allow that ends where it begins again, or
/// whose blocks touch.
fn join(segments: Vec<Segment>) -> Vec<Segment> {
    let mut joined: Vec<Segment> = Vec::new();
    for segment in segments {
        let same = |other: &Segment| {
            let groups = |segment: &Segment| segment.parts.len();
            u32::from(other.last) + 1 == u32::from(segment.first)
                && groups(other) == groups(&segment)
                && other.parts.iter().zip(&segment.parts).all(|(a, b)| a.group == b.group)
        };
        match joined.last_mut().filter(|other| same(other)) {
            Some(other) => other.last = segment.last,
            None => joined.push(segment),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range() -> impl Strategy<Value = RangeInclusive<u16>> {
        let port = prop_oneof![0u16..40, 65_500..=u16::MAX, any::<u16>()];
        (port.clone(), port).prop_map(|(a, b)| a.min(b)..=a.max(b))
    }

    /// The allows that hold on a port, each once.
    fn allows(segments: &[Segment], port: u16) -> Vec<usize> {
        let over = segments.iter().filter(|segment| (segment.first..=segment.last).contains(&port));
        let segments: Vec<&Segment> = over.collect();
        assert!(segments.len() <= 1, "{segments:?}");
        let parts = segments.iter().flat_map(|segment| &segment.parts);
        let mut allows: Vec<usize> = parts.flat_map(|part| &*part.group).copied().collect();
        allows.sort_unstable();
        allows
    }

    proptest! {
        #[test]
        fn either_way_holds_the_same_allows(
            ranges in prop::collection::vec(range(), 0..12),
            more in prop::collection::vec(any::<u16>(), 20),
        ) {
            // Ranges of one allow never overlap: these are of one each.
            let ranges: Vec<Range> = ranges.into_iter().zip(0..).collect();
            let (flat, blocks) = (flat(&ranges), blocks(&ranges));
            let edges = ranges.iter().flat_map(|(range, _)| {
                let (first, last) = (*range.start(), *range.end());
                [first, last, first.saturating_sub(1), last.saturating_add(1)]
            });
            for port in edges.chain(more) {
                let holding = ranges.iter().filter(|(range, _)| range.contains(&port));
                let holding: Vec<usize> = holding.map(|(_, position)| *position).collect();
                prop_assert_eq!(allows(&flat, port), holding.clone());
                prop_assert_eq!(allows(&blocks, port), holding);
            }
            prop_assert!(blocks.iter().all(|segment| segment.parts.len() <= 17));
        }
    }

    #[test]
    fn blocks_grow_with_the_number_of_ranges() {
        let nested = |n: u16| -> Vec<Range> {
            (0..n).map(|i| (20_000 + i..=40_000 - i, usize::from(i))).collect()
        };
        let steps = |n: u16| -> Vec<Range> {
            (0..n).map(|i| (20_000 + i..=21_000 + i, usize::from(i))).collect()
        };
        for ranges in [nested(4000), steps(4000)] {
            let segments = segments(&ranges);
            let parts: Vec<&Part> = segments.iter().flat_map(|segment| &segment.parts).collect();
            let by_block: BTreeMap<_, &Group> =
                parts.iter().map(|part| (part.block, &*part.group)).collect();
            let held: usize = by_block.values().map(|group| group.len()).sum();
            assert!(!by_block.contains_key(&None));
            assert!(held <= 30 * ranges.len(), "{held}");
            assert!(parts.len() <= 17 * 2 * ranges.len(), "{}", parts.len());
        }
    }

    #[test]
    fn few_are_named_as_they_are() {
        let ranges: Vec<Range> = (0..20).map(|i| (100..=100 + i, usize::from(i))).collect();
        let segments = segments(&ranges);
        assert_eq!(segments.len(), 20);
        assert!(segments.iter().all(|segment| segment.parts.len() == 1));
    }
}
