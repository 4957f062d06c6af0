//! Real connections through real daemons: one test for each folder of `tests/scenarios`.

use std::path::Path;
use tierwall_tests::scenario::Scenario;

macro_rules! scenarios {
    ($($name:ident: $folder:literal,)*) => {
        $(
            #[test]
            fn $name() {
                run($folder);
            }
        )*

        /// The folders that have a test above.
        const TESTED: &[&str] = &[$($folder),*];
    };
}

scenarios! {
    any_and_protocols: "any-and-protocols",
    auto_role_two_interfaces: "auto-role-two-interfaces",
    deny_actions: "deny-actions",
    egress_allow_list: "egress-allow-list",
    files_and_includes: "files-and-includes",
    first_steps: "first-steps",
    ipv6: "ipv6",
    observe: "observe",
    overlapping_ports: "overlapping-ports",
    strict_three_tier: "strict-three-tier",
    users: "users",
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name)
}

fn run(name: &str) {
    let result = Scenario::load(&folder(name)).and_then(|scenario| scenario.run());
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

#[test]
fn every_folder_is_tested() {
    let mut folders: Vec<String> = std::fs::read_dir(folder(""))
        .expect("there are scenarios")
        .map(|entry| entry.expect("a readable folder"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a plain name"))
        .collect();
    folders.sort();
    assert_eq!(folders, TESTED);
}
