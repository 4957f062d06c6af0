//! What `nft` has names and units for: numbers of its data types, rates, sizes, spans of time, logs.

use crate::listing::Domain;
use crate::statement::Family;

/// Numbers that have names (`nft describe`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Names {
    /// `ip protocol`
    Protocol,
    /// `meta pkttype`
    PacketType,
    /// `meta day`
    Day,
    /// `meta protocol`
    EtherType,
    /// `ct direction`
    Direction,
    /// `ct status`
    Status,
    /// `tcp flags`
    TcpFlags,
    /// `fib … type`
    RouteType,
    /// `icmp code`
    IcmpCode,
    /// `icmpv6 code`
    Icmpv6Code,
}

const PROTOCOLS: [(&str, u128); 25] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("ipip", 94),
    ("etherip", 97),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("isis", 124),
    ("sctp", 132),
    ("udplite", 136),
    ("mpls-in-ip", 137),
    ("hip", 139),
];

impl Names {
    /// Names and numbers. Of two names of a number, the first is printed.
    fn list(self) -> &'static [(&'static str, u128)] {
        match self {
            Self::Protocol => &PROTOCOLS,
            Self::PacketType => {
                &[("host", 0), ("unicast", 0), ("broadcast", 1), ("multicast", 2), ("other", 3)]
            }
            Self::Day => &[
                ("Sunday", 0),
                ("Monday", 1),
                ("Tuesday", 2),
                ("Wednesday", 3),
                ("Thursday", 4),
                ("Friday", 5),
                ("Saturday", 6),
            ],
            Self::EtherType => &[("ip", 0x800), ("arp", 0x806), ("vlan", 0x8100), ("ip6", 0x86dd)],
            Self::Direction => &[("original", 0), ("reply", 1)],
            Self::Status => &[
                ("expected", 0x1),
                ("seen-reply", 0x2),
                ("assured", 0x4),
                ("confirmed", 0x8),
                ("snat", 0x10),
                ("dnat", 0x20),
                ("dying", 0x200),
            ],
            Self::TcpFlags => &[
                ("fin", 0x1),
                ("syn", 0x2),
                ("rst", 0x4),
                ("psh", 0x8),
                ("ack", 0x10),
                ("urg", 0x20),
                ("ecn", 0x40),
                ("cwr", 0x80),
            ],
            Self::RouteType => &[
                ("unspec", 0),
                ("unicast", 1),
                ("local", 2),
                ("broadcast", 3),
                ("anycast", 4),
                ("multicast", 5),
                ("blackhole", 6),
                ("unreachable", 7),
                ("prohibit", 8),
            ],
            Self::IcmpCode => &[
                ("net-unreachable", 0),
                ("host-unreachable", 1),
                ("prot-unreachable", 2),
                ("port-unreachable", 3),
                ("frag-needed", 4),
                ("net-prohibited", 9),
                ("host-prohibited", 10),
                ("admin-prohibited", 13),
            ],
            Self::Icmpv6Code => &[
                ("no-route", 0),
                ("admin-prohibited", 1),
                ("addr-unreachable", 3),
                ("port-unreachable", 4),
                ("policy-fail", 5),
                ("reject-route", 6),
            ],
        }
    }

    /// The number of a name.
    pub fn number(self, name: &str) -> Option<u128> {
        self.list().iter().find(|(word, _)| *word == name).map(|(_, number)| *number)
    }

    /// A number's name, as a rule has it.
    pub(super) fn name(self, number: u128) -> Option<String> {
        let (name, _) = self.list().iter().find(|(_, known)| *known == number)?;
        Some(if self == Self::Day { format!("\"{name}\"") } else { (*name).to_owned() })
    }

    /// The names of all bits; the number, if one has none.
    pub(super) fn of_bits(self, number: u128) -> String {
        let set = self.list().iter().filter(|(_, bit)| number & bit != 0);
        if number == 0 || set.clone().fold(0, |bits, (_, bit)| bits | bit) != number {
            return format!("{number:#x}");
        }
        set.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
    }
}

/// What a selector without a word of its own is compared with.
pub(super) fn domain(selector: &str) -> Domain {
    match selector {
        "meta mark" | "ct mark" | "socket mark" => Domain::Mark,
        "meta hour" => Domain::Hour,
        "meta pkttype" => Domain::Named(Names::PacketType),
        "meta day" => Domain::Named(Names::Day),
        "meta protocol" => Domain::Named(Names::EtherType),
        "ct direction" => Domain::Named(Names::Direction),
        "ct status" => Domain::Flags(Names::Status),
        "tcp flags" => Domain::Flags(Names::TcpFlags),
        "icmp code" => Domain::Named(Names::IcmpCode),
        "icmpv6 code" => Domain::Named(Names::Icmpv6Code),
        text if text.starts_with("fib ") && text.ends_with(" type") => {
            Domain::Named(Names::RouteType)
        }
        // `ct original ip daddr`
        text if text.starts_with("ct ") && text.ends_with("addr") => match text.contains(" ip6 ") {
            true => Domain::Address(Family::V6),
            false => Domain::Address(Family::V4),
        },
        _ => Domain::Other,
    }
}

/// ICMP types as `nft describe icmp type` and `nft describe icmpv6 type` list them.
pub fn icmp_types(family: Family) -> &'static [(&'static str, u8)] {
    const ICMP: [(&str, u8); 13] = [
        ("echo-reply", 0),
        ("destination-unreachable", 3),
        ("source-quench", 4),
        ("redirect", 5),
        ("echo-request", 8),
        ("router-advertisement", 9),
        ("router-solicitation", 10),
        ("time-exceeded", 11),
        ("parameter-problem", 12),
        ("timestamp-request", 13),
        ("timestamp-reply", 14),
        ("address-mask-request", 17),
        ("address-mask-reply", 18),
    ];
    const ICMPV6: [(&str, u8); 18] = [
        ("destination-unreachable", 1),
        ("packet-too-big", 2),
        ("time-exceeded", 3),
        ("parameter-problem", 4),
        ("echo-request", 128),
        ("echo-reply", 129),
        ("mld-listener-query", 130),
        ("mld-listener-report", 131),
        ("mld-listener-done", 132),
        ("mld-listener-reduction", 132),
        ("nd-router-solicit", 133),
        ("nd-router-advert", 134),
        ("nd-neighbor-solicit", 135),
        ("nd-neighbor-advert", 136),
        ("nd-redirect", 137),
        ("ind-neighbor-solicit", 141),
        ("ind-neighbor-advert", 142),
        ("mld2-listener-report", 143),
    ];
    match family {
        Family::V4 => &ICMP,
        Family::V6 => &ICMPV6,
    }
}

/// `limit rate over 10/minute burst 20 packets`, or a rate of bytes. `per` is the word for the span of
/// time; `burst` is in packets or bytes, and isn't named if it is what `nft` takes without one.
pub fn limit_words(over: bool, is_bytes: bool, rate: u64, per: &str, burst: u64) -> String {
    let over = if over { "over " } else { "" };
    let rate = if is_bytes { size_words(rate) } else { rate.to_string() };
    let burst = match (is_bytes, burst) {
        (true, 0) | (false, 0 | 5) => String::new(),
        (true, burst) => format!(" burst {}", size_words(burst)),
        (false, burst) => format!(" burst {burst} packets"),
    };
    format!("limit rate {over}{rate}/{per}{burst}")
}

/// A number of bytes in the largest unit without a rest.
pub fn size_words(bytes: u64) -> String {
    match bytes {
        0 => "0 bytes".to_owned(),
        bytes if bytes % (1 << 20) == 0 => format!("{} mbytes", bytes >> 20),
        bytes if bytes % (1 << 10) == 0 => format!("{} kbytes", bytes >> 10),
        bytes => format!("{bytes} bytes"),
    }
}

/// A span of time, such as `1h30m`.
pub fn duration_words(milliseconds: u64) -> String {
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    let mut rest = milliseconds;
    let mut text = String::new();
    for (unit, length) in units {
        if rest >= length {
            text += &format!("{}{unit}", rest / length);
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// `log prefix "in: " level info`: `options` are what the statement names, without `prefix`, each with
/// its value, in `nft`'s order.
pub fn log_words(prefix: Option<&str>, options: &[(&str, String)]) -> String {
    let mut text = "log".to_owned();
    if let Some(prefix) = prefix {
        text += &format!(" prefix \"{prefix}\"");
    }
    for (option, value) in options {
        text += &format!(" {option} {value}");
    }
    text
}
