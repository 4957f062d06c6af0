//! Random policies: what they compile to accepts exactly what a plain reading of the policy
//! allows, and the plan from one to another is right and no larger than it must be.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{AddressRange, AddressSet, Hook, Operation, Ruleset, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tierwall_policy::explain::{Fate, Ground, Party, Question, Server};
use tierwall_policy::model::{
    Allow, AllowKey, Boot, Deny, DenyAction, Endpoint, Forward, Mode, Modes, Ownership, Policy,
    RoleSetting, Service, Tier, User, Watch,
};
use tierwall_policy::relation::{Passage, Portion, Relation};
use tierwall_policy::{Addresses, Direction, Host, Location, Member, Metrics, Role, compile};

const TIERS: [&str; 4] = ["web", "app", "db", "admin"];
const USERS: [(&str, u32); 2] = [("alice", 1000), ("bob", 1001)];

fn location(line: usize) -> Location {
    Location { file: Arc::new("tierwall.toml".into()), line, column: 1 }
}

fn v4(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, n)
}

fn v6(n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into())
}

fn small_v4(most: usize) -> impl Strategy<Value = AddressSet<Ipv4Addr>> {
    let range = (0u8..40, 0u8..6)
        .prop_map(|(at, more)| AddressRange { first: v4(at), last: v4(at + more) });
    prop::collection::vec(range, 0..=most).prop_map(AddressSet::new)
}

fn small_v6(most: usize) -> impl Strategy<Value = AddressSet<Ipv6Addr>> {
    let range = (0u8..40, 0u8..6)
        .prop_map(|(at, more)| AddressRange { first: v6(at), last: v6(at + more) });
    prop::collection::vec(range, 0..=most).prop_map(AddressSet::new)
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let tiers = subsequence(TIERS.to_vec(), 0..=2);
    let kind = (prop::bool::weighted(0.15), prop::bool::weighted(0.15));
    (kind, tiers, small_v4(2), small_v6(1)).prop_map(|((any, every_server), tiers, v4, v6)| {
        Endpoint { any, every_server, tiers: tiers.into_iter().map(String::from).collect(), v4, v6 }
    })
}

fn service() -> impl Strategy<Value = Service> {
    let port = (select(vec![Transport::Tcp, Transport::Udp, Transport::Sctp]), 1u16..30, 0u16..12);
    let ports = prop::collection::vec(port, 0..3);
    let protocols = prop::collection::btree_set(select(vec![6u8, 47, 50, 1, 58]), 0..=1);
    (prop::bool::weighted(0.1), ports, protocols).prop_map(|(any, list, protocols)| {
        let mut wanted: BTreeMap<Transport, BTreeSet<u16>> = BTreeMap::new();
        for (transport, first, more) in list {
            wanted.entry(transport).or_default().extend(first..=first + more);
        }
        let ports = wanted.into_iter().map(|(transport, ports)| {
            let mut ranges: Vec<std::ops::RangeInclusive<u16>> = Vec::new();
            for port in ports {
                match ranges.last_mut() {
                    Some(last) if *last.end() + 1 == port => *last = *last.start()..=port,
                    _ => ranges.push(port..=port),
                }
            }
            (transport, ranges)
        });
        Service { any, protocols, ports: ports.collect() }
    })
}

fn users() -> impl Strategy<Value = Vec<User>> {
    let user = prop_oneof![
        Just(User::Uid(33)),
        select(vec!["alice", "bob", "nobody-here"])
            .prop_map(|name| User::Name { name: name.into(), location: location(1) }),
    ];
    prop_oneof![3 => Just(Vec::new()), 1 => prop::collection::vec(user, 1..3)]
}

fn policy() -> impl Strategy<Value = Policy> {
    let allow = (endpoint(), endpoint(), service(), users());
    // Some with all allows on the services of the first, where peers are dispatched by address.
    let allows = (prop::collection::vec(allow, 0..10), prop::bool::weighted(0.3));
    let allows = allows.prop_map(|(mut allows, crowded)| {
        if let (true, [first, others @ ..]) = (crowded, &mut allows[..]) {
            others.iter_mut().for_each(|allow| allow.2 = first.2.clone());
        }
        allows
    });
    let tiers = prop::collection::vec((small_v4(4), small_v6(2)), TIERS.len());
    let mode =
        || prop_oneof![6 => Just(Mode::Enforce), 1 => Just(Mode::Observe), 1 => Just(Mode::Off)];
    let deny = || select(vec![DenyAction::Drop, DenyAction::Reject]);
    let forward = select(vec![Forward::Drop, Forward::Accept, Forward::Unmanaged]);
    (tiers, allows, mode(), mode(), deny(), deny(), forward).prop_map(
        |(tiers, allows, input, output, deny_input, deny_output, forward)| Policy {
            role: RoleSetting::Auto,
            watch: Watch::Members,
            boot: Boot::Open,
            deny: Deny { input: deny_input, output: deny_output },
            mode: Modes { input, output },
            forward,
            ownership: Ownership::default(),
            kernel_log: false,
            guarded: Service::default(),
            rollback_on_denials: None,
            confirm: None,
            metrics: Metrics::default(),
            tiers: TIERS
                .into_iter()
                .zip(tiers)
                .map(|(name, (v4, v6))| {
                    (name.into(), Tier { v4, v6, timed: Default::default(), location: location(1) })
                })
                .collect(),
            allows: allows
                .into_iter()
                .enumerate()
                .map(|(index, (from, to, service, users))| Allow {
                    key: AllowKey::Named(format!("allow {index}")),
                    location: location(index + 10),
                    from,
                    to,
                    service,
                    users,
                })
                .collect(),
        },
    )
}

fn role() -> impl Strategy<Value = Role> {
    (subsequence(TIERS.to_vec(), 0..=3), any::<bool>()).prop_map(|(tiers, auto)| Role {
        tiers: tiers.into_iter().map(String::from).collect(),
        auto,
    })
}

fn packet() -> impl Strategy<Value = Packet> {
    let addresses = (0u8..45, 0u8..45, any::<bool>());
    let protocol = select(vec![6u8, 6, 6, 17, 17, 132, 47, 50]);
    let user = select(vec![None, Some(33), Some(1000), Some(1001), Some(7)]);
    (select(vec![Hook::Input, Hook::Output]), addresses, protocol, 1u16..45, user).prop_map(
        |(hook, (from, to, ipv4), protocol, port, user)| {
            let address = |host| if ipv4 { IpAddr::from(v4(host)) } else { v6(host).into() };
            Packet {
                ports: Transport::of_protocol(protocol).map(|_| (40_000, port)),
                user: user.filter(|_| hook == Hook::Output),
                ..Packet::first(hook, address(from), address(to), protocol)
            }
        },
    )
}

fn known_users() -> BTreeMap<String, u32> {
    USERS.into_iter().map(|(name, uid)| (name.into(), uid)).collect()
}

fn compiled(policy: &Policy, role: &Role) -> Ruleset {
    let users = known_users();
    compile(policy, Host { role, users: &users, previous: None })
}

fn in_tier(policy: &Policy, tier: &str, address: IpAddr) -> bool {
    let tier = &policy.tiers[tier];
    match address {
        IpAddr::V4(address) => tier.v4.contains(address),
        IpAddr::V6(address) => tier.v6.contains(address),
    }
}

/// Whether `allow` lets the new packet through on the side where the server sees it: the words of
/// the grammar, one after the other.
fn allows(policy: &Policy, role: &Role, allow: &Allow, packet: &Packet) -> bool {
    let (own, peer, own_address, peer_address) = match packet.hook {
        Hook::Input => (&allow.to, &allow.from, packet.destination, packet.source),
        _ => (&allow.from, &allow.to, packet.source, packet.destination),
    };
    let confined = role.auto && packet.hook == Hook::Input;
    let concerned = own.every_server
        || own.tiers.iter().any(|tier| {
            role.tiers.contains(tier) && (!confined || in_tier(policy, tier, own_address))
        });
    let literal = match peer_address {
        IpAddr::V4(address) => peer.v4.contains(address),
        IpAddr::V6(address) => peer.v6.contains(address),
    };
    let known_peer = peer.any
        || literal
        || peer.tiers.iter().any(|tier| in_tier(policy, tier, peer_address))
        || (peer.every_server && TIERS.iter().any(|tier| in_tier(policy, tier, peer_address)));
    let service = allow.service.any
        || allow.service.protocols.contains(&packet.protocol)
        || packet.ports.is_some_and(|(_, port)| {
            let transport = Transport::of_protocol(packet.protocol).expect("it has ports");
            allow.service.ports.get(&transport).is_some_and(|r| r.iter().any(|r| r.contains(&port)))
        });
    let user = packet.hook == Hook::Input
        || allow.users.is_empty()
        || allow.users.iter().any(|user| match user {
            User::Uid(uid) => packet.user == Some(*uid),
            User::Name { name, .. } => {
                known_users().get(name).is_some_and(|uid| packet.user == Some(*uid))
            }
        });
    concerned && known_peer && service && user
}

fn party(address: IpAddr) -> Party {
    let member: Member = address.to_string().parse().expect("an address");
    Party::Addresses { name: address.to_string(), addresses: member.into() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn compiled_table_means_what_the_policy_says(
        policy in policy(),
        role in role(),
        packets in prop::collection::vec(packet(), 60),
    ) {
        let ruleset = compiled(&policy, &role);
        let table = ruleset.table.as_ref().expect("compiling makes a table");
        for packet in packets {
            let evaluation = table.evaluate(&packet);
            let allowing: Vec<String> = policy
                .allows
                .iter()
                .filter(|allow| allows(&policy, &role, allow, &packet))
                .map(|allow| format!("allow {}", allow.key))
                .collect();
            let (mode, deny) = match packet.hook {
                Hook::Input => (policy.mode.input, policy.deny.input),
                _ => (policy.mode.output, policy.deny.output),
            };
            let denied = match (mode, deny) {
                (Mode::Enforce, DenyAction::Drop) => evaluation.outcome == Outcome::Drop,
                (Mode::Enforce, DenyAction::Reject) => matches!(evaluation.outcome, Outcome::Reject(_)),
                // Open, but in observe counted as what would be denied.
                (Mode::Observe, _) => {
                    let side = if packet.hook == Hook::Input { "input" } else { "output" };
                    let would_deny = format!("would-deny.{side}");
                    prop_assert_eq!(evaluation.outcome, Outcome::Accept);
                    evaluation.counters.contains(&would_deny.as_str())
                }
                (Mode::Off, _) => {
                    prop_assert_eq!(evaluation.outcome, Outcome::Accept);
                    prop_assert!(evaluation.counters.is_empty());
                    continue;
                }
            };
            prop_assert_eq!(denied, allowing.is_empty(), "{:?}: {:?}\n{}", packet, evaluation, ruleset);
            if !denied {
                let rule = evaluation.rule.expect("an allow accepted it");
                prop_assert!(allowing.iter().any(|name| name == rule.comment), "{:?}", rule);
                prop_assert_eq!(evaluation.counters.len(), 1);
            }
        }
    }

    /// Of two tiers that are asked about, each pair of members has one answer at each end, and it
    /// is the plain reading's; the relation of the two tiers says the same.
    #[test]
    fn what_is_explained_is_what_the_policy_says(
        policy in policy(),
        ends in (select(TIERS.to_vec()), select(TIERS.to_vec())),
        packets in prop::collection::vec(packet(), 40),
        wide in any::<bool>(),
    ) {
        let asked = |tier: &str| Party::Tier(tier.into());
        let nobody = Role { tiers: BTreeSet::new(), auto: true };
        let server = Server { role: nobody, addresses: Addresses::default() };
        let relation = Relation::of(&policy);
        let place = |name: &str| relation.senders.iter().position(|p| p.name == name).expect("it is");
        let passages = relation.passages(place(ends.0), place(ends.1));
        for packet in packets {
            let (source, target) = (packet.source, packet.destination);
            let (_, port) = packet.ports.unwrap_or_default();
            let is_between = in_tier(&policy, ends.0, source) && in_tier(&policy, ends.1, target);
            // A whole range, of which this packet's port is one.
            let ports = packet.ports.map(|_| if wide { 1..=60 } else { port..=port });
            let transport = Transport::of_protocol(packet.protocol);
            let service = Service {
                any: false,
                protocols: transport.is_none().then_some(packet.protocol).into_iter().collect(),
                ports: transport.zip(ports).map(|(t, range)| (t, vec![range])).into_iter().collect(),
            };
            let question =
                Question { from: asked(ends.0), to: asked(ends.1), service, user: packet.user };
            if source == target || !is_between {
                continue;
            }
            let explained = policy.explain(&server, &known_users(), &question).expect("an answer");
            let point = tierwall_policy::Point {
                protocol: packet.protocol,
                port: packet.ports.map(|(_, port)| port),
            };
            let mut passes = true;
            for end in &explained.ends {
                let mine: Vec<_> = end.answers.iter().filter(|answer| {
                    answer.from.contains(source) && answer.to.contains(target)
                        && answer.service.holds(point)
                }).collect();
                prop_assert_eq!(mine.len(), 1, "{:?} {:?}", packet, explained);
                let (hook, own, mode) = match end.direction {
                    Direction::Input => (Hook::Input, target, policy.mode.input),
                    Direction::Output => (Hook::Output, source, policy.mode.output),
                };
                let tiers = TIERS.into_iter().filter(|tier| in_tier(&policy, tier, own));
                let role = Role { tiers: tiers.map(String::from).collect(), auto: true };
                let packet = Packet { hook, ..packet.clone() };
                let allowed = policy.allows.iter().any(|allow| allows(&policy, &role, allow, &packet));
                let fate = mine[0].verdict.fate;
                match mode {
                    Mode::Off => prop_assert_eq!(&mine[0].verdict.ground, &Ground::Unfiltered),
                    Mode::Observe if !allowed => prop_assert_eq!(fate, Fate::WouldBeDenied),
                    _ => prop_assert_eq!(fate == Fate::Allowed, allowed, "{:?}\n{:?}", packet, end),
                }
                prop_assert_eq!(mine[0].missing.is_some(), fate != Fate::Allowed);
                if let Ground::Allow(allow) = mine[0].verdict.ground {
                    prop_assert!(allows(&policy, &role, allow, &packet));
                }
                passes &= fate == Fate::Allowed;
            }
            let within = |portion: &Portion, address| match portion {
                Portion::All => true,
                Portion::Some(addresses) => addresses.contains(address),
            };
            let by_user = |passage: &Passage<'_>| passage.users.is_empty() || passage.users.iter().any(|user| match user {
                User::Uid(uid) => packet.user == Some(*uid),
                User::Name { name, .. } => known_users().get(name).is_some_and(|uid| packet.user == Some(*uid)),
            });
            let related = passages.iter().any(|passage| {
                passage.service.holds(point)
                    && within(&passage.from, source)
                    && within(&passage.to, target)
                    && by_user(passage)
            });
            prop_assert_eq!(related, passes, "{:?}\n{:?}\n{:?}", packet, explained, passages);
        }
    }

    /// The same of one address at a server of any role, with what only that server knows.
    #[test]
    fn what_is_explained_of_this_server_is_what_its_table_says(
        policy in policy(),
        role in role(),
        packets in prop::collection::vec(packet(), 40),
    ) {
        let ruleset = compiled(&policy, &role);
        let table = ruleset.table.as_ref().expect("compiling makes a table");
        for packet in packets.into_iter().filter(|packet| packet.source != packet.destination) {
            let (own, from, to) = match packet.hook {
                Hook::Input => (packet.destination, party(packet.source), Party::Here),
                _ => (packet.source, Party::Here, party(packet.destination)),
            };
            let server = Server { role: role.clone(), addresses: Addresses::single(own) };
            let transport = Transport::of_protocol(packet.protocol);
            let service = Service {
                any: false,
                protocols: transport.is_none().then_some(packet.protocol).into_iter().collect(),
                ports: transport.zip(packet.ports).map(|(t, (_, port))| (t, vec![port..=port])).into_iter().collect(),
            };
            let question = Question { from, to, service, user: packet.user };
            let explained = policy.explain(&server, &known_users(), &question).expect("an answer");
            let [end, _] = &explained.ends;
            prop_assert!(end.is_here, "{:?}", explained);
            let [answer] = &end.answers[..] else { panic!("{explained:?}") };
            let evaluation = table.evaluate(&packet);
            let expected = match evaluation.outcome {
                Outcome::Accept if !evaluation.counters.iter().any(|c| c.starts_with("would-deny")) => Fate::Allowed,
                Outcome::Accept => Fate::WouldBeDenied,
                Outcome::Drop => Fate::Dropped,
                Outcome::Reject(how) => Fate::Refused(how),
            };
            prop_assert_eq!(answer.verdict.fate, expected, "{:?} {:?}", packet, answer);
        }
    }

    #[test]
    fn plans_turn_one_policy_into_the_other(
        a in policy(), b in policy(), role_a in role(), role_b in role(),
    ) {
        let (old, new) = (compiled(&a, &role_a), compiled(&b, &role_b));
        let plan = old.diff(&new);
        prop_assert_eq!(plan.apply(&old), Ok(new.clone()), "{}", plan);
        prop_assert!(new.diff(&new).is_empty());
        prop_assert_eq!(Ruleset::default().diff(&new).apply(&Ruleset::default()), Ok(new.clone()));
        let teardown = new.diff(&Ruleset::default());
        prop_assert_eq!(teardown.operations, vec![Operation::DeleteTable]);
    }

    #[test]
    fn a_change_of_members_touches_elements_only(
        policy in policy(),
        role in role(),
        members in prop::collection::vec((small_v4(4), small_v6(2)), TIERS.len()),
    ) {
        let old = compiled(&policy, &role);
        let mut edited = policy.clone();
        for (tier, (v4, v6)) in edited.tiers.values_mut().zip(members) {
            (tier.v4, tier.v6) = (v4, v6);
        }
        let new = compiled(&edited, &role);
        let plan = old.diff(&new);
        prop_assert!(plan.is_elements_only(), "{}", plan);
        prop_assert_eq!(plan.apply(&old), Ok(new));
    }

    #[test]
    fn moving_and_adding_allows_leaves_the_other_rules_alone(
        policy in policy(),
        role in role(),
        seed in any::<prop::sample::Index>(),
    ) {
        let old = compiled(&policy, &role);
        let mut moved = policy.clone();
        moved.allows.reverse();
        for (line, allow) in moved.allows.iter_mut().enumerate() {
            allow.location = location(1000 - line);
        }
        prop_assert!(old.diff(&compiled(&moved, &role)).is_empty());

        if policy.allows.is_empty() {
            return Ok(());
        }
        let mut fewer = policy.clone();
        let gone = fewer.allows.remove(seed.index(policy.allows.len()));
        let new = compiled(&fewer, &role);
        let kept_chains: Vec<String> = old
            .table
            .as_ref()
            .expect("compiled")
            .chains
            .keys()
            .filter(|name| name.starts_with("in.") || name.starts_with("out."))
            .filter(|name| !name.ends_with(&gone.key.to_string().replace(' ', "_")))
            .cloned()
            .collect();
        for operation in old.diff(&new).operations {
            let touched = match &operation {
                Operation::DeleteRule { chain, .. } | Operation::InsertRule { chain, .. } => chain,
                _ => continue,
            };
            prop_assert!(!kept_chains.contains(touched), "{operation}");
        }
    }
}
