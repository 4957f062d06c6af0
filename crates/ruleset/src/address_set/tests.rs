//! Sets against sets of numbers.

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
        let lines = |set: &AddressSet<_>| AddressSet::new(ranges(set).into_iter().rev().collect());
        for new in [more, less] {
            let read = lines(&new);
            assert_eq!(shared(&read), 0);
            assert!(read == new, "{at}");
            let same = |chunk: &&Arc<Chunk<_>>| old.chunks.iter().any(|own| own.is_same(chunk));
            assert!(read.chunks.iter().filter(same).count() >= shared(&new), "{at}");
            let sharing = read.sharing(&old);
            assert!(sharing == read && shared(&sharing) + 4 >= shared(&new), "{at}");
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
