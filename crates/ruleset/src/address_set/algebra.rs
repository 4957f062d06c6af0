//! Sets compared and combined: two cursors that walk side by side.
//!
//! What both sets share is passed over unread, and what only one of them holds is taken over by the
//! chunk: the work grows with what differs, not with what there is. So that the cursors come to the
//! next shared chunk together, both go on after what they have in common.

use super::AddressSet;
use super::chunk::{Builder, Chunk, Cursor};
use super::merge::Merge;
use crate::address::{Address, AddressRange};
use std::sync::Arc;

impl<A: Address> AddressSet<A> {
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

    /// The addresses of all `parts`: of neighbours first, so that many large parts cost no more than
    /// sorting them.
    pub fn union_of(mut parts: Vec<Self>) -> Self {
        while parts.len() > 1 {
            let pairs = parts.chunks(2).map(|pair| match pair {
                [a, b] => a.union(b),
                rest => rest.first().cloned().unwrap_or_default(),
            });
            parts = pairs.collect();
        }
        parts.pop().unwrap_or_default()
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
pub(super) fn skip_shared<'a, A: Address>(
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
