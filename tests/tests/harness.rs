//! The probes themselves: whether they see what plain `nft` rules do to a connection.
//!
//! What the other tests say about tierwall is worth as much as this.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::time::Duration;
use tierwall_tests::listener::Listener;
use tierwall_tests::network::{Host, Network};
use tierwall_tests::probe::{self, DENIED_LIMIT, OPEN_LIMIT, Probe};
use tierwall_tests::service::Service;
use tierwall_tests::verdict::Denial::{NotPermitted, Refused, Silence, Unreachable};
use tierwall_tests::verdict::Verdict::{self, Denied, Open, Stalled};

/// On the side of the asked one.
const INPUT: &str = "
table inet filter {
    chain input {
        type filter hook input priority filter; policy accept;
        th dport 1001 drop
        tcp dport 1002 reject with tcp reset
        th dport 1003 reject with icmpx port-unreachable
        th dport 1004 reject with icmpx admin-prohibited
        meta l4proto 112 drop
    }
    chain output {
        type filter hook output priority filter; policy accept;
        th sport 1005 drop
    }
}";

/// On the side of the asking one.
const OUTPUT: &str = "
table inet filter {
    chain output {
        type filter hook output priority filter; policy accept;
        th dport 2001 drop
        tcp dport 2002 reject with tcp reset
        th dport 2003 reject with icmpx port-unreachable
        th dport 2004 reject with icmpx admin-prohibited
        th dport 2005 meta skuid nobody drop
        th dport 2006 meta skuid != nobody reject
    }
}";

/// Service, user, and what a probe of it meets, over IPv4 and IPv6 alike.
const CASES: &[(&str, Option<&str>, Verdict)] = &[
    ("tcp/1000", None, Open),
    ("udp/1000", None, Open),
    ("esp", None, Open),
    // Input: strangers.
    ("tcp/1001", None, Denied(Silence)),
    ("udp/1001", None, Denied(Silence)),
    ("tcp/1002", None, Denied(Refused)),
    ("tcp/1003", None, Denied(Refused)),
    ("udp/1003", None, Denied(Refused)),
    ("tcp/1004", None, Denied(Unreachable)),
    ("udp/1004", None, Denied(Unreachable)),
    ("vrrp", None, Denied(Silence)),
    // The answer is lost: a TCP handshake isn't completed, but a datagram did arrive.
    ("tcp/1005", None, Denied(Silence)),
    ("udp/1005", None, Stalled),
    // Output: this host's own programs. TCP ignores the EPERM of its first segment.
    ("tcp/2001", None, Denied(Silence)),
    ("udp/2001", None, Denied(NotPermitted)),
    ("tcp/2002", None, Denied(Refused)),
    ("tcp/2003", None, Denied(Refused)),
    ("udp/2003", None, Denied(Refused)),
    ("tcp/2004", None, Denied(Unreachable)),
    ("udp/2004", None, Denied(Unreachable)),
    // By user.
    ("tcp/2005", None, Open),
    ("udp/2005", None, Open),
    ("tcp/2005", Some("nobody"), Denied(Silence)),
    ("udp/2005", Some("nobody"), Denied(NotPermitted)),
    ("tcp/2006", None, Denied(Refused)),
    ("udp/2006", None, Denied(Refused)),
    ("tcp/2006", Some("nobody"), Open),
    ("udp/2006", Some("nobody"), Open),
];

fn addresses(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|address| address.parse().unwrap()).collect()
}

fn two_hosts() -> Network {
    Network::new([
        ("asking", addresses(&["10.0.0.1", "2001:db8::1"])),
        ("asked", addresses(&["203.0.113.7", "2001:db8:ffff::7"])),
    ])
    .unwrap()
}

fn load(host: &Host, rules: &str) {
    host.namespace.command_with_input("nft", &["-f", "-"], rules).unwrap();
}

#[test]
fn probes_see_what_rules_do() {
    let network = two_hosts();
    let (asking, asked) = (network.host("asking"), network.host("asked"));
    let services: Vec<Service> = {
        let mut names: Vec<&str> = CASES.iter().map(|(service, ..)| *service).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(|name| name.parse().unwrap()).collect()
    };
    let listener = Listener::start(asked, &services).unwrap();
    let probes = |limit: fn(Verdict) -> Duration| -> Vec<(Probe, Verdict)> {
        let each = CASES.iter().flat_map(|case| asked.addresses.iter().map(move |to| (case, *to)));
        each.map(|((service, user, expected), to)| {
            let probe = Probe::new(to, service.parse().unwrap(), limit(*expected));
            (Probe { user: user.map(String::from), ..probe }, *expected)
        })
        .collect()
    };
    let run = |probes: &[(Probe, Verdict)]| {
        let attempts: Vec<probe::Attempt<'_>> =
            probes.iter().map(|(probe, _)| (probe, asking, &listener)).collect();
        probe::run_all(&attempts).unwrap()
    };

    for (outcome, (probe, _)) in run(&probes(|_| OPEN_LIMIT)).iter().zip(probes(|_| OPEN_LIMIT)) {
        assert_eq!(outcome.verdict, Open, "without rules: {probe:?}");
    }

    load(asked, INPUT);
    load(asking, OUTPUT);
    // Silence alone is waited for; everything else has to be known long before its limit.
    let with_rules = probes(|expected| match expected {
        Denied(Silence) | Stalled => DENIED_LIMIT,
        _ => OPEN_LIMIT,
    });
    for (outcome, (probe, expected)) in run(&with_rules).iter().zip(&with_rules) {
        assert_eq!(outcome.verdict, *expected, "{probe:?}");
        match expected {
            // The kernel's clock for connect() has a coarser grain.
            Denied(Silence) | Stalled => {
                assert!(outcome.duration > DENIED_LIMIT * 9 / 10, "{outcome} for {probe:?}")
            }
            _ => assert!(outcome.duration < OPEN_LIMIT / 2, "{outcome} for {probe:?}"),
        }
    }
}

#[test]
fn a_port_without_a_listener_is_refused() {
    let network = two_hosts();
    let asked = network.host("asked");
    for service in ["tcp/1000", "udp/1000", "esp"] {
        for &address in &asked.addresses {
            let probe = Probe::new(address, service.parse().unwrap(), OPEN_LIMIT);
            let outcome = probe.run(network.host("asking")).unwrap();
            assert_eq!(outcome.verdict, Denied(Refused), "{service} on {address}");
        }
    }
}

#[test]
fn a_host_that_is_away_is_not_open() {
    let network = two_hosts();
    let nobody_there = "10.0.0.99".parse().unwrap();
    let probe = Probe::new(nobody_there, Service::Tcp(1000), DENIED_LIMIT);
    let outcome = probe.run(network.host("asking")).unwrap();
    assert_eq!(outcome.verdict, Denied(Silence));
}

#[test]
fn two_dozen_hosts_reach_each_other() {
    let names = (1..=24).map(|number| {
        let addresses = [format!("10.{number}.0.1"), format!("2001:db8:{number}::1")];
        (format!("host{number}"), addresses.iter().map(|a| a.parse().unwrap()).collect())
    });
    let network = Network::new(names).unwrap();
    let hosts = network.hosts();
    let services = [Service::Tcp(80), Service::Udp(53)];
    let listeners: Vec<Listener> =
        hosts.iter().map(|host| Listener::start(host, &services).unwrap()).collect();
    let mut probes = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        let next = (index + 1) % hosts.len();
        for &address in &hosts[next].addresses {
            for service in services {
                probes.push((Probe::new(address, service, OPEN_LIMIT), host, &listeners[next]));
            }
        }
    }
    let attempts: Vec<probe::Attempt<'_>> =
        probes.iter().map(|(probe, host, listener)| (probe, *host, *listener)).collect();
    for (outcome, (probe, host, _)) in probe::run_all(&attempts).unwrap().iter().zip(&attempts) {
        assert_eq!(outcome.verdict, Open, "{} -> {probe:?}", host.name);
    }
}

#[test]
fn a_second_address_is_on_a_second_interface() {
    let network = Network::new([
        ("asking", addresses(&["10.0.0.1", "2001:db8::1"])),
        ("asked", addresses(&["10.0.0.2", "2001:db8::2", "172.16.0.2", "fd00::2"])),
    ])
    .unwrap();
    let (asking, asked) = (network.host("asking"), network.host("asked"));
    load(
        asked,
        "
        table inet filter {
            chain input {
                type filter hook input priority filter; policy accept;
                iifname eth1 tcp dport 80 reject with tcp reset
            }
        }",
    );
    let _listener = Listener::start(asked, &[Service::Tcp(80)]).unwrap();
    for (address, expected) in [
        ("10.0.0.2", Open),
        ("2001:db8::2", Open),
        ("172.16.0.2", Denied(Refused)),
        ("fd00::2", Denied(Refused)),
    ] {
        let probe = Probe::new(address.parse().unwrap(), Service::Tcp(80), OPEN_LIMIT);
        assert_eq!(probe.run(asking).unwrap().verdict, expected, "{address}");
    }
}
