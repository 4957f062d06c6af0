//! UDP that some users may send: whose packets of an established flow pass.

mod common;

use common::OPTIONS;
use ruleset::evaluate::{LOOPBACK, Outcome, Packet};
use ruleset::{Hook, States, Table, Transport};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use tierwall_policy::{Host, Role, compile, load_text};

const ALICE: u32 = 1;
const BOB: u32 = 2;

/// The table of a server of `app` that knows alice, by allows to `db` of a service and a user, and
/// from `db` of a service.
fn table(to: &[(&str, &str)], from: &[&str]) -> Table {
    let mut text =
        "role = \"app\"\n[tiers]\napp = [\"10.0.0.1\"]\ndb = [\"10.0.0.2\"]\n".to_owned();
    for (service, user) in to {
        text += &format!(
            "[[allow]]\nfrom = \"app\"\nto = \"db\"\nservice = {service}\nuser = \"{user}\"\n"
        );
    }
    for service in from {
        text += &format!("[[allow]]\nfrom = \"db\"\nto = \"app\"\nservice = {service}\n");
    }
    let loaded = load_text(Path::new("test.toml"), text, &OPTIONS);
    let policy = loaded.policy.unwrap_or_else(|| panic!("{}", loaded.diagnostics));
    let role = Role { tiers: ["app".to_owned()].into(), auto: false };
    let users = BTreeMap::from([("alice".to_owned(), ALICE)]);
    let table = compile(&policy, Host { role: &role, users: &users, previous: None });
    table.table.expect("a table")
}

/// What this server sends `db` in a flow that it began, as the kernel sees it.
fn packet(user: u32, from: u16, to: u16) -> Packet {
    let end = |host: u8, port| SocketAddr::from(([10, 0, 0, host], port));
    let first = Packet::opening(Hook::Output, Transport::Udp, end(1, from), end(2, to));
    Packet { state: States::ESTABLISHED, user: Some(user), ..first }
}

fn passes(table: &Table, packet: &Packet) -> bool {
    table.evaluate(packet).outcome == Outcome::Accept
}

#[test]
fn a_flow_is_its_users_whatever_names_the_service() {
    for service in ["\"udp/7001\"", "\"udp/7000-7009\"", "\"udp\"", "\"any\""] {
        let table = table(&[(service, "alice")], &[]);
        assert!(passes(&table, &packet(ALICE, 4500, 7001)), "{service}");
        assert!(!passes(&table, &packet(BOB, 4500, 7001)), "{service}");
    }
    // Of an allow whose range lies within another's, too.
    let table = table(&[("\"udp/100-200\"", "alice"), ("\"udp/120-130\"", "alice")], &[]);
    for port in [100, 125, 150, 200] {
        assert!(passes(&table, &packet(ALICE, 4500, port)), "{port}");
        assert!(!passes(&table, &packet(BOB, 4500, port)), "{port}");
    }
    assert!(passes(&table, &packet(BOB, 4500, 201)), "nobody asks there");
}

#[test]
fn of_a_user_that_is_not_known_nobody_goes_on() {
    let table = table(&[("\"udp/7001\"", "nobody-here")], &[]);
    assert!(!passes(&table, &packet(ALICE, 4500, 7001)));
}

#[test]
fn what_needs_no_allow_for_a_user_is_not_asked() {
    let bound = |from: &[&str]| table(&[("\"udp\"", "alice")], from);
    let inside = Packet { interface: LOOPBACK, ..packet(BOB, 4500, 7001) };
    assert!(passes(&bound(&[]), &inside));
    // A client of DHCP renews its lease.
    assert!(passes(&bound(&[]), &packet(BOB, 68, 67)));
    // The answer to what the other side began, and one that comes so late that it began the flow.
    let answer = Packet { is_reply: true, ..packet(BOB, 9000, 7001) };
    assert!(passes(&bound(&["\"any\""]), &answer));
    assert!(passes(&bound(&["\"udp/9000\""]), &packet(BOB, 9000, 7001)));
    assert!(!passes(&bound(&["\"udp/9000\""]), &packet(BOB, 9001, 7001)));
}
