//! The list is exactly the probes that are denied, and when the servers only observe, those that
//! would be.

use std::path::Path;
use tierwall_tests::scenario::Scenario;

fn compare(name: &str, observe: bool) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(name);
    let result = Scenario::load(&folder).and_then(|scenario| scenario.compare_denials(observe));
    if let Err(error) = result {
        panic!("{error:#}");
    }
}

macro_rules! scenarios {
    ($($name:ident: $folder:literal,)*) => {
        mod enforced {
            $(#[test] fn $name() { super::compare($folder, false); })*
        }

        mod observed {
            $(#[test] fn $name() { super::compare($folder, true); })*
        }
    };
}

scenarios! {
    strict_three_tier: "strict-three-tier",
    ipv6: "ipv6",
    users: "users",
    egress_allow_list: "egress-allow-list",
    any_and_protocols: "any-and-protocols",
}
