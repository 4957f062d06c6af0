//! A listing's rules in the words of `nft`, for comments and messages.

use crate::listing::{Domain, ListedRule, Operand, Refusal, Selector, Step, Value, VerdictMap};
use crate::statement::{Family, States, Verdict};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// How many elements of an anonymous set are shown.
const SHOWN: usize = 8;

impl fmt::Display for ListedRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            step.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match { selectors, negated, operand } => {
                concatenated(f, selectors)?;
                f.write_str(if *negated { " != " } else { " " })?;
                match operand {
                    Operand::Named(name) => write!(f, "@{name}"),
                    Operand::Keys(keys) => keys_text(f, selectors, keys),
                }
            }
            Self::Dispatch { selectors, map } => {
                concatenated(f, selectors)?;
                f.write_str(" vmap ")?;
                match map {
                    VerdictMap::Named(name) => write!(f, "@{name}"),
                    VerdictMap::Entries(entries) => entries_text(f, selectors, entries),
                }
            }
            Self::Counter => f.write_str("counter"),
            Self::Log => f.write_str("log"),
            Self::Limit(text) | Self::Other(text) => f.write_str(text),
            Self::Reject(refusal) => refusal.fmt(f),
            Self::Verdict(verdict) => verdict.fmt(f),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how.as_str() {
            "" => f.write_str("reject"),
            how => write!(f, "reject with {how}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = |family: &Family| match family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        };
        match self {
            Self::CtState => f.write_str("ct state"),
            Self::Iif => f.write_str("iifname"),
            Self::Oif => f.write_str("oifname"),
            Self::L4Proto => f.write_str("meta l4proto"),
            Self::Protocol(Family::V4) => f.write_str("ip protocol"),
            Self::Protocol(Family::V6) => f.write_str("ip6 nexthdr"),
            Self::NfProto => f.write_str("meta nfproto"),
            Self::Saddr(family) => write!(f, "{} saddr", ip(family)),
            Self::Daddr(family) => write!(f, "{} daddr", ip(family)),
            Self::Sport(Some(transport)) => write!(f, "{transport} sport"),
            Self::Dport(Some(transport)) => write!(f, "{transport} dport"),
            Self::Sport(None) => f.write_str("th sport"),
            Self::Dport(None) => f.write_str("th dport"),
            Self::IcmpType(Family::V4) => f.write_str("icmp type"),
            Self::IcmpType(Family::V6) => f.write_str("icmpv6 type"),
            Self::HopLimit => f.write_str("ip6 hoplimit"),
            Self::SkUid => f.write_str("meta skuid"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

fn concatenated(f: &mut fmt::Formatter<'_>, selectors: &[Selector]) -> fmt::Result {
    for (index, selector) in selectors.iter().enumerate() {
        write!(f, "{}{selector}", if index > 0 { " . " } else { "" })?;
    }
    Ok(())
}

fn keys_text(
    f: &mut fmt::Formatter<'_>,
    selectors: &[Selector],
    keys: &[Vec<Value>],
) -> fmt::Result {
    match keys {
        [key] => key_text(f, selectors, key),
        // States are bits: any of them.
        _ if selectors == [Selector::CtState] => {
            for (index, key) in keys.iter().enumerate() {
                f.write_str(if index > 0 { "," } else { "" })?;
                key_text(f, selectors, key)?;
            }
            Ok(())
        }
        _ => {
            f.write_str("{ ")?;
            for (index, key) in keys.iter().take(SHOWN).enumerate() {
                f.write_str(if index > 0 { ", " } else { "" })?;
                key_text(f, selectors, key)?;
            }
            f.write_str(if keys.len() > SHOWN { ", … }" } else { " }" })
        }
    }
}

fn entries_text(
    f: &mut fmt::Formatter<'_>,
    selectors: &[Selector],
    entries: &[(Vec<Value>, Verdict)],
) -> fmt::Result {
    f.write_str("{ ")?;
    for (index, (key, verdict)) in entries.iter().take(SHOWN).enumerate() {
        f.write_str(if index > 0 { ", " } else { "" })?;
        key_text(f, selectors, key)?;
        write!(f, " : {verdict}")?;
    }
    f.write_str(if entries.len() > SHOWN { ", … }" } else { " }" })
}

fn key_text(f: &mut fmt::Formatter<'_>, selectors: &[Selector], key: &[Value]) -> fmt::Result {
    for (index, value) in key.iter().enumerate() {
        f.write_str(if index > 0 { " . " } else { "" })?;
        let domain = selectors.get(index).map_or(Domain::Other, Selector::domain);
        f.write_str(&domain.text(value))?;
    }
    Ok(())
}

impl Domain {
    /// A value in the words of `nft`.
    pub fn text(self, value: &Value) -> String {
        match value {
            Value::Word(word) if self == Self::Interface => format!("\"{word}\""),
            Value::Word(word) => word.clone(),
            Value::Range(first, last) if first == last => self.number(*first),
            Value::Range(first, last) => {
                if let Self::Address(family) = self {
                    let width = if family == Family::V4 { 32 } else { 128 };
                    if let Some(length) = prefix_length(*first, *last, width) {
                        return format!("{}/{length}", self.number(*first));
                    }
                }
                format!("{}-{}", self.number(*first), self.number(*last))
            }
        }
    }

    fn number(self, number: u128) -> String {
        match self {
            Self::Address(Family::V4) => Ipv4Addr::from(number as u32).to_string(),
            Self::Address(Family::V6) => Ipv6Addr::from(number).to_string(),
            Self::CtState => match States(number as u32).names().next() {
                Some(_) => States(number as u32).to_string(),
                None => number.to_string(),
            },
            Self::Protocol => match number {
                1 => "icmp".into(),
                2 => "igmp".into(),
                6 => "tcp".into(),
                17 => "udp".into(),
                47 => "gre".into(),
                50 => "esp".into(),
                51 => "ah".into(),
                58 => "ipv6-icmp".into(),
                112 => "vrrp".into(),
                132 => "sctp".into(),
                _ => number.to_string(),
            },
            Self::IcmpType(family) => {
                let known = icmp_types(family).iter().find(|(_, kind)| u128::from(*kind) == number);
                known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
            }
            Self::NfProto => match number {
                2 => "ipv4".into(),
                10 => "ipv6".into(),
                _ => number.to_string(),
            },
            _ => number.to_string(),
        }
    }
}

/// The length of the prefix that goes from `first` to `last`, if they are one.
pub(crate) fn prefix_length(first: u128, last: u128, width: u32) -> Option<u32> {
    let host = last.checked_sub(first)?;
    let aligned = host.checked_add(1).is_none_or(u128::is_power_of_two) && first & host == 0;
    let bits = 128 - host.leading_zeros();
    aligned.then(|| width.checked_sub(bits)).flatten()
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
