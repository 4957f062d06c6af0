//! Reading a policy with one list of a million lines, from a file to a checked policy: IPv4 and
//! IPv6, sorted and in no order.

use divan::{Bencher, black_box};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use tempfile::TempDir;
use tierwall_policy::{Options, load};

const LINES: u32 = 1_000_000;

fn main() {
    divan::main();
}

/// A policy file beside its list.
struct Files {
    policy: PathBuf,
    _directory: TempDir,
}

impl Files {
    fn of(members: impl Iterator<Item = String>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let policy = directory.path().join("tierwall.toml");
        let text = "[tiers]\nbig = { file = \"big.list\" }\n\
                    [[allow]]\nfrom = \"*\"\nto = \"big\"\nservice = \"tcp/443\"\n";
        std::fs::write(&policy, text).expect("a file");
        let list = members.collect::<Vec<_>>().join("\n");
        std::fs::write(directory.path().join("big.list"), list).expect("a file");
        Self { policy, _directory: directory }
    }
}

fn read(bencher: Bencher<'_, '_>, members: impl Iterator<Item = String>) {
    let files = Files::of(members);
    let options = Options { check_permissions: false, ..Options::default() };
    bencher.counter(divan::counter::ItemsCount::new(LINES)).bench_local(|| {
        let loaded = load(black_box(&files.policy), &options);
        assert!(loaded.policy.is_some(), "{}", loaded.diagnostics);
        loaded
    });
}

/// A number in no order: multiplying by an odd number permutes them.
fn scattered(index: u32) -> u32 {
    index.wrapping_mul(2_654_435_761) | 1
}

#[divan::bench(sample_count = 10)]
fn ipv4_sorted(bencher: Bencher<'_, '_>) {
    read(bencher, (0..LINES).map(|line| Ipv4Addr::from_bits(0x0b00_0000 + 4 * line).to_string()));
}

#[divan::bench(sample_count = 10)]
fn ipv4_in_no_order(bencher: Bencher<'_, '_>) {
    read(bencher, (0..LINES).map(|line| Ipv4Addr::from_bits(scattered(2 * line)).to_string()));
}

#[divan::bench(sample_count = 10)]
fn ipv4_ranges_sorted(bencher: Bencher<'_, '_>) {
    let address = |line: u32, offset| Ipv4Addr::from_bits(0x0b00_0000 + 16 * line + offset);
    read(bencher, (0..LINES).map(|line| format!("{}-{}", address(line, 1), address(line, 7))));
}

#[divan::bench(sample_count = 10)]
fn ipv6_sorted(bencher: Bencher<'_, '_>) {
    let address =
        |line: u32| Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + (u128::from(line) << 40));
    read(bencher, (0..LINES).map(|line| address(line).to_string()));
}
