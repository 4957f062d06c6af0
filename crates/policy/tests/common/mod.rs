//! What the test files share: fixtures by name, and a policy on a few lines.
#![allow(dead_code)] // Each test file uses its part.

use std::fmt::Write;
use std::path::PathBuf;
use tierwall_policy::model::{Allow, Endpoint, Service};
use tierwall_policy::{Options, Policy};

/// Fixtures are not root's where the tests aren't run by root.
pub(crate) const OPTIONS: Options =
    Options { check_permissions: false, strict: false, warn_unseen: true };

/// The policies in a directory, each a file or a directory with `tierwall.toml`, with their names.
pub(crate) fn fixtures(directory: &str) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(directory).expect("the fixtures");
    let mut fixtures: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let file = if path.is_dir() { path.join("tierwall.toml") } else { path };
            (name, file)
        })
        .filter(|(_, file)| file.exists())
        .collect();
    assert!(!fixtures.is_empty());
    fixtures.sort();
    fixtures
}

/// A policy on a few lines.
pub(crate) fn summary(policy: &Policy) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes all");
    line(format!("role {:?}", policy.role));
    line(format!("watch {:?}, boot {:?}, forward {:?}", policy.watch, policy.boot, policy.forward));
    line(format!("{:?}, {:?}", policy.deny, policy.mode));
    for (name, tier) in &policy.tiers {
        line(format!("tier {name} at {}: {} {}", tier.location, tier.v4, tier.v6));
    }
    for Allow { key, location, from, to, service, users } in &policy.allows {
        line(format!("allow {key:?} at {location}"));
        line(format!("  from    {}", endpoint(from)));
        line(format!("  to      {}", endpoint(to)));
        line(format!("  service {}", ports(service)));
        if !users.is_empty() {
            line(format!("  users   {users:?}"));
        }
    }
    text
}

fn endpoint(side: &Endpoint) -> String {
    let mut words = Vec::new();
    words.extend(side.any.then(|| "any".to_owned()));
    words.extend(side.every_server.then(|| "*".to_owned()));
    words.extend(side.tiers.iter().map(|tier| format!("@{tier}")));
    words.extend(side.v4.ranges().map(|range| range.to_string()));
    words.extend(side.v6.ranges().map(|range| range.to_string()));
    words.join(" ")
}

fn ports(service: &Service) -> String {
    let mut words = Vec::new();
    words.extend(service.any.then(|| "any".to_owned()));
    words.extend(service.protocols.iter().map(|number| format!("protocol {number}")));
    for (transport, ranges) in &service.ports {
        words.push(format!("{transport} {ranges:?}"));
    }
    words.join(", ")
}
