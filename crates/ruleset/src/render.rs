//! Rendering as `nft` text: what `nft -f` accepts, laid out as `nft list table` prints it.

use crate::address::{Address, AddressRange};
use crate::address_set::AddressSet;
use crate::plan::{Operation, Plan};
use crate::statement::{Family, Field, Limit, Log, LogTarget, Reject, Statement, Value};
use crate::table::{
    Base, Chain, Elements, Hook, Interval, KeyType, Policy, Rule, Ruleset, STATE_SET, Set, SetSpec,
    TABLE, Table,
};
use crate::timed::{Seconds, TimedSet};
use std::fmt::{self, Display, Formatter, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Elements on one line of a listing; more go on lines of their own, so that a long set can be
/// read and compared.
const ELEMENTS_PER_LINE: usize = 4;

impl Ruleset {
    /// A script for `nft -f` that replaces the table with this one, in one transaction.
    pub fn to_nft_script(&self) -> String {
        let replace = format!("table inet {TABLE}\ndelete table inet {TABLE}\n");
        format!("{replace}{self}")
    }
}

impl Display for Ruleset {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.table.as_ref().map_or(Ok(()), |table| table.fmt(f))
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        if let Some(comment) = &self.comment {
            writeln!(f, "\tcomment {}\n", Quoted(comment))?;
        }
        for counter in &self.counters {
            writeln!(f, "\tcounter {counter} {{\n\t}}\n")?;
        }
        for (name, set) in &self.sets {
            writeln!(f, "{}", NamedSet(name, set))?;
        }
        if let Some(state) = &self.state {
            let element = StateElement(state);
            writeln!(f, "\tset {STATE_SET} {{\n\t\ttype mark\n\t\telements = {element}\n\t}}\n")?;
        }
        for (index, (name, chain)) in self.chains_in_order().into_iter().enumerate() {
            write!(f, "{}{}", if index > 0 { "\n" } else { "" }, NamedChain(name, chain))?;
        }
        for foreign in &self.foreign {
            writeln!(f, "\t# {foreign}")?;
        }
        writeln!(f, "}}")
    }
}

/// The one element of the set [`STATE_SET`].
struct StateElement<'a>(&'a str);

impl Display for StateElement<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{ 0x00000000 comment {} }}", Quoted(self.0))
    }
}

struct NamedSet<'a>(&'a str, &'a Set);

impl Display for NamedSet<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(name, set) = self;
        writeln!(f, "\t{} {name} {{", if set.spec.map { "map" } else { "set" })?;
        set.spec.render(f, "\t\t", "\n")?;
        if !set.elements.is_empty() {
            write!(f, "\t\telements = {{")?;
            set.elements.render(set.spec.key, f, ",\n\t\t\t    ")?;
            writeln!(f, " }}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl SetSpec {
    fn render(&self, f: &mut Formatter<'_>, indent: &str, end: &str) -> fmt::Result {
        let verdict = if self.map { " : verdict" } else { "" };
        write!(f, "{indent}type {}{verdict}{end}", self.key)?;
        if let Some(size) = self.size {
            write!(f, "{indent}size {size}{end}")?;
        }
        let dynamic = (self.dynamic.is_some(), "dynamic");
        let flags: Vec<&str> = [dynamic, (self.interval, "interval"), (self.timeout, "timeout")]
            .into_iter()
            .filter_map(|(set, name)| set.then_some(name))
            .chain(self.foreign.iter().map(String::as_str))
            .collect();
        if !flags.is_empty() {
            write!(f, "{indent}flags {}{end}", flags.join(","))?;
        }
        if let Some(seconds) = self.dynamic {
            write!(f, "{indent}timeout {}{end}", Seconds(seconds))?;
        }
        Ok(())
    }
}

impl Display for KeyType {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(Family::V4) => f.write_str("ipv4_addr"),
            Self::Address(Family::V6) => f.write_str("ipv6_addr"),
            Self::Port => f.write_str("inet_service"),
            Self::Protocol => f.write_str("inet_proto"),
            Self::Uid => f.write_str("uid"),
            Self::Other { datatype, length } => write!(f, "datatype-{datatype}-{length}"),
        }
    }
}

impl Elements {
    /// Writes ` a, b, c, d` and after every fourth element `break_` in place of `, `.
    fn render(&self, key: KeyType, f: &mut Formatter<'_>, break_: &str) -> fmt::Result {
        let mut index = 0;
        let mut separate = |f: &mut Formatter<'_>| {
            let separator = match index {
                0 => " ",
                index if index % ELEMENTS_PER_LINE == 0 => break_,
                _ => ", ",
            };
            index += 1;
            f.write_str(separator)
        };
        match self {
            Self::Ipv4(set) => render_addresses(set, f, separate),
            Self::Ipv6(set) => render_addresses(set, f, separate),
            Self::TimedIpv4(set) => render_timed(set, f, separate),
            Self::TimedIpv6(set) => render_timed(set, f, separate),
            Self::Keys(keys) => keys.iter().try_for_each(|interval| {
                separate(f)?;
                IntervalOf(key, *interval).fmt(f)
            }),
            Self::Verdicts(verdicts) => verdicts.iter().try_for_each(|(interval, verdict)| {
                separate(f)?;
                write!(f, "{} : {verdict}", IntervalOf(key, *interval))
            }),
            Self::Opaque(elements) => elements.iter().try_for_each(|element| {
                separate(f)?;
                element.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }),
            Self::Dynamic => Ok(()),
            Self::Unread => f.write_str(" [not read]"),
        }
    }
}

fn render_addresses<A: Address>(
    set: &AddressSet<A>,
    f: &mut Formatter<'_>,
    mut separate: impl FnMut(&mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    set.ranges().try_for_each(|range| {
        separate(f)?;
        write!(f, "{range}")
    })
}

fn render_timed<A: Address>(
    set: &TimedSet<A>,
    f: &mut Formatter<'_>,
    mut separate: impl FnMut(&mut Formatter<'_>) -> fmt::Result,
) -> fmt::Result {
    set.elements().try_for_each(|(range, lifetime)| {
        separate(f)?;
        write!(f, "{range}")?;
        lifetime.map_or(Ok(()), |lifetime| write!(f, " {lifetime}"))
    })
}

/// An interval in the words of its key type.
struct IntervalOf(KeyType, Interval);

impl Display for IntervalOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(key, Interval { first, last }) = *self;
        match key {
            KeyType::Address(Family::V4) => address_range::<Ipv4Addr>(first, last).fmt(f),
            KeyType::Address(Family::V6) => address_range::<Ipv6Addr>(first, last).fmt(f),
            KeyType::Protocol if first == last => match protocol_name(first) {
                Some(name) => f.write_str(name),
                None => first.fmt(f),
            },
            _ if first == last => first.fmt(f),
            _ => write!(f, "{first}-{last}"),
        }
    }
}

fn address_range<A: Address>(first: u128, last: u128) -> AddressRange<A> {
    AddressRange { first: A::from_number(first), last: A::from_number(last) }
}

struct NamedChain<'a>(&'a str, &'a Chain);

impl Display for NamedChain<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(name, chain) = self;
        writeln!(f, "\tchain {name} {{")?;
        if let Some(base) = &chain.base {
            writeln!(f, "\t\t{base}")?;
        }
        for rule in &chain.rules {
            writeln!(f, "\t\t{rule}")?;
        }
        writeln!(f, "\t}}")
    }
}

impl Display for Base {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "type {} hook {} priority ", self.kind, self.hook)?;
        match self.priority {
            0 => f.write_str("filter")?,
            priority => write!(f, "{priority}")?,
        }
        write!(f, "; policy {};", self.policy)
    }
}

impl Display for Hook {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("input"),
            Self::Forward => f.write_str("forward"),
            Self::Output => f.write_str("output"),
            Self::Other(number) => write!(f, "hook-{number}"),
        }
    }
}

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, statement) in self.statements.iter().enumerate() {
            write!(f, "{}{statement}", if index > 0 { " " } else { "" })?;
        }
        if !self.comment.is_empty() {
            write!(f, " comment {}", Quoted(&self.comment))?;
        }
        Ok(())
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Match { field, value } => write!(f, "{field} {}", ValueOf(*field, *value)),
            Self::Lookup { field, set } => write!(f, "{field} @{set}"),
            Self::Dispatch { field, map } => write!(f, "{field} vmap @{map}"),
            Self::Counter(name) => write!(f, "counter name {}", Quoted(name)),
            Self::Limit(Limit { rate, burst }) => {
                write!(f, "limit rate {rate}/second burst {burst} packets")
            }
            Self::Over { field, set, limit: Limit { rate, burst } } => {
                write!(
                    f,
                    "add @{set} {{ {field} limit rate over {rate}/second burst {burst} packets }}"
                )
            }
            Self::Log(log) => log.fmt(f),
            Self::Reject(Reject::TcpReset) => f.write_str("reject with tcp reset"),
            Self::Reject(Reject::AdminProhibited) => {
                f.write_str("reject with icmpx admin-prohibited")
            }
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Opaque(opaque) => {
                write!(f, "[{} ", opaque.name)?;
                opaque.data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("]")
            }
        }
    }
}

impl Display for Log {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "log prefix {}", Quoted(&self.prefix))?;
        match self.target {
            LogTarget::Kernel => f.write_str(" level info"),
            LogTarget::Group { group, threshold, snaplen } => {
                write!(f, " group {group}")?;
                if snaplen > 0 {
                    write!(f, " snaplen {snaplen}")?;
                }
                if threshold > 0 {
                    write!(f, " queue-threshold {threshold}")?;
                }
                Ok(())
            }
        }
    }
}

/// A value in the words of its field.
struct ValueOf(Field, Value);

impl Display for ValueOf {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(field, value) = self;
        match *value {
            Value::States(states) => states.fmt(f),
            Value::Flags(flags) => flags.fmt(f),
            Value::Number(number) => match field {
                Field::Saddr(family) | Field::Daddr(family) => address(*family, number).fmt(f),
                Field::Iif | Field::Oif if number == 1 => f.write_str("\"lo\""),
                Field::L4Proto => match protocol_name(number) {
                    Some(name) => f.write_str(name),
                    None => number.fmt(f),
                },
                Field::IcmpType(family) => match icmp_type_name(*family, number) {
                    Some(name) => f.write_str(name),
                    None => number.fmt(f),
                },
                field => match named_number(*field, number) {
                    Some(name) => f.write_str(name),
                    None if *field == Field::IifKind => Quoted(&interface_kind(number)).fmt(f),
                    None => number.fmt(f),
                },
            },
            Value::Prefix { address: number, length } => match field {
                Field::Saddr(family) | Field::Daddr(family) => {
                    write!(f, "{}/{length}", address(*family, number))
                }
                _ => write!(f, "{number}/{length}"),
            },
        }
    }
}

fn address(family: Family, number: u128) -> std::net::IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits(number as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

/// Names that are words of the `nft` language, so that it knows them without `/etc/protocols`,
/// which a minimal system lacks.
fn protocol_name(number: u128) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        33 => "dccp",
        50 => "esp",
        51 => "ah",
        58 => "icmpv6",
        108 => "comp",
        132 => "sctp",
        136 => "udplite",
        _ => return None,
    })
}

/// The ICMP types that rules of ours name.
pub(crate) fn icmp_type_name(family: Family, number: u128) -> Option<&'static str> {
    Some(match (family, number) {
        (Family::V4, 3) => "destination-unreachable",
        (Family::V4, 5) => "redirect",
        (Family::V4, 8) => "echo-request",
        (Family::V4, 11) => "time-exceeded",
        (Family::V4, 12) => "parameter-problem",
        (Family::V6, 1) => "destination-unreachable",
        (Family::V6, 2) => "packet-too-big",
        (Family::V6, 3) => "time-exceeded",
        (Family::V6, 4) => "parameter-problem",
        (Family::V6, 128) => "echo-request",
        (Family::V6, 130) => "mld-listener-query",
        (Family::V6, 131) => "mld-listener-report",
        (Family::V6, 132) => "mld-listener-done",
        (Family::V6, 133) => "nd-router-solicit",
        (Family::V6, 134) => "nd-router-advert",
        (Family::V6, 135) => "nd-neighbor-solicit",
        (Family::V6, 136) => "nd-neighbor-advert",
        (Family::V6, 137) => "nd-redirect",
        (Family::V6, 143) => "mld2-listener-report",
        _ => return None,
    })
}

/// Numbers of the kernel's own that `nft` has a word for.
pub(crate) fn named_number(field: Field, number: u128) -> Option<&'static str> {
    Some(match (field, number) {
        (Field::NfProto, 2) => "ipv4",
        (Field::NfProto, 10) => "ipv6",
        (Field::PacketType, 0) => "host",
        (Field::PacketType, 1) => "broadcast",
        (Field::PacketType, 2) => "multicast",
        (Field::PacketType, 3) => "other",
        (Field::SourceType, 1) => "unicast",
        (Field::SourceType, 2) => "local",
        (Field::SourceType, 3) => "broadcast",
        (Field::SourceType, 4) => "anycast",
        (Field::SourceType, 5) => "multicast",
        (Field::CtDirection, 0) => "original",
        (Field::CtDirection, 1) => "reply",
        _ => return None,
    })
}

/// A kind of interface, in 16 bytes with zeros at the end.
pub(crate) fn interface_kind(number: u128) -> String {
    let bytes = number.to_be_bytes();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// A quoted string. `nft` has no escapes: what would end the string is left out.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        let allowed = |c: &char| *c != '"' && !c.is_control();
        self.0.chars().filter(allowed).try_for_each(|c| f.write_char(c))?;
        f.write_char('"')
    }
}

/// One line an operation, in the manner of `nft` commands.
impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.operations.iter().try_for_each(|operation| writeln!(f, "{operation}"))
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let elements = |f: &mut Formatter<'_>, verb, set, spec: &SetSpec, elements: &Elements| {
            write!(f, "{verb} element inet {TABLE} {set} {{")?;
            elements.render(spec.key, f, ", ")?;
            f.write_str(" }")
        };
        match self {
            Self::DeleteTable => write!(f, "delete table inet {TABLE}"),
            Self::AddTable { .. } => write!(f, "add table inet {TABLE}"),
            Self::AddCounter { counter } => write!(f, "add counter inet {TABLE} {counter}"),
            Self::DeleteCounter { counter } => write!(f, "delete counter inet {TABLE} {counter}"),
            Self::AddChain { chain, base: None } => write!(f, "add chain inet {TABLE} {chain}"),
            Self::AddChain { chain, base: Some(base) } => {
                write!(f, "add chain inet {TABLE} {chain} {{ {base} }}")
            }
            Self::SetPolicy { chain, base } => {
                write!(f, "chain inet {TABLE} {chain} {{ policy {}; }}", base.policy)
            }
            Self::DeleteChain { chain } => write!(f, "delete chain inet {TABLE} {chain}"),
            Self::AddSet { set, spec } => {
                let kind = if spec.map { "map" } else { "set" };
                write!(f, "add {kind} inet {TABLE} {set} {{")?;
                spec.render(f, " ", ";")?;
                f.write_str(" }")
            }
            Self::DeleteSet { set } => write!(f, "delete set inet {TABLE} {set}"),
            Self::AddElements { set, spec, elements: added } => {
                elements(f, "add", set, spec, added)
            }
            Self::DeleteElements { set, spec, elements: deleted } => {
                elements(f, "delete", set, spec, deleted)
            }
            Self::FlushSet { set } => write!(f, "flush set inet {TABLE} {set}"),
            Self::SetState { old, new } => {
                let element = format_args!("element inet {TABLE} {STATE_SET}");
                match (old, new) {
                    (Some(_), None) => write!(f, "delete set inet {TABLE} {STATE_SET}"),
                    (None, None) => Ok(()),
                    (None, Some(new)) => {
                        writeln!(f, "add set inet {TABLE} {STATE_SET} {{ type mark; }}")?;
                        write!(f, "add {element} {}", StateElement(new))
                    }
                    (Some(_), Some(new)) => {
                        writeln!(f, "delete {element} {{ 0x00000000 }}")?;
                        write!(f, "add {element} {}", StateElement(new))
                    }
                }
            }
            Self::DeleteRule { chain, index } => {
                write!(f, "delete rule inet {TABLE} {chain} index {index}")
            }
            Self::InsertRule { chain, before: Some(index), rule } => {
                write!(f, "insert rule inet {TABLE} {chain} index {index} {rule}")
            }
            Self::InsertRule { chain, before: None, rule } => {
                write!(f, "add rule inet {TABLE} {chain} {rule}")
            }
        }
    }
}
