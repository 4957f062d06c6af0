//! What was committed is what is read back, by us and by `nft`.

use crate::fixture::*;
use netlink::{CommitError, Connection, Error, Handles, Hold};
use ruleset::{Base, Hook, Operation, Plan, Policy, Rule, Ruleset, Statement, Verdict};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
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
    // A payload that `nft` doesn't recognise is printed by base and offset.
    let json = namespace.command("nft", &["-j", "list", "ruleset"]).unwrap();
    assert!(json.contains(r#""field": "dport""#) && !json.contains(r#""base":"#), "{json}");
}

/// The expressions that the kernel executes, as `nft` shows them.
fn bytecode(namespace: &Namespace) -> Vec<String> {
    let shown = namespace.command("nft", &["--debug=netlink", "list", "ruleset"]).unwrap();
    shown.lines().filter(|line| line.starts_with("  [ ")).map(str::to_owned).collect()
}

#[test]
fn nft_makes_the_same_of_its_listing() {
    let mut table = everything();
    // `nft` merges ports in either order and leaves out a protocol that a later match implies.
    let unlike = ["match 23", "match 27", "match 28"];
    let rules = &mut table.chains.get_mut("in.ssh").unwrap().rules;
    rules.retain(|rule| !unlike.contains(&rule.comment.as_str()));
    let (namespace, _) = committed(&table);
    let listing = namespace.command("nft", &["list", "ruleset"]).unwrap();
    let file = std::env::temp_dir().join(format!("tierwall-listing-{}.nft", std::process::id()));
    std::fs::write(&file, &listing).unwrap();
    let other = Namespace::new().unwrap();
    let loaded = other.command("nft", &["-f", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    loaded.unwrap();
    assert_eq!(bytecode(&other), bytecode(&namespace));
    assert!(bytecode(&other).len() > 200);
    let reread = other.run(|| Connection::open().unwrap().dump().unwrap());
    assert_eq!(reread.ruleset, ruleset(table));
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
        let made =
            connection.commit(&plan, &Handles::default(), Some(before), Hold::Plain).unwrap();
        assert_eq!(made.generation, before.next());
        assert_eq!(made.generation, connection.generation().unwrap());
        // A table, a counter, two chains, a set, its elements, four rules.
        assert_eq!(made.messages, 10);
        let nothing =
            connection.commit(&Plan::default(), &Handles::default(), None, Hold::Plain).unwrap();
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

/// Kernels before 6.10 don't acknowledge the end of a batch.
#[test]
fn a_kernel_that_does_not_acknowledge_the_end_is_understood() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        connection.expect_no_acknowledgement_of_the_end();
        let plan = creation(&small());
        let before = connection.generation().unwrap();
        let made =
            connection.commit(&plan, &Handles::default(), Some(before), Hold::Plain).unwrap();
        assert_eq!(connection.dump().unwrap().ruleset, ruleset(small()));
        assert_eq!(connection.generation().unwrap(), made.generation);
        let stale =
            connection.commit(&plan, &Handles::default(), Some(before), Hold::Plain).unwrap_err();
        assert!(matches!(stale, CommitError::Stale), "{stale:?}");
        let refused = connection.commit(&plan, &Handles::default(), None, Hold::Plain).unwrap_err();
        assert!(matches!(refused, CommitError::Refused(_)), "{refused:?}");
        assert_eq!(connection.dump().unwrap().ruleset, ruleset(small()));
    });
}

/// Lets the writing thread end also where the reading one fails.
struct StopWriter<'a>(&'a AtomicBool);

impl Drop for StopWriter<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A counter and an element change places in every commit: a dump that mixed two states would show
/// both or none.
#[test]
fn a_dump_is_of_one_state_while_others_commit() {
    let (namespace, dumped) = committed(&small());
    let spec = dumped.ruleset.table.unwrap().sets["web_v4"].spec.clone();
    let toggle = |on: bool| {
        let counter = "moving".to_owned();
        let (set, spec) = ("web_v4".to_owned(), spec.clone());
        let elements = ruleset::Elements::Ipv4(v4([single("10.0.0.7")]));
        let operations = if on {
            vec![
                Operation::AddElements { set, spec, elements },
                Operation::DeleteCounter { counter },
            ]
        } else {
            vec![
                Operation::DeleteElements { set, spec, elements },
                Operation::AddCounter { counter },
            ]
        };
        Plan { operations }
    };
    apply(&namespace, vec![Operation::AddCounter { counter: "moving".into() }]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            namespace.run(|| {
                let mut connection = Connection::open().unwrap();
                let mut on = true;
                while !done.load(Ordering::Relaxed) {
                    connection.commit(&toggle(on), &Handles::default(), None, Hold::Plain).unwrap();
                    on = !on;
                    std::thread::sleep(Duration::from_micros(500));
                }
            })
        });
        let stop = StopWriter(&done);
        namespace.run(|| {
            let mut connection = Connection::open().unwrap();
            let mut seen = [0, 0];
            while seen.iter().any(|count| *count < 50) {
                match connection.dump() {
                    Ok(dumped) => {
                        let table = dumped.ruleset.table.unwrap();
                        let counter = table.counters.contains("moving");
                        let element = table.sets["web_v4"].elements.len() == 2;
                        assert_ne!(counter, element);
                        seen[usize::from(counter)] += 1;
                    }
                    Err(error) => assert!(matches!(error, Error::Unsteady { .. }), "{error:?}"),
                }
            }
        });
        drop(stop);
        writer.join().unwrap();
    });
}
