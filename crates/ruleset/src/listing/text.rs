//! A listing's rules in the words of `nft`, for comments and messages.

use crate::listing::{
    Domain, ListedRule, Names, Operand, Refusal, Selector, Step, Value, VerdictMap, icmp_types,
};
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
            Self::Log(text) | Self::Limit(text) | Self::Other(text) => f.write_str(text),
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
            Self::Iif => f.write_str("iif"),
            Self::IifName => f.write_str("iifname"),
            Self::Oif => f.write_str("oif"),
            Self::OifName => f.write_str("oifname"),
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
        let named = |names: &Names| names.name(number).unwrap_or_else(|| number.to_string());
        match self {
            Self::Address(Family::V4) => Ipv4Addr::from(number as u32).to_string(),
            Self::Address(Family::V6) => Ipv6Addr::from(number).to_string(),
            Self::CtState => match States(number as u32).names().next() {
                Some(_) => States(number as u32).to_string(),
                None => number.to_string(),
            },
            Self::Protocol => named(&Names::Protocol),
            Self::IcmpType(family) => {
                let known = icmp_types(family).iter().find(|(_, kind)| u128::from(*kind) == number);
                known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
            }
            Self::NfProto => match number {
                2 => "ipv4".into(),
                10 => "ipv6".into(),
                _ => number.to_string(),
            },
            Self::Mark => format!("{number:#010x}"),
            Self::Hour => {
                let (minutes, seconds) = (number / 60, number % 60);
                let time = format!("{:02}:{:02}", minutes / 60, minutes % 60);
                match seconds {
                    0 => format!("\"{time}\""),
                    seconds => format!("\"{time}:{seconds:02}\""),
                }
            }
            Self::Named(names) => named(&names),
            Self::Flags(names) => names.of_bits(number),
            Self::Port | Self::Uid | Self::Interface | Self::Other => number.to_string(),
        }
    }

    /// What `selector & mask == value` is in a rule, behind the selector; `negated` is `!=`.
    pub fn masked(self, mask: u128, value: u128, negated: bool) -> Value {
        let (mask_text, text) = (self.number(mask), self.number(value));
        Value::Word(match (self, value, negated) {
            (Self::Flags(_), 0, true) => mask_text,
            (Self::Flags(_), 0, false) => format!("! {mask_text}"),
            (Self::Flags(_), ..) if mask.count_ones() > 1 => {
                format!("{}{text} / {mask_text}", if negated { "!= " } else { "" })
            }
            _ => format!("& {mask_text} {} {text}", if negated { "!=" } else { "==" }),
        })
    }
}

/// The length of the prefix that goes from `first` to `last`, if they are one.
pub(crate) fn prefix_length(first: u128, last: u128, width: u32) -> Option<u32> {
    let host = last.checked_sub(first)?;
    let aligned = host.checked_add(1).is_none_or(u128::is_power_of_two) && first & host == 0;
    let bits = 128 - host.leading_zeros();
    aligned.then(|| width.checked_sub(bits)).flatten()
}
