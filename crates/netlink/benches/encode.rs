//! A million elements into one batch: exact addresses and ranges, of both families.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use ruleset::{AddressRange, AddressSet, Elements, Family, KeyType, Operation, Plan, SetSpec};
use std::net::{Ipv4Addr, Ipv6Addr};
use tierwall_netlink::{Batch, Handles, Terms};

const COUNT: u32 = 1_000_000;

fn main() {
    divan::main();
}

fn v4(size: u32) -> Elements {
    let address = |index: u32, offset| Ipv4Addr::from_bits(0x0b00_0000 + 16 * index + offset);
    let range = |index| AddressRange { first: address(index, 1), last: address(index, size) };
    Elements::Ipv4((0..COUNT).map(range).collect::<AddressSet<_>>())
}

fn v6(size: u32) -> Elements {
    let address = |index: u32, offset| {
        let number = (0x2001_0db8_u128 << 96) + (u128::from(index) << 40) + u128::from(offset);
        Ipv6Addr::from_bits(number)
    };
    let range = |index: u32| AddressRange { first: address(index, 1), last: address(index, size) };
    Elements::Ipv6((0..COUNT).map(range).collect::<AddressSet<_>>())
}

fn encode(bencher: Bencher<'_, '_>, spec: SetSpec, elements: Elements) {
    let operation = Operation::AddElements { set: "large".into(), spec, elements };
    let plan = Plan { operations: vec![operation] };
    let batch = || {
        Batch::encode(black_box(&plan), &Handles::default(), None, &Terms::default())
            .expect("it can be encoded")
    };
    assert!(batch().bytes().len() > 4 * COUNT as usize);
    bencher.counter(ItemsCount::new(COUNT)).bench_local(batch);
}

fn exact(family: Family) -> SetSpec {
    SetSpec::exact(KeyType::Address(family), Some(2 * COUNT))
}

fn intervals(family: Family) -> SetSpec {
    SetSpec::intervals(KeyType::Address(family))
}

#[divan::bench(sample_count = 10)]
fn ipv4_addresses(bencher: Bencher<'_, '_>) {
    encode(bencher, exact(Family::V4), v4(1));
}

#[divan::bench(sample_count = 10)]
fn ipv4_ranges(bencher: Bencher<'_, '_>) {
    encode(bencher, intervals(Family::V4), v4(9));
}

#[divan::bench(sample_count = 10)]
fn ipv6_addresses(bencher: Bencher<'_, '_>) {
    encode(bencher, exact(Family::V6), v6(1));
}

#[divan::bench(sample_count = 10)]
fn ipv6_ranges(bencher: Bencher<'_, '_>) {
    encode(bencher, intervals(Family::V6), v6(9));
}
