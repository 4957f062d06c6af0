//! Policies without fault: what each means, on a few lines in `snapshots/`; the scenarios and the
//! real lists among them.

mod common;

use common::{OPTIONS, fixtures, summary};
use ruleset::AddressRange;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use tierwall_policy::{Input, InputKind, Member, Options, Style, load, load_text};

#[test]
fn every_good_policy_means_what_it_says() {
    for (name, path) in fixtures("tests/good") {
        let loaded = load(&path, &OPTIONS);
        assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render(Style::Plain));
        let policy = loaded.policy.expect("no errors");
        insta::assert_snapshot!(name, summary(&policy));
    }
}

#[test]
fn the_scenarios_load_without_warnings() {
    for name in ["egress-allow-list", "first-steps", "strict-three-tier"] {
        let path = format!("../../tests/scenarios/{name}/policy.toml");
        let loaded = load(Path::new(&path), &Options { strict: true, ..OPTIONS });
        assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics.render(Style::Plain));
        insta::assert_snapshot!(name, summary(&loaded.policy.expect("no errors")));
    }
}

#[test]
fn a_watcher_learns_all_that_was_read_and_looked_in() {
    let inputs = load(Path::new("tests/good/includes/tierwall.toml"), &OPTIONS).inputs;
    let name = |input: &Input| {
        input.path.strip_prefix("tests/good/includes").expect("inside").display().to_string()
    };
    let of = |kind: InputKind| -> Vec<String> {
        inputs.iter().filter(|input: &&Input| input.kind == kind).map(name).collect()
    };
    assert_eq!(
        of(InputKind::Policy),
        [
            "conf.d/../services.toml",
            "conf.d/10-web.toml",
            "conf.d/20-services.toml",
            "tiers/cache/members.toml",
            "tiers/db/members.toml",
            "tierwall.toml"
        ]
    );
    assert_eq!(of(InputKind::List), ["conf.d/web.list", "tiers/cache/cache.list"]);
    let directories: Vec<(String, &str)> = inputs
        .iter()
        .filter_map(|input| match &input.kind {
            InputKind::Directory { entries } => Some((name(input), entries.as_str())),
            InputKind::Policy | InputKind::List | InputKind::Role => None,
        })
        .collect();
    let expected = [
        ("conf.d", "*.toml"),
        ("tiers", "*"),
        ("tiers/cache", "members.toml"),
        ("tiers/db", "members.toml"),
    ];
    assert_eq!(directories, expected.map(|(path, entries)| (path.to_owned(), entries)));
}

#[test]
fn the_real_lists_hold_exactly_their_members() {
    let text = "[tiers]\nall = [{ file = \"addresses-v4.list\" }, { file = \"prefixes-v4.list\" }, \
                { file = \"prefixes-v6.list\" }]\n\
                [[allow]]\nfrom = \"any\"\nto = \"all\"\nservice = \"any\"\n";
    let loaded = load_text(Path::new("../../tests/data/tierwall.toml"), text, &OPTIONS);
    let policy = loaded.policy.expect("a policy");
    let tier = &policy.tiers["all"];
    // The model: the same lines by the other parser, and every border asked for by itself.
    let (mut v4, mut v6) = (BTreeSet::new(), BTreeSet::new());
    for name in ["addresses-v4", "prefixes-v4", "prefixes-v6"] {
        let text =
            std::fs::read_to_string(format!("../../tests/data/{name}.list")).expect("a list");
        for line in text.lines() {
            match line.parse().expect("a member") {
                Member::V4(range) => v4.insert(range),
                Member::V6(range) => v6.insert(range),
            };
        }
    }
    assert!(v4.len() > 38_000 && v6.len() > 2_000, "{} {}", v4.len(), v6.len());
    let inside_v4 =
        |address: Ipv4Addr| v4.iter().any(|range: &AddressRange<_>| range.contains(address));
    for range in tier.v4.ranges().step_by(200) {
        for address in [range.first, range.last] {
            assert!(inside_v4(address));
        }
        let next = Ipv4Addr::from_bits(range.last.to_bits() + 1);
        assert!(!inside_v4(next));
        assert!(!tier.v4.contains(next));
    }
    assert!(v4.iter().all(|range| tier.v4.contains(range.first) && tier.v4.contains(range.last)));
    assert!(v6.iter().all(|range| tier.v6.contains(range.first) && tier.v6.contains(range.last)));
    let size = |ranges: &[AddressRange<Ipv6Addr>]| -> u128 {
        ranges.iter().map(|range| range.last.to_bits() - range.first.to_bits() + 1).sum()
    };
    // No IPv6 prefix of the list lies in another: the union is as large as the sum.
    let sum: Vec<_> = v6.iter().copied().collect();
    assert_eq!(size(&tier.v6.ranges().collect::<Vec<_>>()), size(&sum));
}

/// Names of files are bytes, and an editor leaves hidden ones behind.
#[test]
fn an_include_directory_may_hold_any_names() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let includes = directory.path().join("conf.d");
    std::fs::create_dir(&includes).expect("made");
    let good = "[[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \"tcp/80\"\n";
    std::fs::write(includes.join("a.toml"), good).expect("written");
    for odd in [&b"\xff.toml"[..], b".a.toml.swp", b".hidden.toml"] {
        let path = includes.join(std::ffi::OsStr::from_bytes(odd));
        std::fs::write(path, "not a policy").expect("written");
    }
    let policy = directory.path().join("tierwall.toml");
    let text = "include = [\"conf.d/*.toml\"]\n[tiers]\nweb = [\"10.0.0.1\"]\n";
    std::fs::write(&policy, text).expect("written");
    let options = tierwall_policy::Options {
        check_permissions: false,
        ..tierwall_policy::Options::default()
    };
    let loaded = tierwall_policy::load(&policy, &options);
    assert_eq!(loaded.diagnostics.to_string(), "");
    assert_eq!(loaded.policy.expect("a good policy").allows.len(), 1);
}
