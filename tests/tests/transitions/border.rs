//! A tier grows and shrinks over the border between one set and two, and beyond the size of the
//! second: each time in one batch, and what has nothing to do with it stays.

use crate::{Server, chains, compiled, parse};
use netlink::KernelTable;
use policy::Role;
use ruleset::{AddressSet, Elements, Plan, Ruleset};
use std::net::Ipv4Addr;

/// How a change of members comes to the kernel.
#[derive(Debug, PartialEq)]
enum Way {
    Elements,
    /// The sets are made anew, and the rules that look in them.
    Rebuilt,
}

/// The number of members, and how the kernel gets there. Above 10,000 single addresses have a set
/// of their own, until there are less than 8,000; that has room for a quarter more, at least.
const STEPS: [(u32, Way); 11] = [
    (9_900, Way::Rebuilt),
    (10_000, Way::Elements),
    (10_001, Way::Rebuilt),
    (9_000, Way::Elements),
    (8_001, Way::Elements),
    (8_000, Way::Rebuilt),
    (9_999, Way::Elements),
    (12_000, Way::Rebuilt),
    (16_384, Way::Elements),
    (16_500, Way::Rebuilt),
    (3, Way::Rebuilt),
];

/// Every fourth member is a range of two addresses.
fn members(count: u32) -> Vec<String> {
    let member = |index: u32| {
        let first = Ipv4Addr::from_bits(0x0a00_0000 + 4 * index);
        match index % 4 {
            3 => format!("{first}-{}", Ipv4Addr::from_bits(first.to_bits() + 1)),
            _ => first.to_string(),
        }
    };
    (0..count).map(member).collect()
}

#[test]
fn a_tier_crosses_the_border_at_once() {
    let role = Role { tiers: ["server".to_owned()].into(), auto: false };
    let mut server = Server::new();
    for (count, way) in STEPS {
        let text = format!(
            "[tiers]\nserver = [\"10.255.0.1\"]\nsmall = [\"192.0.2.1\"]\nlarge = {:?}\n\
             [[allow]]\nname = \"in\"\nfrom = \"large\"\nto = \"server\"\nservice = \"tcp/1\"\n\
             [[allow]]\nname = \"out\"\nfrom = \"server\"\nto = \"large\"\nservice = \"udp/1\"\n\
             [[allow]]\nname = \"other\"\nfrom = \"server\"\nto = \"small\"\nservice = \"udp/1\"\n",
            members(count)
        );
        let context = format!("{count} members");
        let policy = parse(&text, &context);
        let wanted = |found: &Ruleset| compiled(&policy, &role, Some(found));
        let before = server.kernel.dump();
        let counts = server.kernel.connection.counters().expect("counters");
        let changed = server.kernel.change(wanted);
        let (_, plan, committed) =
            changed.unwrap_or_else(|error| panic!("{context}: {error:.2000}"));
        let after = server.kernel.dump();

        assert_eq!(committed.generation, before.generation.next(), "{context}");
        assert_eq!(after.generation, committed.generation, "{context}");
        assert!(after.ruleset == wanted(&before.ruleset), "{context}");
        assert_eq!(in_sets(&after.ruleset), policy.tiers["large"].v4, "{context}");
        assert_eq!(way_of(&plan), way, "{context}");
        if before.ruleset.table.is_some() {
            check_others(&before, &after, &context);
            let now = server.kernel.connection.counters().expect("counters");
            assert_eq!(now, counts, "{context}");
        }
        // Something to count for the next step: of either set, and beside them.
        let targets = [0, 4, 12, 13, 14].map(|host| Ipv4Addr::from_bits(0x0a00_0000 + host));
        server.send(&targets.map(|target| (target, 1)), &context);
    }
    let counts = server.kernel.connection.counters().expect("counters");
    assert_eq!(counts["allow.out"].0, 4 * 10 + 2, "members of either set were let out");
}

fn way_of(plan: &Plan) -> Way {
    if plan.is_elements_only() { Way::Elements } else { Way::Rebuilt }
}

/// What the sets of the tier hold together.
fn in_sets(ruleset: &Ruleset) -> AddressSet<Ipv4Addr> {
    let sets = &ruleset.table.as_ref().expect("a table").sets;
    let hold = |name| match sets.get(name).map(|set| &set.elements) {
        Some(Elements::Ipv4(set)) => set.clone(),
        None => AddressSet::default(),
        other => panic!("{name} holds {other:?}"),
    };
    hold("large_v4").union(&hold("large_v4_hosts"))
}

/// Rules that don't look in the tier keep their handles.
fn check_others(before: &KernelTable, after: &KernelTable, context: &str) {
    let others = |table: &KernelTable| {
        let rules = chains(table).into_values().flatten();
        let others = rules.filter(|(_, rule)| !rule.sets().any(|set| set.starts_with("large_v4")));
        others.map(|(handle, rule)| (handle, rule.clone())).collect::<Vec<_>>()
    };
    assert_eq!(others(before), others(after), "{context}");
}
