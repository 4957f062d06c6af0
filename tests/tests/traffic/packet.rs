//! Packets made by hand, byte for byte: what no program of a server would send is here too.
//!
//! Every sending of a packet carries a mark of its own, its last eight bytes, so that whoever
//! hears it knows which sending it was.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const ICMP: u8 = 1;
pub(crate) const IGMP: u8 = 2;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const DCCP: u8 = 33;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const SCTP: u8 = 132;
pub(crate) const UDPLITE: u8 = 136;

/// TCP flags (RFC 9293, 3.1).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Which way a packet takes, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Path {
    /// From the peer to the server.
    In,
    /// From the server to the peer.
    Out,
    /// From the server to itself.
    Within,
    /// From the peer, routed by the server, to the host behind it.
    Through,
}

impl Path {
    /// The chain that judges it first, as it is called in names of counters.
    pub(crate) fn side(self) -> &'static str {
        match self {
            Self::In => "input",
            Self::Out | Self::Within => "output",
            Self::Through => "forward",
        }
    }
}

/// The addresses of the hosts, of one kind each.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    pub(crate) server: IpAddr,
    pub(crate) peer: IpAddr,
    pub(crate) far: IpAddr,
}

pub(crate) const V4: Addresses = Addresses {
    server: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    peer: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    far: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)),
};

pub(crate) const V6: Addresses = Addresses {
    server: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    peer: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
    far: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3)),
};

pub(crate) const BOTH: [Addresses; 2] = [V4, V6];

pub(crate) const LINK_LOCAL: Addresses = Addresses {
    server: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)),
    peer: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2)),
    far: IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 3)),
};

/// What tells one sending from every other: an ND option of an experimental type (RFC 4727), so
/// that it may end a neighbour discovery message as well as any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) [u8; 8]);

impl Mark {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let mut bytes = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        bytes[..2].copy_from_slice(&[253, 1]);
        Self(bytes)
    }
}

/// What is in an IP packet.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) protocol: u8,
    /// The transport header, with zeros where checksum and length will be.
    pub(crate) header: Vec<u8>,
    pub(crate) checksum: Checksum,
}

/// Where a transport header has its checksum, and of what kind.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Checksum {
    None,
    /// RFC 1071, at that offset.
    Internet(usize),
    /// CRC32c, as SCTP has it (RFC 9260, appendix A).
    Crc,
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

pub(crate) fn udp(source: u16, destination: u16) -> Content {
    let header = [ports(source, destination), vec![0; 4]].concat();
    Content { protocol: UDP, header, checksum: Checksum::Internet(6) }
}

pub(crate) fn tcp(source: u16, destination: u16, flags: u8) -> Content {
    let mut header = ports(source, destination);
    // Sequence number, acknowledgement, five words of header, flags, window, checksum, urgent.
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 5 << 4, flags, 0x10, 0, 0, 0, 0, 0]);
    Content { protocol: TCP, header, checksum: Checksum::Internet(16) }
}

/// An SCTP association's first packet (RFC 9260, 3.3.2).
pub(crate) fn sctp_init(source: u16, destination: u16) -> Content {
    let mut header = ports(source, destination);
    // No verification tag yet, the checksum; a chunk of type 1, the mark included.
    header.extend([0; 8]);
    header.extend([1, 0, 0, 28]);
    // Initiate tag, window, streams out and in, initial sequence number.
    header.extend([0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
    Content { protocol: SCTP, header, checksum: Checksum::Crc }
}

/// UDP-Lite whose checksum covers all of it (RFC 3828, 3.1).
pub(crate) fn udp_lite(source: u16, destination: u16) -> Content {
    let header = [ports(source, destination), vec![0; 4]].concat();
    Content { protocol: UDPLITE, header, checksum: Checksum::Internet(6) }
}

/// DCCP or UDP-Lite, enough for a filter. No program answers it, since what it says of its length
/// or its checksum's coverage is impossible (RFC 4340, 5.1; RFC 3828, 3.1). Some kernels refuse it
/// only with a right checksum (`nf_reject_verify_csum`).
pub(crate) fn headless(protocol: u8, source: u16, destination: u16) -> Content {
    let header = [ports(source, destination), vec![0, 4, 0, 0], vec![0; 8]].concat();
    Content { protocol, header, checksum: Checksum::Internet(6) }
}

/// Another protocol, without ports.
pub(crate) fn other(protocol: u8, checksum: Checksum) -> Content {
    Content { protocol, header: vec![0; 8], checksum }
}

/// `body` is what follows type, code and checksum.
pub(crate) fn icmp(kind: u8, code: u8, body: &[u8]) -> Content {
    let header = [&[kind, code, 0, 0], body].concat();
    Content { protocol: ICMP, header, checksum: Checksum::Internet(2) }
}

/// `body` is what follows type, code and checksum.
pub(crate) fn icmpv6(kind: u8, code: u8, body: &[u8]) -> Content {
    let header = [&[kind, code, 0, 0], body].concat();
    Content { protocol: ICMPV6, header, checksum: Checksum::Internet(2) }
}

/// An ICMP or ICMPv6 error (or redirect) about `packet`, of its family.
pub(crate) fn error(kind: u8, code: u8, packet: &Packet) -> Content {
    // Unused but in "fragmentation needed" and "packet too big", where it ends with an MTU.
    let body = [&1400_u32.to_be_bytes(), packet.bytes(Mark::new()).as_slice()].concat();
    match packet.source {
        IpAddr::V4(_) => icmp(kind, code, &body),
        IpAddr::V6(_) => icmpv6(kind, code, &body),
    }
}

impl Content {
    /// The same with `payload` before the mark.
    pub(crate) fn with(self, payload: &[u8]) -> Self {
        Self { header: [self.header.as_slice(), payload].concat(), ..self }
    }
}

/// A packet and the way it takes.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) path: Path,
    pub(crate) source: IpAddr,
    pub(crate) target: IpAddr,
    /// The neighbour to whom it is handed over.
    pub(crate) next_hop: IpAddr,
    pub(crate) hop_limit: u8,
    hop_by_hop: bool,
    pub(crate) broken: bool,
    /// Differentiated services code point (RFC 2474).
    pub(crate) dscp: u8,
    pub(crate) content: Content,
}

/// A packet with `content` that takes `path`.
pub(crate) fn send(path: Path, addresses: Addresses, content: Content) -> Packet {
    let Addresses { server, peer, far } = addresses;
    let (source, target) = match path {
        Path::In => (peer, server),
        Path::Out => (server, peer),
        Path::Within => (server, server),
        Path::Through => (peer, far),
    };
    Packet::between(path, source, target, content)
}

impl Packet {
    /// A packet with `content` that takes `path`.
    pub(crate) fn between(path: Path, source: IpAddr, target: IpAddr, content: Content) -> Self {
        Self {
            path,
            source,
            target,
            next_hop: target,
            hop_limit: 64,
            hop_by_hop: false,
            broken: false,
            dscp: 0,
            content,
        }
    }

    /// The same from another address, whoever has it.
    pub(crate) fn from(self, source: &str) -> Self {
        Self { source: source.parse().unwrap(), ..self }
    }

    /// The same to another address.
    pub(crate) fn to(self, target: &str) -> Self {
        let target = target.parse().unwrap();
        Self { target, next_hop: target, ..self }
    }

    /// The same handed over to the same neighbour, who has that address too.
    pub(crate) fn addressed_to(self, target: &str) -> Self {
        Self { target: target.parse().unwrap(), ..self }
    }

    /// The same with that TTL or hop limit.
    pub(crate) fn hops(self, hop_limit: u8) -> Self {
        Self { hop_limit, ..self }
    }

    /// The same behind a hop-by-hop header with a router alert, as MLD has it (RFC 2711).
    pub(crate) fn behind_hop_by_hop(self) -> Self {
        Self { hop_by_hop: true, ..self }
    }

    /// The same with a wrong checksum.
    pub(crate) fn broken(self) -> Self {
        Self { broken: true, ..self }
    }

    /// The same with that code point.
    pub(crate) fn dscp(self, dscp: u8) -> Self {
        Self { dscp, ..self }
    }

    pub(crate) fn protocol(&self) -> u8 {
        self.content.protocol
    }

    /// Source and destination port, of a protocol that has any.
    pub(crate) fn ports(&self) -> Option<(u16, u16)> {
        let [a, b, c, d, ..] = *self.content.header else { return None };
        let has_ports = [TCP, UDP, DCCP, SCTP, UDPLITE].contains(&self.content.protocol);
        has_ports.then(|| (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// The source port, or what stands in its place.
    pub(crate) fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.content.header[0], self.content.header[1]])
    }

    /// The whole packet. The kernel fills the checksum of the IPv4 header in.
    pub(crate) fn bytes(&self, mark: Mark) -> Vec<u8> {
        let transport = self.transport(mark);
        match (self.source, self.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) => {
                let length = (20 + transport.len()) as u16;
                let mut bytes = vec![0x45, self.dscp << 2];
                bytes.extend(length.to_be_bytes());
                bytes.extend([0, 0, 0, 0, self.hop_limit, self.content.protocol, 0, 0]);
                bytes.extend(source.octets().into_iter().chain(target.octets()));
                [bytes, transport].concat()
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                let extension = [self.content.protocol, 0, 5, 2, 0, 0, 1, 0];
                let (next, extension) = match self.hop_by_hop {
                    true => (0, extension.as_slice()),
                    false => (self.content.protocol, [].as_slice()),
                };
                let mut bytes = vec![0x60 | self.dscp >> 2, self.dscp << 6, 0, 0];
                bytes.extend(((extension.len() + transport.len()) as u16).to_be_bytes());
                bytes.extend([next, self.hop_limit]);
                bytes.extend(source.octets().into_iter().chain(target.octets()));
                [bytes.as_slice(), extension, transport.as_slice()].concat()
            }
            _ => panic!("no packet leads from one family to the other"),
        }
    }

    fn transport(&self, mark: Mark) -> Vec<u8> {
        let Content { protocol, header, checksum } = &self.content;
        let mut bytes = [header.as_slice(), &mark.0].concat();
        let length = bytes.len() as u16;
        if *protocol == UDP {
            bytes[4..6].copy_from_slice(&length.to_be_bytes());
        }
        match *checksum {
            Checksum::None => {}
            Checksum::Internet(at) => {
                let summed = [bytes.as_slice(), &self.pseudo_header(length)].concat();
                let checksum = internet_checksum(&summed) ^ if self.broken { 0x0101 } else { 0 };
                bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
            }
            Checksum::Crc => {
                let checksum = crc32c(&bytes);
                bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
            }
        }
        bytes
    }

    /// RFC 768, RFC 8200 8.1. Over IPv4, only TCP and UDP have one.
    fn pseudo_header(&self, length: u16) -> Vec<u8> {
        let protocol = self.content.protocol;
        let mut header: Vec<u8> = match (self.source, self.target) {
            (IpAddr::V4(source), IpAddr::V4(target)) if [TCP, UDP].contains(&protocol) => {
                source.octets().into_iter().chain(target.octets()).collect()
            }
            (IpAddr::V6(source), IpAddr::V6(target)) => {
                source.octets().into_iter().chain(target.octets()).collect()
            }
            _ => return Vec::new(),
        };
        header.extend([0, protocol]);
        header.extend(length.to_be_bytes());
        header
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Content { protocol, header, .. } = &self.content;
        write!(f, "{:?} {} -> {}, ", self.path, self.source, self.target)?;
        let ports = |f: &mut fmt::Formatter<'_>, name: &str| {
            let port = |at| u16::from_be_bytes([header[at], header[at + 1]]);
            write!(f, "{name} {} -> {}", port(0), port(2))
        };
        match *protocol {
            ICMP => write!(f, "ICMP type {} code {}", header[0], header[1]),
            ICMPV6 => write!(f, "ICMPv6 type {} code {}", header[0], header[1]),
            TCP => {
                ports(f, "TCP")?;
                write!(f, " flags {:#x}", header[13])
            }
            UDP => ports(f, "UDP"),
            DCCP => ports(f, "DCCP"),
            SCTP => ports(f, "SCTP"),
            UDPLITE => ports(f, "UDP-Lite"),
            other => write!(f, "protocol {other}"),
        }?;
        write!(f, ", {} hops", self.hop_limit)?;
        f.write_str(if self.hop_by_hop { ", behind a hop-by-hop header" } else { "" })?;
        f.write_str(if self.broken { ", wrong checksum" } else { "" })?;
        if self.dscp > 0 { write!(f, ", dscp {:#x}", self.dscp) } else { Ok(()) }
    }
}

/// RFC 1071: the complement of the ones' complement sum of 16-bit words. No sum here ends with an
/// odd byte that isn't the last.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match *word {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        _ => u32::from(word[0]) << 8,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

/// CRC-32C (Castagnoli), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}
