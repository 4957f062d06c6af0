//! What a denial is called in metrics: the tiers of its addresses, and its service where that is one
//! that people know.
//!
//! Whoever scans all ports must not make a series of each. A port has a name of its own where an
//! allow names it, or everybody knows it; all others of a protocol are one.

use super::flow::Service;
use policy::Policy;
use policy::model::{Tier, tiers_with};
use ruleset::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Ports with a name of their own whatever the policy says: what is asked for most by mistake or
/// by intruders.
const KNOWN: [(Transport, &[u16]); 2] = [
    (
        Transport::Tcp,
        &[
            21, 22, 23, 25, 53, 80, 111, 135, 139, 389, 443, 445, 636, 1433, 1521, 2049, 2375,
            3306, 3389, 5432, 5900, 5985, 6379, 8080, 8443, 9090, 9100, 9200, 10250, 11211, 27017,
        ],
    ),
    (Transport::Udp, &[53, 67, 69, 123, 137, 138, 161, 443, 514, 1194, 1900, 5353, 51820]),
];

/// The policy's words, at a time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    pub(super) tiers: Arc<BTreeMap<String, Tier>>,
    pub(super) services: Arc<Services>,
    /// The names of users that the policy has.
    pub(super) users: Arc<BTreeMap<u32, String>>,
}

/// The ports that have a name.
#[derive(Debug, Default)]
pub(super) struct Services {
    singles: BTreeSet<(u8, u16)>,
    /// Disjoint, sorted by protocol and port.
    ranges: Vec<(u8, u16, u16)>,
}

/// What a service is counted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ServiceLabel {
    /// These ports of a protocol.
    Ports(u8, u16, u16),
    /// All other ports of it.
    OtherPorts(u8),
    /// A protocol without ports, or ICMP of any type.
    Whole(u8),
}

impl Labels {
    /// A user as the policy calls it, else its number; empty for none.
    pub(super) fn user(&self, user: Option<u32>) -> String {
        let Some(uid) = user else { return String::new() };
        self.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string())
    }
}

impl Services {
    /// Those that the allows name, and those that everybody knows.
    pub(super) fn of(policy: &Policy) -> Self {
        let mut singles = BTreeSet::new();
        for (transport, ports) in KNOWN {
            singles.extend(ports.iter().map(|port| (transport.protocol(), *port)));
        }
        let mut named: BTreeSet<(u8, u16, u16)> = BTreeSet::new();
        let services = policy.allows.iter().map(|allow| &allow.service).chain([&policy.guarded]);
        for (transport, ports) in services.flat_map(|service| &service.ports) {
            for range in ports {
                match (*range.start(), *range.end()) {
                    (port, end) if port == end => {
                        singles.insert((transport.protocol(), port));
                    }
                    (first, last) => {
                        named.insert((transport.protocol(), first, last));
                    }
                }
            }
        }
        let mut ranges: Vec<(u8, u16, u16)> = Vec::new();
        for (protocol, first, last) in named {
            match ranges.last_mut() {
                Some(before) if before.0 == protocol && first <= before.2 => {
                    before.2 = before.2.max(last);
                }
                _ => ranges.push((protocol, first, last)),
            }
        }
        Self { singles, ranges }
    }

    /// What a service is counted as.
    pub(super) fn label(&self, service: Service) -> ServiceLabel {
        let Service { protocol, detail } = service;
        let Some(port) = detail.filter(|_| Transport::of_protocol(protocol).is_some()) else {
            return ServiceLabel::Whole(protocol);
        };
        if self.singles.contains(&(protocol, port)) {
            return ServiceLabel::Ports(protocol, port, port);
        }
        let after = self.ranges.partition_point(|range| (range.0, range.1) <= (protocol, port));
        let below = after.checked_sub(1).map(|index| self.ranges[index]);
        match below {
            Some((of, first, last)) if of == protocol && port <= last => {
                ServiceLabel::Ports(protocol, first, last)
            }
            _ => ServiceLabel::OtherPorts(protocol),
        }
    }
}

/// `tcp/22`, `tcp/8000-8100`, `udp/other`, `icmp`, `gre`
impl fmt::Display for ServiceLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (protocol, ports): (u8, Option<RangeInclusive<u16>>) = match *self {
            Self::Ports(protocol, first, last) => (protocol, Some(first..=last)),
            Self::OtherPorts(protocol) | Self::Whole(protocol) => (protocol, None),
        };
        // As `tierwall denied` has it.
        f.write_str(&Service { protocol, detail: None }.to_string())?;
        match (self, ports) {
            (Self::OtherPorts(_), _) => f.write_str("/other"),
            (_, Some(ports)) if ports.start() == ports.end() => write!(f, "/{}", ports.start()),
            (_, Some(ports)) => write!(f, "/{}-{}", ports.start(), ports.end()),
            (_, None) => Ok(()),
        }
    }
}

/// The tiers that hold an address, sorted, with commas; empty where none does.
pub(super) fn in_words(tiers: &BTreeMap<String, Tier>, address: IpAddr) -> String {
    let mut names = String::new();
    for name in tiers_with(tiers, address) {
        if !names.is_empty() {
            names.push(',');
        }
        names.push_str(name);
    }
    names
}

/// The users that the policy names, by their numbers.
pub(super) fn users(by_name: &BTreeMap<String, u32>) -> BTreeMap<u32, String> {
    by_name.iter().map(|(name, uid)| (*uid, name.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};
    use std::path::Path;

    fn services() -> Services {
        let text = "[tiers]\nweb = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \
                    [\"tcp/7000\", \"tcp/8000-8010\", \"udp/9000-9001\", \"gre\"]\n[[allow]]\nfrom = \
                    \"web\"\nto = \"any\"\nservice = [\"tcp/8005-8020\", \"tcp/8100-8200\"]\n";
        let policy = load_text(Path::new("t.toml"), text, &Options::default()).policy;
        Services::of(&policy.expect("a good policy"))
    }

    #[test]
    fn a_port_has_a_name_where_the_policy_or_everybody_has() {
        let services = services();
        let told = |protocol, detail| services.label(Service { protocol, detail }).to_string();
        for (port, expected) in [
            (7000, "tcp/7000"),
            (22, "tcp/22"),
            (7001, "tcp/other"),
            (7999, "tcp/other"),
            (8000, "tcp/8000-8020"),
            (8020, "tcp/8000-8020"),
            // One with a name of its own, in a range.
            (8080, "tcp/8080"),
            (8021, "tcp/other"),
            (8200, "tcp/8100-8200"),
            (8201, "tcp/other"),
            (0, "tcp/other"),
            (u16::MAX, "tcp/other"),
        ] {
            assert_eq!(told(6, Some(port)), expected, "{port}");
        }
        assert_eq!(told(17, Some(9001)), "udp/9000-9001");
        assert_eq!(told(17, Some(7000)), "udp/other");
        assert_eq!(told(1, Some(8)), "icmp");
        assert_eq!(told(58, Some(128)), "icmpv6");
        assert_eq!(told(47, None), "gre");
        assert_eq!(told(200, None), "200");
    }

    #[test]
    fn all_ports_together_have_few_names() {
        let services = services();
        let labels: BTreeSet<String> = (0..=u16::MAX)
            .map(|port| services.label(Service { protocol: 6, detail: Some(port) }).to_string())
            .collect();
        assert_eq!(labels.len(), KNOWN[0].1.len() + 4, "7000, two ranges, the others");
    }
}
