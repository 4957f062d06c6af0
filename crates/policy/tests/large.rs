//! Large input: a million members, and thousands of allows. Run with `--release` for the times.

mod common;

use common::OPTIONS;
use ruleset::Ruleset;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};
use tierwall_policy::{Change, Host, Policy, UserNames, compile, load, load_text, role_of};

/// Fails where something took far longer than it should, in release builds.
fn within(limit: Duration, what: &str, start: Instant) {
    let took = start.elapsed();
    println!("{what}: {took:?}");
    assert!(cfg!(debug_assertions) || took < limit, "{what} took {took:?}");
}

/// Single addresses in an order that is none: multiplying by an odd number permutes them.
fn scattered(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(index.wrapping_mul(2_654_435_761) | 1)
}

#[test]
fn a_million_lines() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut list = String::with_capacity(16 << 20);
    for index in 0..1_000_000 {
        writeln!(list, "{}", scattered(2 * index)).expect("a string takes all");
    }
    std::fs::write(directory.path().join("big.list"), &list).expect("a file");
    let policy = directory.path().join("tierwall.toml");
    let text = "[tiers]\nbig = { file = \"big.list\" }\n\
                [[allow]]\nfrom = \"*\"\nto = \"big\"\nservice = \"tcp/443\"\n";
    std::fs::write(&policy, text).expect("a file");
    let start = Instant::now();
    let loaded = load(&policy, &OPTIONS);
    within(Duration::from_millis(500), "a million lines", start);
    let policy = loaded.policy.expect("a policy");
    let tier = &policy.tiers["big"].v4;
    assert_eq!(tier.ranges().filter(|range| range.is_single()).count(), tier.len());
    assert!((900_000..=1_000_000).contains(&tier.len()), "{}", tier.len());
    assert!((0..1_000_000).step_by(997).all(|index| tier.contains(scattered(2 * index))));
}

#[test]
fn thousands_of_allows() {
    let mut text = String::from("[tiers]\nweb = [\"10.0.0.0/24\"]\napp = [\"10.0.1.0/24\"]\n");
    for index in 0..4000u32 {
        let address = Ipv4Addr::from_bits(0xc633_0000 + index);
        let service = if index % 2 == 0 { "tcp/443" } else { "tcp/8000-9000" };
        write!(text, "[[allow]]\nfrom = \"web\"\nto = \"{address}\"\nservice = \"{service}\"\n")
            .expect("a string takes all");
    }
    text.push_str("[[allow]]\nfrom = \"app\"\nto = \"web\"\nservice = \"tcp/80\"\n");
    let start = Instant::now();
    let loaded = load_text(Path::new("x.toml"), text, &OPTIONS);
    within(Duration::from_secs(1), "4001 allows", start);
    assert!(loaded.diagnostics.is_empty(), "{}", loaded.diagnostics);
    let policy = loaded.policy.expect("a policy");
    assert_eq!(policy.allows.len(), 4001);
    let start = Instant::now();
    let told = opened(&policy);
    within(Duration::from_millis(200), "the change of 4001 allows", start);
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn thousands_of_unknown_names() {
    let mut text = String::from("role = \"app\"\n[tiers]\napp = [\"10.250.0.1\"]\n");
    for index in 0..2000 {
        writeln!(text, "known{index:04} = [\"10.{}.{}.0/24\"]", index / 250, index % 250)
            .expect("a string takes all");
    }
    text += "[services]\n";
    for index in 0..2000 {
        writeln!(text, "service{index:04} = \"tcp/{}\"", 1 + index).expect("a string takes all");
    }
    for index in 0..2000 {
        write!(
            text,
            "[[allow]]\nfrom = \"knowm{index:04}\"\nto = \"app\"\nservice = \"servise{index:04}\"\n"
        )
        .expect("a string takes all");
    }
    let start = Instant::now();
    let diagnostics = load_text(Path::new("x.toml"), text, &OPTIONS).diagnostics;
    within(Duration::from_secs(1), "4000 unknown names", start);
    assert_eq!(diagnostics.len(), 101);
    let told: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert_eq!(told[0], "x.toml:4006:8: error: no tier is named `knowm0000`");
    assert!(
        diagnostics
            .iter()
            .take(50)
            .any(|one| { one.hint.as_deref() == Some("did you mean `known0000`?") })
    );
    assert_eq!(told[100], "x.toml:4206:8: error: and 3900 more errors");
}

#[test]
fn thousands_of_included_files() {
    const FILES: u32 = 20_000;
    let directory = tempfile::tempdir().expect("a directory");
    let parts = directory.path().join("conf.d");
    std::fs::create_dir(&parts).expect("a directory");
    for index in 0..FILES {
        let text = format!("[tiers]\nt{index} = [\"{}\"]\n", scattered(index));
        std::fs::write(parts.join(format!("{index:05}.toml")), text).expect("a file");
    }
    let policy = directory.path().join("tierwall.toml");
    let text = "include = [\"conf.d/*.toml\"]\n\
                [[allow]]\nfrom = \"t1\"\nto = \"t2\"\nservice = \"tcp/443\"\n";
    std::fs::write(&policy, text).expect("a file");
    let start = Instant::now();
    let loaded = load(&policy, &OPTIONS);
    within(Duration::from_secs(3), "20,000 included files", start);
    assert_eq!(loaded.policy.expect("a policy").tiers.len(), FILES as usize);
    assert_eq!(loaded.diagnostics.len(), 101);
    let last = loaded.diagnostics.iter().last().expect("one");
    assert_eq!(last.message, "and 19898 more warnings");
}

/// What opens on a server of `web` where nothing was open, as it is told.
fn opened(policy: &Policy) -> Vec<String> {
    let role = role_of(policy, &[std::net::IpAddr::from([10, 0, 0, 1]).into()]);
    let users = BTreeMap::new();
    let (before, after) =
        (Ruleset::default(), compile(policy, Host { role: &role, users: &users, previous: None }));
    let lines = Change::of(&before, &after).words(policy, &role, &UserNames::default()).lines();
    lines.into_iter().map(|line| line.text).collect()
}
