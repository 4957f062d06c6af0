//! Sets of numbers, for everything that a rule can ask a packet for.

/// Ranges of numbers, both ends included: sorted, disjoint and not adjacent.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Intervals(Vec<(u128, u128)>);

impl Intervals {
    /// The union of ranges in any order. Inverted ones are empty.
    pub(crate) fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.retain(|(first, last)| first <= last);
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last);
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// From 0 to `max`.
    pub(crate) fn all(max: u128) -> Self {
        Self(vec![(0, max)])
    }

    pub(crate) fn range(first: u128, last: u128) -> Self {
        Self::new(vec![(first, last)])
    }

    pub(crate) fn ranges(&self) -> &[(u128, u128)] {
        &self.0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        Self::new([self.0.as_slice(), &other.0].concat())
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut common = Vec::new();
        while let (Some(&&(a, b)), Some(&&(c, d))) = (left.peek(), right.peek()) {
            if a.max(c) <= b.min(d) {
                common.push((a.max(c), b.min(d)));
            }
            if b <= d {
                left.next()
            } else {
                right.next()
            };
        }
        Self(common)
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut rest = Vec::new();
        let mut holes = other.0.iter().peekable();
        for &(mut first, last) in &self.0 {
            while holes.next_if(|hole| hole.1 < first).is_some() {}
            let mut ahead = holes.clone();
            let mut is_over = false;
            while let Some(&(start, end)) = ahead.next_if(|hole| hole.0 <= last) {
                if start > first {
                    rest.push((first, start - 1));
                }
                if end >= last {
                    is_over = true;
                    break;
                }
                first = end + 1;
            }
            if !is_over {
                rest.push((first, last));
            }
        }
        Self(rest)
    }

    pub(crate) fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }

    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.minus(self).is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Intervals;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn any_ranges() -> impl Strategy<Value = Vec<(u128, u128)>> {
        prop::collection::vec((0u128..30, 0u128..30), 0..8)
    }

    fn members(intervals: &Intervals) -> BTreeSet<u128> {
        intervals.ranges().iter().flat_map(|(first, last)| *first..=*last).collect()
    }

    proptest! {
        #[test]
        fn are_sets(left in any_ranges(), right in any_ranges()) {
            let (left, right) = (Intervals::new(left), Intervals::new(right));
            let (a, b) = (members(&left), members(&right));
            prop_assert_eq!(members(&left.union(&right)), &a | &b);
            prop_assert_eq!(members(&left.intersection(&right)), &a & &b);
            prop_assert_eq!(members(&left.minus(&right)), &a - &b);
            prop_assert_eq!(left.covers(&right), a.is_superset(&b));
            prop_assert_eq!(left.intersects(&right), !a.is_disjoint(&b));
            for set in [left.union(&right), left.intersection(&right), left.minus(&right)] {
                prop_assert_eq!(Intervals::new(set.ranges().to_vec()), set);
            }
        }
    }

    #[test]
    fn the_ends_of_the_address_space_are_numbers_too() {
        let all = Intervals::all(u128::MAX);
        let top = Intervals::range(u128::MAX, u128::MAX);
        assert_eq!(all.minus(&top).ranges(), [(0, u128::MAX - 1)]);
        assert_eq!(all.minus(&top).union(&top), all);
        assert!(all.minus(&all).is_empty());
    }
}
