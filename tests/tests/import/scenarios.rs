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

/// One rule after the other, sets for tiers, files of roles.
#[test]
fn strict_three_tier_in_linear_style() {
    run("strict-three-tier", |host| {
        let role = host.trim_end_matches(|c: char| c.is_ascii_digit());
        Import { arguments: arguments(&format!("--role {role}")), from_json: true }
    });
}

/// Verdict maps and a chain for each service, addresses by definitions.
#[test]
fn first_steps_by_dispatch() {
    run("first-steps", |_| Import { arguments: Vec::new(), from_json: true });
}

/// A table for each family, in the manner of iptables.
#[test]
fn egress_allow_list_in_two_tables() {
    let tables = "--table ip/filter --table ip6/filter";
    run("egress-allow-list", |_| Import { arguments: arguments(tables), from_json: true });
}
