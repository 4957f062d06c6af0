//! Whatever a listing says, what comes of it is a policy or an error.

use crate::{DraftError, Options, draft, parse};
use proptest::prelude::*;
use ruleset::listing::{
    Domain, ListedBase, ListedChain, ListedElement, ListedRule, ListedSet, ListedTable, Operand,
    Refusal, Selector, Step, TableFamily, Value, VerdictMap,
};
use ruleset::{Family, Transport, Verdict};
use std::path::Path;

fn any_family() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::BOTH.to_vec())
}

fn any_number() -> impl Strategy<Value = u128> {
    prop_oneof![
        0u128..300,
        Just(0xffff),
        Just(u128::from(u32::MAX)),
        Just(u128::MAX),
        any::<u128>(),
        (0u32..4).prop_map(|low| u128::from(0x0a00_0000 | low)),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => any_number().prop_map(Value::number),
        3 => (any_number(), any_number()).prop_map(|(a, b)| Value::Range(a.min(b), a.max(b))),
        1 => prop::sample::select(vec!["lo", "eth0", "www-data", "a b", "", "\u{202e}x", "0"])
            .prop_map(|word| Value::Word(word.to_owned())),
    ]
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let transport = prop::option::of(prop::sample::select(Transport::ALL.to_vec()));
    prop_oneof![
        2 => Just(Selector::CtState),
        1 => Just(Selector::Iif),
        1 => Just(Selector::Oif),
        1 => Just(Selector::IifName),
        1 => Just(Selector::OifName),
        2 => Just(Selector::L4Proto),
        1 => any_family().prop_map(Selector::Protocol),
        1 => Just(Selector::NfProto),
        3 => any_family().prop_map(Selector::Saddr),
        2 => any_family().prop_map(Selector::Daddr),
        1 => transport.clone().prop_map(Selector::Sport),
        4 => transport.prop_map(Selector::Dport),
        1 => any_family().prop_map(Selector::IcmpType),
        1 => Just(Selector::HopLimit),
        1 => Just(Selector::SkUid),
        1 => Just(Selector::Other("meta mark".into())),
    ]
}

/// Names that sets have, chains have, and nobody has.
fn any_name() -> impl Strategy<Value = String> {
    let names = vec![
        "web_v4", "web_v6", "web", "any", "auto", "tcp", "\"\n#", "1", "server", "x", "block",
        "mode",
    ];
    prop::sample::select(names).prop_map(str::to_owned)
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        3 => Just(Verdict::Accept),
        2 => Just(Verdict::Drop),
        1 => Just(Verdict::Return),
        2 => any_name().prop_map(Verdict::Jump),
        1 => any_name().prop_map(Verdict::Goto),
    ]
}

fn any_key() -> impl Strategy<Value = Vec<Value>> {
    prop::collection::vec(any_value(), 0..3)
}

fn any_step() -> impl Strategy<Value = Step> {
    let selectors = || prop::collection::vec(any_selector(), 1..3);
    let operand = prop_oneof![
        any_name().prop_map(Operand::Named),
        prop::collection::vec(any_key(), 0..4).prop_map(Operand::Keys),
    ];
    let map = prop_oneof![
        any_name().prop_map(VerdictMap::Named),
        prop::collection::vec((any_key(), any_verdict()), 0..4).prop_map(VerdictMap::Entries),
    ];
    let family = prop::option::of(any_family());
    prop_oneof![
        8 => (selectors(), any::<bool>(), operand)
            .prop_map(|(selectors, negated, operand)| Step::Match { selectors, negated, operand }),
        1 => (selectors(), map).prop_map(|(selectors, map)| Step::Dispatch { selectors, map }),
        1 => Just(Step::Counter),
        1 => Just(Step::Log("log".into())),
        1 => Just(Step::Limit("limit rate 1/second".into())),
        1 => family.prop_map(|family| Step::Reject(Refusal { family, how: String::new() })),
        1 => any_name().prop_map(Step::Other),
    ]
}

fn any_rule() -> impl Strategy<Value = ListedRule> {
    let comment =
        prop::option::of(prop_oneof![any_name(), ".{0,130}", Just("a -> b tcp/1".into())]);
    let end = prop::option::weighted(0.9, any_verdict().prop_map(Step::Verdict));
    (comment, prop::collection::vec(any_step(), 0..4), end).prop_map(|(comment, mut steps, end)| {
        steps.extend(end);
        ListedRule { comment, steps }
    })
}

fn any_set() -> impl Strategy<Value = ListedSet> {
    let domain = prop_oneof![
        4 => any_family().prop_map(Domain::Address),
        1 => Just(Domain::Port),
        1 => Just(Domain::Interface),
    ];
    let element = (any_key(), prop::option::of(any_verdict()), prop::bool::weighted(0.1))
        .prop_map(|(key, verdict, timed)| ListedElement { key, verdict, timed });
    let elements = prop::collection::vec(element, 0..5);
    let domains = prop::collection::vec(domain, 1..3);
    (domains, elements, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
        |(domains, elements, dynamic, other_map)| ListedSet {
            domains,
            elements,
            dynamic,
            other_map,
        },
    )
}

fn any_chain() -> impl Strategy<Value = ListedChain> {
    let hook = prop::sample::select(vec!["input", "input", "output", "forward", "prerouting"]);
    let kind = prop::sample::select(vec!["filter", "filter", "filter", "nat"]);
    let base =
        (kind, hook, -10i32..10, any::<bool>()).prop_map(|(kind, hook, priority, accepts)| {
            ListedBase { kind: kind.into(), hook: hook.into(), priority, accepts }
        });
    (any_name(), prop::option::weighted(0.6, base), prop::collection::vec(any_rule(), 0..6))
        .prop_map(|(name, base, rules)| ListedChain { name, base, rules })
}

fn any_table() -> impl Strategy<Value = ListedTable> {
    let family = prop::sample::select(vec![TableFamily::Inet, TableFamily::Ip, TableFamily::Ip6]);
    let sets = prop::collection::btree_map(any_name(), any_set(), 0..4);
    (family, any_name(), sets, prop::collection::vec(any_chain(), 0..6))
        .prop_map(|(family, name, sets, chains)| ListedTable { family, name, sets, chains })
}

fn check(text: &str) -> Result<(), TestCaseError> {
    let options = policy::Options { check_permissions: false, ..policy::Options::default() };
    let loaded = policy::load_text(Path::new("/tierwall.toml"), text, &options);
    let told = loaded.diagnostics.render(policy::Style::Plain);
    prop_assert!(loaded.policy.is_some(), "{}\n{}", told, text);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn any_tables_become_a_policy_or_an_error(
        tables in prop::collection::vec(any_table(), 1..3),
        role in prop::option::of(any_name()),
        addresses in prop::collection::vec(any::<std::net::IpAddr>(), 0..3),
    ) {
        let options = Options { role, addresses, source: "a\nb".into(), host: Some("any".into()), ..Options::default() };
        match draft(&tables, &options) {
            Ok(draft) => check(&draft.text)?,
            Err(DraftError::NoTable { .. }) => prop_assert!(false, "no table was asked for"),
            Err(_) => {}
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC{0,80}") {
        let _ = parse(&text);
        let _ = parse(&format!("{{\"nftables\":[{text}]}}"));
    }
}
