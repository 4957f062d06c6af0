//! Tables that others made, as `nft` lists them.
//!
//! A [`Table`](crate::Table) holds what tierwall writes and keeps the rest as opaque bytes. A
//! [`Listing`] is for reading the rules of people: it has a word for each common form, keeps the
//! order, and holds the rest as text. It has two sources, the JSON of `nft -j list ruleset` and
//! the kernel, and is never written back.

mod text;
mod words;

pub use words::{Names, duration_words, icmp_types, limit_words, log_words, size_words};

use crate::statement::{Family, Transport, Verdict};
use std::collections::BTreeMap;
use std::fmt;

/// Tables in the order of their listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The tables.
    pub tables: Vec<ListedTable>,
}

/// The family of a table: which packets it sees.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFamily {
    /// Both address families.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// `arp`, `bridge`, `netdev`, or one that is not known.
    Other(String),
}

impl TableFamily {
    /// The family by `nft`'s name.
    pub fn named(name: &str) -> Self {
        match name {
            "inet" => Self::Inet,
            "ip" => Self::Ip,
            "ip6" => Self::Ip6,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The address families that a table of this family sees.
    pub fn addresses(&self) -> &'static [Family] {
        match self {
            Self::Inet => &Family::BOTH,
            Self::Ip => &[Family::V4],
            Self::Ip6 => &[Family::V6],
            Self::Other(_) => &[],
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Other(name) => name,
        })
    }
}

/// A table with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedTable {
    /// Its family.
    pub family: TableFamily,
    /// Its name.
    pub name: String,
    /// Named sets and maps.
    pub sets: BTreeMap<String, ListedSet>,
    /// The chains, in the order of the listing.
    pub chains: Vec<ListedChain>,
}

impl ListedTable {
    /// A table without content.
    pub fn new(family: TableFamily, name: impl Into<String>) -> Self {
        Self { family, name: name.into(), sets: BTreeMap::new(), chains: Vec::new() }
    }

    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&ListedChain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

/// What the values of a key are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// Addresses of a family.
    Address(Family),
    /// Ports.
    Port,
    /// IP protocols.
    Protocol,
    /// ICMP types (V4) or ICMPv6 types (V6).
    IcmpType(Family),
    /// Bits of connection tracking states.
    CtState,
    /// User ids.
    Uid,
    /// Names of interfaces.
    Interface,
    /// Address families (`meta nfproto`), by the kernel's number.
    NfProto,
    /// Marks of packets and connections.
    Mark,
    /// Seconds since midnight, by the local clock.
    Hour,
    /// Numbers of which some or all have a name.
    Named(Names),
    /// Bits of which each has a name.
    Flags(Names),
    /// Other numbers and words.
    Other,
}

/// A named set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSet {
    /// What the parts of its keys are.
    pub domains: Vec<Domain>,
    /// Its elements.
    pub elements: Vec<ListedElement>,
    /// Whether packets add to it (`flags dynamic`).
    pub dynamic: bool,
    /// Whether it is a map to something else than verdicts.
    pub other_map: bool,
}

/// An element of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedElement {
    /// The parts of its key.
    pub key: Vec<Value>,
    /// Where it leads to, in a verdict map.
    pub verdict: Option<Verdict>,
    /// Whether it ends by itself.
    pub timed: bool,
}

/// One part of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Numbers from the first to the last.
    Range(u128, u128),
    /// A word that stands for no number that is known.
    Word(String),
}

impl Value {
    /// One number.
    pub fn number(number: u128) -> Self {
        Self::Range(number, number)
    }
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedChain {
    /// Its name.
    pub name: String,
    /// What makes it a base chain.
    pub base: Option<ListedBase>,
    /// Its rules.
    pub rules: Vec<ListedRule>,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedBase {
    /// `filter`, `nat`, `route`.
    pub kind: String,
    /// `input`, `prerouting`, …
    pub hook: String,
    /// The priority; lower runs earlier.
    pub priority: i32,
    /// Whether packets pass that no rule decided.
    pub accepts: bool,
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListedRule {
    /// Its comment.
    pub comment: Option<String>,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// What a packet is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// `ct state`
    CtState,
    /// `iif`, by its name where that is known
    Iif,
    /// `iifname`
    IifName,
    /// `oif`
    Oif,
    /// `oifname`
    OifName,
    /// `meta l4proto`
    L4Proto,
    /// `ip protocol`, `ip6 nexthdr`
    Protocol(Family),
    /// `meta nfproto`
    NfProto,
    /// `ip saddr`, `ip6 saddr`
    Saddr(Family),
    /// `ip daddr`, `ip6 daddr`
    Daddr(Family),
    /// `tcp sport`; without a transport `th sport`
    Sport(Option<Transport>),
    /// `tcp dport`; without a transport `th dport`
    Dport(Option<Transport>),
    /// `icmp type`, `icmpv6 type`
    IcmpType(Family),
    /// `ip6 hoplimit`
    HopLimit,
    /// `meta skuid`
    SkUid,
    /// Anything else, in `nft`'s words.
    Other(String),
}

impl Selector {
    /// What it is compared with.
    pub fn domain(&self) -> Domain {
        match self {
            Self::CtState => Domain::CtState,
            Self::Iif | Self::IifName | Self::Oif | Self::OifName => Domain::Interface,
            Self::L4Proto | Self::Protocol(_) => Domain::Protocol,
            Self::NfProto => Domain::NfProto,
            Self::Saddr(family) | Self::Daddr(family) => Domain::Address(*family),
            Self::Sport(_) | Self::Dport(_) => Domain::Port,
            Self::IcmpType(family) => Domain::IcmpType(*family),
            Self::SkUid => Domain::Uid,
            Self::HopLimit => Domain::Other,
            Self::Other(text) => words::domain(text),
        }
    }
}

/// What a key is looked for in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// `@name`
    Named(String),
    /// `{ … }`, or a single one
    Keys(Vec<Vec<Value>>),
}

/// Where a verdict is looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerdictMap {
    /// `@name`
    Named(String),
    /// `{ … : … }`
    Entries(Vec<(Vec<Value>, Verdict)>),
}

/// How a packet is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The only family it is for: `reject with icmp …` is for IPv4.
    pub family: Option<Family>,
    /// `tcp reset`, `icmpx admin-prohibited`; empty for the default.
    pub how: String,
}

impl Refusal {
    /// The same as a table of this family has it: `reject` alone, if that is what it means there.
    pub fn in_table(self, family: &TableFamily) -> Self {
        let default = match family {
            TableFamily::Ip => "icmp port-unreachable",
            TableFamily::Ip6 => "icmpv6 port-unreachable",
            TableFamily::Inet | TableFamily::Other(_) => "icmpx port-unreachable",
        };
        match self.how == default {
            true => Self { how: String::new(), ..self },
            false => self,
        }
    }
}

/// One step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `selector operand`; several selectors are a concatenation.
    Match {
        /// What is asked for.
        selectors: Vec<Selector>,
        /// `!=`
        negated: bool,
        /// With what it is compared.
        operand: Operand,
    },
    /// `selector vmap …`
    Dispatch {
        /// What is asked for.
        selectors: Vec<Selector>,
        /// Where the verdict is.
        map: VerdictMap,
    },
    /// `counter`
    Counter,
    /// `log …`, as [`log_words`] has it
    Log(String),
    /// `limit rate …`, `limit rate over …`, as [`limit_words`] has it
    Limit(String),
    /// `reject`
    Reject(Refusal),
    /// `accept`, `jump …`
    Verdict(Verdict),
    /// Anything else, in `nft`'s words as far as they are known.
    Other(String),
}
