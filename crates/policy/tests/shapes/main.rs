//! Small policies that could become large tables: what they compile to grows with what is written.

#[path = "../common/mod.rs"]
mod common;
mod size;

use common::OPTIONS;
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{
    AddressRange, Elements, Flags, Hook, Lifetime, Operation, Ruleset, Statement, Table, TimedSet,
    Transport, Verdict,
};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use tierwall_policy::{
    Change, Direction, Host, Labels, Policy, Reach, Role, UserNames, compile, load_text,
};

const APP: &str = "10.250.0.1";

/// A server of `app`, and `tiers` others of one network each.
fn tiers(tiers: u32) -> String {
    let mut text = format!("[tiers]\napp = [\"{APP}\"]\n");
    for index in 0..tiers {
        writeln!(text, "t{index} = [\"{}\"]", network(index)).expect("a string takes all");
    }
    text
}

fn network(index: u32) -> String {
    format!("10.{}.{}.0/24", index / 250, index % 250)
}

/// A member of a tier.
fn member(index: u32) -> IpAddr {
    Ipv4Addr::new(10, (index / 250) as u8, (index % 250) as u8, 7).into()
}

fn allow(text: &mut String, from: &str, service: &str) {
    write!(text, "[[allow]]\nfrom = \"{from}\"\nto = \"app\"\nservice = \"{service}\"\n")
        .expect("a string takes all");
}

fn everywhere(tiers_: u32, allows: u32) -> String {
    let mut text = tiers(tiers_);
    (0..allows).for_each(|index| allow(&mut text, "*", &format!("tcp/{}", 10_000 + index)));
    text
}

fn nested(allows: u32) -> String {
    let mut text = tiers(allows);
    for index in 0..allows {
        let service = format!("tcp/{}-{}", 20_000 + index, 40_000 - index);
        allow(&mut text, &format!("t{index}"), &service);
    }
    text
}

fn steps(allows: u32) -> String {
    let mut text = tiers(allows);
    for index in 0..allows {
        let service = format!("tcp/{}-{}", 20_000 + index, 21_000 + index);
        allow(&mut text, &format!("t{index}"), &service);
    }
    text
}

fn policy(text: &str) -> Policy {
    let loaded = load_text(Path::new("tierwall.toml"), text, &OPTIONS);
    loaded.policy.unwrap_or_else(|| panic!("{}", loaded.diagnostics))
}

fn compiled(policy: &Policy, previous: Option<&Ruleset>) -> Ruleset {
    let role = Role { tiers: ["app".to_owned()].into(), auto: true };
    compile(policy, Host { role: &role, users: &BTreeMap::new(), previous })
}

/// How many rules and elements there are.
fn size(table: &Table) -> (usize, usize) {
    let rules = table.chains.values().map(|chain| chain.rules.len()).sum();
    (rules, table.sets.values().map(|set| set.elements.len()).sum())
}

fn is_open(table: &Table, from: IpAddr, port: u16) -> bool {
    let to = SocketAddr::new(APP.parse().expect("an address"), port);
    let from = SocketAddr::new(from, 40_000);
    let packet = Packet::opening(Hook::Input, Transport::Tcp, from, to);
    table.evaluate(&packet).outcome == Outcome::Accept
}

#[test]
fn every_server_is_one_set_however_many_tiers_there_are() {
    let policy = policy(&everywhere(1000, 300));
    let ruleset = compiled(&policy, None);
    let table = ruleset.table.as_ref().expect("a table");
    let (rules, elements) = size(table);
    // An allow of TCP has a second chain, for connections that are taken up again.
    assert!(rules <= 300 * 8 + 200 && elements <= 1000 + 300 + 200, "{rules}, {elements}");
    for peer in [0, 499, 999] {
        assert!(is_open(table, member(peer), 10_000) && is_open(table, member(peer), 10_299));
        assert!(!is_open(table, member(peer), 10_300));
    }
    assert!(!is_open(table, member(1000), 10_000));
    let peers: Vec<String> = Reach::of(&ruleset)
        .openings
        .into_iter()
        .filter(|opening| opening.direction == Direction::Input)
        .flat_map(|opening| opening.peers())
        .collect();
    assert_eq!(peers, vec!["*"; 300]);
}

#[test]
fn the_set_of_every_server_is_made_only_if_it_is_used() {
    let mut text = tiers(3);
    allow(&mut text, "t1", "tcp/80");
    let table = compiled(&policy(&text), None).table.expect("a table");
    assert!(!table.sets.keys().any(|name| name.starts_with("every.server")));
    assert!(!table.sets.contains_key("t2_v4"));
}

/// The sets in which the log looks for members of tiers.
fn looked_up(table: &Table) -> Vec<&str> {
    let rules = table.chains["input_log_denied"].rules.iter();
    rules
        .filter_map(|rule| match &rule.statements[..] {
            [Statement::Lookup { set, .. }, Statement::Verdict(Verdict::Goto(_))] => Some(&**set),
            _ => None,
        })
        .collect()
}

#[test]
fn the_log_knows_the_members_of_tiers_that_allows_name_by_a_few_sets() {
    let some = "[[allow]]\nfrom = [\"t0\", \"t1\"]\nto = \"app\"\nservice = \"tcp/80\"\n";
    // What is written, how many tiers it names beside `app`, and in how many sets the log looks.
    for (text, named, sets_of_each) in [
        (tiers(30), 0, 0),
        (tiers(30) + some, 2, 3),
        (nested(5), 5, 6),
        (nested(30), 30, 1),
        (everywhere(30, 2), 30, 1),
    ] {
        let table = compiled(&policy(&text), None).table.expect("a table");
        let sets = looked_up(&table);
        assert_eq!(sets.len(), 2 * sets_of_each, "{sets:?}");
        let is_known = |address: &str| {
            let address: Ipv4Addr = address.parse().expect("an address");
            let key = u128::from(address.to_bits());
            sets.iter().any(|set| set.ends_with("_v4") && table.sets[*set].elements.contains(key))
        };
        assert!((0..30).all(|tier| is_known(&member(tier).to_string()) == (tier < named)));
        assert!(!is_known("192.0.2.1"));
    }
}

#[test]
fn a_member_of_every_server_is_an_element() {
    let text = everywhere(20, 5);
    let before = compiled(&policy(&text), None);
    // One that lies in another tier, too.
    let text = text.replace("t3 = [", "t3 = [\"192.0.2.1\", \"10.0.4.9\", ");
    let after = compiled(&policy(&text), Some(&before));
    let plan = before.diff(&after);
    assert_eq!(plan.to_string(), "add element inet filter every.server_v4 { 192.0.2.1 }\n");
    assert!(plan.is_elements_only());
    let (new, role) = (policy(&text), Role::default());
    let lines = Change::of(&before, &after).words(&new, &role, &UserNames::default()).lines();
    let lines: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(lines, ["\"*\" gains 192.0.2.1"]);
}

#[test]
fn a_member_for_a_time_is_one_of_every_server() {
    let mut policy = policy(&everywhere(20, 5));
    let mut add = |tier: &str, address: &str, until: u64| {
        let address = AddressRange::single(address.parse().expect("an address"));
        let lifetime = Lifetime { until, timeout: 60 };
        let timed = &mut policy.tiers.get_mut(tier).expect("a tier").timed;
        timed.v4 = TimedSet::new(vec![(address, lifetime)]);
        compiled(&policy, None)
    };
    let one = add("t3", "192.0.2.1", 100);
    // The same address in another tier for longer, and a second address.
    let longer = add("t4", "192.0.2.1", 200);
    let two = add("t5", "192.0.2.2", 100);
    for (ruleset, until) in [(&one, 100), (&longer, 200)] {
        let table = ruleset.table.as_ref().expect("a table");
        let Elements::TimedIpv4(timed) = &table.sets["every.server_v4_timed"].elements else {
            panic!("{:?}", table.sets["every.server_v4_timed"]);
        };
        let elements: Vec<_> = timed.elements().map(|(_, lifetime)| lifetime.copied()).collect();
        assert_eq!(elements, [Some(Lifetime { until, timeout: 60 })]);
        assert!(is_open(table, "192.0.2.1".parse().expect("an address"), 10_000));
    }
    assert!(longer.diff(&two).is_elements_only() && one.diff(&longer).is_elements_only());
}

#[test]
fn a_large_tier_is_asked_by_itself() {
    let mut large: Vec<String> = (0..10_001u32)
        .map(|index| Ipv4Addr::from_bits(0xac10_0000 + 2 * index).to_string())
        .collect();
    let text = |large: &[String]| {
        let tier = format!("[tiers]\nlarge = [\"{}\"]\n", large.join("\", \""));
        everywhere(3, 2).replace("[tiers]\n", &tier)
    };
    let ruleset = compiled(&policy(&text(&large)), None);
    let table = ruleset.table.as_ref().expect("a table");
    // `app`, and three networks that touch.
    assert_eq!(table.sets["every.server_v4"].elements.len(), 2);
    assert_eq!(table.sets["large_v4_hosts"].elements.len(), 10_001);
    let member: IpAddr = "172.16.0.2".parse().expect("an address");
    assert!(is_open(table, member, 10_000));
    assert!(!is_open(table, "172.16.0.3".parse().expect("an address"), 10_000));
    // It isn't told apart: it is a part of every server.
    let told = Reach::of(&ruleset).openings;
    let mut accepted = told.iter().filter(|opening| opening.direction == Direction::Input);
    assert!(accepted.all(|opening| opening.peers() == ["*"]));

    // Members come and go as elements until it is far from large.
    large.truncate(9000);
    let fewer = compiled(&policy(&text(&large)), Some(&ruleset));
    assert!(ruleset.diff(&fewer).is_elements_only());
    large.truncate(7000);
    let small = compiled(&policy(&text(&large)), Some(&fewer));
    let plan = fewer.diff(&small);
    assert_eq!(plan.apply(&fewer).as_ref(), Ok(&small));
    let sets = &small.table.as_ref().expect("a table").sets;
    assert!(!sets.contains_key("large_v4") && sets["every.server_v4"].elements.len() == 7002);
}

#[test]
fn ranges_that_overlap_share_their_chains() {
    for shape in [nested, steps] {
        let sizes = [100, 1000].map(|allows| {
            let (rules, elements) =
                size(compiled(&policy(&shape(allows)), None).table.as_ref().expect("a table"));
            println!("{allows} allows: {rules} rules, {elements} elements");
            assert!(rules <= 60 * allows as usize + 200, "{rules} rules of {allows} allows");
            rules
        });
        assert!(sizes[1] < 30 * sizes[0], "{sizes:?}");
    }
}

#[test]
fn ranges_that_share_their_chains_open_what_they_say() {
    const ALLOWS: u32 = 400;
    for shape in [nested, steps] {
        let policy = policy(&shape(ALLOWS));
        let ruleset = compiled(&policy, None);
        let table = ruleset.table.as_ref().expect("a table");
        assert!(
            table
                .chains
                .values()
                .flat_map(|chain| &chain.rules)
                .any(|rule| { rule.comment == "dispatch by block of ports" })
        );
        let range =
            |index: u32| policy.allows[index as usize].service.ports[&Transport::Tcp][0].clone();
        for index in (0..ALLOWS).step_by(7) {
            let (first, last) = (*range(index).start(), *range(index).end());
            for port in [first - 1, first, first + 1, 20_500, 30_000, last - 1, last, last + 1] {
                let is_allowed = range(index).contains(&port);
                assert_eq!(is_open(table, member(index), port), is_allowed, "{index} on {port}");
            }
        }
        // Each allow opens one range, whole.
        let reach = Reach::of(&ruleset);
        let labels = Labels::of(&policy.allows);
        let expected = (0..ALLOWS).map(|index| {
            let service = format!("tcp/{}-{}", range(index).start(), range(index).end());
            (labels.comment(index as usize).to_owned(), service)
        });
        let mut expected: Vec<_> = expected.collect();
        expected.sort();
        let opened = reach.openings.into_iter().filter(|o| o.direction == Direction::Input);
        let mut opened: Vec<_> =
            opened.map(|opening| (opening.comment, opening.service.to_string())).collect();
        opened.sort();
        assert_eq!(opened, expected);
    }
}

/// A block holds the same allows whatever others there are.
#[test]
fn an_allow_that_goes_leaves_the_chains_of_others_alone() {
    let text = steps(1000);
    let before = compiled(&policy(&text), None);
    let (head, _) = text.rsplit_once("[[allow]]").expect("an allow");
    let after = compiled(&policy(head), Some(&before));
    let plan = before.diff(&after);
    assert_eq!(plan.apply(&before).as_ref(), Ok(&after));
    let rules = |operation: &&Operation| {
        matches!(operation, Operation::InsertRule { .. } | Operation::DeleteRule { .. })
    };
    let touched = plan.operations.iter().filter(rules).count();
    assert!(touched < 200, "{touched} rules");
    let own = |operation: &Operation| match operation {
        Operation::InsertRule { chain, .. } | Operation::DeleteRule { chain, .. } => {
            chain.starts_with("in.") && chain != "in.t999.app.tcp/20999-21999"
        }
        _ => false,
    };
    assert!(!plan.operations.iter().any(own), "{plan}");
}

/// Allows of four tiers of 200 addresses each on each of so many services.
fn four_tiers(services: u32, mut one: impl FnMut(&mut String, &str, u32)) -> String {
    let mut text = format!("[tiers]\napp = [\"{APP}\"]\n");
    for tier in 0..4u32 {
        let members: Vec<String> = (0..200u32)
            .map(|index| {
                format!("\"{}\"", Ipv4Addr::from_bits(0x0a00_0000 + (tier << 16) + 2 * index))
            })
            .collect();
        writeln!(text, "t{tier} = [{}]", members.join(", ")).expect("a string takes all");
    }
    for index in 0..services {
        (0..4).for_each(|tier| one(&mut text, &format!("t{tier}"), 1000 + index));
    }
    text
}

/// The elements of all maps by the peer's address, those of copies too.
fn by_peer(table: &Table) -> BTreeMap<&str, usize> {
    let maps = table.sets.iter().filter(|(name, _)| name.contains(".peers_"));
    maps.map(|(name, set)| (name.as_str(), set.elements.len())).collect()
}

/// Of allows of many tiers on one service, what is looked up by address is a short cut that may
/// leave some out.
#[test]
fn short_cuts_have_a_bound() {
    let of_tcp = |text: &mut String, tier: &str, port| allow(text, tier, &format!("tcp/{port}"));
    let text = four_tiers(300, of_tcp);
    let before = compiled(&policy(&text), None);
    let table = before.table.as_ref().expect("a table");
    let short: usize = by_peer(table).values().sum();
    assert!((60_000..=65_536).contains(&short), "{short}");
    let member: IpAddr = "10.3.1.142".parse().expect("an address");
    assert!(is_open(table, member, 1000) && is_open(table, member, 1299));
    assert!(!is_open(table, member, 1300));

    // Connections that are taken up again ask each allow in turn, so no member is in a copy.
    assert!(!by_peer(table).keys().any(|map| map.starts_with("again.")));
    let text = text.replace("t0 = [", "t0 = [\"10.77.0.1\", ");
    let after = compiled(&policy(&text), Some(&before));
    let plan = before.diff(&after);
    assert!(plan.is_elements_only() && !plan.to_string().contains("again."), "{plan}");
}

/// Copies that each packet asks keep their short cuts, within the same bound.
#[test]
fn short_cuts_of_copies_count() {
    let of_user = |text: &mut String, tier: &str, port| {
        let allow =
            format!("from = \"app\"\nto = \"{tier}\"\nservice = \"udp/{port}\"\nuser = 33\n");
        write!(text, "[[allow]]\n{allow}").expect("a string takes all");
    };
    for (services, least) in [(10, 16_000), (60, 65_000)] {
        let table = compiled(&policy(&four_tiers(services, of_user)), None).table.expect("a table");
        let maps = by_peer(&table);
        assert!(maps.contains_key("asked.output_udp_1000.peers_v4"));
        let short: usize = maps.values().sum();
        assert!((least..=65_536).contains(&short), "{short}");
    }
}

/// A map of literal peers is the only way to their allows, so copies have it, without the members
/// that are short cuts in it.
#[test]
fn copies_keep_literal_peers() {
    let mut text = tiers(6);
    (0..6).for_each(|tier| allow(&mut text, &format!("t{tier}"), "tcp/80"));
    (0..6).for_each(|peer| allow(&mut text, &format!("192.0.2.{peer}"), "tcp/80"));
    let table = compiled(&policy(&text), None).table.expect("a table");
    let expected = [
        ("again.input_tcp_80.peers_v4", 6),
        ("input_tcp_80.peers_v4", 12),
        ("input_tcp_80.peers_v6", 0),
    ];
    assert_eq!(by_peer(&table), expected.into());
    let answer = |to: &str, port| {
        let from = SocketAddr::new(APP.parse().expect("an address"), port);
        let to = SocketAddr::new(to.parse().expect("an address"), 5000);
        let first = Packet::opening(Hook::Output, Transport::Tcp, from, to);
        let packet = Packet { tcp_flags: Flags::ACK, ..first };
        table.evaluate(&packet).outcome == Outcome::Accept
    };
    assert!(answer("192.0.2.5", 80) && answer("10.0.5.9", 80));
    assert!(!answer("192.0.2.6", 80) && !answer("10.0.6.9", 80) && !answer("192.0.2.5", 81));
}
