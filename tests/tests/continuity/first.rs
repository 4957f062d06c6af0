//! Connections that are older than the policy: opened before the daemon started, while it did, or
//! while its table was away. None is allowed by the policy; all go on.

use crate::connections::{Connected, Door, Form, carry_data};
use crate::kernel::{self, Monitor};
use crate::random::Random;
use crate::scaled;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;

/// The server, and another host that no allow names.
fn network() -> Network {
    let addresses =
        |v4: &str, v6: &str| -> Vec<IpAddr> { vec![v4.parse().unwrap(), v6.parse().unwrap()] };
    Network::new([
        ("server", addresses("10.0.1.20", "2001:db8:1::20")),
        ("peer", addresses("10.0.1.30", "2001:db8:1::30")),
    ])
    .unwrap()
}

fn policy(mode: &str) -> String {
    format!(
        "role = \"app\"\nmode = \"{mode}\"\n\
         [tiers]\nadmin = [\"10.0.9.1\"]\napp = [\"10.0.1.20\"]\n\
         [[allow]]\nfrom = \"admin\"\nto = \"app\"\nservice = \"tcp/22\"\n"
    )
}

/// A place to open connections at, and who opens them.
type Way<'a> = (Door, &'a Host);

/// In both directions, in every form of addresses, and on the server itself.
fn ways(network: &Network) -> Vec<Way<'_>> {
    let (server, peer) = (network.host("server"), network.host("peer"));
    let inbound = Form::ALL.map(|form| (Door::inbound(server, form), peer));
    let outbound = Form::ALL.map(|form| (Door::outbound(peer, form), server));
    let own = (Door::inbound(server, Form::V4), server);
    inbound.into_iter().chain(outbound).chain([own]).collect()
}

fn open(ways: &[Way<'_>], each: usize) -> Vec<Connected> {
    let open = |(door, from): &Way<'_>| -> Vec<Connected> {
        (0..each).map(|number| door.open(from, number)).collect()
    };
    ways.iter().flat_map(open).collect()
}

/// That the policy denies what it must: a new connection of each way between the hosts.
fn assert_enforced(ways: &[Way<'_>]) {
    let denied = |(door, from): &Way<'_>| door.open_or_denied(from, 0).is_none();
    thread::scope(|scope| {
        let probes: Vec<_> = ways[..6].iter().map(|way| scope.spawn(|| denied(way))).collect();
        for probe in probes {
            assert!(probe.join().unwrap(), "a new connection is let through: nothing is proved");
        }
    });
}

fn tierwall(server: &Server, arguments: &[&str]) {
    let output = server.tierwall(arguments).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "tierwall {arguments:?}: {stderr}");
}

#[test]
fn connections_survive_the_first_enforcement_and_all_that_follows() {
    let network = network();
    let server = Server::new(network.host("server"), &policy("enforce")).unwrap();
    let ways = ways(&network);
    let mut connections = open(&ways, 8);
    assert!(connections.len() >= 50);

    let daemon = server.start(&[]).unwrap();
    assert_enforced(&ways);
    carry_data(&mut connections, "after the first enforcement");

    daemon.stop().unwrap();
    carry_data(&mut connections, "without a daemon");
    let daemon = server.start(&[]).unwrap();
    carry_data(&mut connections, "after a restart");

    daemon.kill().unwrap();
    carry_data(&mut connections, "after kill -9");
    let daemon = server.start(&[]).unwrap();
    carry_data(&mut connections, "after a start that follows kill -9");
    assert_enforced(&ways);

    tierwall(&server, &["teardown"]);
    carry_data(&mut connections, "after teardown");
    connections.extend(open(&ways, 2));
    tierwall(&server, &["reload"]);
    assert_enforced(&ways);
    carry_data(&mut connections, "after the reload that follows teardown");
    drop(daemon);
}

#[test]
fn connections_survive_a_change_of_modes() {
    let network = network();
    let server = Server::new(network.host("server"), &policy("observe")).unwrap();
    let ways = ways(&network);
    // Without a packet while the policy observes: nothing but their sockets tells of them.
    let mut idle = open(&ways, 2);
    let daemon = server.start(&[]).unwrap();
    let mut connections = open(&ways, 2);
    carry_data(&mut connections, "while it observes");

    server.replace("tierwall.toml", policy("enforce")).unwrap();
    tierwall(&server, &["reload"]);
    assert_enforced(&ways);
    connections.append(&mut idle);
    carry_data(&mut connections, "after observe became enforce");

    server.replace("tierwall.toml", policy("observe")).unwrap();
    tierwall(&server, &["reload"]);
    carry_data(&mut connections, "after enforce became observe");
    connections.extend(open(&ways, 2));

    server.replace("tierwall.toml", policy("enforce")).unwrap();
    tierwall(&server, &["reload"]);
    assert_enforced(&ways);
    carry_data(&mut connections, "enforced again");

    // One side at a time, from a side that tracks nothing.
    for mode in ["off", "enforce"] {
        server.replace("tierwall.toml", policy(mode)).unwrap();
        tierwall(&server, &["reload"]);
        carry_data(&mut connections, &format!("after the mode became {mode}"));
    }
    assert_enforced(&ways);
    drop(daemon);
}

/// Opens connections until the policy denies them.
fn open_until_denied((door, from): &Way<'_>, stop: &AtomicBool) -> Vec<Connected> {
    let mut opened = Vec::new();
    while let Some(connection) = door.open_or_denied(from, opened.len()) {
        opened.push(connection);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    opened
}

#[test]
fn connections_survive_that_are_opened_while_the_daemon_starts() {
    for round in 0..scaled(2, 20) {
        let network = network();
        let server = Server::new(network.host("server"), &policy("enforce")).unwrap();
        let ways = ways(&network);
        let stop = AtomicBool::new(false);
        let (daemon, mut connections) = thread::scope(|scope| {
            let stop = &stop;
            let open = |way| scope.spawn(move || open_until_denied(way, stop));
            let opening: Vec<_> = ways.iter().map(open).collect();
            thread::sleep(Duration::from_millis(10));
            let daemon = server.start(&[]);
            // The server's own connections over loopback are never denied.
            stop.store(true, Ordering::Relaxed);
            let opened = opening.into_iter().flat_map(|thread| thread.join().unwrap());
            (daemon.unwrap(), opened.collect::<Vec<_>>())
        });
        assert_enforced(&ways);
        println!("round {round}: {} connections opened meanwhile", connections.len());
        carry_data(&mut connections, "opened while the daemon started");
        drop(daemon);
    }
}

#[test]
fn connections_survive_a_first_enforcement_that_is_killed() {
    let mut random = Random::new();
    for round in 0..scaled(6, 60) {
        let network = network();
        let server = Server::new(network.host("server"), &policy("enforce")).unwrap();
        let ways = ways(&network);
        let mut connections = open(&ways, 2);
        let mut monitor = Monitor::open(server.host());
        let after = Duration::from_micros(random.below(5_000) as u64);
        server
            .start_and_kill(|| {
                // At once after the table began to observe, or a little later.
                monitor.next("the first transaction");
                if round % 2 == 1 {
                    thread::sleep(after);
                }
            })
            .unwrap();
        let left = kernel::dump(server.host()).ruleset.table.unwrap();
        let policy = left.chains["input"].base.as_ref().unwrap().policy;
        println!("round {round}: killed with the policy {policy:?}");
        let daemon = server.start(&[]).unwrap();
        assert_enforced(&ways);
        carry_data(&mut connections, &format!("round {round}: killed in its first enforcement"));
        drop(daemon);
    }
}
