//! Whatever tiers and allows are called, no name of theirs is taken for another.

mod common;

use common::OPTIONS;
use proptest::prelude::*;
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Elements, Hook, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use tierwall_policy::explain::{Ground, Party, Question, Server};
use tierwall_policy::judge::By;
use tierwall_policy::model::Service;
use tierwall_policy::relation::{Gate, Relation};
use tierwall_policy::{
    Addresses, Host, Judge, Labels, Policy, Reach, Role, compile, load_text, tier_of_set,
};

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
every            = ["10.0.0.9"]

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

[[allow]]
from    = ["input", "input_tcp", "input_tcp_80", "output_tcp_80"]
to      = ["input_protocol_47", "input_any", "input_tcp_80_v4", "in", "every"]
service = "tcp/80"
"#;

#[test]
fn the_set_of_a_tier_holds_the_tier_whatever_it_is_called() {
    let loaded = load_text(Path::new("tierwall.toml"), POLICY, &OPTIONS);
    let policy = loaded.policy.expect("a policy");
    let role = Role { tiers: policy.tiers.keys().cloned().collect(), auto: false };
    let host = Host { role: &role, users: &BTreeMap::new(), previous: None };
    let table = compile(&policy, host).table.expect("a table");
    for (name, tier) in &policy.tiers {
        assert_eq!(table.sets[&format!("{name}_v4")].elements, Elements::Ipv4(tier.v4.clone()));
        assert_eq!(table.sets[&format!("{name}_v6")].elements, Elements::Ipv6(tier.v6.clone()));
    }
    // And no other set is taken for a tier's.
    let tiers = table.sets.keys().filter_map(|set| tier_of_set(set));
    let tiers = tiers.filter(|tier| *tier != "*").collect::<Vec<_>>();
    assert_eq!(tiers.len(), 2 * policy.tiers.len(), "{tiers:?}");
}

/// Names that come out the same where characters are replaced, cut off or hashed to 32 bits, that end
/// as the names of sets do, or that read as another allow's content, chain, counter or comment.
const HOSTILE: [&str; 40] = [
    "payments api of the shop, reached from the public web front end of region bzb8",
    "payments api of the shop, reached from the public web front end of region bzks",
    "payments api",
    "payments_api",
    "payments-api",
    "payments.api",
    "payments/api",
    "Payments api",
    "payments  api",
    " payments api",
    "payments api ",
    "_payments_api",
    "payments api.payments",
    "ä",
    "ö",
    "*",
    "all",
    "_",
    "__",
    "-",
    "tcp",
    "input",
    "input_tcp_80",
    "never",
    "x",
    "x v4",
    "x_v4",
    "x_v4_hosts",
    "x users",
    "x_users",
    "x peers",
    "x.peers_v4",
    "in.x",
    "web.app.tcp/80",
    "web -> app tcp/81 ",
    "web app tcp/80",
    "allow x",
    "built-in: drop",
    "x ~0123456789abcdef0123456789abcdef",
    "x ~0123456789abcdef0123456789abcdef-2",
];

/// One tier and one port for each allow, and a port of all of them.
fn policy_of(names: &[String]) -> Policy {
    let mut text = String::from("[tiers]\napp = [\"10.1.0.1\"]\n");
    for index in 0..names.len() {
        writeln!(text, "x{}{index} = [\"10.0.{index}.1\"]", ["", "_v4", "_users"][index % 3])
            .expect("a string takes all");
    }
    for (index, name) in names.iter().enumerate() {
        let tier = tier(index);
        let port = port(index);
        write!(
            text,
            "[[allow]]\nname = '{name}'\nfrom = \"{tier}\"\nto = \"app\"\n\
             service = [\"tcp/{port}\", \"tcp/80\"]\n"
        )
        .expect("a string takes all");
    }
    let loaded = load_text(Path::new("tierwall.toml"), text, &OPTIONS);
    loaded.policy.unwrap_or_else(|| panic!("{}", loaded.diagnostics))
}

fn tier(index: usize) -> String {
    format!("x{}{index}", ["", "_v4", "_users"][index % 3])
}

fn port(index: usize) -> u16 {
    1000 + 2 * index as u16
}

fn address(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, index as u8, 1).into()
}

/// What the policy says of each allow alone is what the table does, and what everybody reads in it.
fn hold_to(policy: &Policy) {
    let role = Role { tiers: ["app".to_owned()].into(), auto: false };
    let host = Host { role: &role, users: &BTreeMap::new(), previous: None };
    let ruleset = compile(policy, host);
    let judge = Judge::new(policy, &ruleset);
    let labels = Labels::of(&policy.allows);
    let own: IpAddr = "10.1.0.1".parse().expect("an address");
    let opened: BTreeSet<(String, String, String)> = Reach::of(&ruleset)
        .openings
        .iter()
        .flat_map(|opening| {
            let services = opening.service.names().into_iter();
            services.map(|service| (opening.comment.clone(), opening.peers().join(","), service))
        })
        .collect();
    let expected = policy.allows.iter().enumerate().flat_map(|(index, allow)| {
        let comment = labels.comment(index).to_owned();
        let service = move |port| (comment.clone(), tier(index), format!("tcp/{port}"));
        assert_eq!(policy.allow_of_comment(labels.comment(index)), Some(allow));
        [service(port(index)), service(80)]
    });
    assert_eq!(opened, expected.collect());

    let relation = Relation::of(policy);
    let place = |name: &str| relation.senders.iter().position(|party| party.name == name);
    let app = place("app").expect("a party");
    let server = Server { role: role.clone(), addresses: Addresses::single(own) };
    for (peer, allow) in policy.allows.iter().enumerate() {
        let own_port = port(peer);
        let passages = relation.passages(place(&tier(peer)).expect("a party"), app);
        let [passage] = passages else { panic!("{passages:?}") };
        assert_eq!(passage.accepted_by, Gate::Allow(allow));
        let ports = [(Transport::Tcp, vec![80..=80, own_port..=own_port])].into();
        assert_eq!(passage.service, Service { ports, ..Service::default() });
        // Neither moves with those beside it.
        let alone = Labels::of(std::slice::from_ref(allow));
        assert_eq!(alone.slug(0), labels.slug(peer));
        assert_eq!(alone.comment(0), labels.comment(peer));
        let ports = (0..policy.allows.len()).map(port).chain([80]);
        for port in ports {
            let from = SocketAddr::new(address(peer), 40_000);
            let to = SocketAddr::new(own, port);
            let ruling = judge.rule_on(&Packet::opening(Hook::Input, Transport::Tcp, from, to));
            if [own_port, 80].contains(&port) {
                assert_eq!(ruling.by, By::Allow(allow));
                assert_eq!(ruling.counters, [labels.counter(peer)]);
            } else {
                assert_eq!(ruling.by, By::Closing, "{peer} to {port}");
            }
        }
        let next = port((peer + 1) % policy.allows.len());
        for (port, ground) in
            [(own_port, Ground::Allow(allow)), (80, Ground::Allow(allow)), (next, Ground::Closing)]
        {
            let ports = [(Transport::Tcp, vec![port..=port])].into();
            let question = Question {
                from: Party::Tier(tier(peer)),
                to: Party::Here,
                service: Service { ports, ..Service::default() },
                user: None,
            };
            let explained = policy.explain(&server, &BTreeMap::new(), &question);
            let explained = explained.expect("an answer");
            let here = explained.ends.iter().find(|end| end.is_here);
            let end = here.unwrap_or_else(|| panic!("{explained:?}"));
            let [answer] = &end.answers[..] else { panic!("{explained:?}") };
            assert_eq!(answer.verdict.ground, ground);
        }
    }
}

#[test]
fn what_one_allow_opens_is_never_what_another_does() {
    hold_to(&policy_of(&HOSTILE.map(String::from)));
}

/// Allows without names are called by their content: a long one of which only the end differs.
#[test]
fn long_contents_are_told_apart() {
    let tiers: Vec<String> = (0..30).map(|index| format!("front-end-{index}")).collect();
    let mut text = String::from("[tiers]\napp = [\"10.1.0.1\"]\n");
    for (index, tier) in tiers.iter().enumerate() {
        writeln!(text, "{tier} = [\"10.0.{index}.1\"]").expect("a string takes all");
    }
    for end in 20..30 {
        let from = [&tiers[..20], &tiers[end..=end]].concat().join("\", \"");
        write!(text, "[[allow]]\nfrom = [\"{from}\"]\nto = \"app\"\nservice = \"tcp/{end}\"\n")
            .expect("a string takes all");
    }
    let policy = load_text(Path::new("tierwall.toml"), text, &OPTIONS).policy.expect("a policy");
    let role = Role { tiers: ["app".to_owned()].into(), auto: false };
    let table = compile(&policy, Host { role: &role, users: &BTreeMap::new(), previous: None });
    let table = table.table.expect("a table");
    for peer in 20..30 {
        for port in 20..30 {
            let to = SocketAddr::new("10.1.0.1".parse().expect("an address"), port);
            let from = SocketAddr::new(address(peer), 40_000);
            let packet = Packet::opening(Hook::Input, Transport::Tcp, from, to);
            let is_open = table.evaluate(&packet).outcome == Outcome::Accept;
            assert_eq!(is_open, peer == usize::from(port), "{peer} on {port}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn whatever_allows_are_called(
        names in prop::collection::btree_set(
            prop::collection::vec(
                prop::sample::select(vec![
                    "a", "b", "1", "2", "_", " ", ".", ",", "-", "/", "*", " -> ", " user ", "ü", "~",
                ]),
                1..8,
            )
            .prop_map(|parts| parts.concat())
            .prop_filter("a name", |name| !name.trim().is_empty()),
            2..8,
        ),
    ) {
        hold_to(&policy_of(&Vec::from_iter(names)));
    }
}
