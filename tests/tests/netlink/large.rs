//! Sets of 100,000 elements, in one batch each.

use crate::fixture::*;
use netlink::{Connection, Handles, Hold};
use ruleset::{
    Address, AddressRange, AddressSet, Elements, Family, KeyType, Operation, Plan, Set, SetSpec,
    Table,
};
use std::net::Ipv4Addr;
use tierwall_tests::namespace::Namespace;

const COUNT: u32 = 100_000;

/// Ranges of `size` addresses with gaps between them.
pub(crate) fn spread(count: u32, size: u32) -> AddressSet<Ipv4Addr> {
    (0..count)
        .map(|index| {
            let first = 0x0b00_0000 + index * (size + 3);
            AddressRange {
                first: Ipv4Addr::from_bits(first),
                last: Ipv4Addr::from_bits(first + size - 1),
            }
        })
        .collect()
}

fn with_set(spec: SetSpec, elements: Elements) -> Table {
    let mut table = Table::new();
    table.sets.insert("large".into(), Set { spec, elements });
    table
}

#[test]
fn intervals_and_single_keys() {
    let intervals = SetSpec::intervals(KeyType::Address(Family::V4));
    let exact = SetSpec::exact(KeyType::Address(Family::V4), Some(COUNT * 2));
    for (spec, size) in [(intervals, 4), (exact, 1)] {
        let addresses = spread(COUNT, size);
        let table = with_set(spec.clone(), Elements::Ipv4(addresses));
        let (namespace, dumped) = committed(&table);
        assert_eq!(dumped.ruleset, ruleset(table), "{spec:?}");
        // And away with half of them, again in one batch.
        let all = spread(COUNT, size);
        let half: AddressSet<_> = all.ranges().step_by(2).collect();
        let rest: AddressSet<_> = all.ranges().skip(1).step_by(2).collect();
        let operation = Operation::DeleteElements {
            set: "large".into(),
            spec: spec.clone(),
            elements: Elements::Ipv4(half),
        };
        let dumped = apply(&namespace, vec![operation]);
        assert_eq!(dumped.ruleset, ruleset(with_set(spec, Elements::Ipv4(rest))));
    }
}

#[test]
fn ipv6_intervals_to_both_ends_of_the_address_space() {
    let mut ranges: Vec<_> = (0..10_000u128)
        .map(|index| prefix6("::", 0).first.to_bits() + (index << 100))
        .map(|first| AddressRange { first: first.into(), last: (first + 9).into() })
        .collect();
    ranges.push(AddressRange { first: (u128::MAX - 5).into(), last: u128::MAX.into() });
    let table = with_set(
        SetSpec::intervals(KeyType::Address(Family::V6)),
        Elements::Ipv6(AddressSet::new(ranges)),
    );
    let (_namespace, dumped) = committed(&table);
    assert_eq!(dumped.ruleset, ruleset(table));
}

#[test]
fn ranges_of_an_exact_set_are_spelled_out_up_to_its_size() {
    let spec = SetSpec::exact(KeyType::Address(Family::V4), Some(300));
    let full = with_set(spec.clone(), Elements::Ipv4(v4([range("10.0.0.0", "10.0.1.43")])));
    let (namespace, dumped) = committed(&full);
    assert_eq!(dumped.ruleset, ruleset(full));
    let elements = Elements::Ipv4(v4([range("0.0.0.0", "255.255.255.255")]));
    let operation = Operation::AddElements { set: "large".into(), spec, elements };
    let error = namespace.run(|| {
        let plan = Plan { operations: vec![operation] };
        Connection::open()
            .unwrap()
            .commit(&plan, &Handles::default(), None, Hold::Plain)
            .unwrap_err()
    });
    insta::assert_snapshot!(error, @"elements of set large can't be encoded: they are 4294967296 single addresses and it holds 300");
}

#[test]
fn a_batch_larger_than_the_default_send_buffer_is_one_commit() {
    let namespace = Namespace::new().unwrap();
    let spec = SetSpec::exact(KeyType::Address(Family::V4), Some(COUNT));
    let table = with_set(spec, Elements::Ipv4(spread(COUNT, 1)));
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let before = connection.generation().unwrap();
        let made =
            connection.commit(&creation(&table), &Handles::default(), None, Hold::Plain).unwrap();
        assert!(made.bytes > 1_500_000, "{made:?}");
        // Far more than a message holds, far fewer than elements.
        assert!((20..60).contains(&made.messages), "{made:?}");
        assert_eq!(made.generation, before.next());
    });
}

/// What would take too long to read is filled anew, by elements alone.
#[test]
fn a_set_that_is_not_read_is_filled_anew() {
    let intervals = SetSpec::intervals(KeyType::Address(Family::V4));
    let exact = SetSpec::exact(KeyType::Address(Family::V4), Some(COUNT * 2));
    for (spec, size) in [(intervals, 4), (exact, 1)] {
        let table = with_set(spec.clone(), Elements::Ipv4(spread(COUNT, size)));
        let (namespace, whole) = committed(&table);
        namespace.run(|| {
            let mut connection = Connection::open().unwrap();
            assert_eq!(connection.dump_up_to(COUNT as usize).unwrap(), whole);
            let found = connection.dump_up_to(COUNT as usize - 1).unwrap();
            assert_eq!(found.ruleset, ruleset(with_set(spec.clone(), Elements::Unread)));

            // Overlapping what is there in part, so that old and new meet in one batch.
            let more = AddressSet::new(
                spread(COUNT, size)
                    .ranges()
                    .map(|r| AddressRange { last: r.last.next().unwrap(), ..r })
                    .step_by(2)
                    .collect(),
            );
            let more = if size == 1 { spread(COUNT + 7, size) } else { more };
            let wanted = ruleset(with_set(spec.clone(), Elements::Ipv4(more)));
            let plan = found.ruleset.diff(&wanted);
            assert!(plan.is_elements_only(), "{:?}", plan.summary());
            assert!(plan.apply(&found.ruleset).unwrap() == wanted);
            let generation = Some(found.generation);
            connection.commit(&plan, &found.handles, generation, Hold::Plain).unwrap();
            assert!(connection.dump().unwrap().ruleset == wanted);
        });
    }
}
