//! What the kernel refuses is named, and changes nothing.

use crate::events::Listener;
use crate::fixture::*;
use netlink::{CommitError, Connection, Handles, Hold, Refusal, Verb};
use nix::errno::Errno;
use ruleset::{Elements, Operation, Plan, Rule, Statement, Verdict};
use tierwall_tests::namespace::Namespace;

/// Tries operations that the kernel refuses, after one that it wouldn't.
fn refused(namespace: &Namespace, operation: Operation) -> Refusal {
    namespace.run(|| {
        let listener = Listener::open();
        let mut connection = Connection::open().unwrap();
        let before = connection.dump().unwrap();
        let harmless = Operation::AddCounter { counter: "harmless".into() };
        let plan = Plan { operations: vec![harmless, operation] };
        let error = connection
            .commit(&plan, &before.handles, Some(before.generation), Hold::Plain)
            .unwrap_err();
        assert_eq!(connection.dump().unwrap(), before, "after {error}");
        assert!(!listener.heard());
        match error {
            CommitError::Refused(refusal) => *refusal,
            other => panic!("{other:?}"),
        }
    })
}

#[test]
fn a_jump_to_a_missing_chain() {
    let (namespace, _) = committed(&small());
    let rule = Rule::new("web -> app", vec![tcp(80), Statement::jump("missing")]);
    let operation = Operation::InsertRule { chain: "other".into(), before: Some(0), rule };
    let refusal = refused(&namespace, operation);
    assert_eq!((refusal.verb, refusal.errno), (Verb::Add, Errno::ENOENT));
    assert_eq!(refusal.rule.as_deref(), Some("web -> app"));
    insta::assert_snapshot!(refusal, @r#"the kernel refused to add a rule of chain other, "web -> app", because of expression 5 (immediate): no such file or directory (ENOENT)"#);
}

#[test]
fn elements_that_are_missing_or_overlap() {
    let (namespace, dumped) = committed(&small());
    let spec = dumped.ruleset.table.unwrap().sets["web_v4"].spec.clone();
    let elements = |range| Elements::Ipv4(v4([single("10.0.0.9"), range]));
    let set = || "web_v4".to_owned();
    let refusal = refused(
        &namespace,
        Operation::DeleteElements {
            set: set(),
            spec: spec.clone(),
            elements: elements(single("10.0.0.1")),
        },
    );
    insta::assert_snapshot!(refusal, @"the kernel refused to delete elements of set web_v4, because of element 10.0.0.9: no such file or directory (ENOENT); an element is not there");
    let refusal = refused(
        &namespace,
        Operation::AddElements {
            set: set(),
            spec,
            elements: elements(range("10.0.0.0", "10.0.0.3")),
        },
    );
    assert_eq!(refusal.errno, Errno::EEXIST);
    insta::assert_snapshot!(refusal, @"the kernel refused to add elements of set web_v4, because of the element that ends at 10.0.0.3: file exists (EEXIST); an element overlaps one that is there");
}

#[test]
fn a_full_set() {
    let mut table = small();
    let spec = ruleset::SetSpec::exact(table.sets["web_v4"].spec.key, Some(2));
    let elements = Elements::Ipv4(v4([single("10.0.0.1"), single("10.0.0.5")]));
    table.sets.insert("few".into(), ruleset::Set { spec: spec.clone(), elements });
    let (namespace, _) = committed(&table);
    let elements = Elements::Ipv4(v4([single("10.0.0.9")]));
    let refusal = refused(&namespace, Operation::AddElements { set: "few".into(), spec, elements });
    insta::assert_snapshot!(refusal, @"the kernel refused to add elements of set few, because of element 10.0.0.9: file table overflow (ENFILE); the set is full");
}

#[test]
fn objects_that_exist_or_are_in_use() {
    let (namespace, dumped) = committed(&small());
    let chain = Operation::AddChain { chain: "other".into(), base: None };
    insta::assert_snapshot!(refused(&namespace, chain), @"the kernel refused to add chain other, because of its name: file exists (EEXIST)");
    let counter = Operation::DeleteCounter { counter: "web".into() };
    insta::assert_snapshot!(refused(&namespace, counter), @"the kernel refused to delete counter web, because of its name: device or resource busy (EBUSY); something refers to it");
    let spec = dumped.ruleset.table.unwrap().sets["web_v4"].spec.clone();
    let set = Operation::AddSet { set: "web_v4".into(), spec };
    insta::assert_snapshot!(refused(&namespace, set), @"the kernel refused to add set web_v4, because of its name: file exists (EEXIST)");
    let table = Operation::AddTable { comment: None };
    insta::assert_snapshot!(refused(&namespace, table), @"the kernel refused to add the table, because of its name: file exists (EEXIST)");
}

#[test]
fn a_loop_of_chains() {
    let mut table = small();
    let jump = Rule::new("jump", vec![Statement::jump("other")]);
    table.chains.get_mut("input").unwrap().rules.push(jump);
    let (namespace, _) = committed(&table);
    let rule = Rule::new("loop", vec![Statement::Verdict(Verdict::Goto("other".into()))]);
    let operation = Operation::InsertRule { chain: "other".into(), before: None, rule };
    let refusal = refused(&namespace, operation);
    assert!(matches!(refusal.errno, Errno::ELOOP | Errno::EMLINK), "{refusal}");
}

#[test]
fn several_errors_name_the_first_and_count_the_others() {
    let (namespace, dumped) = committed(&small());
    let missing = |name: &str| Operation::DeleteChain { chain: name.into() };
    let error = namespace.run(|| {
        let plan = Plan { operations: vec![missing("x"), missing("y"), missing("z")] };
        let mut connection = Connection::open().unwrap();
        connection.commit(&plan, &dumped.handles, None, Hold::Plain).unwrap_err()
    });
    insta::assert_snapshot!(error, @"the kernel refused to delete chain x, because of its name: no such file or directory (ENOENT) (and 2 more messages were refused)");
}

#[test]
fn more_errors_than_the_receive_buffer_holds() {
    let (namespace, dumped) = committed(&small());
    let missing = |number: usize| Operation::DeleteChain { chain: format!("chain{number}") };
    let error = namespace.run(|| {
        let plan = Plan { operations: (0..20_000).map(missing).collect() };
        let mut connection = Connection::open().unwrap();
        connection.commit(&plan, &dumped.handles, None, Hold::Plain).unwrap_err()
    });
    let CommitError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!(refusal.object, "chain chain0");
}

#[test]
fn a_stale_generation() {
    let (namespace, before) = committed(&small());
    namespace.command("nft", &["add", "table", "ip", "other"]).unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let plan = Plan { operations: vec![Operation::DeleteTable] };
        let error = connection
            .commit(&plan, &before.handles, Some(before.generation), Hold::Plain)
            .unwrap_err();
        assert!(matches!(error, CommitError::Stale), "{error:?}");
        let now = connection.dump().unwrap();
        assert_eq!(now.ruleset, before.ruleset);
        assert_eq!(now.generation, before.generation.next());
        connection.commit(&plan, &now.handles, Some(now.generation), Hold::Plain).unwrap();
        assert_eq!(connection.dump().unwrap().ruleset.table, None);
    });
}

#[test]
fn a_table_owned_by_another_socket() {
    let namespace = Namespace::new().unwrap();
    // `nft -i` keeps its socket, and with it the table, until its input ends.
    let error = namespace.run(|| {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut owner = Command::new("nft")
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = owner.stdin.take().unwrap();
        input.write_all(b"add table inet filter { flags owner; }\n").unwrap();
        let mut connection = Connection::open().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let dumped = loop {
            let dumped = connection.dump().unwrap();
            if dumped.ruleset.table.is_some() {
                break dumped;
            }
            assert!(std::time::Instant::now() < deadline, "nft made no table");
            std::thread::sleep(std::time::Duration::from_millis(10));
        };
        assert_eq!(dumped.flags, 2);
        assert!(dumped.owner.is_some());
        let plan = Plan { operations: vec![Operation::DeleteTable] };
        let error = connection.commit(&plan, &Handles::default(), None, Hold::Plain).unwrap_err();
        drop(input);
        owner.wait().unwrap();
        error
    });
    insta::assert_snapshot!(error, @"the kernel refused to delete the table, because of its name: operation not permitted (EPERM); the table is owned by another program");
}
