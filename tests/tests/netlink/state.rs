//! What tierwall notes in the kernel about its table.

use crate::fixture::*;
use netlink::{CommitError, Connection, Handles, Hold, Ownership};
use ruleset::{Operation, Plan, Ruleset, STATE_LENGTH, STATE_SET, Table};
use tierwall_tests::features::keeps_owned_tables;
use tierwall_tests::namespace::Namespace;

fn with_state(table: Table, state: &str) -> Ruleset {
    ruleset(Table { state: Some(state.to_owned()), ..table })
}

/// Brings the namespace to a ruleset by the difference of what is there.
fn settle(namespace: &Namespace, wanted: &Ruleset) -> Plan {
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let found = connection.dump().unwrap();
        let plan = found.ruleset.diff(wanted);
        let generation = Some(found.generation);
        connection.commit(&plan, &found.handles, generation, Hold::Plain).unwrap();
        assert_eq!(&connection.dump().unwrap().ruleset, wanted);
        plan
    })
}

#[test]
fn it_is_exchanged_by_elements_alone_and_read_back() {
    let namespace = Namespace::new().unwrap();
    let longest = "x".repeat(STATE_LENGTH);
    settle(&namespace, &with_state(small(), "one"));
    let listed = namespace.command("nft", &["list", "set", "inet", "filter", STATE_SET]).unwrap();
    insta::assert_snapshot!(listed, @r#"
    table inet filter {
    	set tierwall_state {
    		type mark
    		elements = { 0x00000000 comment "one" }
    	}
    }
    "#);
    for state in ["two", &longest, "two"] {
        let plan = settle(&namespace, &with_state(small(), state));
        assert!(plan.is_elements_only() && plan.operations.len() == 1, "{plan}");
    }
    // With other changes, and away.
    settle(&namespace, &with_state(everything(), "three"));
    settle(&namespace, &ruleset(everything()));
    settle(&namespace, &with_state(everything(), "four"));
}

#[test]
fn nft_takes_our_rendering_of_it() {
    let wanted = with_state(small(), "0123 abc");
    let (text, json) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    text.command_with_input("nft", &["-f", "-"], &wanted.to_nft_script()).unwrap();
    let script = wanted.to_nft_json().to_string();
    json.command_with_input("nft", &["-j", "-f", "-"], &script).unwrap();
    for namespace in [text, json] {
        let read = namespace.run(|| Connection::open().unwrap().dump().unwrap().ruleset);
        assert_eq!(read.table.unwrap().state.as_deref(), Some("0123 abc"));
    }
}

#[test]
fn anything_else_in_its_place_is_replaced() {
    for tampering in [
        "delete element inet filter tierwall_state { 0x0 }",
        "add element inet filter tierwall_state { 0x1 comment \"two\" }",
        "delete element inet filter tierwall_state { 0x0 }; \
         add element inet filter tierwall_state { 0x5 comment \"one\" }",
        "delete element inet filter tierwall_state { 0x0 }; \
         add element inet filter tierwall_state { 0x0 }",
        "delete set inet filter tierwall_state; \
         add set inet filter tierwall_state { type inet_service; elements = { 0 comment \"one\" }; }",
        "delete set inet filter tierwall_state",
    ] {
        let namespace = Namespace::new().unwrap();
        let wanted = with_state(small(), "one");
        settle(&namespace, &wanted);
        namespace.command("nft", &[tampering]).unwrap();
        let (summary, _) = namespace.run(|| Connection::open().unwrap().summary().unwrap());
        assert_eq!(summary.unwrap().state, None, "{tampering}");
        assert!(!settle(&namespace, &wanted).is_empty(), "{tampering}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_sent() {
    let (namespace, _) = committed(&small());
    for state in ["", "a\0b", &"x".repeat(STATE_LENGTH + 1)] {
        let operation = Operation::SetState { old: None, new: Some(state.to_owned()) };
        let plan = Plan { operations: vec![operation] };
        let error = namespace.run(|| {
            let mut connection = Connection::open().unwrap();
            connection.commit(&plan, &Handles::default(), None, Hold::Plain).unwrap_err()
        });
        assert!(matches!(error, CommitError::Encode(_)), "{error:?}");
    }
}

#[test]
fn the_summary_says_whose_and_which_it_is() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let generation = connection.generation().unwrap();
        assert_eq!(connection.summary().unwrap(), (None, generation));
        let wanted = with_state(small(), &small().fingerprint());
        let plan = Ruleset::default().diff(&wanted);
        let hold = if keeps_owned_tables() { Hold::Own } else { Hold::Plain };
        let made = connection.commit(&plan, &Handles::default(), None, hold).unwrap();
        let (summary, generation) = connection.summary().unwrap();
        let summary = summary.unwrap();
        assert_eq!(generation, made.generation);
        assert!(summary.is_ours());
        let whose = if keeps_owned_tables() { Ownership::Ours } else { Ownership::Unowned };
        assert_eq!(summary.ownership(connection.port()), whose);
        assert_eq!((summary.chains, summary.rules), (2, 4));
        assert_eq!(summary.state, Some(small().fingerprint()));
        // What is read back has the fingerprint of what was committed.
        let read = connection.dump().unwrap().ruleset.table.unwrap();
        assert_eq!(read.fingerprint(), small().fingerprint());
    });
}
