//! Packets of TCP connections that connection tracking forgot, whatever names the service.

mod common;

use common::OPTIONS;
use ruleset::evaluate::{Binding, Outcome, Packet};
use ruleset::{Flags, Hook, Reject, Table, Transport};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use tierwall_policy::{Host, Role, compile, load_text};

/// The table of a server of `app` with one allow, between it and `db`.
fn table(from: &str, to: &str, service: &str) -> Table {
    table_of("", from, to, service)
}

/// The same with settings.
fn table_of(settings: &str, from: &str, to: &str, service: &str) -> Table {
    let text = format!(
        "{settings}role = \"app\"\n[tiers]\napp = [\"10.0.0.1\"]\ndb = [\"10.0.0.2\"]\n\
         [[allow]]\nfrom = \"{from}\"\nto = \"{to}\"\nservice = {service}\n"
    );
    let policy = load_text(Path::new("test.toml"), text, &OPTIONS).policy.expect("it is good");
    let role = Role { tiers: ["app".to_owned()].into(), auto: false };
    let host = Host { role: &role, users: &BTreeMap::new(), previous: None };
    compile(&policy, host).table.expect("a table")
}

/// What the side that accepted a connection to port 5432 sends within it.
fn within(hook: Hook, flags: u8, socket: Binding) -> Packet {
    let end = |host: u8, port| SocketAddr::from(([10, 0, 0, host], port));
    let (from, to) = match hook {
        Hook::Input => (end(2, 5432), end(1, 40_000)),
        _ => (end(1, 5432), end(2, 40_000)),
    };
    let first = Packet::opening(hook, Transport::Tcp, from, to);
    Packet { tcp_flags: flags, socket: Some(socket), ..first }
}

#[test]
fn the_side_that_accepted_goes_on_by_what_opens_nothing() {
    for service in ["\"tcp/5432\"", "\"tcp/5000-6000\"", "\"tcp\"", "\"any\""] {
        for (hook, from, to) in [(Hook::Input, "app", "db"), (Hook::Output, "db", "app")] {
            let table = table(from, to, service);
            let passes = |flags, socket| {
                let packet = within(hook, flags, socket);
                table.evaluate(&packet).outcome == Outcome::Accept
            };
            for flags in [Flags::ACK, Flags::ACK | Flags::FIN] {
                assert!(passes(flags, Binding::Address), "{service} {hook} {flags}");
            }
            // What could open one, or ends one.
            for flags in [Flags::SYN, Flags::SYN | Flags::ACK, Flags::RST | Flags::ACK, 0] {
                assert!(!passes(flags, Binding::Address), "{service} {hook} {flags}");
            }
            // A listener of all addresses has no connection.
            let is_sent = hook == Hook::Output;
            assert_eq!(passes(Flags::ACK, Binding::Wildcard), is_sent, "{service} {hook}");
        }
    }
}

/// A reset would end what the other side still takes for open.
#[test]
fn nothing_but_what_opens_a_connection_is_answered_with_a_reset() {
    let reject = "deny = \"reject\"\n";
    for (hook, from, to) in [(Hook::Input, "app", "db"), (Hook::Output, "db", "app")] {
        let table = table_of(reject, from, to, "\"tcp/1\"");
        let ends = |flags| table.evaluate(&within(hook, flags, Binding::Address)).outcome;
        assert_eq!(ends(Flags::SYN), Outcome::Reject(Reject::TcpReset), "{hook}");
        for flags in [Flags::ACK, Flags::SYN | Flags::ACK, Flags::RST, Flags::FIN | Flags::ACK] {
            assert_eq!(ends(flags), Outcome::Drop, "{hook} {flags}");
        }
    }
}
