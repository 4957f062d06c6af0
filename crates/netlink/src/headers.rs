//! What the first bytes of a packet say: addresses, protocol, ports.
//!
//! A checked reader, as of everything that comes from outside. It goes as far as the bytes do: of a
//! packet that was cut short, what lies behind the cut is none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// Protocols whose header begins with the source and the destination port.
const WITH_PORTS: [u8; 5] = [TCP, 17, 33, 132, 136];

/// IPv6 extension headers (IANA) that nf_tables looks through for `meta l4proto` and ports
/// (kernel `ipv6_find_hdr`, as `nft_set_pktinfo_ipv6` asks it). An authentication header and a
/// mobility header are protocols to it: no rule sees what is behind them.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
const EXTENSIONS: [u8; 4] = [HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS];

/// Where in a TCP header its flags are.
const TCP_FLAGS: usize = 13;

/// The headers of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Headers {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes to.
    pub destination: IpAddr,
    /// The protocol, as rules see it: behind the extension headers that the kernel looks through,
    /// or the last header that could be read.
    pub protocol: u8,
    /// Source and destination port, of protocols that have any.
    pub ports: Option<(u16, u16)>,
    /// Type and code of an ICMP or ICMPv6 message.
    pub icmp: Option<(u8, u8)>,
    /// What tells the messages of one program from another's: the identifier of an ICMP message,
    /// if its type has one.
    pub icmp_id: Option<u16>,
    /// The flags of a TCP segment (RFC 9293, 3.1).
    pub tcp_flags: Option<u8>,
}

impl Headers {
    /// Reads the headers of an IPv4 or IPv6 packet. None where the bytes don't hold its first one.
    pub fn read(packet: &[u8]) -> Option<Self> {
        let (source, destination, protocol, transport) = match packet.first()? >> 4 {
            4 => ipv4(packet)?,
            6 => ipv6(packet)?,
            _ => return None,
        };
        Some(Self::with(source, destination, protocol, transport))
    }

    /// Reads network and transport header, which the kernel copied separately. Of IPv6 extension
    /// headers only the first one's number is there: then nobody knows what the transport is.
    pub(crate) fn read_parts(network: &[u8], transport: &[u8]) -> Option<Self> {
        let (source, destination, protocol, _) = match network.first()? >> 4 {
            4 => ipv4(network)?,
            6 => ipv6(network)?,
            _ => return None,
        };
        let is_known = source.is_ipv4() || !EXTENSIONS.contains(&protocol);
        Some(Self::with(source, destination, protocol, Some(transport).filter(|_| is_known)))
    }

    fn with(source: IpAddr, destination: IpAddr, protocol: u8, transport: Option<&[u8]>) -> Self {
        let transport = transport.unwrap_or_default();
        let half = |at: usize| Some(u16::from_be_bytes(*transport.get(at..)?.first_chunk()?));
        let is_icmp = match source {
            IpAddr::V4(_) => protocol == ICMP,
            IpAddr::V6(_) => protocol == ICMPV6,
        };
        let icmp =
            transport.first_chunk::<2>().filter(|_| is_icmp).map(|[kind, code]| (*kind, *code));
        Self {
            source,
            destination,
            protocol,
            ports: half(0).zip(half(2)).filter(|_| WITH_PORTS.contains(&protocol)),
            icmp,
            icmp_id: icmp.filter(|(kind, _)| has_id(source, *kind)).and_then(|_| half(4)),
            tcp_flags: transport.get(TCP_FLAGS).copied().filter(|_| protocol == TCP),
        }
    }
}

/// Echo, timestamp and their replies (RFC 792, RFC 4443).
fn has_id(source: IpAddr, kind: u8) -> bool {
    match source {
        IpAddr::V4(_) => matches!(kind, 0 | 8 | 13 | 14),
        IpAddr::V6(_) => matches!(kind, 128 | 129),
    }
}

/// Source, destination, protocol, and what is behind the network headers if that is the beginning
/// of a transport header.
type Split<'p> = (IpAddr, IpAddr, u8, Option<&'p [u8]>);

/// RFC 791, 3.1.
fn ipv4(packet: &[u8]) -> Option<Split<'_>> {
    let header = packet.first_chunk::<20>()?;
    let address = |at: usize| {
        let bytes = header.get(at..)?.first_chunk::<4>()?;
        Some(IpAddr::V4(Ipv4Addr::from(*bytes)))
    };
    let length = 4 * usize::from(header[0] & 0xf);
    let is_first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
    let transport = packet.get(length..).filter(|_| length >= 20 && is_first);
    Some((address(12)?, address(16)?, header[9], transport))
}

/// RFC 8200, 3 and 4.
fn ipv6(packet: &[u8]) -> Option<Split<'_>> {
    let (header, mut rest) = packet.split_first_chunk::<40>()?;
    let address = |at: usize| {
        let bytes = header.get(at..)?.first_chunk::<16>()?;
        Some(IpAddr::V6(Ipv6Addr::from(*bytes)))
    };
    let (source, destination) = (address(8)?, address(24)?);
    let mut next = header[6];
    // Each turn takes eight bytes at least.
    while let Some([following, length, ..]) = rest.first_chunk::<8>().copied() {
        let (is_first, length) = match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (true, 8 + 8 * usize::from(length)),
            FRAGMENT => (u16::from_be_bytes([rest[2], rest[3]]) & 0xfff8 == 0, 8),
            _ => break,
        };
        next = following;
        match rest.get(length..).filter(|_| is_first) {
            Some(behind) => rest = behind,
            None => return Some((source, destination, next, None)),
        }
    }
    Some((source, destination, next, Some(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet4(protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(transport);
        packet
    }

    fn packet6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 40, next, 64];
        packet.extend(Ipv6Addr::LOCALHOST.octets());
        packet.extend([0xfd; 16]);
        packet.extend(rest);
        packet
    }

    const SYN: [u8; 20] = [0x9c, 0x40, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];

    #[test]
    fn a_segment_is_read_in_either_family() {
        for packet in [packet4(6, &SYN), packet6(6, &SYN)] {
            let headers = Headers::read(&packet).expect("a packet");
            assert_eq!((headers.protocol, headers.ports), (6, Some((40_000, 22))));
            assert_eq!((headers.tcp_flags, headers.icmp), (Some(2), None));
        }
    }

    #[test]
    fn extension_headers_hide_no_ports() {
        let mut rest = vec![DESTINATION_OPTIONS, 1];
        rest.extend([0; 14]);
        rest.extend([FRAGMENT, 0, 0, 0, 0, 0, 0, 0]);
        rest.extend([17, 0, 0, 1, 0, 0, 0, 7]);
        rest.extend([0, 67, 0, 68, 0, 8, 0, 0]);
        let headers = Headers::read(&packet6(HOP_BY_HOP, &rest)).expect("a packet");
        assert_eq!((headers.protocol, headers.ports), (17, Some((67, 68))));
        // Cut within them.
        let cut = Headers::read(&packet6(HOP_BY_HOP, &rest[..20])).expect("a packet");
        assert_eq!(cut.ports, None);
    }

    #[test]
    fn what_no_rule_sees_is_not_read() {
        // The kernel judges these by their own numbers; there is a segment behind each.
        for (protocol, header) in [
            (
                51,
                [6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].as_slice(),
            ),
            (135, [6, 0, 5, 0, 0, 0, 0, 0].as_slice()),
            (59, [].as_slice()),
        ] {
            let packet = packet6(protocol, &[header, &SYN].concat());
            let headers = Headers::read(&packet).expect("a packet");
            assert_eq!((headers.protocol, headers.ports), (protocol, None));
            assert_eq!(headers.tcp_flags, None);
            let (network, transport) = packet.split_at(40);
            assert_eq!(Headers::read_parts(network, transport), Some(headers));
        }
    }

    #[test]
    fn headers_in_two_parts_are_those_in_one() {
        for packet in [packet4(6, &SYN), packet6(6, &SYN)] {
            let (network, transport) = packet.split_at(packet.len() - SYN.len());
            assert_eq!(Headers::read_parts(network, transport), Headers::read(&packet));
        }
        let hidden = packet6(HOP_BY_HOP, &[]);
        let headers = Headers::read_parts(&hidden, &SYN).expect("a packet");
        assert_eq!((headers.protocol, headers.ports), (HOP_BY_HOP, None));
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut packet = packet4(17, &SYN);
        packet[7] = 1;
        let headers = Headers::read(&packet).expect("a packet");
        assert_eq!((headers.protocol, headers.ports), (17, None));
    }

    #[test]
    fn an_echo_has_type_code_and_identifier() {
        let headers = Headers::read(&packet4(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1]));
        let headers = headers.expect("a packet");
        assert_eq!((headers.icmp, headers.icmp_id), (Some((8, 0)), Some(0x1234)));
        // ICMPv6 in IPv4 is none.
        let odd = Headers::read(&packet4(58, &[128, 0, 0, 0, 0x12, 0x34, 0, 1]));
        assert_eq!(odd.expect("a packet").icmp, None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            first in prop::sample::select(vec![0x45u8, 0x4f, 0x40, 0x60, 0x6f, 0]),
            next in prop::sample::select(vec![0u8, 6, 43, 44, 51, 59, 60, 135, 58, 1]),
            rest in prop::collection::vec(any::<u8>(), 0..160),
        ) {
            let mut packet = vec![first];
            packet.extend(&rest);
            if let Some(byte) = packet.get_mut(6) {
                *byte = next;
            }
            let _ = Headers::read(&packet);
            let _ = Headers::read(&rest);
            let _ = Headers::read_parts(&packet, &rest);
        }
    }
}
