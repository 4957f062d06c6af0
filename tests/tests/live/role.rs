//! `role = "auto"`: addresses that come, go and move while the daemon runs.
//!
//! That a tier goes five minutes after its address is a unit test of the daemon's `host`.

use crate::fixture::*;
use crate::listing::Listing;
use std::collections::BTreeSet;
use tierwall_tests::features::keeps_owned_tables;
use tierwall_tests::server::Server;

const POLICY: &str = r#"
[tiers]
web = ["10.0.0.1"]
app = ["10.0.0.2"]
db = ["10.0.0.3"]

[[allow]]
from = "web"
to = "app"
service = "tcp/8080"

[[allow]]
from = "app"
to = "db"
service = "tcp/5432"
"#;

const APP: &str = "in.web.app.tcp/8080";
const DB: &str = "in.app.db.tcp/5432";

/// A server with an interface that is up and has no address.
fn server() -> Server {
    let server = alone(POLICY);
    let links = "link add eth0 type veth peer name peer\nlink set eth0 up\nlink set peer up\n";
    server.host().namespace.command_with_input("ip", &["-batch", "-"], links).unwrap();
    for link in ["eth0", "peer"] {
        // The link-local address comes when it likes.
        let none = ["-6", "address", "flush", "dev", link];
        server.host().namespace.command("ip", &none).unwrap();
        let parameter = format!("net.ipv6.conf.{link}.disable_ipv6");
        server.host().namespace.sysctl(&parameter, "1").unwrap();
    }
    server
}

fn address(server: &Server, verb: &str, address: &str) {
    let address = format!("{address}/32");
    let arguments = ["address", verb, &address, "dev", "eth0"];
    server.host().namespace.command("ip", &arguments).unwrap();
}

fn role_becomes(server: &Server, tiers: &[&str]) {
    let tiers: BTreeSet<String> = tiers.iter().map(|tier| (*tier).to_owned()).collect();
    status_when(server, &format!("the role is {tiers:?}"), |status| status.role == tiers);
}

fn chains(server: &Server) -> Vec<String> {
    let chains = Listing::of(&server.host().namespace).chains.into_keys();
    chains.filter(|chain| chain.starts_with("in.")).collect()
}

#[test]
fn a_server_without_an_address_gets_its_tier_with_the_first() {
    let server = server();
    let daemon = start(&server);
    role_becomes(&server, &[]);
    assert!(chains(&server).is_empty());
    address(&server, "add", "10.0.0.2");
    role_becomes(&server, &["app"]);
    assert_eq!(chains(&server), [APP]);
    assert!(daemon.log().contains("role changed"), "{}", daemon.log());
}

#[test]
fn a_tier_comes_with_its_address_and_stays_when_it_moves() {
    let server = server();
    address(&server, "add", "10.0.0.2");
    let daemon = start(&server);
    role_becomes(&server, &["app"]);
    let before = Listing::of(&server.host().namespace);
    address(&server, "add", "10.0.0.3");
    role_becomes(&server, &["app", "db"]);
    let after = Listing::of(&server.host().namespace);
    assert_eq!(before.rules_beyond(&after), []);
    assert_eq!(chains(&server), [DB, APP]);

    // Gone: nothing is sent, now or after what is asked next.
    let mut monitor = Monitor::open(&server);
    address(&server, "delete", "10.0.0.2");
    // A neighbour of no tier, so that there is something to wait for.
    address(&server, "add", "10.0.0.77");
    tierwall_ok(&server, &["reload"]);
    role_becomes(&server, &["app", "db"]);
    assert!(monitor.heard().is_empty());

    // Back again.
    address(&server, "add", "10.0.0.2");
    tierwall_ok(&server, &["reload"]);
    role_becomes(&server, &["app", "db"]);
    assert!(monitor.heard().is_empty(), "{}", daemon.log());
}

#[test]
fn an_address_that_moved_leaves_both_tiers_for_a_while() {
    let server = server();
    address(&server, "add", "10.0.0.2");
    let _daemon = start(&server);
    address(&server, "delete", "10.0.0.2");
    address(&server, "add", "10.0.0.3");
    role_becomes(&server, &["app", "db"]);
    assert_eq!(chains(&server), [DB, APP]);

    // An edit of members is no reason to lose it sooner.
    rename(&server, "tierwall.toml", &POLICY.replace("10.0.0.1", "10.0.0.9"));
    eventually("the edit applies", || {
        let web = Listing::of(&server.host().namespace).elements("web_v4");
        (web == ["10.0.0.9"]).then_some(())
    });
    assert_eq!(chains(&server), [DB, APP]);
    role_becomes(&server, &["app", "db"]);
}

#[test]
fn an_edit_that_takes_a_server_out_of_a_tier_holds_at_once() {
    let server = server();
    address(&server, "add", "10.0.0.2");
    address(&server, "add", "10.0.0.3");
    let _daemon = start(&server);
    role_becomes(&server, &["app", "db"]);
    rename(&server, "tierwall.toml", &POLICY.replace("10.0.0.3", "10.0.0.33"));
    role_becomes(&server, &["app"]);
    assert_eq!(chains(&server), [APP]);
    rename(&server, "tierwall.toml", POLICY);
    role_becomes(&server, &["app", "db"]);
}

#[test]
fn the_last_role_holds_at_a_start_before_the_network_is_up() {
    let server = server();
    address(&server, "add", "10.0.0.2");
    let daemon = start(&server);
    role_becomes(&server, &["app"]);
    daemon.stop().unwrap();
    address(&server, "delete", "10.0.0.2");
    let mut monitor = Monitor::open(&server);
    let _daemon = start(&server);
    role_becomes(&server, &["app"]);
    assert_eq!(chains(&server), [APP]);
    let adoption = usize::from(keeps_owned_tables());
    assert_eq!(monitor.heard().len(), adoption, "nothing but the adoption");
}

#[test]
fn a_tier_whose_address_is_gone_stays_for_a_while_over_a_restart() {
    let server = server();
    address(&server, "add", "10.0.0.2");
    address(&server, "add", "10.0.0.3");
    let daemon = start(&server);
    role_becomes(&server, &["app", "db"]);
    address(&server, "delete", "10.0.0.3");
    status_when(&server, "the daemon has seen it", |_| {
        // `role.json` says which tiers are leaving once it was recorded.
        let record = std::fs::read_to_string(server.state_directory().join("role.json"));
        record.is_ok_and(|record| record.contains("\"leaving\"") && record.contains("uptime"))
    });
    daemon.stop().unwrap();
    let daemon = start(&server);
    role_becomes(&server, &["app", "db"]);
    assert_eq!(chains(&server), [DB, APP]);
    daemon.stop().unwrap();

    // One that was lost while no daemon ran has its time from the start on.
    address(&server, "add", "10.0.0.3");
    let daemon = start(&server);
    role_becomes(&server, &["app", "db"]);
    daemon.stop().unwrap();
    address(&server, "delete", "10.0.0.3");
    let daemon = start(&server);
    role_becomes(&server, &["app", "db"]);
    assert!(daemon.log().contains("its last role holds for now"), "{}", daemon.log());
    daemon.stop().unwrap();

    // What an edit takes is gone at once, whenever it was made.
    address(&server, "add", "10.0.0.3");
    let daemon = start(&server);
    role_becomes(&server, &["app", "db"]);
    daemon.stop().unwrap();
    rename(&server, "tierwall.toml", &POLICY.replace("10.0.0.3", "10.0.0.33"));
    let daemon = start(&server);
    role_becomes(&server, &["app"]);
    assert_eq!(chains(&server), [APP]);
    daemon.stop().unwrap();
}
