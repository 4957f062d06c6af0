//! Edits of members and of rules while connections are busy and new ones are opened.

use crate::kernel::{self, Monitor, elements_only};
use crate::load::{Load, Traffic};
use crate::scaled;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

/// Connections that stay open; their allows come and go.
const LONG: u16 = 7000;
/// Connections that are opened all the time; their allows stay.
const SHORT: u16 = 8080;

/// Longer than this nothing may take. How long it does take is for the benchmark to say: this
/// machine has other things to do as well, and on an emulated processor that takes seconds.
const STALL: Duration = Duration::from_secs(10);

fn network() -> Network {
    let host = |last: u8| -> Vec<IpAddr> {
        vec![Ipv4Addr::new(10, 0, 1, last).into(), format!("2001:db8:1::{last}").parse().unwrap()]
    };
    Network::new([("web", host(10)), ("app", host(20)), ("db", host(30))]).unwrap()
}

/// The policy number so much. Each has an allow of its own; and by turns the allow of the short
/// connections has another service, other peers or another name, and that of the long ones is
/// missing. The short ones are allowed in all of them.
fn policy(number: usize) -> String {
    let long = match number % 5 {
        3 => "",
        _ => {
            "[[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/7000\"\n\
             [[allow]]\nfrom = \"app\"\nto = \"db\"\nservice = \"tcp/7000\"\n"
        }
    };
    let service = ["\"tcp/8080\"", "[\"tcp/8000-8100\", \"udp/53\"]"][usize::from(number % 5 == 1)];
    let from = ["\"web\"", "[\"web\", \"db\"]"][usize::from(number % 5 == 2)];
    let name = ["served", "served in another name"][usize::from(number % 5 == 4)];
    let own = 10_000 + number;
    format!(
        "role = \"app\"\nwatch = \"all\"\n[tiers]\nweb = {{ file = \"web.list\" }}\n\
         app = [\"10.0.1.20\", \"2001:db8:1::20\"]\ndb = [\"10.0.1.30\", \"2001:db8:1::30\"]\n\
         {long}\
         [[allow]]\nname = \"{name}\"\nfrom = {from}\nto = \"app\"\nservice = {service}\n\
         [[allow]]\nfrom = \"app\"\nto = \"db\"\nservice = {service}\n\
         [[allow]]\nfrom = \"web\"\nto = \"app\"\nservice = \"tcp/{own}\"\n"
    )
}

/// The list number so much. The host that connects is always a member, by turns as itself, as part
/// of a prefix, of a range, and of several members that overlap: its element is exchanged for
/// another one again and again.
fn members(number: usize) -> String {
    let mut list = String::new();
    list += match number % 4 {
        0 => "10.0.1.10\n",
        1 => "10.0.1.0/28\n",
        2 => "10.0.1.9-10.0.1.12\n",
        _ => "10.0.1.10\n10.0.1.10/31\n10.0.0.0/23\n10.0.1.11\n",
    };
    list += ["2001:db8:1::10\n", "2001:db8:1::/64\n", "2001:db8::/32\n"][number % 3];
    for other in 0..200 {
        if other % 7 != number % 7 {
            let _ = writeln!(list, "10.9.{other}.0/25");
        }
    }
    let _ = writeln!(list, "{}", Ipv4Addr::from_bits(0xc612_0000 + 2 * number as u32));
    list
}

/// What the edits are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Members,
    Rules,
}

/// Makes edits, each as soon as the one before has reached the kernel: exactly one transaction.
fn edit(kind: Kind, count: usize, server: &Server, daemon: &Daemon, monitor: &mut Monitor) {
    for number in 1..=count {
        match kind {
            Kind::Members => server.replace("web.list", members(number)).unwrap(),
            Kind::Rules => server.replace("tierwall.toml", policy(number)).unwrap(),
        }
        let transaction = monitor.next(&format!("{kind:?} {number}\n{}", daemon.log()));
        let elements = elements_only(&transaction);
        let tiers = ["web_v4", "web_v6", "app_v4", "app_v6", "db_v4", "db_v6"];
        match (kind, elements) {
            (Kind::Members, Some(sets)) => assert!(sets.contains_key("web_v4"), "{transaction}"),
            (Kind::Rules, None) => {
                let is_member = |change: &netlink::Change| match &change.object {
                    netlink::Object::Elements { set, .. } => tiers.contains(&set.as_str()),
                    netlink::Object::Table => true,
                    _ => false,
                };
                assert!(!transaction.changes.iter().any(is_member), "{transaction}");
            }
            _ => panic!("{kind:?} {number}: {transaction}"),
        }
    }
    assert_eq!(monitor.heard(), None, "one edit, one transaction");
}

fn assert_calm(what: &str, traffic: Traffic, start: Instant) {
    let Traffic { exchanges, opened, longest } = traffic;
    println!(
        "{what}: {exchanges} exchanges, {opened} connections opened, longest {longest:.1?}, in {:.1?}",
        start.elapsed()
    );
    assert!(exchanges > 0 && opened > 0, "{what}: there was no load");
    assert!(longest < STALL, "{what}: something took {longest:?}");
}

#[test]
fn edits_under_load_disturb_nothing() {
    let network = network();
    let (web, app, db) = (network.host("web"), network.host("app"), network.host("db"));
    let server = Server::new(app, &policy(0)).unwrap();
    server.write("web.list", members(0)).unwrap();
    let daemon = server.start(&[]).unwrap();
    let mut load = Load::new();
    for port in [LONG, SHORT] {
        load.serve(app, port);
        load.serve(db, port);
    }
    for (from, to) in [(web, app), (app, db)] {
        load.keep_connected(from, to, LONG);
        load.keep_connecting(from, to, SHORT);
    }
    let start = Instant::now();
    thread::sleep(Duration::from_millis(500));
    assert_calm("without edits", load.since_last(), start);

    let mut monitor = Monitor::open(app);
    for (kind, count) in [(Kind::Members, scaled(200, 1000)), (Kind::Rules, scaled(30, 100))] {
        let start = Instant::now();
        edit(kind, count, &server, &daemon, &mut monitor);
        // What was under way during the last edit.
        thread::sleep(Duration::from_millis(50));
        assert_calm(&format!("{count} edits of {kind:?}"), load.since_last(), start);
        load.assert_unbroken();
    }
    // A first packet that was dropped and sent again would only have taken long.
    load.assert_nothing_denied(&kernel::packets(app));
    drop(load);
    drop(daemon);
}
