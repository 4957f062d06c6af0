//! Whatever tiers and allows are called, no name of theirs is taken for another.

use ruleset::Elements;
use std::collections::BTreeMap;
use std::path::Path;
use tierwall_policy::{Host, Options, Role, compile, load_text, tier_of_set};

/// Tiers called as our own sets and maps are, which this policy makes of several peers and users on
/// one service.
const POLICY: &str = r#"
[tiers]
input            = ["10.0.0.1"]
input_tcp        = ["10.0.0.2"]
input_tcp_80     = ["10.0.0.3"]
output_tcp_80    = ["10.0.0.4"]
input_protocol_47 = ["10.0.0.5"]
input_any        = ["10.0.0.6"]
input_tcp_80_v4  = ["10.0.0.7"]
in               = ["10.0.0.8"]

[[allow]]
from    = "192.0.2.1"
to      = "*"
service = ["tcp/80", "gre", "any"]

[[allow]]
from    = ["192.0.2.2", "192.0.2.4"]
to      = "*"
service = ["tcp/80", "gre", "any"]

[[allow]]
from    = "*"
to      = "192.0.2.1"
service = "tcp/80"
user    = [1, 2]

[[allow]]
from    = "*"
to      = "192.0.2.2"
service = "tcp/80"

[[allow]]
from    = "*"
to      = "*"
service = "tcp/80"
"#;

#[test]
fn the_set_of_a_tier_holds_the_tier_whatever_it_is_called() {
    let options = Options { check_permissions: false, ..Options::default() };
    let loaded = load_text(Path::new("tierwall.toml"), POLICY, &options);
    let policy = loaded.policy.expect("a policy");
    let role = Role { tiers: policy.tiers.keys().cloned().collect(), auto: false };
    let host = Host { role: &role, users: &BTreeMap::new(), previous: None };
    let table = compile(&policy, host).table.expect("a table");
    for (name, tier) in &policy.tiers {
        assert_eq!(table.sets[&format!("{name}_v4")].elements, Elements::Ipv4(tier.v4.clone()));
        assert_eq!(table.sets[&format!("{name}_v6")].elements, Elements::Ipv6(tier.v6.clone()));
    }
    // And no other set is taken for a tier's.
    let tiers = table.sets.keys().filter_map(|set| tier_of_set(set)).collect::<Vec<_>>();
    assert_eq!(tiers.len(), 2 * policy.tiers.len(), "{tiers:?}");
}
