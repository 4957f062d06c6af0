//! The names of IP protocols: what IANA assigns and servers really speak.
//!
//! The table is our own rather than `/etc/protocols`, so that a policy means the same on every
//! server and in review.

/// Names and numbers, from the IANA registry "Assigned Internet Protocol Numbers"; the spellings
/// of `nft` and of `/etc/protocols` first.
const PROTOCOLS: [(&str, u8); 29] = [
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("eigrp", 88),
    ("ospf", 89),
    ("ospfigp", 89),
    ("etherip", 97),
    ("pim", 103),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("carp", 112),
    ("pgm", 113),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
    ("mpls-in-ip", 137),
    ("hip", 139),
    ("ethernet", 143),
];

/// Numbers of protocols that nobody speaks, and of ports that everybody knows.
const RATHER_PORTS: [u8; 17] =
    [20, 21, 22, 23, 25, 53, 67, 68, 69, 80, 110, 119, 123, 161, 162, 179, 194];

/// The number of a protocol's name.
pub fn number(name: &str) -> Option<u8> {
    PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The name of a protocol, its number where it has none.
pub fn name(number: u8) -> String {
    let known = PROTOCOLS.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
}

/// How a policy names a whole protocol: its name or its number; none where a number would be taken
/// for a port.
pub fn service_word(number: u8) -> Option<String> {
    (!is_rather_a_port(number)).then(|| name(number))
}

/// Every known name.
pub(crate) fn names<'a>() -> impl Iterator<Item = &'a str> + Clone {
    PROTOCOLS.iter().map(|(name, _)| *name)
}

/// Whether a bare number is more likely a port than a protocol.
pub(crate) fn is_rather_a_port(number: u8) -> bool {
    RATHER_PORTS.contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ruleset::Transport;

    #[test]
    fn knows_every_transport_by_the_same_number() {
        for transport in Transport::ALL {
            assert_eq!(number(transport.name()), Some(transport.protocol()));
        }
    }

    #[test]
    fn no_known_protocol_is_taken_for_a_port() {
        assert!(PROTOCOLS.iter().all(|(_, number)| !is_rather_a_port(*number)));
        assert_eq!(number("gre"), Some(47));
        assert_eq!(number("GRE"), None);
    }
}
