//! The server, everybody else, and what gets from one to the other.
//!
//! ```text
//!   server  eth0 ─── eth0  everybody who sends to the server or is sent to
//!           eth1 ─── eth1  whom the server routes to
//! ```
//!
//! Everybody else is one namespace that takes in whatever comes. The links do without neighbour
//! discovery: both ends of each have the same address, and so has every packet.
//!
//! What the server's filter let in, raw sockets there hear (`ip_local_deliver_finish`); what it
//! let out, a packet socket at the other end does. All of it passes one processor's queues in the
//! order in which it was sent, so that after the answer to a ping nothing is still under way.

use crate::exchange::{ESP, EXPERIMENTAL, GRE, OWN_LINK_LOCAL, OWN_V4, OWN_V6, Sending, USERS};
use crate::kernel::Kernel;
use crate::packet::{
    DCCP, ICMP, ICMPV6, Mark, Packet, Path, RST, SCTP, TCP, UDP, UDPLITE, icmp, icmpv6,
};
use crate::prediction::Fate;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::unistd::{Pid, Uid, setfsuid};
use ruleset::Reject;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};
use tierwall_tests::namespace::Namespace;

/// How long a ping may take, on a machine that does much else.
const ANSWERED: Duration = Duration::from_secs(15);

/// Enough for what is sent at once.
const BUFFER: usize = 64 << 20;

/// `IPPROTO_RAW`: the sender makes the IP header, of either family (raw(7)).
const HEADER_INCLUDED: i32 = 255;

/// `PACKET_OUTGOING` (uapi `linux/if_packet.h`).
const OUTGOING: u8 = 4;

/// Of the ping, which is in no exchange.
const PINGED: Ipv4Addr = OWN_V4[2];
const PINGING: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// ICMP and ICMPv6 "administratively prohibited": protocol, type and code.
const PROHIBITED: [(u8, u8, u8); 2] = [(ICMP, 3, 13), (ICMPV6, 1, 1)];

/// Who hears something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Server,
    Others,
}

/// A packet that got somewhere, as far as it tells which one it is.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Heard {
    /// From whom, ports, and whether it is a reset.
    Tcp(IpAddr, (u16, u16), bool),
    /// Protocol, the first two bytes (type and code of ICMP), and the mark at its end.
    Marked(u8, (u8, u8), [u8; 8]),
}

/// What was heard, and where.
type Sounds = HashSet<(End, Heard)>;

/// The two namespaces and the sockets in them.
pub(crate) struct Wire {
    pub(crate) kernel: Kernel,
    /// Raw sockets for sending, IPv4 and IPv6: of everybody else, and of users of the server.
    strangers: [Socket; 2],
    users: BTreeMap<u32, [Socket; 2]>,
    /// Raw sockets of the server, by protocol.
    ears: Vec<(u8, UdpSocket)>,
    /// Hears everything that comes to everybody else.
    tap: OwnedFd,
    /// Everybody else's interface to the server.
    link: u32,
}

/// What keeps the test's own questions out of the way: no redirects, no answers held back, no
/// opinion about sources, and room in the windows of connections that nobody really has.
const PARAMETERS: [(&str, &str); 14] = [
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv4.icmp_ratemask", "0"),
    ("net.ipv6.icmp.ratemask", "255"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.eth0.rp_filter", "0"),
    ("net.ipv4.conf.eth1.rp_filter", "0"),
    ("net.ipv4.conf.all.send_redirects", "0"),
    ("net.ipv4.conf.eth0.send_redirects", "0"),
    ("net.ipv4.conf.all.accept_redirects", "0"),
    ("net.ipv4.conf.eth0.accept_redirects", "0"),
    ("net.ipv6.conf.all.accept_redirects", "0"),
    ("net.ipv6.conf.eth0.accept_redirects", "0"),
    ("net.netfilter.nf_conntrack_tcp_be_liberal", "1"),
];

const UNTRACKED: &str = "
    table inet untracked {
        chain prerouting {
            type filter hook prerouting priority raw;
            ip dscp 1 notrack
            ip6 dscp 1 notrack
        }
        chain output {
            type filter hook output priority raw;
            ip dscp 1 notrack
            ip6 dscp 1 notrack
        }
    }";

impl Wire {
    pub(crate) fn new() -> Self {
        stay_on_this_processor();
        let (kernel, others) = (Kernel::new(), Namespace::new().unwrap());
        let server = &kernel.namespace;
        let mut batch = String::new();
        for interface in ["eth0", "eth1"] {
            batch += &format!(
                "link add {interface} address 02:00:00:00:00:01 type veth \
                 peer name {interface} address 02:00:00:00:00:01 netns {}\n\
                 link set {interface} arp off addrgenmode none up\n",
                others.path().display()
            );
        }
        OWN_V4.iter().for_each(|own| batch += &format!("address add {own}/32 dev eth0\n"));
        OWN_V6.iter().for_each(|own| batch += &format!("address add {own}/128 dev eth0 nodad\n"));
        batch += &format!("address add {OWN_LINK_LOCAL}/128 dev eth0 nodad\n");
        batch += "route add 0.0.0.0/0 dev eth0\nroute add ::/0 dev eth0\n\
                  route add 172.16.0.0/24 dev eth1\nroute add fd01::/64 dev eth1\n";
        server.command_with_input("ip", &["-batch", "-"], &batch).unwrap();
        let batch = format!(
            "link set eth0 arp off addrgenmode none up\n\
             link set eth1 arp off addrgenmode none up\n\
             address add {PINGING}/32 dev eth0\naddress add fd99::2/128 dev eth0 nodad\n\
             route add 0.0.0.0/0 dev eth0\nroute add ::/0 dev eth0\n"
        );
        others.command_with_input("ip", &["-batch", "-"], &batch).unwrap();
        // Loads connection tracking, too.
        server.command_with_input("nft", &["-f", "-"], UNTRACKED).unwrap();
        for (parameter, value) in PARAMETERS {
            server.sysctl(parameter, value).unwrap();
        }
        let users = USERS.map(|user| (user, server.run(|| as_user(user, raw_senders))));
        let mut wire = Self {
            strangers: others.run(raw_senders),
            users: users.into(),
            ears: server.run(ears),
            tap: others.run(tap),
            link: others.run(|| nix::net::if_::if_nametoindex("eth0")).unwrap(),
            kernel,
        };
        wire.wait_for_links();
        wire
    }

    /// Waits until packets get everywhere. The kernel adds the local route of an IPv6 address from a
    /// work queue, and takes a link for ready a little later than it is set up.
    fn wait_for_links(&mut self) {
        let pinging_v6 = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2);
        let ping_v6 = |path, target: Ipv6Addr| {
            let ping = icmpv6(128, 0, &[0; 4]);
            (Packet::between(path, pinging_v6.into(), target.into(), ping), (ICMPV6, (129, 0)))
        };
        let mut pings = OWN_V6.map(|own| ping_v6(Path::In, own)).to_vec();
        // Nobody beyond answers, but the ping itself gets there.
        let beyond = Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, 1);
        pings.push((ping_v6(Path::Through, beyond).0, (ICMPV6, (128, 0))));
        let start = Instant::now();
        while let Some((ping, (protocol, kind))) = pings.last() {
            let mark = Mark::new();
            self.send_raw(&self.strangers[1], ping, mark);
            if self.settle().contains(&(End::Others, Heard::Marked(*protocol, *kind, mark.0))) {
                pings.pop();
            }
            assert!(start.elapsed() < ANSWERED, "the links don't come up");
        }
    }

    /// Forgets every connection of the server, so that an exchange can be repeated.
    pub(crate) fn forget_connections(&self) {
        self.kernel.namespace.forget_connections().unwrap();
    }

    /// Sends the packets of one round and says what became of each.
    pub(crate) fn round(&mut self, sendings: &[&Sending]) -> Vec<Fate> {
        let marks: Vec<Mark> = sendings.iter().map(|_| Mark::new()).collect();
        let mut sounds = Sounds::new();
        // One way after the other: what the server sends must not overtake what was sent to it.
        for inward in [true, false] {
            let is_inward =
                |sending: &Sending| matches!(sending.packet.path, Path::In | Path::Through);
            let sent = sendings.iter().zip(&marks).filter(|(s, _)| is_inward(s) == inward);
            let (by_socket, raw): (Vec<_>, Vec<_>) = sent.partition(|(sending, _)| sending.socket);
            for (sending, mark) in raw {
                let senders = if inward { &self.strangers } else { &self.users[&sending.user] };
                let sender = &senders[usize::from(sending.packet.target.is_ipv6())];
                self.send_raw(sender, &sending.packet, *mark);
            }
            self.kernel.namespace.run(|| {
                for (sending, mark) in by_socket {
                    as_user(sending.user, || send_by_socket(&sending.packet, *mark));
                }
            });
            sounds.extend(self.settle());
        }
        let fates = sendings.iter().zip(&marks);
        fates.map(|(sending, mark)| fate(&sounds, &sending.packet, *mark)).collect()
    }

    /// Whether the packet is denied, the counters say.
    fn send_raw(&self, sender: &Socket, packet: &Packet, mark: Mark) {
        let target = match packet.target {
            IpAddr::V6(target) if target == OWN_LINK_LOCAL => {
                SocketAddrV6::new(target, 0, 0, self.link).into()
            }
            target => SocketAddr::new(target, 0),
        };
        let sent = sender.send_to(&packet.bytes(mark), &target.into());
        if let Err(error) = sent {
            let denied = matches!(packet.path, Path::Out | Path::Within)
                && error.kind() == ErrorKind::PermissionDenied;
            assert!(denied, "can't send {packet}: {error}");
        }
    }

    /// Waits until nothing is under way any more. Returns all that was heard since the last time.
    fn settle(&mut self) -> Sounds {
        let ping = Packet::between(Path::In, PINGING.into(), PINGED.into(), icmp(8, 0, &[0; 4]));
        let mark = Mark::new();
        let answer = (End::Others, Heard::Marked(ICMP, (0, 0), mark.0));
        let start = Instant::now();
        let mut sounds = Sounds::new();
        let mut buffer = vec![0; 1 << 16];
        while !sounds.contains(&answer) {
            assert!(start.elapsed() < ANSWERED, "the server doesn't answer a ping");
            // One is enough, once the link is ready.
            self.send_raw(&self.strangers[0], &ping, mark);
            let mut polled = [PollFd::new(self.tap.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut polled, PollTimeout::from(100_u16));
            loop {
                match recvfrom::<LinkAddr>(self.tap.as_raw_fd(), &mut buffer) {
                    // What goes out there was sent to the server.
                    Ok((_, Some(from))) if from.pkttype() == OUTGOING => {}
                    Ok((length, _)) => {
                        sounds.extend(parse(&buffer[..length]).map(|heard| (End::Others, heard)));
                    }
                    Err(Errno::EAGAIN) => break,
                    Err(error) => panic!("the tap fails: {error}"),
                }
            }
        }
        for (protocol, socket) in &self.ears {
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        // A raw IPv4 socket gets the IP header too (raw(7)).
                        let header =
                            if from.is_ipv4() { 4 * usize::from(buffer[0] & 0xf) } else { 0 };
                        let heard = transport(*protocol, from.ip(), &buffer[header..length]);
                        sounds.extend(heard.map(|heard| (End::Server, heard)));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("can't hear protocol {protocol}: {error}"),
                }
            }
        }
        sounds
    }
}

/// What becomes of `packet`, sent with `mark`.
fn fate(sounds: &Sounds, packet: &Packet, mark: Mark) -> Fate {
    let end = match packet.path {
        Path::In | Path::Within => End::Server,
        Path::Out | Path::Through => End::Others,
    };
    let header = &packet.content.header;
    let itself = match packet.ports().filter(|_| packet.protocol() == TCP) {
        Some(ports) => Heard::Tcp(packet.source, ports, header[13] & RST != 0),
        None => Heard::Marked(packet.protocol(), start(header), mark.0),
    };
    if sounds.contains(&(end, itself)) {
        return Fate::Delivered;
    }
    let (from, to) = packet.ports().unwrap_or_default();
    let reset = || Heard::Tcp(packet.target, (to, from), true);
    let prohibited = |(protocol, kind, code)| Heard::Marked(protocol, (kind, code), mark.0);
    let ends = [End::Server, End::Others];
    if packet.protocol() == TCP && ends.iter().any(|end| sounds.contains(&(*end, reset()))) {
        return Fate::Refused(Reject::TcpReset);
    }
    let is_prohibited =
        |end: &End| PROHIBITED.into_iter().any(|error| sounds.contains(&(*end, prohibited(error))));
    match ends.iter().any(is_prohibited) {
        true => Fate::Refused(Reject::AdminProhibited),
        false => Fate::Silence,
    }
}

/// Of ICMP, type and code.
fn start(header: &[u8]) -> (u8, u8) {
    (header[0], header[1])
}

/// A packet from its IP header on.
fn parse(bytes: &[u8]) -> Option<Heard> {
    match bytes.first()? >> 4 {
        4 => {
            let length = usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]));
            let from = Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(12..16)?).ok()?);
            let header = 4 * usize::from(bytes[0] & 0xf);
            transport(*bytes.get(9)?, from.into(), bytes.get(header..length)?)
        }
        6 => {
            let length = usize::from(u16::from_be_bytes([*bytes.get(4)?, *bytes.get(5)?]));
            let from = Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(8..24)?).ok()?);
            let payload = bytes.get(40..40 + length)?;
            // A hop-by-hop header leads to the next.
            let (protocol, skipped) = match *bytes.get(6)? {
                0 => (*payload.first()?, 8 * (1 + usize::from(*payload.get(1)?))),
                protocol => (protocol, 0),
            };
            transport(protocol, from.into(), payload.get(skipped..)?)
        }
        _ => None,
    }
}

/// A packet from its transport header on.
fn transport(protocol: u8, from: IpAddr, bytes: &[u8]) -> Option<Heard> {
    if protocol == TCP {
        let [a, b, c, d, ..] = *bytes else { return None };
        let ports = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        return Some(Heard::Tcp(from, ports, bytes.get(13)? & RST != 0));
    }
    Some(Heard::Marked(protocol, start(bytes.get(..2)?), *bytes.last_chunk()?))
}

/// One processor's queues keep the order of packets.
fn stay_on_this_processor() {
    let mut only = CpuSet::new();
    only.set(sched_getcpu().unwrap()).unwrap();
    sched_setaffinity(Pid::from_raw(0), &only).unwrap();
}

/// Runs `body` as that user, as far as its sockets are concerned: a socket is its owner's who had
/// this id in the file system (`nft_meta_get_eval_skugid`). Other rights stay.
fn as_user<T>(user: u32, body: impl FnOnce() -> T) -> T {
    setfsuid(Uid::from_raw(user));
    let result = body();
    setfsuid(Uid::from_raw(0));
    result
}

fn raw_senders() -> [Socket; 2] {
    [Domain::IPV4, Domain::IPV6].map(|domain| {
        let protocol = Protocol::from(HEADER_INCLUDED);
        Socket::new(domain, Type::RAW, Some(protocol)).unwrap()
    })
}

fn ears() -> Vec<(u8, UdpSocket)> {
    let both = [TCP, UDP, DCCP, GRE, ESP, SCTP, UDPLITE, EXPERIMENTAL];
    let v4 = both.into_iter().chain([ICMP]).map(|protocol| (Domain::IPV4, protocol));
    let v6 = both.into_iter().chain([ICMPV6]).map(|protocol| (Domain::IPV6, protocol));
    let open = |(domain, protocol): (Domain, u8)| {
        let raw = Protocol::from(i32::from(protocol));
        let socket = Socket::new(domain, Type::RAW, Some(raw)).unwrap();
        socket.set_nonblocking(true).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).unwrap();
        (protocol, socket.into())
    };
    v4.chain(v6).map(open).collect()
}

fn tap() -> OwnedFd {
    let (family, kind) = (AddressFamily::Packet, SockType::Datagram);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let tap = socket(family, kind, flags, SockProtocol::EthAll).unwrap();
    setsockopt(&tap, sockopt::RcvBufForce, &BUFFER).unwrap();
    tap
}

/// What a program does: a datagram, or the begin of a connection that it gives up at once, before
/// the kernel tries again.
fn send_by_socket(packet: &Packet, mark: Mark) {
    let (from, to) = packet.ports().unwrap();
    let domain = if packet.source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let kind = if packet.protocol() == TCP { Type::STREAM } else { Type::DGRAM };
    let socket = Socket::new(domain, kind, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&SocketAddr::new(packet.source, from).into()).unwrap();
    // Whether it is denied, the counters say.
    let target = SocketAddr::new(packet.target, to).into();
    if packet.protocol() == TCP {
        let _ = socket.connect(&target);
    } else {
        let _ = socket.send_to(&mark.0, &target);
    }
}
