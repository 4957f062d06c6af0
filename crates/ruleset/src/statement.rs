//! What a rule is made of: matches, lookups and verdicts, at the level of the `nft` language.
//!
//! A statement says what `nft` would print. The kernel's expressions (registers, payload offsets)
//! are the business of the netlink crate, which lowers each statement and reads it back; what it
//! doesn't know there arrives here as [`Statement::Opaque`], so that nothing in the kernel's table
//! goes unseen.

use crate::known::Flags;
use std::fmt;
use std::net::IpAddr;

/// The address families that the `inet` table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, IPv4 first.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of `address`.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// Transport protocols whose ports are 16 bits at offsets 0 and 2 of their header.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
    Dccp,
    UdpLite,
}

impl Transport {
    /// Every transport protocol with ports.
    pub const ALL: [Self; 5] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Dccp, Self::UdpLite];

    /// The IP protocol number (IANA).
    pub fn protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Dccp => 33,
            Self::Sctp => 132,
            Self::UdpLite => 136,
        }
    }

    /// The transport of an IP protocol number, if that has ports.
    pub fn of_protocol(protocol: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|transport| transport.protocol() == protocol)
    }

    /// The name, as `nft` and the policy file spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Dccp => "dccp",
            Self::Sctp => "sctp",
            Self::UdpLite => "udplite",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a packet is asked for. Fields of a header imply that the packet has that header: `ip
/// saddr` matches IPv4 only, `tcp dport` TCP only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `ct state`, always tested against a mask ([`Value::States`]).
    CtState,
    /// `iif`, an interface index.
    Iif,
    /// `oif`, an interface index.
    Oif,
    /// `meta l4proto`: the transport protocol behind all extension headers.
    L4Proto,
    /// `meta skuid`: the user of the sending socket; no match where there is no socket.
    SkUid,
    /// `ip saddr` or `ip6 saddr`.
    Saddr(Family),
    /// `ip daddr` or `ip6 daddr`.
    Daddr(Family),
    /// `tcp sport` and its like.
    Sport(Transport),
    /// `tcp dport` and its like.
    Dport(Transport),
    /// `icmp type` (V4) or `icmpv6 type` (V6).
    IcmpType(Family),
    /// `ip6 hoplimit`.
    HopLimit,
    /// `meta nfproto`: the family, by the kernel's number.
    NfProto,
    /// `meta pkttype`: to this host alone, to a group, or to everybody on the link.
    PacketType,
    /// `meta iifkind`: the kind of the interface that it came in by, as `ip link` names it, in 16
    /// bytes. No match where the interface has none, as hardware.
    IifKind,
    /// `fib saddr type`: what the source address is to this server.
    SourceType,
    /// `ct direction`: whether the side that began the connection sent it.
    CtDirection,
    /// `tcp flags`, always tested against a mask ([`Value::Flags`]).
    TcpFlags,
    /// `socket wildcard`: whether the socket that it is for is bound to no address; no match where
    /// there is no socket.
    SocketWildcard,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CtState => "ct state",
            Self::Iif => "iif",
            Self::Oif => "oif",
            Self::L4Proto => "meta l4proto",
            Self::SkUid => "meta skuid",
            Self::Saddr(Family::V4) => "ip saddr",
            Self::Saddr(Family::V6) => "ip6 saddr",
            Self::Daddr(Family::V4) => "ip daddr",
            Self::Daddr(Family::V6) => "ip6 daddr",
            Self::Sport(transport) => return write!(f, "{transport} sport"),
            Self::Dport(transport) => return write!(f, "{transport} dport"),
            Self::IcmpType(Family::V4) => "icmp type",
            Self::IcmpType(Family::V6) => "icmpv6 type",
            Self::HopLimit => "ip6 hoplimit",
            Self::NfProto => "meta nfproto",
            Self::PacketType => "meta pkttype",
            Self::IifKind => "meta iifkind",
            Self::SourceType => "fib saddr type",
            Self::CtDirection => "ct direction",
            Self::TcpFlags => "tcp flags",
            Self::SocketWildcard => "socket wildcard",
        })
    }
}

/// Connection tracking states as a mask: the bits of `NF_CT_STATE_BIT` (uapi
/// `linux/netfilter/nf_conntrack_common.h`), as `ct state` yields them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct States(pub u32);

impl States {
    /// `NF_CT_STATE_INVALID_BIT`
    pub const INVALID: Self = Self(1);
    /// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`
    pub const ESTABLISHED: Self = Self(2);
    /// `NF_CT_STATE_BIT(IP_CT_RELATED)`
    pub const RELATED: Self = Self(4);
    /// `NF_CT_STATE_BIT(IP_CT_NEW)`
    pub const NEW: Self = Self(8);
    /// `NF_CT_STATE_UNTRACKED_BIT`
    pub const UNTRACKED: Self = Self(64);
    /// Of no connection.
    pub const UNTRACKED_OR_INVALID: Self = Self(Self::UNTRACKED.0 | Self::INVALID.0);

    const NAMES: [(Self, &'static str); 5] = [
        (Self::INVALID, "invalid"),
        (Self::ESTABLISHED, "established"),
        (Self::RELATED, "related"),
        (Self::NEW, "new"),
        (Self::UNTRACKED, "untracked"),
    ];

    /// Whether the masks share a state.
    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The names of the states in the mask, in `nft`'s order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |(state, _)| self.intersects(*state)).map(|(_, n)| n)
    }
}

impl fmt::Display for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            write!(f, "{}{name}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// What a field is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// Equal to this number: an address, port, protocol, interface index, user id or type.
    Number(u128),
    /// An address inside `address/length`. `length` lies between 1 and the width less one:
    /// a whole address is a [`Value::Number`].
    Prefix {
        /// The network address, host bits zero.
        address: u128,
        /// The prefix length in bits.
        length: u8,
    },
    /// One of these states; for [`Field::CtState`] only.
    States(States),
    /// Of the flags in the mask just these; for [`Field::TcpFlags`] only.
    Flags(Flags),
}

/// What happens to the packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Leave this base chain; the packet passes it.
    Accept,
    /// The packet ends here.
    Drop,
    /// Go on after the rule that jumped here; in a base chain, take its policy.
    Return,
    /// Evaluate that chain, then go on with the next rule.
    Jump(String),
    /// Evaluate that chain; at its end, return to where this chain was jumped from.
    Goto(String),
}

impl Verdict {
    /// The chain that the verdict leads to.
    pub fn target(&self) -> Option<&str> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Return => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reject {
    /// `reject with tcp reset`; the rule matches `meta l4proto tcp` before.
    TcpReset,
    /// `reject with icmpx admin-prohibited`: the ICMP error of the packet's own family.
    AdminProhibited,
}

/// `limit rate`, by packets: a token bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limit {
    /// Packets a second.
    pub rate: u64,
    /// Packets that may pass at once above the rate.
    pub burst: u32,
}

/// Where a log statement writes. `nft` and the kernel exclude having both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogTarget {
    /// The kernel log, at `info`.
    Kernel,
    /// An NFLOG group, with the queue threshold and the number of packet bytes copied.
    Group {
        /// The netlink group.
        group: u16,
        /// Packets collected in the kernel before the listener is woken.
        threshold: u16,
        /// Bytes of each packet that are copied, 0 for all.
        snaplen: u32,
    },
}

/// `log`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Log {
    /// At most 127 bytes (`NF_LOG_PREFIXLEN`), none of them `"` or control characters.
    pub prefix: String,
    /// Kernel log or NFLOG.
    pub target: LogTarget,
}

/// An expression read from the kernel that no statement stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opaque {
    /// The kernel's name of the expression (`masq`, `meta`, …).
    pub name: String,
    /// Its attributes (`NFTA_EXPR_DATA`) as the kernel sent them.
    pub data: Vec<u8>,
}

/// One step of a rule, in the order of evaluation. A step that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Statement {
    /// `tcp dport 22`
    Match {
        /// What is compared.
        field: Field,
        /// With what.
        value: Value,
    },
    /// `ip saddr @web_v4`
    Lookup {
        /// What is looked up.
        field: Field,
        /// The name of a set.
        set: String,
    },
    /// `tcp dport vmap @input_tcp`: take the verdict the map holds; no entry, go on.
    Dispatch {
        /// What is looked up.
        field: Field,
        /// The name of a verdict map.
        map: String,
    },
    /// `counter name "…"`
    Counter(String),
    /// `limit rate 10/second burst 5 packets`: matches below the rate.
    Limit(Limit),
    /// `add @input.logged_v4 { ip saddr limit rate over 10/second burst 5 packets }`: matches what
    /// comes above a rate of its own that each value of the field has, remembered in a
    /// [dynamic](crate::SetSpec::dynamic) set. Where that is full, a value that isn't in it never
    /// matches.
    Over {
        /// What has a rate each.
        field: Field,
        /// The name of a dynamic set.
        set: String,
        /// The rate.
        limit: Limit,
    },
    /// `log prefix "…"`
    Log(Log),
    /// `reject with …`
    Reject(Reject),
    /// `accept`, `jump …`
    Verdict(Verdict),
    /// Something that tierwall never writes.
    Opaque(Opaque),
}

impl Statement {
    /// `field value`
    pub fn matches(field: Field, value: u128) -> Self {
        Self::Match { field, value: Value::Number(value) }
    }

    /// `ct state …`
    pub fn states(states: States) -> Self {
        Self::Match { field: Field::CtState, value: Value::States(states) }
    }

    /// `field @set`
    pub fn lookup(field: Field, set: impl Into<String>) -> Self {
        Self::Lookup { field, set: set.into() }
    }

    /// `field vmap @map`
    pub fn dispatch(field: Field, map: impl Into<String>) -> Self {
        Self::Dispatch { field, map: map.into() }
    }

    /// `counter name "…"`
    pub fn counter(name: impl Into<String>) -> Self {
        Self::Counter(name.into())
    }

    /// `jump chain`
    pub fn jump(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Jump(chain.into()))
    }

    /// The set or map that the statement looks in or adds to.
    pub fn set(&self) -> Option<&str> {
        match self {
            Self::Lookup { set, .. } | Self::Over { set, .. } => Some(set),
            Self::Dispatch { map, .. } => Some(map),
            _ => None,
        }
    }
}
