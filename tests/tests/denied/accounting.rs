//! Every packet is accounted for: read, lost, or held back by a rate limit.

use super::{POLICY, denied, network, server, wait_for};
use control::{DenialFate, Denials, Direction, LimitCount};
use nix::sys::signal::Signal;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;
use tierwall_tests::source_port;

/// Sends datagrams to a port of the server, from one port of the host.
pub(super) fn send(host: &Host, port: u16, count: usize) {
    host.namespace.run(|| {
        let socket = UdpSocket::bind(("10.0.0.2", source_port::fresh())).unwrap();
        for _ in 0..count {
            socket.send_to(b"?", (Ipv4Addr::new(10, 0, 0, 1), port)).unwrap();
        }
    });
}

/// Sends a datagram from each of as many addresses as the host likes to claim.
pub(super) fn send_from_everywhere(host: &Host, sources: u32) {
    host.namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
        socket.set_header_included_v4(true).unwrap();
        let to = SocketAddr::from(([10, 0, 0, 1], 0)).into();
        for number in 0..sources {
            let source = Ipv4Addr::from_bits(0x0b00_0000 + number).octets();
            // The kernel fills in the checksum of the header; of UDP 0 is none.
            let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
            packet.extend(source);
            packet.extend([10, 0, 0, 1, 0x9c, 0x40, 0x0b, 0xb8, 0, 8, 0, 0]);
            socket.send_to(&packet, &to).unwrap();
        }
    });
}

pub(super) fn input(answer: &Denials) -> &LimitCount {
    answer.losses.limits.iter().find(|limit| limit.direction == Direction::Input).unwrap()
}

/// Sent = read + lost + held back.
pub(super) fn is_accounted_for(answer: &Denials, sent: u64) -> bool {
    let limit = input(answer);
    let losses = &answer.losses;
    limit.packets == sent
        && limit.logged + limit.held_back == sent
        && losses.read + losses.lost == limit.logged
}

#[test]
fn what_the_limit_of_a_peer_holds_back_is_counted() {
    const SENT: usize = 5000;
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    send(network.host("peer"), 3000, SENT);
    let answer = wait_for(&server, &[], |answer| is_accounted_for(answer, SENT as u64));
    assert!(input(&answer).held_back > 0, "{answer:#?}");
    assert_eq!((answer.losses.lost, answer.losses.unknown), (0, 0));

    let [group] = &answer.groups[..] else { panic!("{answer:#?}") };
    assert_eq!((group.direction, group.fate), (Direction::Input, DenialFate::Denied));
    assert_eq!(group.count.connections, 1);
    assert_eq!(group.count.retries + 1, answer.losses.read);
    assert_eq!(group.service.as_deref(), Some("udp/3000"));
    assert_eq!(group.source, Some([10, 0, 0, 2].into()));
    assert_eq!(
        (&group.source_tiers[..], &group.destination_tiers[..]),
        (&["peers".to_owned()][..], &["server".to_owned()][..],)
    );
    assert_eq!((group.interface.as_deref(), group.user), (Some("eth0"), None));

    // Somebody else isn't hidden by it.
    network
        .host("peer")
        .namespace
        .command("ip", &["address", "add", "10.0.0.3/32", "dev", "eth0"])
        .unwrap();
    network.host("peer").namespace.run(|| {
        let socket = UdpSocket::bind("10.0.0.3:0").unwrap();
        socket.send_to(b"?", "10.0.0.1:3001").unwrap();
    });
    wait_for(&server, &["--by", "source"], |answer| answer.groups.len() == 2);
    daemon.stop().unwrap();
}

/// What was denied again and again is one connection: a handshake, until it is given up.
#[test]
fn the_retries_of_a_handshake_are_no_connections() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    network.host("peer").namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let to = SocketAddr::from(([10, 0, 0, 1], 22)).into();
        let patience = std::time::Duration::from_millis(3500);
        socket.connect_timeout(&to, patience).unwrap_err();
    });
    let answer = wait_for(&server, &[], |answer| !answer.groups.is_empty());
    let [group] = &answer.groups[..] else { panic!("{answer:#?}") };
    assert_eq!((group.service.as_deref(), group.count.connections), (Some("tcp/22"), 1));
    assert!(group.count.retries >= 1 && group.last > group.first, "{group:#?}");
    daemon.stop().unwrap();
}

#[test]
fn a_flood_from_everywhere_is_summed_up() {
    const SOURCES: u32 = 100_000;
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    let before = daemon.memory().unwrap();
    send_from_everywhere(network.host("peer"), SOURCES);
    let answer =
        wait_for(&server, &["--by", "service"], |answer| is_accounted_for(answer, SOURCES.into()));
    // The table of sources overflowed, the others didn't.
    let [group] = &answer.groups[..] else { panic!("{answer:#?}") };
    let counted = group.count.connections + group.count.retries;
    assert_eq!((counted, answer.rest.connections), (answer.losses.read, 0));
    let answer = denied(&server, &["--by", "source", "--limit", "100000"]);
    let groups: u64 = answer.groups.iter().map(|group| group.count.connections).sum();
    assert_eq!(groups + answer.rest.connections, answer.losses.read, "{answer:#?}");
    assert!(answer.groups.len() <= 1024 && answer.rest.connections > 0);
    let grown = daemon.memory().unwrap().saturating_sub(before);
    assert!(grown < 12 << 10, "{grown} KiB more after a flood");
    // It wrote a few lines of it.
    let lines = daemon.log().lines().filter(|line| line.contains("service=udp/3000")).count();
    assert!((1..200).contains(&lines), "{lines} lines:\n{}", daemon.log());
    daemon.stop().unwrap();
}

/// A rule without limits, in a table of our own, logs to the same group: while the daemon stands
/// still, its buffer overflows. What is missing then is counted, packet by packet.
#[test]
fn what_came_too_fast_is_counted_as_lost() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    let group = policy::LOG_GROUP;
    let rules = format!(
        "table inet unlimited {{ counter logged {{ }}\n chain early {{ type filter hook input priority -300;\n\
         udp dport 3000 counter name logged log prefix \"tierwall input denied\" group {group} drop\n }}\n }}\n"
    );
    let host = network.host("server");
    host.namespace.command_with_input("nft", &["-f", "-"], &rules).unwrap();
    daemon.signal(Signal::SIGSTOP).unwrap();
    send(network.host("peer"), 3000, 150_000);
    daemon.signal(Signal::SIGCONT).unwrap();
    let lossy = |answer: &Denials| {
        // The last ones that were lost show with the next one that isn't.
        send(network.host("peer"), 3000, 1);
        let logged = logged(&server);
        let losses = &denied(&server, &[]).losses;
        answer.losses.lost > 0 && losses.read + losses.lost == logged
    };
    let answer = wait_for(&server, &[], lossy);
    assert!(answer.losses.read > 10_000, "{answer:#?}");
    assert_eq!(super::status::status(&server).denials.lost, answer.losses.lost);
    for (command, told) in [("denied", "too fast to be counted here"), ("status", "came too fast")]
    {
        let text = server.tierwall(&[command]).unwrap();
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains(told), "{text}");
    }
    daemon.stop().unwrap();
}

/// What the rule without limits has logged.
fn logged(server: &Server) -> u64 {
    // The kernel hands over what it collected after a tenth of a second.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let arguments = ["-j", "list", "counter", "inet", "unlimited", "logged"];
    let listing = server.host().namespace.command("nft", &arguments).unwrap();
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    let objects = listing["nftables"].as_array().unwrap();
    objects.iter().find_map(|object| object["counter"]["packets"].as_u64()).unwrap()
}

/// Each way to sum up has the same sum.
#[test]
fn every_way_to_sum_up_has_the_same_sum() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    for port in 3000..3010 {
        send(network.host("peer"), port, 3);
    }
    wait_for(&server, &[], |answer| answer.losses.read == 30);
    for by in ["flow", "destination", "source", "user", "service", "tier", "generation"] {
        for since in ["1m", "1h", "24h", "48h"] {
            let answer = denied(&server, &["--by", by, "--since", since]);
            let sum: u64 = answer.groups.iter().map(|group| group.count.connections).sum();
            assert_eq!((sum, answer.left_out), (10, 0), "{by}, {since}: {answer:#?}");
        }
        let answer = denied(&server, &["--by", by, "--limit", "0"]);
        assert!(answer.groups.is_empty() && answer.left_out > 0, "{by}: {answer:#?}");
        assert_eq!(answer.totals[0].count.connections, 10);
        assert_eq!(answer.totals[0].minutes.iter().sum::<u32>(), 10);
    }
    let [group] = &denied(&server, &["--by", "tier"]).groups[..] else { panic!("one pair") };
    assert_eq!(
        (group.source_tiers.concat(), group.destination_tiers.concat()),
        ("peers".into(), "server".into())
    );
    daemon.stop().unwrap();
}
