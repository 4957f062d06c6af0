//! Numbers that fields are compared with: the kernel's, by name.

use std::fmt;

/// TCP flags (RFC 9293, 3.1) and which of them count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags {
    /// Those that are set; none outside of the mask.
    pub set: u8,
    /// Those that are looked at.
    pub mask: u8,
}

impl Flags {
    /// `fin`
    pub const FIN: u8 = 1;
    /// `syn`
    pub const SYN: u8 = 2;
    /// `rst`
    pub const RST: u8 = 4;
    /// `ack`
    pub const ACK: u8 = 16;

    const NAMES: [&'static str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];

    /// The names of flags, in `nft`'s order.
    pub fn names(flags: u8) -> impl Iterator<Item = &'static str> {
        let names = Self::NAMES.into_iter().enumerate();
        names.filter(move |(bit, _)| flags >> bit & 1 != 0).map(|(_, name)| name)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |flags| Self::names(flags).collect::<Vec<_>>().join(",");
        let set = if self.set == 0 { "0".to_owned() } else { names(self.set) };
        write!(f, "{set} / {}", names(self.mask))
    }
}

/// What [`Field::NfProto`](crate::Field::NfProto) is of IPv6 (`NFPROTO_IPV6`, uapi `linux/netfilter.h`).
pub const NFPROTO_IPV6: u128 = 10;
/// What [`Field::PacketType`](crate::Field::PacketType) is of a packet for this host alone (uapi `linux/if_packet.h`).
pub const PACKET_HOST: u128 = 0;
/// What [`Field::SourceType`](crate::Field::SourceType) is of an address of this server (`RTN_LOCAL`, uapi
/// `linux/rtnetlink.h`).
pub const LOCAL: u128 = 2;
/// What [`Field::CtDirection`](crate::Field::CtDirection) is of the side that began the connection.
pub const ORIGINAL: u128 = 0;
/// What [`Field::IifKind`](crate::Field::IifKind) is of a VRF, a device that stands for a routing table.
pub const VRF: u128 = u128::from_be_bytes(*b"vrf\0\0\0\0\0\0\0\0\0\0\0\0\0");
