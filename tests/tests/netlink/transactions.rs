//! Every transaction is told: who made it, and what it changed.

use crate::fixture::*;
use crate::large::spread;
use netlink::{Connection, Events, EventsError, Handles, Hold, Object, Transaction, Verb};
use ruleset::{Elements, Family, KeyType, Operation, Plan, SetSpec};
use std::process::{Command, Stdio};
use tierwall_tests::namespace::Namespace;

/// Runs `nft` and returns its process id.
fn nft(namespace: &Namespace, arguments: &[&str]) -> u32 {
    namespace.run(|| {
        let mut child = Command::new("nft").args(arguments).stdout(Stdio::null()).spawn().unwrap();
        assert!(child.wait().unwrap().success());
        child.id()
    })
}

fn only(events: &mut Events) -> Transaction {
    let transaction = events.read().unwrap().expect("something was announced");
    assert_eq!(events.read().unwrap(), None);
    transaction
}

#[test]
fn changes_by_nft_are_named() {
    let (namespace, dumped) = committed(&small());
    namespace.run(|| {
        let mut events = Events::open().unwrap();
        assert_eq!(events.read().unwrap(), None);
        let mut generation = dumped.generation;
        let mut told = Vec::new();
        for command in [
            "add rule inet filter input tcp dport 9999 accept",
            "insert rule inet filter other drop",
            "flush chain inet filter other",
            "add element inet filter web_v4 { 10.0.1.0/24, 10.0.3.1-10.0.3.9 }",
            "delete element inet filter web_v4 { 10.0.1.0/24 }",
            "add chain inet filter more",
            "add counter inet filter many",
            "add set inet filter s { type inet_service; elements = { 1, 2, 3 }; }",
            "delete set inet filter s",
            "delete table inet filter",
        ] {
            let pid = nft(&namespace, &[command]);
            let transaction = only(&mut events);
            generation = generation.next();
            assert_eq!(transaction.generation, generation);
            assert_eq!((transaction.process.as_str(), transaction.pid), ("nft", pid));
            assert!(transaction.ours && transaction.more == 0 && !transaction.partial);
            assert!(transaction.changes.iter().all(|change| change.ours));
            let text = transaction.to_string();
            let who = format!("nft ({pid}), generation {generation}: ");
            told.push(text.strip_prefix(&who).unwrap().to_owned());
        }
        insta::assert_snapshot!(told.join("\n"), @"
        add rule in chain input (handle 9) of inet filter
        add rule in chain other (handle 10) of inet filter
        delete rule in chain other (handle 10) of inet filter, delete rule in chain other (handle 8) of inet filter
        add 2 elements of set web_v4 of inet filter
        delete an element of set web_v4 of inet filter
        add chain more of inet filter
        add object many of inet filter
        add set s of inet filter, add 3 elements of set s of inet filter
        delete set s of inet filter
        delete rule in chain input (handle 5) of inet filter, delete rule in chain input (handle 6) of inet filter, delete rule in chain input (handle 7) of inet filter, delete rule in chain input (handle 9) of inet filter, delete set web_v4 of inet filter, delete object web of inet filter, delete object many of inet filter, delete chain input of inet filter, delete chain other of inet filter, delete chain more of inet filter, delete table inet filter
        ");
    });
}

#[test]
fn a_foreign_tables_change_is_not_ours() {
    let (namespace, _) = committed(&small());
    namespace.run(|| {
        let mut events = Events::open().unwrap();
        for (family, commands) in [
            ("ip", "add table ip filter; add chain ip filter input; add rule ip filter input drop"),
            ("inet", "add table inet other; add chain inet other input"),
        ] {
            nft(&namespace, &[commands]);
            let transaction = only(&mut events);
            assert!(!transaction.ours, "{transaction}");
            assert!(transaction.changes.len() > 1);
            for change in &transaction.changes {
                assert_eq!((change.ours, change.family, change.verb), (false, family, Verb::Add));
            }
        }
        // One that changes both is ours too.
        nft(&namespace, &["add chain inet other more; add chain inet filter more"]);
        let transaction = only(&mut events);
        assert!(transaction.ours);
        let ours: Vec<bool> = transaction.changes.iter().map(|change| change.ours).collect();
        assert_eq!(ours, [false, true]);
    });
}

#[test]
fn our_own_commits_are_known_by_their_port() {
    let (namespace, _) = committed(&small());
    namespace.run(|| {
        let mut events = Events::open().unwrap();
        let mut connection = Connection::open().unwrap();
        let plan = Plan { operations: vec![Operation::AddCounter { counter: "x".into() }] };
        let made = connection.commit(&plan, &Handles::default(), None, Hold::Plain).unwrap();
        let transaction = only(&mut events);
        assert_eq!(
            (transaction.port, transaction.generation),
            (connection.port(), made.generation)
        );
        nft(&namespace, &["add", "chain", "inet", "filter", "more"]);
        assert_ne!(only(&mut events).port, connection.port());
    });
}

#[test]
fn while_paused_nothing_is_told() {
    let (namespace, dumped) = committed(&small());
    namespace.run(|| {
        let mut events = Events::open().unwrap();
        nft(&namespace, &["add", "chain", "inet", "filter", "before"]);
        events.pause().unwrap();
        nft(&namespace, &["add", "chain", "inet", "filter", "meanwhile"]);
        // What was announced before the pause still is to be read.
        assert_eq!(only(&mut events).changes[0].object, Object::Chain("before".into()));
        events.resume().unwrap();
        assert_eq!(events.read().unwrap(), None);
        nft(&namespace, &["add", "chain", "inet", "filter", "after"]);
        let transaction = only(&mut events);
        assert_eq!(transaction.changes[0].object, Object::Chain("after".into()));
        assert!(transaction.partial);
        assert_eq!(transaction.generation, dumped.generation.next().next().next());
    });
}

/// More of everything than is kept: what isn't kept is counted, and what concerns us is still told.
#[test]
fn a_large_transaction_is_counted_and_not_stored() {
    let (namespace, _) = committed(&small());
    namespace.run(|| {
        let mut script = String::from("add table ip other\n");
        for index in 0..500 {
            script.push_str(&format!("add chain ip other c{index}\n"));
        }
        script.push_str("add set ip other s { type inet_service; }\n");
        let ports: Vec<String> = (1..=2000).map(|port: u16| port.to_string()).collect();
        script.push_str(&format!("add element ip other s {{ {} }}\n", ports.join(",")));
        script.push_str("add element inet filter web_v4 { 10.0.0.9 }\n");
        let mut events = Events::open().unwrap();
        namespace.command_with_input("nft", &["-f", "-"], &script).unwrap();
        let transaction = only(&mut events);
        assert_eq!((transaction.changes.len(), transaction.more), (64, 438 + 1 + 2000 + 1 - 1));
        assert!(transaction.ours && transaction.changes.iter().all(|change| !change.ours));
    });
}

/// Nobody reads while a hundred thousand elements are announced.
#[test]
fn a_loss_is_told_and_listening_goes_on() {
    let (namespace, _) = committed(&small());
    namespace.run(|| {
        let mut events = Events::open().unwrap();
        let spec = SetSpec::exact(KeyType::Address(Family::V4), Some(1 << 18));
        let (set, elements) = ("large".to_owned(), Elements::Ipv4(spread(1 << 18, 1)));
        let plan = Plan {
            operations: vec![
                Operation::AddSet { set: set.clone(), spec: spec.clone() },
                Operation::AddElements { set, spec, elements },
            ],
        };
        let mut connection = Connection::open().unwrap();
        connection.commit(&plan, &Handles::default(), None, Hold::Plain).unwrap();
        assert!(matches!(events.read(), Err(EventsError::Lost)));
        assert_eq!(events.read().unwrap(), None);
        nft(&namespace, &["add", "chain", "inet", "filter", "after"]);
        let transaction = only(&mut events);
        assert!(transaction.partial);
        assert_eq!(transaction.changes[0].object, Object::Chain("after".into()));
        nft(&namespace, &["add", "chain", "inet", "filter", "later"]);
        assert!(!only(&mut events).partial);
    });
}

#[test]
fn elements_are_one_change() {
    const COUNT: u32 = 8_000;
    let (namespace, _) = committed(&small());
    namespace.run(|| {
        let mut events = Events::open().unwrap();
        let spec = SetSpec::intervals(KeyType::Address(Family::V4));
        let (set, elements) = ("many".to_owned(), Elements::Ipv4(spread(COUNT, 4)));
        let plan = Plan {
            operations: vec![
                Operation::AddSet { set: set.clone(), spec: spec.clone() },
                Operation::AddElements { set: set.clone(), spec, elements },
            ],
        };
        let mut connection = Connection::open().unwrap();
        connection.commit(&plan, &Handles::default(), None, Hold::Plain).unwrap();
        let transaction = only(&mut events);
        let objects: Vec<_> = transaction.changes.into_iter().map(|change| change.object).collect();
        let elements = Object::Elements { set: set.clone(), count: COUNT as usize };
        assert_eq!(objects, [Object::Set(set), elements]);
    });
}
