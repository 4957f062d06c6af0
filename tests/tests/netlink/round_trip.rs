//! What was committed is what is read back, by us and by `nft`.

use crate::fixture::*;
use netlink::{Connection, Handles};
use ruleset::{Base, Hook, Operation, Plan, Policy, Rule, Ruleset, Statement, Verdict};
use tierwall_tests::namespace::Namespace;

#[test]
fn everything_reads_back_as_it_was_committed() {
    let table = everything();
    let (_namespace, dumped) = committed(&table);
    assert_eq!(dumped.ruleset, ruleset(table));
    assert_eq!((dumped.owner, dumped.flags), (None, 0));
}

#[test]
fn nft_lists_everything_cleanly() {
    let (namespace, _) = committed(&everything());
    insta::assert_snapshot!(namespace.command("nft", &["list", "ruleset"]).unwrap());
}

#[test]
fn what_nft_makes_of_its_listing_reads_back_the_same() {
    let (namespace, dumped) = committed(&everything());
    let listing = namespace.command("nft", &["list", "ruleset"]).unwrap();
    let file = std::env::temp_dir().join(format!("tierwall-listing-{}.nft", std::process::id()));
    std::fs::write(&file, &listing).unwrap();
    let other = Namespace::new().unwrap();
    let loaded = other.command("nft", &["-f", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    loaded.unwrap();
    let reread = other.run(|| Connection::open().unwrap().dump().unwrap());
    let (mut ours, mut theirs) = (dumped.ruleset.table.unwrap(), reread.ruleset.table.unwrap());
    // `nft` merges ports in either order and leaves out a protocol that a later match implies.
    for table in [&mut ours, &mut theirs] {
        for rule in &mut table.chains.get_mut("in.ssh").unwrap().rules {
            if ["match 23", "match 27", "match 28"].contains(&rule.comment.as_str()) {
                rule.statements.clear();
            }
        }
    }
    assert_eq!(ours, theirs);
}

#[test]
fn no_table_reads_as_none() {
    let namespace = Namespace::new().unwrap();
    let dumped = namespace.run(|| Connection::open().unwrap().dump().unwrap());
    assert_eq!(dumped.ruleset, Ruleset::default());
    assert_eq!(dumped.handles, Handles::default());
}

#[test]
fn rules_come_and_go_at_their_places_and_the_others_keep_their_handles() {
    let (namespace, before) = committed(&small());
    let old: Vec<_> = (0..3).map(|index| before.handles.rule("input", index).unwrap()).collect();
    let new = |comment: &str| Rule::new(comment, vec![accept()]);
    let insert = |before, comment| Operation::InsertRule {
        chain: "input".into(),
        before,
        rule: new(comment),
    };
    let delete = Operation::DeleteRule { chain: "input".into(), index: 1 };
    let after = apply(
        &namespace,
        vec![
            delete,
            insert(Some(0), "1"),
            insert(Some(2), "2"),
            insert(Some(2), "3"),
            insert(None, "4"),
        ],
    );
    let rules = &after.ruleset.table.unwrap().chains["input"].rules;
    let comments: Vec<_> = rules.iter().map(|rule| rule.comment.as_str()).collect();
    assert_eq!(comments, ["1", "a", "2", "3", "c", "4"]);
    assert_eq!(after.handles.rule("input", 1), Some(old[0]));
    assert_eq!(after.handles.rule("input", 4), Some(old[2]));
    assert_eq!(after.handles.rule("input", 6), None);
    let read = namespace.run(|| Connection::open().unwrap().handles().unwrap());
    assert_eq!(read, (after.handles, after.generation));
}

#[test]
fn every_operation_undoes_another() {
    let table = small();
    let (namespace, before) = committed(&table);
    let name = |name: &str| name.to_owned();
    let base = |policy| Base::filter(Hook::Input, policy);
    let set = &table.sets["web_v4"];
    let elements =
        ruleset::Elements::Ipv4(v4([range("10.2.0.0", "10.2.0.9"), single("255.255.255.255")]));
    let changed = apply(
        &namespace,
        vec![
            Operation::AddCounter { counter: name("n") },
            Operation::AddChain { chain: name("new"), base: None },
            Operation::AddSet { set: name("n_v4"), spec: set.spec.clone() },
            Operation::AddElements {
                set: name("web_v4"),
                spec: set.spec.clone(),
                elements: elements.clone(),
            },
            Operation::InsertRule {
                chain: name("new"),
                before: None,
                rule: Rule::new("n", vec![Statement::Verdict(Verdict::Return)]),
            },
            Operation::SetPolicy { chain: name("input"), base: base(Policy::Accept) },
        ],
    );
    let changed = changed.ruleset.table.unwrap();
    assert_eq!(changed.chains["input"].base, Some(base(Policy::Accept)));
    assert_eq!(changed.chains["new"].rules.len(), 1);
    assert_eq!(changed.sets["web_v4"].elements.len(), 3);
    assert!(changed.counters.contains("n") && changed.sets.contains_key("n_v4"));
    let restored = apply(
        &namespace,
        vec![
            Operation::DeleteElements { set: name("web_v4"), spec: set.spec.clone(), elements },
            Operation::DeleteRule { chain: name("new"), index: 0 },
            Operation::DeleteSet { set: name("n_v4") },
            Operation::SetPolicy { chain: name("input"), base: base(Policy::Drop) },
            Operation::DeleteChain { chain: name("new") },
            Operation::DeleteCounter { counter: name("n") },
        ],
    );
    assert_eq!(restored.ruleset, before.ruleset);
    assert_eq!(apply(&namespace, vec![Operation::DeleteTable]).ruleset, Ruleset::default());
}

#[test]
fn a_set_is_exchanged_under_its_name_while_rules_use_it() {
    let (namespace, _) = committed(&small());
    let mut table = small();
    let set = ruleset::Set {
        spec: ruleset::SetSpec::exact(table.sets["web_v4"].spec.key, Some(64)),
        elements: ruleset::Elements::Ipv4(v4([single("10.0.0.1"), single("10.0.0.2")])),
    };
    table.sets.insert("web_v4".into(), set);
    let mut operations = vec![Operation::DeleteTable];
    operations.extend(creation(&table).operations);
    assert_eq!(apply(&namespace, operations).ruleset, ruleset(table));
}

#[test]
fn a_commit_says_what_it_made() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let before = connection.generation().unwrap();
        let plan = creation(&small());
        let made = connection.commit(&plan, &Handles::default(), Some(before)).unwrap();
        assert_eq!(made.generation, before.next());
        assert_eq!(made.generation, connection.generation().unwrap());
        // A table, a counter, two chains, a set, its elements, four rules.
        assert_eq!(made.messages, 10);
        let nothing = connection.commit(&Plan::default(), &Handles::default(), None).unwrap();
        assert_eq!((nothing.bytes, nothing.messages), (0, 0));
        assert_eq!(nothing.generation, made.generation);
    });
}

#[test]
fn counters_count() {
    let mut table = small();
    let rule = Rule::new("lo", vec![Statement::counter("web"), accept()]);
    table.chains.get_mut("input").unwrap().rules = vec![rule];
    let (namespace, _) = committed(&table);
    namespace.run(|| send_to_self(2));
    let counters = namespace.run(|| Connection::open().unwrap().counters().unwrap());
    assert_eq!(counters, [("web".to_owned(), (2, 76))].into());
}
