//! Packets that rules log, as the kernel hands them over.

use netlink::{LoggedPacket, PacketLog, PacketLogError};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};
use tierwall_tests::namespace::Namespace;

const GROUP: u16 = 4321;

/// Logs datagrams to port 9, as they leave and as they come.
const RULES: &str = "table inet logging {
    chain output { type filter hook output priority 0; udp dport 9 log prefix \"went\" group 4321
    }
    chain input { type filter hook input priority 0; udp dport 9 log prefix \"came\" group 4321
    }
}
";

fn namespace() -> Namespace {
    let namespace = Namespace::new().unwrap();
    namespace.command_with_input("nft", &["-f", "-"], RULES).unwrap();
    namespace
}

/// What is asked of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    prefix: String,
    interfaces: (u32, u32),
    user: Option<u32>,
    source: IpAddr,
    ports: (u16, u16),
    is_recent: Option<bool>,
}

fn seen(packet: &LoggedPacket<'_>) -> Seen {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let headers = packet.headers.unwrap();
    Seen {
        prefix: String::from_utf8(packet.prefix.to_vec()).unwrap(),
        interfaces: (packet.input, packet.output),
        user: packet.user,
        source: headers.source,
        ports: headers.ports.unwrap(),
        is_recent: packet.time.map(|time| now.abs_diff(time) < Duration::from_secs(60)),
    }
}

fn read(log: &mut PacketLog, count: usize) -> Vec<Seen> {
    let (mut packets, start) = (Vec::new(), Instant::now());
    while packets.len() < count && start.elapsed() < Duration::from_secs(10) {
        log.wait(Some(Duration::from_millis(100))).unwrap();
        while !log.read(|packet| packets.push(seen(packet))).unwrap() {}
    }
    packets
}

#[test]
fn a_packet_is_read_as_it_went_and_as_it_came() {
    namespace().run(|| {
        let mut log = PacketLog::open(GROUP).unwrap();
        for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let socket = UdpSocket::bind((address, 0)).unwrap();
            socket.send_to(b"?", (address, 9)).unwrap();
            let ports = (socket.local_addr().unwrap().port(), 9);
            let packets = read(&mut log, 2);
            let packet = |prefix: &str, interfaces, user, is_recent| Seen {
                prefix: prefix.into(),
                interfaces,
                user,
                source: address,
                ports,
                is_recent,
            };
            let [went, came] = &packets[..] else { panic!("{packets:?}") };
            assert_eq!(*went, packet("went", (0, 1), Some(0), went.is_recent));
            // Over `lo` the packet keeps its socket.
            assert_eq!(*came, packet("came", (1, 0), came.user, came.is_recent));
            assert_ne!((went.is_recent, came.is_recent), (Some(false), Some(false)));
        }
        assert_eq!(log.lost(), 0);
    });
}

#[test]
fn a_group_has_one_reader() {
    namespace().run(|| {
        let log = PacketLog::open(GROUP).unwrap();
        assert!(matches!(PacketLog::open(GROUP), Err(PacketLogError::Taken(GROUP))));
        // Another group is another matter, and so is another namespace.
        PacketLog::open(GROUP + 1).unwrap();
        namespace().run(|| PacketLog::open(GROUP).unwrap());
        drop(log);
        PacketLog::open(GROUP).unwrap();
    });
}

#[test]
fn what_the_buffer_does_not_hold_is_counted() {
    namespace().run(|| {
        const SENT: u64 = 100_000;
        let mut log = PacketLog::open(GROUP).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..SENT {
            socket.send_to(b"?", "127.0.0.1:9").unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        let mut packets = 0;
        while !log.read(|_| packets += 1).unwrap() {}
        // The gap shows with the next one.
        socket.send_to(b"?", "127.0.0.1:9").unwrap();
        log.wait(Some(Duration::from_secs(1))).unwrap();
        while !log.read(|_| packets += 1).unwrap() {}
        assert_eq!(packets + log.lost(), 2 * (SENT + 1), "each goes and comes");
        assert!(packets > 20_000 && log.lost() > 0, "{packets} read, {} lost", log.lost());
    });
}
