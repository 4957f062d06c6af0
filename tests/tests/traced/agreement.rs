//! `explain`, the trace and real connections agree on every probe of every scenario.

use std::path::Path;
use tierwall_tests::scenario::Scenario;

/// At least so many ends of connections have to be compared.
fn agree(name: &str, at_least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    match Scenario::load(&folder).and_then(|scenario| scenario.traced()) {
        Ok(count) => assert!(count >= at_least, "{count} only"),
        Err(error) => panic!("{error:#}"),
    }
}

macro_rules! scenarios {
    ($($name:ident: $folder:literal, $at_least:literal;)*) => {
        $(#[test] fn $name() { agree($folder, $at_least); })*

        /// The folders that have a test above.
        const TESTED: &[&str] = &[$($folder),*];
    };
}

scenarios! {
    any_and_protocols: "any-and-protocols", 60;
    auto_role_two_interfaces: "auto-role-two-interfaces", 14;
    deny_actions: "deny-actions", 26;
    egress_allow_list: "egress-allow-list", 9;
    files_and_includes: "files-and-includes", 10;
    first_steps: "first-steps", 13;
    ipv6: "ipv6", 53;
    observe: "observe", 14;
    overlapping_ports: "overlapping-ports", 154;
    strict_three_tier: "strict-three-tier", 29;
    users: "users", 19;
}

#[test]
fn every_scenario_is_compared() {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let entries = std::fs::read_dir(folders).unwrap().map(|entry| entry.unwrap());
    let mut folders: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, TESTED);
}
