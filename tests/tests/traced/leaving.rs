//! A trace leaves nothing behind, however it ends.

use super::{network, server, trace};
use nix::sys::signal::{Signal, kill};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::kernel::Kernel;
use tierwall_tests::server::Server;

/// How long the kernel may take: it destroys the table from a work queue.
const GONE: Duration = Duration::from_secs(10);

fn listing(server: &Server) -> String {
    Kernel::of(server.host()).unwrap().listing
}

fn wait_until_as(before: &str, server: &Server) {
    let start = Instant::now();
    while listing(server) != before {
        assert!(start.elapsed() < GONE, "{}", listing(server));
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killed_it_leaves_the_ruleset_as_it_was() {
    let network = network();
    let server = server(&network);
    for daemon in [None, Some(server.start(&[]).unwrap())] {
        let before = listing(&server);
        let trace = trace(&server, "--from any");
        assert!(listing(&server).contains(&format!("table inet {}", trace.table)));
        assert!(!trace.kill().unwrap().success());
        wait_until_as(&before, &server);
        drop(daemon);
    }
}

#[test]
fn interrupted_it_leaves_the_ruleset_as_it_was() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let before = listing(&server);
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut trace = trace(&server, "--from any --for 1h");
        kill(trace.id(), signal).unwrap();
        trace.rest().unwrap();
        wait_until_as(&before, &server);
    }
    let mut ended = trace(&server, "--from any --for 10ms");
    ended.rest().unwrap();
    wait_until_as(&before, &server);
    daemon.stop().unwrap();
}

#[test]
fn two_at_once_are_in_nobodys_way() {
    let network = network();
    let server = server(&network);
    let before = listing(&server);
    let (one, other) = (trace(&server, "--from any"), trace(&server, "--to any --service udp/1"));
    assert_ne!(one.table, other.table);
    one.stop().unwrap();
    assert!(listing(&server).contains(&other.table));
    other.stop().unwrap();
    wait_until_as(&before, &server);
}
