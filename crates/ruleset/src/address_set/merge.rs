//! Ranges in any order made into the ranges of a set: sorted, then merged where they meet.

use super::AddressSet;
use super::chunk::{Builder, Chunk};
use crate::address::{Address, AddressRange};
use std::sync::Arc;

/// Splits into an ascending list and another one of what stood in its way, sorted as well.
pub(super) fn sort<A: Address>(
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
pub(super) struct Merge<A> {
    builder: Builder<A>,
    /// The last range, which the next one may touch.
    last: Option<AddressRange<A>>,
}

impl<A: Address> Merge<A> {
    pub(super) fn new() -> Self {
        Self { builder: Builder::new(), last: None }
    }

    pub(super) fn push(&mut self, range: AddressRange<A>) {
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

    pub(super) fn extend(&mut self, range: Option<AddressRange<A>>) {
        range.into_iter().for_each(|range| self.push(range));
    }

    /// Adds a chunk that nothing touches which comes after it.
    pub(super) fn push_chunk(&mut self, chunk: &Arc<Chunk<A>>) {
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

    pub(super) fn finish(mut self) -> AddressSet<A> {
        self.last.take().into_iter().for_each(|range| self.builder.push(range));
        AddressSet::of_chunks(self.builder.finish())
    }
}
