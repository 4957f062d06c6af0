//! How many rules a policy makes is counted before the table is made, and holds of the table.

use super::*;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::collections::BTreeSet;
use tierwall_policy::{Scope, estimate_rules};

/// Tiers of a network each and of 10.250.0.1, a server that is in all of them.
fn all_here(tiers: u32) -> String {
    let mut text = String::from("[tiers]\n");
    for index in 0..tiers {
        let network = network(index);
        writeln!(text, "t{index} = [\"{APP}\", \"{network}\"]").expect("a string takes all");
    }
    text
}

/// An allow of which each side is a list.
fn allow_between(text: &mut String, name: &str, from: &[&str], to: &[&str], services: &[String]) {
    write!(
        text,
        "[[allow]]\nname = \"{name}\"\nfrom = {from:?}\nto = {to:?}\nservice = {services:?}\n"
    )
    .expect("a string takes all");
}

/// An allow from and to all of so many tiers.
fn product(tiers: u32) -> String {
    let mut text = all_here(tiers);
    let names: Vec<String> = (0..tiers).map(|index| format!("t{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    allow_between(&mut text, "all", &names, &names, &["tcp/80".to_owned()]);
    text
}

fn in_all(policy: &Policy) -> Role {
    Role { tiers: policy.tiers.keys().cloned().collect(), auto: true }
}

fn compiled_as(policy: &Policy, role: &Role) -> Ruleset {
    compile(policy, Host { role, users: &BTreeMap::new(), previous: None })
}

/// Never too few, and at most a quarter too many and 50.
fn is_honest(policy: &Policy, role: &Role) -> Result<(), String> {
    let table = compiled_as(policy, role).table.expect("a table");
    let (estimate, (rules, _)) = (estimate_rules(policy, role), size(&table));
    match (rules..=rules + rules / 4 + 50).contains(&estimate) {
        true => Ok(()),
        false => Err(format!("{estimate} for {rules} rules")),
    }
}

#[test]
fn shapes_are_counted_before_they_are_made() {
    let app = Role { tiers: ["app".to_owned()].into(), auto: true };
    for text in [everywhere(50, 300), nested(50), nested(1000), steps(1000), tiers(0)] {
        assert_eq!(is_honest(&policy(&text), &app), Ok(()));
    }
    for tiers in [1, 3, 5, 60] {
        let policy = policy(&product(tiers));
        assert_eq!(is_honest(&policy, &in_all(&policy)), Ok(()), "{tiers} tiers");
    }
    // Literal peers of which some overlap, on ports of which each two allows share some.
    let mut literals = tiers(0);
    for peer in 0..200u32 {
        let (network, own) = (format!("10.1.0.0/{}", 16 + peer % 8), format!("10.2.0.{peer}"));
        let ports: Vec<String> =
            (0..50).map(|port| format!("tcp/{}", 100 + 2 * (port + peer))).collect();
        allow_between(&mut literals, &own, &[&network, &own], &["app"], &ports);
    }
    assert_eq!(is_honest(&policy(&literals), &app), Ok(()));
}

/// Linear in what is written, and as open as a rule for each pair would be.
#[test]
fn many_tiers_to_many_of_this_server_are_no_product() {
    let policy = policy(&product(200));
    let ruleset = compiled_as(&policy, &in_all(&policy));
    let table = ruleset.table.as_ref().expect("a table");
    let (rules, _) = size(table);
    // Of each tier and both families: the own address and the peer, where connections begin, where
    // they are taken up again, and where this server opens them.
    assert!(rules <= 200 * 2 * 6 + 200, "{rules}");
    assert!(is_open(table, member(0), 80) && is_open(table, member(199), 80));
    assert!(!is_open(table, member(200), 80) && !is_open(table, member(0), 81));
    let openings = Reach::of(&ruleset).openings.into_iter();
    let input: Vec<_> = openings.filter(|opening| opening.direction == Direction::Input).collect();
    assert_eq!(input.len(), 200);
    assert!(input.iter().all(|opening| opening.service.to_string() == "tcp/80"));

    // An address of this server's that is in none of them isn't reached.
    let to: SocketAddr = "10.251.0.1:80".parse().expect("an address and a port");
    let from = SocketAddr::new(member(0), 40_000);
    let packet = Packet::opening(Hook::Input, Transport::Tcp, from, to);
    assert_eq!(table.evaluate(&packet).outcome, Outcome::Drop);
}

/// What a table opens reads the same whether pairs have a rule each or share a chain.
#[test]
fn an_allow_in_two_steps_reads_as_one_in_one() {
    let openings = |from: &[&[&str]]| {
        let mut text = all_here(6);
        for (index, from) in from.iter().enumerate() {
            let name = index.to_string();
            allow_between(&mut text, &name, from, &["t0", "t1", "t2"], &["tcp/80".to_owned()]);
        }
        let policy = policy(&text);
        let ruleset = compiled_as(&policy, &in_all(&policy));
        let chains = &ruleset.table.as_ref().expect("a table").chains;
        let in_two_steps = chains.keys().any(|name| name.starts_with("from."));
        let openings = Reach::of(&ruleset).openings.into_iter();
        let input = openings.filter(|opening| opening.direction == Direction::Input);
        let pairs = input.flat_map(|opening| {
            let Scope::Tiers(own) = opening.scope else { panic!("{:?}", opening.scope) };
            let rest = format!("{:?} {}", opening.peer, opening.service);
            own.into_iter().map(move |own| (own, rest.clone()))
        });
        (in_two_steps, pairs.collect::<BTreeSet<_>>())
    };
    let (in_two_steps, all) = openings(&[&["t0", "t1", "t2", "t3", "t4", "192.0.2.7"]]);
    assert!(in_two_steps);
    assert_eq!(openings(&[&["t0", "t1", "t2"], &["t3", "t4", "192.0.2.7"]]), (false, all));
}

/// One side of an allow.
fn side(of_server: bool) -> impl Strategy<Value = String> {
    const TIERS: &[&str] = &["t0", "t1", "t2", "t3", "t4", "t5", "t6"];
    const PEERS: &[&str] =
        &["192.0.2.1", "192.0.2.0/28", "198.51.100.7", "2001:db8::/64", "2001:db8::7"];
    let tiers =
        subsequence(TIERS, 1..7).prop_map(|tiers| format!("[\"{}\"]", tiers.join("\", \"")));
    let literals =
        subsequence(PEERS, 1..4).prop_map(|peers| format!("[\"{}\"]", peers.join("\", \"")));
    let everybody = select(&["\"*\"", "\"*\"", "\"any\""][..]).prop_map(str::to_owned);
    let every_server = Just("\"*\"".to_owned());
    match of_server {
        true => prop_oneof![5 => tiers, 1 => every_server].boxed(),
        false => prop_oneof![4 => tiers, 3 => literals, 2 => everybody].boxed(),
    }
}

fn service() -> impl Strategy<Value = String> {
    let port = (select(&["tcp", "tcp", "udp", "sctp"][..]), 1u16..60)
        .prop_map(|(of, port)| format!("{of}/{port}"));
    let range = (select(&["tcp", "udp"][..]), 1u16..60, 1u16..4000)
        .prop_map(|(of, first, more)| format!("{of}/{first}-{}", first + more));
    let whole = select(&["any", "gre", "tcp", "udp"][..]).prop_map(str::to_owned);
    prop_oneof![8 => port, 4 => range, 1 => whole]
}

fn random_policy() -> impl Strategy<Value = (String, Role)> {
    let allow = (side(true), side(false), any::<bool>(), service(), 0u8..4).prop_map(
        |(own, peer, input, service, user)| {
            let (from, to) = if input { (peer, own) } else { (own, peer) };
            let user = if user == 0 && !input { "user = 33\n" } else { "" };
            format!("[[allow]]\nfrom = {from}\nto = {to}\nservice = \"{service}\"\n{user}")
        },
    );
    let modes =
        (select(&["enforce", "observe", "off"][..]), select(&["enforce", "observe", "off"][..]));
    let roles = (subsequence((0..7).collect::<Vec<u32>>(), 0..7), any::<bool>());
    (prop::collection::vec(allow, 0..60), modes, roles).prop_map(
        |(allows, (input, output), (own, auto))| {
            let mut text =
                format!("mode = {{ input = \"{input}\", output = \"{output}\" }}\n[tiers]\n");
            for index in 0..7 {
                writeln!(text, "t{index} = [\"{}\"]", network(index)).expect("a string takes all");
            }
            // The content is the key of an allow, which no two share.
            let allows: BTreeSet<String> = allows.into_iter().collect();
            text.extend(allows);
            let role = Role { tiers: own.iter().map(|index| format!("t{index}")).collect(), auto };
            (text, role)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn random_policies_are_counted_before_they_are_made((text, role) in random_policy()) {
        prop_assert_eq!(is_honest(&policy(&text), &role), Ok(()));
    }
}
