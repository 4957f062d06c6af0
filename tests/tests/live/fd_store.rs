//! A service manager that keeps the daemon's socket: the table is owned while no daemon runs. Where
//! the kernel can't have it owned (before 6.9), the next daemon puts back what was changed.

use crate::fixture::*;
use crate::listing::Listing;
use std::fs::File;
use tierwall_tests::fd_store::FdStore;
use tierwall_tests::features::keeps_owned_tables;
use tierwall_tests::kernel::Kernel;
use tierwall_tests::server::Server;

const POLICY: &str = r#"role = "app"
[tiers]
web = ["10.0.0.1", "10.0.0.9"]
app = ["10.0.0.2"]
[[allow]]
from = "web"
to = "app"
service = "tcp/8080"
"#;

fn kernel(server: &Server) -> Kernel {
    Kernel::of(server.host()).unwrap()
}

fn has_member(server: &Server, member: &str) -> bool {
    Listing::of(&server.host().namespace).elements("web_v4").iter().any(|has| has == member)
}

fn refused(server: &Server, command: &str) {
    let error = format!("{:#}", nft(server, command).unwrap_err());
    assert!(error.contains("Operation not permitted"), "{command}: {error}");
}

#[test]
fn at_no_moment_can_anybody_else_change_the_table() {
    let (server, store) = (alone(POLICY), FdStore::default());
    server.start_with_store(&store).unwrap().kill().unwrap();
    assert_eq!(store.names(), ["nftables"]);
    if !keeps_owned_tables() {
        let before = kernel(&server).meaning();
        nft(&server, "delete table inet filter").unwrap();
        let _daemon = server.start_with_store(&store).unwrap();
        assert_eq!(kernel(&server).meaning(), before);
        assert_eq!(store.names(), ["nftables"]);
        return;
    }
    refused(&server, "delete table inet filter");
    nft(&server, "flush ruleset").unwrap();
    let before = kernel(&server);

    // Nothing is sent, not even an adoption.
    let daemon = server.start_with_store(&store).unwrap();
    assert_eq!(kernel(&server), before);
    assert_eq!(store.names(), ["nftables"], "stored twice");
    assert!(daemon.log().contains("nothing was sent"), "{}", daemon.log());
    refused(&server, "delete table inet filter");

    // All that the daemon sends goes by that socket.
    server.replace_policy(&POLICY.replace("10.0.0.9", "10.0.0.7")).unwrap();
    eventually("the member is there", || has_member(&server, "10.0.0.7").then_some(()));
    daemon.stop().unwrap();
    refused(&server, "delete table inet filter");

    // When it is kept no longer, the policy stays and is adopted.
    store.clear();
    let daemon = server.start_with_store(&store).unwrap();
    assert_eq!(store.names(), ["nftables"]);
    assert!(has_member(&server, "10.0.0.7"));
    daemon.stop().unwrap();
}

#[test]
fn other_tables_may_change_meanwhile_and_nothing_is_sent() {
    let (server, store) = (alone(POLICY), FdStore::default());
    server.start_with_store(&store).unwrap().kill().unwrap();
    nft(&server, "add table ip nat").unwrap();
    let before = kernel(&server);
    let daemon = server.start_with_store(&store).unwrap();
    assert_eq!(kernel(&server), before);
    assert!(daemon.log().contains("nothing was sent"), "{}", daemon.log());
}

#[test]
fn a_descriptor_that_is_no_such_socket_is_put_away() {
    let (server, elsewhere) = (alone(POLICY), alone(POLICY));
    let null = File::open("/dev/null").unwrap().into();
    let of_another_namespace = elsewhere.host().namespace.run(|| {
        use std::os::fd::AsFd;
        netlink::Connection::open().unwrap().as_fd().try_clone_to_owned().unwrap()
    });
    for (what, descriptor) in [("a file", null), ("another namespace", of_another_namespace)] {
        let store = FdStore::default();
        store.put("nftables", descriptor);
        let daemon = server.start_with_store(&store).unwrap();
        assert!(daemon.log().contains("opening another"), "{what}: {}", daemon.log());
        assert_eq!(store.names(), ["nftables"], "{what}");
        daemon.kill().unwrap();
        if keeps_owned_tables() {
            refused(&server, "delete table inet filter");
        }
    }
    // Nothing there was touched.
    assert!(Listing::find(&elsewhere.host().namespace).is_none());
}
