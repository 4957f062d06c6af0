//! Numbers of packets, against packets that were sent.

use super::scrape::Scrape;
use super::{POLICY, network, server, wait_for};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;
use tierwall_tests::network::Host;
use tierwall_tests::source_port;

const SERVER: [u8; 4] = [10, 0, 0, 1];

/// Sends datagrams to a port, from as many ports as there are numbers: so many from each.
fn send(from: &Host, to: IpAddr, port: u16, datagrams: &[usize]) {
    from.namespace.run(|| {
        let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        for times in datagrams {
            let socket = UdpSocket::bind((any, source_port::fresh())).unwrap();
            for _ in 0..*times {
                // Refused at once where this host's own rules do.
                let _ = socket.send_to(b"?", (to, port));
            }
        }
    });
}

/// Connections and retries of a label set.
fn counted(scrape: &Scrape, what: &str, labels: [&str; 6]) -> (u64, u64) {
    let names = ["direction", "reason", "source_tier", "destination_tier", "service", "user"];
    let labels: Vec<(&str, &str)> = names.into_iter().zip(labels).collect();
    let number = |unit: &str| scrape.number(&format!("tierwall_{what}_{unit}_total"), &labels);
    (number("connections"), number("retries"))
}

/// Packets denied = read + lost + held back, on all sides together.
fn is_accounted_for(scrape: &Scrape) -> bool {
    let sum = |name: &str| scrape.sum(&format!("tierwall_{name}_packets_total"), &[]);
    let closing = sum("denied") + sum("would_deny") + sum("invalid");
    let labelled: u64 = ["denied_connections", "denied_retries"]
        .into_iter()
        .chain(["would_deny_connections", "would_deny_retries"])
        .map(|name| scrape.sum(&format!("tierwall_{name}_total"), &[]))
        .sum();
    closing == sum("log_read") + sum("log_lost") + sum("log_held_back")
        && labelled + sum("log_unknown") == sum("log_read")
}

#[test]
fn denied_connections_are_those_that_were_sent() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    let to: IpAddr = SERVER.into();
    send(network.host("peer"), to, 53, &[1, 3, 1]);
    send(network.host("peer"), to, 40_000, &[1]);
    send(network.host("peer"), to, 40_001, &[2]);
    send(network.host("peer"), "fd00::1".parse().unwrap(), 53, &[1]);
    send(network.host("both"), to, 53, &[1]);
    send(network.host("stranger"), to, 123, &[4, 1]);
    // Root may ask for names, but not for the time; nobody else may at all.
    let host = network.host("server");
    send(host, [10, 0, 0, 2].into(), 53, &[1]);
    send(host, [10, 0, 0, 2].into(), 123, &[1, 2]);
    let mut nobody = Command::new("bash");
    nobody.args(["-c", "echo > /dev/udp/10.0.0.77/53"]).uid(65_534).gid(65_534);
    assert!(!server.run(&mut nobody).unwrap().status.success());

    let scrape = wait_for(&server, |scrape| {
        scrape.sum("tierwall_log_read_packets_total", &[]) >= 19 && is_accounted_for(scrape)
    });
    let denied = |labels| counted(&scrape, "denied", labels);
    let input = |tier, service| denied(["input", "no-allow", tier, "server", service, ""]);
    // Both families in one.
    assert_eq!(input("peers", "udp/53"), (4, 2), "{}", scrape.text);
    assert_eq!(input("peers", "udp/other"), (2, 1));
    assert_eq!(input("peers,second", "udp/53"), (1, 0));
    assert_eq!(input("", "udp/123"), (2, 3));
    assert_eq!(denied(["output", "no-allow", "server", "peers", "udp/123", "root"]), (2, 1));
    assert_eq!(denied(["output", "no-allow", "server", "", "udp/53", "65534"]), (1, 0));
    assert_eq!(scrape.with("tierwall_denied_connections_total", &[]).len(), 6, "{}", scrape.text);
    assert_eq!(scrape.sum("tierwall_denied_packets_total", &[("direction", "input")]), 15);
    assert_eq!(scrape.sum("tierwall_denied_packets_total", &[("direction", "output")]), 4);
    assert_eq!(scrape.sum("tierwall_log_lost_packets_total", &[]), 0);
    assert_eq!(scrape.sum("tierwall_log_held_back_packets_total", &[]), 0);
    assert_eq!(scrape.sum("tierwall_log_packets_total", &[("direction", "input")]), 15);
    assert_eq!(scrape.number("tierwall_log_reading", &[]), 1);
    // What an allow let through.
    assert_eq!(scrape.number("tierwall_allow_packets_total", &[("allow", "names")]), 1);
    assert_eq!(scrape.number("tierwall_allow_bytes_total", &[("allow", "names")]), 29);
    daemon.stop().unwrap();
}

#[test]
fn what_would_be_denied_is_told_apart() {
    let network = network();
    let observing = format!("mode = {{ input = \"observe\", output = \"enforce\" }}\n{POLICY}");
    let server = server(network.host("server"), &observing);
    let daemon = server.start(&[]).unwrap();
    send(network.host("peer"), SERVER.into(), 40_000, &[1, 2]);
    let scrape = wait_for(&server, |scrape| {
        scrape.sum("tierwall_would_deny_retries_total", &[]) > 0 && is_accounted_for(scrape)
    });
    let labels = ["input", "no-allow", "peers", "server", "udp/other", ""];
    assert_eq!(counted(&scrape, "would_deny", labels), (2, 1));
    assert_eq!(scrape.sum("tierwall_would_deny_packets_total", &[("direction", "input")]), 3);
    // The ICMP errors that answer are related to what came in.
    assert_eq!(scrape.sum("tierwall_denied_packets_total", &[]), 0, "{}", scrape.text);
    daemon.stop().unwrap();
}

#[test]
fn allow_hits_are_connections_and_outlive_a_change_of_rules() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    let address = SocketAddr::from((SERVER, 8080));
    let listener = network.host("server").namespace.run(|| TcpListener::bind(address).unwrap());
    let connect = || {
        let stream = network.host("peer").namespace.run(|| TcpStream::connect(address).unwrap());
        listener.accept().unwrap();
        stream
    };
    let hits = |scrape: &Scrape| {
        scrape.number("tierwall_allow_packets_total", &[("allow", "peers -> server tcp/8080")])
    };
    let _open = [connect(), connect(), connect()];
    assert_eq!(hits(&Scrape::of(&server)), 3);
    let more = "[[allow]]\nfrom = \"second\"\nto = \"server\"\nservice = \"tcp/8081\"\n";
    server.replace_policy(&format!("{POLICY}{more}")).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    let _more = [connect(), connect()];
    let scrape = Scrape::of(&server);
    assert_eq!(hits(&scrape), 5);
    let new =
        scrape.number("tierwall_allow_packets_total", &[("allow", "second -> server tcp/8081")]);
    assert_eq!(new, 0);
    daemon.stop().unwrap();
    // They are the kernel's, and count on.
    let daemon = server.start(&[]).unwrap();
    assert_eq!(hits(&Scrape::of(&server)), 5);
    daemon.stop().unwrap();
}

/// Tiers and services of which there are more pairs than a series for each.
const TIERS: u32 = 120;
const PORTS: [u16; 12] = [21, 22, 23, 25, 53, 80, 111, 135, 139, 389, 443, 445];

/// Sends a TCP SYN from an address of each tier to each port.
fn knock_from_everywhere(from: &Host, port: u16) {
    from.namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
        socket.set_header_included_v4(true).unwrap();
        let to = SocketAddr::from((SERVER, 0)).into();
        for tier in 0..TIERS {
            for service in PORTS {
                let source = Ipv4Addr::from_bits(0x0b00_0001 + 256 * tier).octets();
                let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0];
                packet.extend(source);
                packet.extend(SERVER);
                packet.extend(port.to_be_bytes());
                packet.extend(service.to_be_bytes());
                packet.extend([0, 8, 0, 0]);
                match socket.send_to(&packet, &to) {
                    Err(error) if error.kind() != ErrorKind::WouldBlock => panic!("{error}"),
                    _ => {}
                }
            }
        }
    });
}

/// More label sets than have a series: none that was seen goes down or away, and the sum of all is
/// what was read.
#[test]
fn counters_never_go_down_in_a_flood() {
    let network = network();
    let tiers = (0..TIERS).map(|tier| format!("t{tier} = [\"11.0.{tier}.0/24\"]\n"));
    let known = PORTS.map(|port| format!("\"udp/{port}\"")).join(", ");
    let policy = format!(
        "role = \"server\"\n[tiers]\nserver = [\"10.0.0.1\"]\nnone = [\"10.9.9.9\"]\n{}\
         [[allow]]\nfrom = \"none\"\nto = \"server\"\nservice = [{known}]\n",
        tiers.collect::<String>()
    );
    let server = server(network.host("server"), &policy);
    let daemon = server.start(&[]).unwrap();
    let before = daemon.memory().unwrap();
    let mut last = Scrape::of(&server);
    for round in 0..6 {
        knock_from_everywhere(network.host("peer"), 4000 + round % 2);
        if round == 3 {
            // Other words for the same do no harm.
            server.replace_policy(&policy.replace("11.0.7.0/24", "11.0.7.0/25")).unwrap();
        }
        let scrape = wait_for(&server, is_accounted_for);
        let now = scrape.counters();
        for (name, value) in last.counters() {
            assert!(now.get(&name).is_some_and(|now| *now >= value), "{name} was {value}");
        }
        last = scrape;
        std::thread::sleep(Duration::from_millis(50));
    }
    let series = last.with("tierwall_denied_connections_total", &[]);
    assert_eq!(series.len(), 1001);
    let other = [("source_tier", "other"), ("service", "other"), ("user", "other")];
    assert!(last.sum("tierwall_denied_connections_total", &other) > 0);
    assert!(last.sum("tierwall_log_read_packets_total", &[]) > 1440);
    let grown = daemon.memory().unwrap().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more after a flood");
    daemon.stop().unwrap();
}
