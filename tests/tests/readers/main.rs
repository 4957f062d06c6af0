//! Readers agree on what is in the kernel, for every table of [`cases`]:
//!
//! - our own dump, which is the compiled value again;
//! - `nft`, in what it lists as JSON ([`listing`]);
//! - `rustables`, as far as it can read ([`second`]).
//!
//! And `nft` makes the same of the table's scripts as we do of its value.

#[path = "../kernel/mod.rs"]
mod kernel;

mod cases;
#[path = "../listing/mod.rs"]
mod listing;
mod mutants;
mod nasty;
mod scripts;
mod second;
mod shown;

use kernel::Kernel;
use listing::Listing;
use ruleset::{Address, Elements, Family, Hook, KeyType, Ruleset, Set, SetSpec};
use rustables::{ChainPolicy, ChainType};
use std::path::Path;
use tierwall_tests::second_reader;

#[test]
fn our_own_dump_is_what_was_compiled() {
    for case in cases::all() {
        let mut kernel = Kernel::holding(&case.ruleset);
        let found = kernel.dump();
        assert!(found.ruleset == case.ruleset, "{}:\n{}", case.name, found.ruleset);
        let plan = found.ruleset.diff(&case.ruleset);
        assert!(plan.is_empty(), "{}:\n{plan}", case.name);
    }
}

#[test]
fn nft_lists_what_was_compiled() {
    for case in cases::all() {
        let kernel = Kernel::holding(&case.ruleset);
        let listed = Listing::parse(&kernel.nft(&listing::ARGUMENTS, ""));
        let differences = Listing::new(&case.ruleset.objects()).differences(&listed);
        assert!(differences.is_empty(), "{}:\n{}", case.name, differences.join("\n"));
    }
}

/// The test above would be worth nothing if a real difference were normalised away.
#[test]
fn no_difference_is_normalised_away() {
    for (name, few) in [
        ("strict-three-tier.toml as app (auto)", false),
        ("overlapping-ports/policy.toml as server (explicit)", true),
        ("users as server (explicit)", true),
        ("protocols as server (explicit)", true),
    ] {
        let case = cases::find(name);
        let printed = Kernel::holding(&case.ruleset).nft(&listing::ARGUMENTS, "");
        let listed = Listing::parse(&printed);
        // The built-in chains are the same in all of them, and on both sides: once is enough.
        let wanted = |chain: &str| chain.contains('.') || !few && !chain.starts_with("output_");
        for (change, mutant) in mutants::of(&case.ruleset, wanted) {
            let noticed = Listing::new(&mutant.objects()) != listed;
            assert!(noticed, "{name}: {change} goes unnoticed");
        }
        for object in listing::objects(&printed) {
            for (path, mutant) in mutants::of_listed(&object) {
                let original = Listing::new(std::slice::from_ref(&object));
                let noticed = Listing::new(&[mutant]) != original;
                assert_eq!(noticed, !is_volatile(&path), "{name}: {path} of {object}");
            }
        }
    }
}

/// Whether a value of a listing says nothing about what the table does.
fn is_volatile(path: &str) -> bool {
    let volatile = ["/handle", "/packets", "/bytes"];
    path.starts_with("/metainfo") || volatile.iter().any(|end| path.ends_with(end))
}

#[test]
fn rustables_reads_what_was_compiled() {
    for case in cases::all() {
        let legible = legible(&case.ruleset);
        let kernel = Kernel::holding(&legible);
        let seen = second::read(&kernel);
        let table = legible.table.as_ref().expect("a table");
        assert_eq!(seen.comment, table.comment, "{}", case.name);
        let names: Vec<&String> = table.chains.keys().collect();
        assert_eq!(Vec::from_iter(seen.chains.keys()), names, "{}", case.name);
        for (name, chain) in &table.chains {
            let seen = &seen.chains[name];
            let comments: Vec<&String> = chain.rules.iter().map(|rule| &rule.comment).collect();
            let read: Vec<&String> = seen.rules.iter().map(|rule| &rule.comment).collect();
            assert_eq!(read, comments, "{}: chain {name}", case.name);
            // NF_INET_LOCAL_IN, NF_INET_FORWARD, NF_INET_LOCAL_OUT
            let hook = chain.base.as_ref().map(|base| match base.hook {
                Hook::Input => (1, base.priority),
                Hook::Forward => (2, base.priority),
                Hook::Output => (3, base.priority),
                Hook::Other(number) => (number, base.priority),
            });
            assert_eq!(seen.hook, hook, "{}: chain {name}", case.name);
            let kind = chain.base.as_ref().map(|_| ChainType::Filter);
            assert_eq!(seen.kind, kind, "{}: chain {name}", case.name);
            // Whatever the policy is: see the module.
            let policy = chain.base.as_ref().map(|_| ChainPolicy::Accept);
            assert_eq!(seen.policy, policy, "{}: chain {name}", case.name);
        }
        let names: Vec<&String> = table.sets.keys().collect();
        assert_eq!(Vec::from_iter(seen.sets.keys()), names, "{}", case.name);
        for (name, set) in &table.sets {
            let seen = &seen.sets[name];
            // `enum datatypes` of nftables.
            let key = match set.spec.key {
                KeyType::Address(Family::V4) => (7, 4),
                KeyType::Address(Family::V6) => (8, 16),
                KeyType::Protocol => (12, 1),
                KeyType::Port => (13, 2),
                KeyType::Uid => (24, 4),
                KeyType::Other { datatype, length } => (datatype, length),
            };
            assert_eq!((seen.key_type, seen.key_length), key, "{}: {name}", case.name);
            // NFT_SET_INTERVAL, NFT_SET_MAP, NFT_SET_TIMEOUT and NFT_SET_EVAL
            let SetSpec { interval, map, timeout, dynamic, .. } = set.spec;
            let flags = [interval, map, timeout, dynamic.is_some()];
            let flags = (2..).zip(flags).map(|(bit, on)| u32::from(on) << bit).sum::<u32>();
            assert_eq!(seen.flags, flags, "{}: {name}", case.name);
            let count = second::count_elements(&kernel, name);
            assert_eq!(count, kernel_elements(set), "{}: {name}", case.name);
        }
    }
}

/// How many elements the kernel has for a set: of an interval the two ends, of one that reaches the
/// end of the keys only the first.
fn kernel_elements(set: &Set) -> usize {
    let last = match &set.elements {
        Elements::Ipv4(set) => set.last().map(|range| range.last.to_number()),
        Elements::Ipv6(set) => set.last().map(|range| range.last.to_number()),
        Elements::Keys(keys) => keys.last().map(|key| key.last),
        Elements::Verdicts(verdicts) => verdicts.last_key_value().map(|(key, _)| key.last),
        Elements::TimedIpv4(_) | Elements::TimedIpv6(_) | Elements::Opaque(_) => None,
        Elements::Dynamic | Elements::Unread => None,
    };
    match set.spec.interval {
        true => 2 * set.elements.len() - usize::from(last == Some(set.spec.key.max())),
        false => set.elements.len(),
    }
}

/// As much as `rustables` can read.
fn legible(ruleset: &Ruleset) -> Ruleset {
    Ruleset { table: ruleset.table.as_ref().map(second_reader::legible) }
}

/// Expression for expression, down to the bytes.
#[test]
fn rustables_sees_no_difference_from_what_nft_makes_of_the_script() {
    for case in cases::all() {
        let legible = legible(&case.ruleset);
        let ours = second::read(&Kernel::holding(&legible));
        let kernel = Kernel::new();
        kernel.nft(&["-f", "-"], &legible.to_nft_script());
        let theirs = second::read(&kernel);
        for (name, chain) in &ours.chains {
            assert_eq!(Some(chain), theirs.chains.get(name), "{}: chain {name}", case.name);
        }
        for (name, set) in &ours.sets {
            assert_eq!(Some(set), theirs.sets.get(name), "{}: {name}", case.name);
        }
        assert!(ours == theirs, "{}:\n{ours:?}\n{theirs:?}", case.name);
    }
}

/// What a user sees of an app server with the strict three-tier policy, in `nft` 1.0.6.
#[test]
fn the_listing_reads_like_documentation() {
    let case = cases::find("examples/strict-three-tier.toml as app (auto)");
    let listing = Kernel::holding(&case.ruleset).nft(&["list", "ruleset"], "");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("strict_three_tier_app", listing));
}
