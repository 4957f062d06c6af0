//! Plans between random tables: they arrive where they should, touch no more than they must, and
//! never ask the kernel for what it would refuse.

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::net::Ipv4Addr;
use tierwall_ruleset::{
    AddressRange, AddressSet, ApplyError, Base, Chain, ElementCount, Elements, Family, Field, Hook,
    Interval, KeyType, Lifetime, Limit, Operation, Plan, Policy, Rule, Ruleset, Set, SetSpec,
    Statement, Summary, Table, TimedSet, Transport, Verdict,
};

const SETS: [&str; 3] = ["a_v4", "b_v4", "c_v4"];
const TARGETS: [&str; 3] = ["in.x", "in.y", "in.z"];

fn addresses() -> impl Strategy<Value = AddressSet<Ipv4Addr>> {
    let range = (0u8..60, 0u8..4).prop_map(|(at, more)| AddressRange {
        first: Ipv4Addr::new(10, 0, 0, at),
        last: Ipv4Addr::new(10, 0, 0, at + more),
    });
    prop::collection::vec(range, 0..6).prop_map(AddressSet::new)
}

fn set() -> impl Strategy<Value = Set> {
    let key = KeyType::Address(Family::V4);
    let spec = select(vec![
        SetSpec::intervals(key),
        SetSpec::exact(key, Some(64)),
        SetSpec::exact(key, Some(128)),
        SetSpec::intervals(key).into_timed(),
        SetSpec::dynamic(key, 64, 60),
        SetSpec::dynamic(key, 64, 90),
    ]);
    (spec, addresses(), 1u64..4).prop_map(|(spec, addresses, until)| {
        if spec.dynamic.is_some() {
            return Set { spec, elements: Elements::Dynamic };
        }
        if spec.timeout {
            let lifetime = Lifetime { until, timeout: 1 };
            let ranges = addresses.ranges().map(|range| (range, lifetime));
            return Set::timed_ipv4(TimedSet::new(ranges.collect()));
        }
        let addresses = match spec.interval {
            true => addresses,
            false => addresses.ranges().map(|r| AddressRange::single(r.first)).collect(),
        };
        Set { spec, elements: Elements::Ipv4(addresses) }
    })
}

/// A rule that refers only to what `sets` and `targets` name.
fn rule(sets: Vec<&'static str>, targets: Vec<&'static str>) -> impl Strategy<Value = Rule> {
    let mut steps = vec![
        Just(Statement::matches(Field::L4Proto, 6)).boxed(),
        Just(Statement::counter("n")).boxed(),
    ];
    if !sets.is_empty() {
        let field = Field::Saddr(Family::V4);
        let lookup = select(sets.clone()).prop_map(move |set| Statement::lookup(field, set));
        let over = select(sets).prop_map(move |set| {
            let limit = Limit { rate: 1, burst: 1 };
            Statement::Over { field, set: set.into(), limit }
        });
        steps.extend([lookup.boxed(), over.boxed()]);
    }
    let mut ends = vec![Verdict::Accept, Verdict::Drop];
    ends.extend(targets.into_iter().map(|target| Verdict::Jump(target.into())));
    let comment = select(vec!["", "allow one", "allow two"]);
    (prop::collection::vec(prop::strategy::Union::new(steps), 0..3), select(ends), comment)
        .prop_map(|(mut statements, verdict, comment)| {
            statements.push(Statement::Verdict(verdict));
            Rule::new(comment, statements)
        })
}

fn table() -> impl Strategy<Value = Table> {
    let names = (subsequence(SETS.to_vec(), 0..=3), subsequence(TARGETS.to_vec(), 0..=3));
    names.prop_flat_map(|(sets, targets)| {
        let contents = prop::collection::vec(set(), sets.len());
        let rules = prop::collection::vec(rule(sets.clone(), targets.clone()), 0..12);
        let leaf = prop::collection::vec(rule(sets.clone(), vec![]), 0..3);
        let leaves = prop::collection::vec(leaf, targets.len());
        let verdicts = prop::collection::btree_map(0u128..20, any::<prop::sample::Index>(), 0..8);
        let policy = select(vec![Policy::Accept, Policy::Drop]);
        let hook = prop_oneof![19 => Just(Hook::Input), 1 => Just(Hook::Output)];
        let state = prop::option::of("[a-c]");
        (contents, rules, leaves, verdicts, policy, hook, state).prop_map(
            move |(contents, rules, leaves, verdicts, policy, hook, state)| {
                let mut table = Table { state, ..Table::new() };
                table.counters.insert("n".into());
                table.sets.extend(sets.iter().map(|s| String::from(*s)).zip(contents));
                let base = Some(Base::filter(hook, policy));
                table.chains.insert("input".into(), Chain { base, rules });
                for (name, rules) in targets.iter().zip(leaves) {
                    table.chains.insert((*name).into(), Chain { base: None, rules });
                }
                let target = |index: prop::sample::Index| match targets.is_empty() {
                    true => Verdict::Accept,
                    false => Verdict::Jump((*index.get(&targets)).into()),
                };
                let elements =
                    verdicts.into_iter().map(|(port, to)| (Interval::single(port), target(to)));
                let spec = SetSpec::intervals(KeyType::Port).into_map();
                let map = Set { spec, elements: Elements::Verdicts(elements.collect()) };
                table.sets.insert("ports".into(), map);
                let dispatch = Statement::dispatch(Field::Dport(Transport::Tcp), "ports");
                let chain = table.chains.get_mut("input").expect("just made");
                chain.rules.push(Rule::new("dispatch", vec![dispatch]));
                table
            },
        )
    })
}

fn ruleset() -> impl Strategy<Value = Ruleset> {
    prop::option::weighted(0.9, table()).prop_map(|table| Ruleset { table })
}

/// The length of a longest common subsequence, by the textbook.
fn common(a: &[Rule], b: &[Rule]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut diagonal = 0;
        for (j, y) in b.iter().enumerate() {
            let up = row[j + 1];
            row[j + 1] = if x == y { diagonal + 1 } else { up.max(row[j]) };
            diagonal = up;
        }
    }
    row[b.len()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_plan_arrives(old in ruleset(), new in ruleset()) {
        let plan = old.diff(&new);
        prop_assert_eq!(plan.apply(&old), Ok(new), "{}", plan);
    }

    #[test]
    fn a_rebuilt_table_comes_from_nothing(old in ruleset(), new in ruleset()) {
        let plan = old.rebuild(&new);
        prop_assert_eq!(plan.apply(&old), Ok(new.clone()));
        prop_assert_eq!(plan.apply(&Ruleset::default()).is_ok(), old.table.is_none());
        let kept = Ruleset::default().diff(&new).operations;
        prop_assert!(plan.operations.ends_with(&kept));
    }

    #[test]
    fn the_fingerprint_tells_tables_apart(a in table(), b in table(), state in "[a-c]") {
        let other = Table { state: Some(state), ..a.clone() };
        prop_assert_eq!(other.fingerprint(), a.fingerprint());
        let without_time = |mut table: Table| {
            table.expire(u64::MAX);
            Table { state: None, ..table }
        };
        let equal = a.fingerprint() == b.fingerprint();
        prop_assert_eq!(equal, without_time(a) == without_time(b));
    }

    #[test]
    fn equal_tables_need_no_plan(table in ruleset()) {
        prop_assert!(table.diff(&table.clone()).is_empty());
    }

    #[test]
    fn rules_that_stay_are_not_touched(
        rules in prop::collection::vec(rule(vec![], vec![]), 0..12),
        others in prop::collection::vec(rule(vec![], vec![]), 0..12),
    ) {
        let table = |rules: &[Rule]| {
            let mut table = Table::new();
            table.counters.insert("n".into());
            let base = Some(Base::filter(Hook::Input, Policy::Drop));
            table.chains.insert("input".into(), Chain { base, rules: rules.to_vec() });
            Ruleset { table: Some(table) }
        };
        let (old, new) = (table(&rules), table(&others));
        let summary = old.diff(&new).summary();
        // Equal rules that stand several times are matched in order, which may keep one less.
        let unique = |rules: &[Rule]| rules.iter().enumerate().all(|(i, r)| !rules[..i].contains(r));
        if unique(&rules) && unique(&others) {
            let kept = common(&rules, &others);
            prop_assert_eq!(summary.rules_deleted, rules.len() - kept);
            prop_assert_eq!(summary.rules_added, others.len() - kept);
        }
    }
}

fn input(rules: Vec<Rule>) -> Ruleset {
    let mut table = Table::new();
    let base = Some(Base::filter(Hook::Input, Policy::Drop));
    table.chains.insert("input".into(), Chain { base, rules });
    Ruleset { table: Some(table) }
}

fn accept(comment: &str) -> Rule {
    Rule::new(comment, vec![Statement::Verdict(Verdict::Accept)])
}

#[test]
fn a_rule_is_inserted_at_its_place() {
    let old = input(vec![accept("a"), accept("c")]);
    let new = input(vec![accept("a"), accept("b"), accept("c"), accept("d")]);
    let insert = |before, comment: &str| Operation::InsertRule {
        chain: "input".into(),
        before,
        rule: accept(comment),
    };
    assert_eq!(old.diff(&new).operations, [insert(Some(1), "b"), insert(None, "d")]);
}

#[test]
fn a_set_that_must_be_remade_takes_only_its_own_rules_along() {
    let table = |size| {
        let key = KeyType::Address(Family::V4);
        let mut ruleset = input(vec![
            accept("a"),
            Rule::new("b", vec![Statement::lookup(Field::Saddr(Family::V4), "x_v4_hosts")]),
            accept("c"),
        ]);
        let spec = SetSpec::exact(key, Some(size));
        let addresses = AddressSet::new(vec![AddressRange::single(Ipv4Addr::new(10, 0, 0, 1))]);
        let set = Set { spec, elements: Elements::Ipv4(addresses) };
        let table = ruleset.table.as_mut().expect("there is one");
        table.sets.insert("x_v4_hosts".into(), set);
        ruleset
    };
    let (old, new) = (table(4096), table(8192));
    let plan = old.diff(&new);
    let words: Vec<String> = plan.operations.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "delete rule inet filter input index 1",
            "delete set inet filter x_v4_hosts",
            "add set inet filter x_v4_hosts { type ipv4_addr; size 8192; }",
            "add element inet filter x_v4_hosts { 10.0.0.1 }",
            "insert rule inet filter input index 2 ip saddr @x_v4_hosts comment \"b\"",
        ]
    );
    assert_eq!(plan.apply(&old), Ok(new));
}

#[test]
fn a_plan_for_another_ruleset_is_refused() {
    let plan = input(vec![accept("a")]).diff(&Ruleset::default());
    assert!(matches!(plan.apply(&Ruleset::default()), Err(ApplyError::Missing(_))));
    let delete = Operation::DeleteRule { chain: "input".into(), index: 3 };
    let plan = Plan { operations: vec![delete] };
    assert!(matches!(plan.apply(&input(vec![])), Err(ApplyError::Missing(_))));
}

#[test]
fn a_state_alone_is_a_change_of_one_element() {
    let with = |state: Option<&str>| Ruleset {
        table: Some(Table { state: state.map(Into::into), ..Table::new() }),
    };
    let exchange = with(Some("one")).diff(&with(Some("two")));
    assert!(exchange.is_elements_only());
    insta::assert_snapshot!(exchange, @r#"
    delete element inet filter tierwall_state { 0x00000000 }
    add element inet filter tierwall_state { 0x00000000 comment "two" }
    "#);
    insta::assert_snapshot!(with(None).diff(&with(Some("one"))), @r#"
    add set inet filter tierwall_state { type mark; }
    add element inet filter tierwall_state { 0x00000000 comment "one" }
    "#);
    insta::assert_snapshot!(with(Some("one")).diff(&with(None)), @"delete set inet filter tierwall_state");
    insta::assert_snapshot!(with(Some("one")), @r#"
    table inet filter {
    	comment "managed by tierwalld"

    	set tierwall_state {
    		type mark
    		elements = { 0x00000000 comment "one" }
    	}

    }
    "#);
    // The plan was made for another state.
    assert!(matches!(exchange.apply(&with(Some("three"))), Err(ApplyError::Missing(_))));
    let first = with(None).diff(&with(Some("one")));
    assert!(matches!(first.apply(&with(Some("one"))), Err(ApplyError::Exists(_))));
}

/// The fingerprint is kept in kernels over updates of tierwall: who changes the encoding raises its
/// version.
#[test]
fn fingerprints_stay_the_same() {
    let mut table = Table::new();
    table.counters.insert("n".into());
    let addresses = AddressSet::new(vec![AddressRange::single(Ipv4Addr::new(10, 0, 0, 1))]);
    table.sets.insert("a_v4".into(), Set::ipv4(addresses));
    let statements = vec![
        Statement::lookup(Field::Saddr(Family::V4), "a_v4"),
        Statement::matches(Field::Dport(Transport::Tcp), 22),
        Statement::counter("n"),
        Statement::Verdict(Verdict::Accept),
    ];
    let rules = vec![Rule::new("ssh", statements)];
    let base = Some(Base::filter(Hook::Input, Policy::Drop));
    table.chains.insert("input".into(), Chain { base, rules });
    insta::assert_snapshot!(table.fingerprint(), @"3fe81f78758f136672a479f9cc497c6d");
    insta::assert_snapshot!(Table::default().fingerprint(), @"a94810aa195b33b1834d577120636021");
}

#[test]
fn a_summary_of_very_many_sets_fits_a_line_of_the_log() {
    let count = ElementCount { added: 1, deleted: 0 };
    let of = |sets: usize| {
        let sets = (0..sets).map(|number| (format!("t{number:04}_v4"), count)).collect();
        Summary { sets, ..Summary::default() }.to_string()
    };
    assert!(of(50).ends_with("t0049_v4 +1 -0"));
    let many = of(4000);
    assert!(many.ends_with("t0049_v4 +1 -0, and 3950 more sets") && many.len() < 1000, "{many}");
}
