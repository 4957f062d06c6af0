//! That headers are read as the kernel's rules see them, however they are wrapped.

use netlink::PacketLog;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tierwall_tests::namespace::Namespace;

const GROUP: u16 = 4321;
const PORT: u16 = 999;

/// Nobody's, so that no answer of the kernel is taken for one of the packets.
const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x99);

/// The rule that a packet matches says what the kernel takes it for.
fn rules() -> String {
    let log = |matches: &str, prefix: &str| {
        format!("ip6 saddr {SOURCE} {matches} log prefix \"{prefix}\" group {GROUP} accept\n")
    };
    let mut rules = log(&format!("tcp dport {PORT}"), "6 with ports");
    rules += &log(&format!("udp dport {PORT}"), "17 with ports");
    for protocol in 0..=255 {
        rules += &log(&format!("meta l4proto {protocol}"), &protocol.to_string());
    }
    format!(
        "table inet seen {{ chain output {{ type filter hook output priority 0;\n{rules}}}\n}}\n"
    )
}

const SYN: [u8; 20] = [0x9c, 0x40, 3, 0xe7, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
const DATAGRAM: [u8; 8] = [0x9c, 0x40, 3, 0xe7, 0, 8, 0, 0];

/// Headers of eight bytes that lead to `next`.
fn options(next: u8) -> Vec<u8> {
    vec![next, 0, 1, 4, 0, 0, 0, 0]
}

fn fragment(next: u8, offset: u16) -> Vec<u8> {
    let [high, low] = (offset << 3 | 1).to_be_bytes();
    vec![next, 0, high, low, 0, 0, 0, 77]
}

fn authentication(next: u8) -> Vec<u8> {
    [[next, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1].as_slice(), &[0; 12]].concat()
}

/// What is behind the IPv6 header, with the number of the first of it, and a name.
fn packets() -> Vec<(&'static str, u8, Vec<u8>)> {
    let mobility = [6, 0, 5, 0, 0, 0, 0, 0];
    vec![
        ("plain", 6, SYN.to_vec()),
        ("hop-by-hop options", 0, [options(6), SYN.to_vec()].concat()),
        ("destination options", 60, [options(17), DATAGRAM.to_vec()].concat()),
        ("routing header", 43, [vec![6, 0, 0, 0, 0, 0, 0, 0], SYN.to_vec()].concat()),
        ("several", 0, [options(43), options(60), options(6), SYN.to_vec()].concat()),
        ("first fragment", 44, [fragment(17, 0), DATAGRAM.to_vec()].concat()),
        ("later fragment", 44, [fragment(17, 4), DATAGRAM.to_vec()].concat()),
        ("authentication", 51, [authentication(6), SYN.to_vec()].concat()),
        ("options, authentication", 0, [options(51), authentication(6), SYN.to_vec()].concat()),
        ("mobility", 135, [mobility.as_slice(), &SYN].concat()),
        ("no next header", 59, SYN.to_vec()),
        ("options, no next header", 60, [options(59), SYN.to_vec()].concat()),
        ("encrypted", 50, SYN.to_vec()),
        ("host identity", 139, [options(6), SYN.to_vec()].concat()),
        ("another address family", 4, SYN.to_vec()),
    ]
}

fn packet(first: u8, behind: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((behind.len() as u16).to_be_bytes());
    packet.extend([first, 64]);
    packet.extend(SOURCE.octets());
    packet.extend(Ipv6Addr::LOCALHOST.octets());
    packet.extend(behind);
    packet
}

#[test]
fn headers_are_read_as_rules_see_them() {
    let namespace = Namespace::new().unwrap();
    namespace.command_with_input("nft", &["-f", "-"], &rules()).unwrap();
    namespace.run(|| {
        let mut log = PacketLog::open(GROUP).unwrap();
        // `IPPROTO_RAW`: with the IP header (raw(7)).
        let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(255))).unwrap();
        for (name, first, behind) in packets() {
            let target = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
            socket.send_to(&packet(first, &behind), &target.into()).unwrap();
            let (mut seen, start) = (None, Instant::now());
            while seen.is_none() {
                assert!(start.elapsed() < Duration::from_secs(30), "{name} isn't logged");
                log.wait(Some(Duration::from_millis(100))).unwrap();
                let read = log.read(|packet| {
                    let headers = packet.headers.unwrap();
                    let prefix = String::from_utf8(packet.prefix.to_vec()).unwrap();
                    let with = headers.ports.filter(|(_, to)| *to == PORT);
                    let with = if with.is_some() { " with ports" } else { "" };
                    seen = Some((prefix, format!("{}{with}", headers.protocol)));
                });
                read.unwrap();
            }
            let (kernel, ours) = seen.unwrap();
            assert_eq!(ours, kernel, "{name}");
        }
    });
}
