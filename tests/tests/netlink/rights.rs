//! What becomes of a process without the right to change the network.
//!
//! The tests marked as ignored run in processes of lesser rights, which the others start. Run
//! otherwise they fail, before they could change the machine's own ruleset.

use crate::fixture::*;
use crate::large::spread;
use netlink::{CommitError, Connection, Error, Handles, Hold};
use ruleset::{Elements, Family, KeyType, Set, SetSpec, Table};
use std::net::IpAddr;
use tierwall_tests::namespace::Namespace;

/// Set in the processes of lesser rights.
const LESSER: &str = "TIERWALL_LESSER_RIGHTS";

fn require_lesser_rights() {
    assert!(std::env::var_os(LESSER).is_some(), "only to be run by the test that it names");
}

/// Runs an ignored test of this file in a process that `wrapper` starts.
fn run(namespace: &Namespace, wrapper: &[&str], test: &str) {
    let this = std::env::current_exe().unwrap();
    let (marked, test) = (format!("{LESSER}=1"), format!("rights::{test}"));
    let mut arguments = vec![marked.as_str()];
    arguments.extend(wrapper);
    arguments.extend([this.to_str().unwrap(), "--ignored", "--exact", &test]);
    let output = namespace.command("env", &arguments).unwrap();
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
fn without_the_capability_nothing_is_permitted() {
    let namespace = Namespace::new().unwrap();
    let drop = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    run(&namespace, &drop, "is_not_permitted");
}

#[test]
fn in_a_user_namespace_small_batches_pass_and_large_ones_are_explained() {
    let namespace = Namespace::new().unwrap();
    let user = ["unshare", "--user", "--map-root-user", "--net"];
    run(&namespace, &user, "is_limited_to_the_default_send_buffer");
}

#[test]
#[ignore = "run without CAP_NET_ADMIN by without_the_capability_nothing_is_permitted"]
fn is_not_permitted() {
    require_lesser_rights();
    let mut connection = Connection::open().unwrap();
    let plan = creation(&small());
    let error = connection.commit(&plan, &Handles::default(), None, Hold::Plain).unwrap_err();
    assert!(matches!(error, CommitError::NotPermitted), "{error:?}");
    assert!(matches!(connection.dump().unwrap_err(), Error::NotPermitted));
    assert!(matches!(connection.generation().unwrap_err(), Error::NotPermitted));
    assert!(matches!(connection.probe().unwrap_err(), Error::NotPermitted));
    netlink::addresses().unwrap();
}

#[test]
#[ignore = "run in a user namespace by in_a_user_namespace_small_batches_pass_and_large_ones_are_explained"]
fn is_limited_to_the_default_send_buffer() {
    require_lesser_rights();
    let mut connection = Connection::open().unwrap();
    connection.commit(&creation(&small()), &Handles::default(), None, Hold::Plain).unwrap();
    let before = connection.dump().unwrap();
    assert_eq!(before.ruleset, ruleset(small()));
    let spec = SetSpec::exact(KeyType::Address(Family::V4), Some(1 << 20));
    let mut table = Table::new();
    table.sets.insert("s".into(), Set { spec, elements: Elements::Ipv4(spread(1 << 20, 1)) });
    let error =
        connection.commit(&creation(&table), &Handles::default(), None, Hold::Plain).unwrap_err();
    let CommitError::TooLarge { bytes, limit } = error else { panic!("{error:?}") };
    assert!(bytes > 16 << 20 && limit < 16 << 20, "{bytes} {limit}");
    assert_eq!(connection.dump().unwrap(), before);
}

#[test]
fn addresses_are_those_that_others_can_reach() {
    let namespace = Namespace::new().unwrap();
    let ip = |arguments: &[&str]| namespace.command("ip", arguments).unwrap();
    ip(&["link", "add", "d0", "type", "veth", "peer", "name", "d1"]);
    ip(&["link", "set", "d0", "up"]);
    ip(&["addr", "add", "10.3.0.2/24", "dev", "d0"]);
    ip(&["addr", "add", "169.254.9.9/16", "dev", "d0", "scope", "link"]);
    ip(&["addr", "add", "fe80::5/64", "dev", "d0", "nodad"]);
    ip(&["addr", "add", "10.3.0.3", "peer", "10.3.0.4", "dev", "d0"]);
    ip(&["addr", "add", "2001:db8::5/64", "dev", "d0", "nodad"]);
    let addresses = namespace.run(|| netlink::addresses().unwrap());
    let expected = ["10.3.0.2", "10.3.0.3", "2001:db8::5"].map(|a| a.parse::<IpAddr>().unwrap());
    assert_eq!(addresses, expected);
}
