//! A table that belongs to a socket: nobody else changes it, and it outlives its owner.
//!
//! Before 6.9 the kernel refuses such a table as a whole, and each test says so instead.

use crate::fixture::*;
use netlink::{CommitError, Connection, Handles, Hold, Ownership};
use nix::errno::Errno;
use ruleset::{Operation, Plan, Ruleset};
use std::os::fd::AsFd;
use tierwall_tests::features::keeps_owned_tables;
use tierwall_tests::namespace::Namespace;

/// Flags of a table that is owned and stays, and of one whose owner is gone.
const OWNED: u32 = 6;
const ORPHAN: u32 = 4;

/// Makes a table of one's own. Where the kernel can't, nothing is there, least of all a table that
/// ends with its owner.
#[must_use]
fn own(connection: &mut Connection) -> bool {
    let made = connection.commit(&creation(&small()), &Handles::default(), None, Hold::Own);
    if keeps_owned_tables() {
        made.unwrap();
        return true;
    }
    is_refused(&made.unwrap_err());
    assert_eq!(connection.dump().unwrap().ruleset, Ruleset::default());
    false
}

/// What a kernel says that knows nothing of tables that outlive their owner.
fn is_refused(error: &CommitError) {
    let CommitError::Refused(refusal) = error else { panic!("{error:?}") };
    assert_eq!((refusal.object.as_str(), refusal.errno), ("the table", Errno::EOPNOTSUPP));
}

fn counter(name: &str) -> Plan {
    Plan { operations: vec![Operation::AddCounter { counter: name.into() }] }
}

#[test]
fn nobody_else_changes_an_owned_table() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        if !own(&mut connection) {
            return;
        }
        let before = connection.dump().unwrap();
        assert_eq!((before.flags, before.owner), (OWNED, Some(connection.port())));
        assert_eq!(before.ownership(connection.port()), Ownership::Ours);

        let nft = |arguments: &[&str]| namespace.command("nft", arguments);
        for refused in [
            &["delete", "table", "inet", "filter"][..],
            &["flush", "table", "inet", "filter"],
            &["add", "rule", "inet", "filter", "input", "accept"],
            &["flush", "chain", "inet", "filter", "input"],
            &["add", "element", "inet", "filter", "web_v4", "{ 10.0.0.9 }"],
            &["delete", "element", "inet", "filter", "web_v4", "{ 10.0.0.1 }"],
        ] {
            let error = format!("{:#}", nft(refused).unwrap_err());
            assert!(error.contains("Operation not permitted"), "{refused:?}: {error}");
        }
        // This takes away whatever can be.
        nft(&["add", "table", "ip", "other"]).unwrap();
        nft(&["flush", "ruleset"]).unwrap();
        let after = connection.dump().unwrap();
        assert_eq!((after.ruleset, after.handles), (before.ruleset, before.handles));
        assert!(!nft(&["list", "tables"]).unwrap().contains("other"));

        let (handles, generation) = connection.handles().unwrap();
        let plan = counter("more");
        connection.commit(&plan, &handles, Some(generation), Hold::Own).unwrap();
        // Adopting one's own table changes nothing.
        connection.commit(&counter("again"), &handles, None, Hold::Adopt).unwrap();
        assert_eq!(connection.dump().unwrap().ownership(connection.port()), Ownership::Ours);
    });
}

#[test]
fn another_socket_is_told_whose_it_is() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let (mut owner, mut other) = (Connection::open().unwrap(), Connection::open().unwrap());
        assert_ne!(owner.port(), other.port());
        if !own(&mut owner) {
            return;
        }
        let seen = other.dump().unwrap();
        assert_eq!(seen.ownership(other.port()), Ownership::Other(owner.port()));
        for (plan, hold) in [
            (counter("x"), Hold::Plain),
            (counter("x"), Hold::Own),
            (counter("x"), Hold::Adopt),
            (Plan::default(), Hold::Adopt),
            (Plan { operations: vec![Operation::DeleteTable] }, Hold::Own),
        ] {
            let error = other.commit(&plan, &seen.handles, None, hold).unwrap_err();
            let CommitError::OwnedByOther(refusal) = &error else { panic!("{error:?}") };
            assert!(error.to_string().contains("the table is owned by another program"), "{error}");
            assert_eq!(refusal.object == "the table", hold == Hold::Adopt || plan != counter("x"));
        }
        assert_eq!(owner.dump().unwrap(), seen);
    });
}

#[test]
fn an_orphan_stays_and_is_adopted_in_the_batch_that_changes_it() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut first = Connection::open().unwrap();
        if !own(&mut first) {
            return;
        }
        let owned = first.dump().unwrap();
        drop(first);

        let mut second = Connection::open().unwrap();
        let orphan = second.dump().unwrap();
        assert_eq!((orphan.flags, orphan.owner), (ORPHAN, None));
        assert_eq!(orphan.ownership(second.port()), Ownership::Orphan);
        assert_eq!((&orphan.ruleset, &orphan.handles), (&owned.ruleset, &owned.handles));

        // A commit against another state adopts nothing.
        let stale = Some(netlink::Generation(orphan.generation.0 + 5));
        let error = second.commit(&counter("x"), &orphan.handles, stale, Hold::Adopt);
        assert!(matches!(error.unwrap_err(), CommitError::Stale));
        // Neither does one that the kernel refuses.
        let missing = Plan { operations: vec![Operation::DeleteChain { chain: "none".into() }] };
        let generation = Some(orphan.generation);
        let error = second.commit(&missing, &orphan.handles, generation, Hold::Adopt);
        assert!(matches!(error.unwrap_err(), CommitError::Refused(_)));
        assert_eq!(second.dump().unwrap(), orphan);

        let made = second.commit(&counter("x"), &orphan.handles, generation, Hold::Adopt).unwrap();
        assert_eq!(made.messages, 2);
        let adopted = second.dump().unwrap();
        assert_eq!((adopted.flags, adopted.owner), (OWNED, Some(second.port())));
        assert_eq!(adopted.handles, orphan.handles);
        assert!(adopted.ruleset.table.unwrap().counters.contains("x"));
        namespace.command("nft", &["delete", "table", "inet", "filter"]).unwrap_err();
    });
}

/// What systemd keeps over a restart is the descriptor.
#[test]
fn the_table_stays_owned_as_long_as_somebody_keeps_the_socket() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let mut first = Connection::open().unwrap();
        if !own(&mut first) {
            return;
        }
        let (port, owned) = (first.port(), first.dump().unwrap());
        let kept = first.as_fd().try_clone_to_owned().unwrap();
        drop(first);
        assert_eq!(Connection::open().unwrap().dump().unwrap(), owned);
        let mut second = Connection::from_socket(kept).unwrap();
        assert_eq!(second.port(), port);
        assert_eq!(second.dump().unwrap(), owned);
        second.commit(&counter("x"), &owned.handles, Some(owned.generation), Hold::Own).unwrap();
        assert_eq!(second.dump().unwrap().ownership(port), Ownership::Ours);

        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(Connection::from_socket(file.into()), Err(netlink::Error::Socket(_))));
        let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(matches!(Connection::from_socket(datagram.into()), Err(netlink::Error::Socket(_))));
    });
}

#[test]
fn the_adoption_alone_is_a_batch() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        if !own(&mut Connection::open().unwrap()) {
            return;
        }
        let mut second = Connection::open().unwrap();
        let orphan = second.dump().unwrap();
        let generation = Some(orphan.generation);
        let made =
            second.commit(&Plan::default(), &orphan.handles, generation, Hold::Adopt).unwrap();
        assert_eq!((made.messages, made.generation), (1, orphan.generation.next()));
        let adopted = second.dump().unwrap();
        assert_eq!(adopted.ownership(second.port()), Ownership::Ours);
        assert_eq!((adopted.ruleset, adopted.handles), (orphan.ruleset, orphan.handles));
    });
}

#[test]
fn a_plain_table_can_not_be_adopted_but_made_anew_in_one_batch() {
    let (namespace, plain) = committed(&small());
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        assert_eq!(plain.ownership(connection.port()), Ownership::Unowned);
        let error = connection
            .commit(&Plan::default(), &plain.handles, Some(plain.generation), Hold::Adopt)
            .unwrap_err();
        insta::assert_snapshot!(error, @"the kernel refused to adopt the table: operation not supported on transport endpoint (EOPNOTSUPP); only a table that had an owner before can be adopted");
        let mut operations = vec![Operation::DeleteTable];
        operations.extend(creation(&small()).operations);
        let plan = Plan { operations };
        let made = connection.commit(&plan, &plain.handles, Some(plain.generation), Hold::Own);
        if !keeps_owned_tables() {
            is_refused(&made.unwrap_err());
            assert_eq!(connection.dump().unwrap(), plain);
            return;
        }
        made.unwrap();
        let owned = connection.dump().unwrap();
        assert_eq!(owned.ownership(connection.port()), Ownership::Ours);
        assert_eq!(owned.ruleset, plain.ruleset);

        // The same from the owned one, which stays owned.
        connection.commit(&plan, &owned.handles, Some(owned.generation), Hold::Own).unwrap();
        assert_eq!(connection.dump().unwrap().ownership(connection.port()), Ownership::Ours);
        // And away with it.
        let plan = ruleset(small()).diff(&Ruleset::default());
        connection.commit(&plan, &Handles::default(), None, Hold::Own).unwrap();
        assert_eq!(connection.dump().unwrap().ruleset, Ruleset::default());
    });
}
