//! A million addresses: normalising them, telling two such sets apart, and their fingerprint.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use std::net::Ipv4Addr;
use tierwall_ruleset::{AddressRange, AddressSet, Ruleset, Set, Table};

const COUNT: u32 = 1_000_000;

fn main() {
    divan::main();
}

/// The address of a place in the order, and another one there.
fn address(place: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0b00_0000 + 4 * place)
}

fn other(place: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0b00_0000 + 4 * place + 2)
}

fn sorted() -> Vec<AddressRange<Ipv4Addr>> {
    (0..COUNT).map(|place| AddressRange::single(address(place))).collect()
}

fn normalise(bencher: Bencher<'_, '_>, ranges: &[AddressRange<Ipv4Addr>]) {
    bencher
        .counter(ItemsCount::new(COUNT))
        .with_inputs(|| ranges.to_vec())
        .bench_local_values(AddressSet::new);
}

#[divan::bench(sample_count = 20)]
fn normalise_sorted(bencher: Bencher<'_, '_>) {
    normalise(bencher, &sorted());
}

/// As a list to which a few were appended.
#[divan::bench(sample_count = 20)]
fn normalise_nearly_sorted(bencher: Bencher<'_, '_>) {
    let mut ranges = sorted();
    ranges.extend((0..100).map(|number| AddressRange::single(other(9_973 * number))));
    normalise(bencher, &ranges);
}

#[divan::bench(sample_count = 20)]
fn normalise_in_no_order(bencher: Bencher<'_, '_>) {
    let mut ranges = sorted();
    // Multiplying by an odd number permutes them.
    ranges.sort_by_key(|range| range.first.to_bits().wrapping_mul(2_654_435_761));
    normalise(bencher, &ranges);
}

/// A table with all addresses, `changed` of them, evenly spread, exchanged for others.
fn ruleset(changed: u32) -> Ruleset {
    let every = COUNT.checked_div(changed).unwrap_or(COUNT + 1);
    let member = |place| if place % every == every - 1 { other(place) } else { address(place) };
    let addresses = (0..COUNT).map(|place| AddressRange::single(member(place)));
    let mut table = Table::new();
    table.sets.insert("a_v4".into(), Set::ipv4(addresses.collect()));
    Ruleset { table: Some(table) }
}

#[divan::bench(args = [0, 1, 1_000, COUNT / 2], sample_count = 20)]
fn diff(bencher: Bencher<'_, '_>, changed: u32) {
    let (before, after) = (ruleset(0), ruleset(changed));
    let summary = before.diff(&after).summary();
    let elements: usize = summary.sets.values().map(|count| count.added).sum();
    assert_eq!(changed as usize, elements);
    bencher
        .counter(ItemsCount::new(COUNT))
        .bench_local(|| black_box(&before).diff(black_box(&after)));
}

#[divan::bench(sample_count = 20)]
fn fingerprint(bencher: Bencher<'_, '_>) {
    let table = ruleset(0).table.expect("there is one");
    bencher.counter(ItemsCount::new(COUNT)).bench_local(|| black_box(&table).fingerprint());
}
