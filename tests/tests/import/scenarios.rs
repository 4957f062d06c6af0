//! Policies imported from hand-written rules meet every probe of their scenario.

use super::rules;
use std::path::Path;
use tierwall_tests::scenario::{Import, Scenario};

fn run(name: &str, import: impl Fn(&str) -> Import) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    let scenario = Scenario::load(&folder);
    if let Err(error) = scenario.and_then(|scenario| scenario.run_imported(&rules(name), import)) {
        panic!("{error:#}");
    }
}

fn arguments(words: &str) -> Vec<String> {
    words.split_whitespace().map(str::to_owned).collect()
}

/// Both sources give the same.
fn both(name: &str, words: impl Fn(&str) -> String) {
    for from_json in [true, false] {
        run(name, |host| Import { arguments: arguments(&words(host)), from_json });
    }
}

/// One rule after the other, sets for tiers, files of roles.
#[test]
fn strict_three_tier_in_linear_style() {
    both("strict-three-tier", |host| {
        format!("--role {}", host.trim_end_matches(|c: char| c.is_ascii_digit()))
    });
}

/// Verdict maps and a chain for each service, addresses by definitions.
#[test]
fn first_steps_by_dispatch() {
    both("first-steps", |_| String::new());
}

/// A table for each family, in the manner of iptables.
#[test]
fn egress_allow_list_in_two_tables() {
    both("egress-allow-list", |_| "--table ip/filter --table ip6/filter".to_owned());
}
