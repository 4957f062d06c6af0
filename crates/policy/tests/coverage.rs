//! The lint on covered allows against a plain reading of what an allow does, packet by packet.

mod common;

use common::OPTIONS;
use proptest::prelude::*;
use ruleset::Transport;
use std::fmt::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use tierwall_policy::model::{Allow, Endpoint, User};
use tierwall_policy::{Policy, load_text};

const TIERS: &str = "[tiers]\nweb = [\"10.0.0.1-10.0.0.3\"]\napp = [\"10.0.0.4/31\"]\n\
                     both = [\"10.0.0.1-10.0.0.5\"]\n";
const SIDES: &[&str] = &[
    "\"any\"",
    "\"*\"",
    "\"web\"",
    "\"app\"",
    "\"both\"",
    "\"10.0.0.1\"",
    "\"10.0.0.2-10.0.0.4\"",
    "\"0.0.0.0/0\"",
    "\"10.0.0.3\"",
    "\"10.0.0.9\"",
];
const SERVICES: &[&str] =
    &["\"any\"", "\"tcp\"", "\"gre\"", "\"tcp/1\"", "\"tcp/1-2\"", "\"tcp/2-3\"", "\"udp/1\""];
const USERS: &[&str] = &["1", "2"];

fn list(of: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(of), 1..=most).prop_map(|all| all.join(", "))
}

fn allows() -> impl Strategy<Value = Vec<(String, String, String, Option<String>)>> {
    let user = prop::option::weighted(0.2, list(USERS, 2));
    prop::collection::vec((list(SIDES, 2), list(SIDES, 2), list(SERVICES, 2), user), 1..5)
}

/// Whether a server in this tier (none: in no tier) stands on this side.
fn acts(side: &Endpoint, tier: Option<&str>) -> bool {
    side.every_server || tier.is_some_and(|tier| side.tiers.contains(tier))
}

fn is_peer(policy: &Policy, side: &Endpoint, address: Option<Ipv4Addr>) -> bool {
    let Some(address) = address else { return side.any };
    let in_tier = |name: &String| policy.tiers[name].v4.contains(address);
    side.any
        || side.every_server && policy.tiers.keys().any(in_tier)
        || side.tiers.iter().any(in_tier)
        || side.v4.contains(address)
}

fn is_service(allow: &Allow, protocol: u8, port: u16) -> bool {
    let ports = Transport::of_protocol(protocol).and_then(|t| allow.service.ports.get(&t));
    allow.service.any
        || allow.service.protocols.contains(&protocol)
        || ports.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&port)))
}

/// Everything that an allow lets through, on every server: side, tier, peer, service, user.
fn effects(policy: &Policy, allow: &Allow) -> Vec<(bool, usize, u8, usize, u32)> {
    let tiers = [None, Some("web"), Some("app"), Some("both")];
    let services = [(6, 1), (6, 2), (6, 3), (6, 4), (17, 1), (17, 2), (47, 0), (50, 0)];
    let mut effects = Vec::new();
    for (tier, name) in tiers.into_iter().enumerate() {
        for last in 0..12 {
            // One of the peers is an IPv6 address, which only "any" is.
            let peer = (last > 0).then(|| Ipv4Addr::new(10, 0, 0, last));
            for (service, (protocol, port)) in services.into_iter().enumerate() {
                if !is_service(allow, protocol, port) {
                    continue;
                }
                if acts(&allow.to, name) && is_peer(policy, &allow.from, peer) {
                    effects.push((true, tier, last, service, 0));
                }
                let opens = acts(&allow.from, name) && is_peer(policy, &allow.to, peer);
                for user in (1..4).filter(|_| opens) {
                    if allow.users.is_empty() || allow.users.contains(&User::Uid(user)) {
                        effects.push((false, tier, last, service, user));
                    }
                }
            }
        }
    }
    effects.sort_unstable();
    effects
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_allow_is_reported_exactly_where_another_has_all_its_effects(allows in allows()) {
        let mut text = TIERS.to_owned();
        for (index, (from, to, service, user)) in allows.iter().enumerate() {
            write!(text, "[[allow]]\nname = \"{index}\"\nfrom = [{from}]\nto = [{to}]\nservice = [{service}]\n")?;
            if let Some(user) = user {
                writeln!(text, "user = [{user}]")?;
            }
        }
        let loaded = load_text(Path::new("x.toml"), text.clone(), &OPTIONS);
        // Combinations that no server would act on are errors, and no matter for lints.
        let Some(policy) = &loaded.policy else { return Ok(()) };
        let effects: Vec<_> = policy.allows.iter().map(|allow| effects(policy, allow)).collect();
        let has_all = |outer: usize, inner: usize| {
            effects[inner].iter().all(|effect| effects[outer].binary_search(effect).is_ok())
        };
        for (index, allow) in policy.allows.iter().enumerate() {
            let expected = (0..policy.allows.len()).any(|other| {
                other != index && has_all(other, index) && (other < index || !has_all(index, other))
            });
            let reported = loaded.diagnostics.iter().any(|diagnostic| {
                let place = diagnostic.place.as_ref().and_then(|label| label.location());
                diagnostic.code == "covered-allow" && place.as_ref() == Some(&allow.location)
            });
            prop_assert_eq!(reported, expected, "allow {} of\n{}", index, text);
        }
    }
}
