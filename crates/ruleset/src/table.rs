//! The table `inet filter` as a value: chains, sets, counters.
//!
//! A [`Ruleset`] is what the policy compiles to and what the kernel's dump decodes to. Kernel
//! handles, counts and positions are not part of it: two rulesets are equal exactly when they
//! filter and list the same.

use crate::address_set::AddressSet;
use crate::statement::{Family, Field, Statement, Verdict};
use crate::timed::TimedSet;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The name of our table, in the family `inet`.
pub const TABLE: &str = "filter";

/// The comment by which we know a table as ours. A table's userdata can't be changed later, so
/// this never does.
pub const TABLE_COMMENT: &str = "managed by tierwalld";

/// The set whose one element bears the table's [state](Table::state) as its comment. A table's own
/// userdata can't be changed, an element can be deleted and added again.
pub const STATE_SET: &str = "tierwall_state";

/// The longest state, in bytes.
pub const STATE_LENGTH: usize = 120;

/// The state of the table `inet filter`; none where it doesn't exist.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The table's content.
    pub table: Option<Table>,
}

impl Ruleset {
    /// The same with the table's fingerprint noted in it, as it is committed.
    pub fn noted(mut self) -> Self {
        if let Some(table) = &mut self.table {
            table.state = Some(table.fingerprint());
        }
        self
    }
}

/// The content of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The comment in the table's userdata.
    pub comment: Option<String>,
    /// Named counters, by name (at most 127 bytes).
    pub counters: BTreeSet<String>,
    /// Sets and verdict maps, by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains, by name.
    pub chains: BTreeMap<String, Chain>,
    /// What tierwall notes in the kernel about the table, such as its
    /// [fingerprint](Self::fingerprint): a text of 1 to [`STATE_LENGTH`] bytes, the comment of the
    /// one element of the set [`STATE_SET`], which is not among `sets`.
    pub state: Option<String>,
    /// Objects we never make (flow tables, quotas, …), described, so that a foreign table is
    /// never mistaken for ours or for an empty one.
    pub foreign: BTreeSet<String>,
}

/// The table has an object of that kind and name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the table has a {kind} {name} already")]
pub struct NameTaken {
    /// `chain`, `set` or `counter`.
    pub kind: &'static str,
    /// The name.
    pub name: String,
}

fn add<T>(
    kind: &'static str,
    objects: &mut BTreeMap<String, T>,
    name: &str,
    object: T,
) -> Result<(), NameTaken> {
    match objects.entry(name.to_owned()) {
        Entry::Vacant(entry) => {
            entry.insert(object);
            Ok(())
        }
        Entry::Occupied(_) => Err(NameTaken { kind, name: name.to_owned() }),
    }
}

/// Where a base chain sees packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Packets to this host.
    Input,
    /// Packets through this host.
    Forward,
    /// Packets from this host.
    Output,
    /// Another hook, by number; ours never have one.
    Other(u32),
}

/// What becomes of a packet that no rule of a base chain decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Policy {
    Accept,
    Drop,
}

/// What makes a chain a base chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// `filter`; foreign tables also have `nat` and `route`.
    pub kind: String,
    /// The hook.
    pub hook: Hook,
    /// The priority: `filter` is 0, lower runs earlier.
    pub priority: i32,
    /// The policy.
    pub policy: Policy,
}

impl Base {
    /// `type filter hook … priority filter; policy …`
    pub fn filter(hook: Hook, policy: Policy) -> Self {
        Self { kind: "filter".into(), hook, priority: 0, policy }
    }
}

/// A chain: rules in order of evaluation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Hook and policy; none for a chain that is only jumped to.
    pub base: Option<Base>,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Who this rule belongs to: the comment in its userdata (at most 127 bytes), shown by `nft
    /// list`. Several rules of a chain may share it. Empty for a foreign rule without one.
    pub comment: String,
    /// The steps.
    pub statements: Vec<Statement>,
}

impl Rule {
    /// A rule with its comment.
    pub fn new(comment: impl Into<String>, statements: Vec<Statement>) -> Self {
        Self { comment: comment.into(), statements }
    }

    /// The sets and maps it looks in.
    pub fn sets(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter_map(Statement::set)
    }

    /// The named counters it counts in.
    pub fn counters(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter_map(|statement| match statement {
            Statement::Counter(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The chains it jumps or goes to.
    pub fn targets(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter_map(|statement| match statement {
            Statement::Verdict(verdict) => verdict.target(),
            _ => None,
        })
    }
}

/// What the elements of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// `ipv4_addr` or `ipv6_addr`
    Address(Family),
    /// `inet_service`: a port.
    Port,
    /// `inet_proto`: an IP protocol.
    Protocol,
    /// `uid`
    Uid,
    /// Another type, by nftables' number and its length in bytes; ours never have one.
    Other {
        /// `NFTA_SET_KEY_TYPE`
        datatype: u32,
        /// `NFTA_SET_KEY_LEN`
        length: u32,
    },
}

impl KeyType {
    /// The length of a key in bytes.
    pub fn length(self) -> usize {
        match self {
            Self::Address(Family::V4) | Self::Uid => 4,
            Self::Address(Family::V6) => 16,
            Self::Port => 2,
            Self::Protocol => 1,
            Self::Other { length, .. } => length as usize,
        }
    }

    /// The highest key, as a number. Keys longer than 16 bytes are never read as numbers.
    pub fn max(self) -> u128 {
        match self.length() {
            length if length >= 16 => u128::MAX,
            length => (1 << (8 * length)) - 1,
        }
    }
}

/// How a set is stored in the kernel. Changing it means making the set anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSpec {
    /// What a key is.
    pub key: KeyType,
    /// Whether this is a verdict map.
    pub map: bool,
    /// Whether elements are intervals (`flags interval`).
    pub interval: bool,
    /// Whether elements may expire (`flags timeout`).
    pub timeout: bool,
    /// The declared size: the hard limit of elements, and for exact keys what makes the kernel
    /// choose a fixed hash table.
    pub size: Option<u32>,
    /// Whether rules add elements to it as packets come (`flags dynamic`), and after how many
    /// seconds the kernel forgets one. Then `timeout` is set too.
    pub dynamic: Option<u64>,
    /// Flags and data types that we never use, as the kernel gave them; empty for ours.
    pub foreign: Vec<String>,
}

/// Keys from the first to the last, both included, as numbers (network byte order for addresses
/// and ports).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interval {
    /// The lowest key.
    pub first: u128,
    /// The highest key.
    pub last: u128,
}

impl Interval {
    /// One key.
    pub fn single(key: u128) -> Self {
        Self { first: key, last: key }
    }
}

/// What a set holds. Which variant a set has follows from its [`SetSpec`]: see
/// [`Elements::empty`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// IPv4 addresses.
    Ipv4(AddressSet<Ipv4Addr>),
    /// IPv6 addresses.
    Ipv6(AddressSet<Ipv6Addr>),
    /// IPv4 addresses that the kernel forgets by itself.
    TimedIpv4(TimedSet<Ipv4Addr>),
    /// IPv6 addresses that the kernel forgets by itself.
    TimedIpv6(TimedSet<Ipv6Addr>),
    /// Keys of a small set that isn't of addresses.
    Keys(BTreeSet<Interval>),
    /// Keys of a map and the verdicts they lead to. The intervals are disjoint.
    Verdicts(BTreeMap<Interval, Verdict>),
    /// Elements of a foreign set that the kinds above can't hold, encoded as the kernel sent them.
    Opaque(BTreeSet<Vec<u8>>),
    /// Whatever the rules of a dynamic set have put there: it is never read or compared, and equal
    /// to itself whatever it is.
    Dynamic,
    /// Whatever a large set in the kernel holds: reading it would cost more than filling it anew.
    Unread,
}

impl Elements {
    /// No elements, of the kind that fits `spec`.
    pub fn empty(spec: &SetSpec) -> Self {
        match spec.key {
            _ if !spec.foreign.is_empty() => Self::Opaque(BTreeSet::new()),
            KeyType::Other { length, .. } if length > 16 => Self::Opaque(BTreeSet::new()),
            _ if spec.dynamic.is_some() => Self::Dynamic,
            _ if spec.map => Self::Verdicts(BTreeMap::new()),
            KeyType::Address(Family::V4) if spec.timeout => Self::TimedIpv4(TimedSet::default()),
            KeyType::Address(Family::V6) if spec.timeout => Self::TimedIpv6(TimedSet::default()),
            KeyType::Address(Family::V4) => Self::Ipv4(AddressSet::default()),
            KeyType::Address(Family::V6) => Self::Ipv6(AddressSet::default()),
            _ => Self::Keys(BTreeSet::new()),
        }
    }

    /// The number of elements that are known; an interval counts as one.
    pub fn len(&self) -> usize {
        match self {
            Self::Ipv4(set) => set.len(),
            Self::Ipv6(set) => set.len(),
            Self::TimedIpv4(set) => set.len(),
            Self::TimedIpv6(set) => set.len(),
            Self::Keys(keys) => keys.len(),
            Self::Verdicts(verdicts) => verdicts.len(),
            Self::Opaque(elements) => elements.len(),
            Self::Dynamic | Self::Unread => 0,
        }
    }

    /// Whether these are elements of a timed set.
    pub fn are_timed(&self) -> bool {
        matches!(self, Self::TimedIpv4(_) | Self::TimedIpv6(_))
    }

    /// Whether there is none, as far as is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether what there is wasn't read.
    pub fn are_unread(&self) -> bool {
        *self == Self::Unread
    }
}

/// A named set or verdict map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// How it is stored.
    pub spec: SetSpec,
    /// What it holds.
    pub elements: Elements,
}

impl Set {
    /// An interval set of IPv4 addresses.
    pub fn ipv4(addresses: AddressSet<Ipv4Addr>) -> Self {
        Self {
            spec: SetSpec::intervals(KeyType::Address(Family::V4)),
            elements: Elements::Ipv4(addresses),
        }
    }

    /// A timed interval set of IPv4 addresses.
    pub fn timed_ipv4(addresses: TimedSet<Ipv4Addr>) -> Self {
        Self {
            spec: SetSpec::intervals(KeyType::Address(Family::V4)).into_timed(),
            elements: Elements::TimedIpv4(addresses),
        }
    }

    /// A timed interval set of IPv6 addresses.
    pub fn timed_ipv6(addresses: TimedSet<Ipv6Addr>) -> Self {
        Self {
            spec: SetSpec::intervals(KeyType::Address(Family::V6)).into_timed(),
            elements: Elements::TimedIpv6(addresses),
        }
    }

    /// An interval set of IPv6 addresses.
    pub fn ipv6(addresses: AddressSet<Ipv6Addr>) -> Self {
        Self {
            spec: SetSpec::intervals(KeyType::Address(Family::V6)),
            elements: Elements::Ipv6(addresses),
        }
    }
}

impl Set {
    /// A set to which rules add up to `size` keys, each of which is forgotten `seconds` later.
    pub fn dynamic(key: KeyType, size: u32, seconds: u64) -> Self {
        Self { spec: SetSpec::dynamic(key, size, seconds), elements: Elements::Dynamic }
    }
}

impl SetSpec {
    /// A set of intervals of `key`.
    pub fn intervals(key: KeyType) -> Self {
        Self { interval: true, ..Self::exact(key, None) }
    }

    /// A set of exact keys, with a declared size.
    pub fn exact(key: KeyType, size: Option<u32>) -> Self {
        Self {
            key,
            map: false,
            interval: false,
            timeout: false,
            size,
            dynamic: None,
            foreign: Vec::new(),
        }
    }

    /// A set to which rules add up to `size` keys, each of which is forgotten `seconds` later.
    pub fn dynamic(key: KeyType, size: u32, seconds: u64) -> Self {
        Self { timeout: true, dynamic: Some(seconds), ..Self::exact(key, Some(size)) }
    }

    /// The same with elements that may expire.
    pub fn into_timed(self) -> Self {
        Self { timeout: true, ..self }
    }

    /// The same as a verdict map.
    pub fn into_map(self) -> Self {
        Self { map: true, ..self }
    }
}

impl Table {
    /// An empty table of ours.
    pub fn new() -> Self {
        Self { comment: Some(TABLE_COMMENT.into()), ..Self::default() }
    }

    /// Adds a chain under a name of its own.
    ///
    /// # Errors
    /// If there is a chain of that name: the table stays as it is.
    pub fn add_chain(&mut self, name: &str, chain: Chain) -> Result<(), NameTaken> {
        add("chain", &mut self.chains, name, chain)
    }

    /// Adds a set or a map under a name of its own.
    ///
    /// # Errors
    /// If there is a set of that name: the table stays as it is.
    pub fn add_set(&mut self, name: &str, set: Set) -> Result<(), NameTaken> {
        add("set", &mut self.sets, name, set)
    }

    /// Adds a counter under a name of its own.
    ///
    /// # Errors
    /// If there is a counter of that name.
    pub fn add_counter(&mut self, name: &str) -> Result<(), NameTaken> {
        match self.counters.insert(name.to_owned()) {
            true => Ok(()),
            false => Err(NameTaken { kind: "counter", name: name.to_owned() }),
        }
    }

    /// Whether the table bears our mark.
    pub fn is_ours(&self) -> bool {
        self.comment.as_deref() == Some(TABLE_COMMENT)
    }

    /// Whether the table does nothing, such as the one a distribution ships as an example: no
    /// rules, no elements, no objects, and every base chain accepts.
    pub fn is_inert(&self) -> bool {
        self.foreign.is_empty()
            && self.state.is_none()
            && self.counters.is_empty()
            && self.sets.values().all(|set| set.elements.is_empty() && !set.elements.are_unread())
            && self.chains.values().all(|chain| {
                chain.rules.is_empty()
                    && chain.base.as_ref().is_none_or(|base| base.policy == Policy::Accept)
            })
    }

    /// Whether the kernel tracks connections for this table: some rule asks for them.
    pub fn tracks(&self) -> bool {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        rules.flat_map(|rule| &rule.statements).any(|statement| match statement {
            Statement::Match { field, .. } | Statement::Lookup { field, .. } => {
                *field == Field::CtState
            }
            Statement::Opaque(opaque) => opaque.name == "ct",
            _ => false,
        })
    }

    /// Whether anything in the timed sets has ended by `now`, in seconds since 1970.
    pub fn has_ended(&self, now: u64) -> bool {
        self.sets.values().any(|set| match &set.elements {
            Elements::TimedIpv4(set) => set.has_ended(now),
            Elements::TimedIpv6(set) => set.has_ended(now),
            _ => false,
        })
    }

    /// Drops what ended by `now`, in seconds since 1970, from the timed sets. Says whether there was
    /// anything.
    pub fn expire(&mut self, now: u64) -> bool {
        self.sets.values_mut().fold(false, |any, set| match &mut set.elements {
            Elements::TimedIpv4(set) => set.expire(now) || any,
            Elements::TimedIpv6(set) => set.expire(now) || any,
            _ => any,
        })
    }

    /// The chains as they are created and listed: base chains by hook, then the others by name.
    pub fn chains_in_order(&self) -> Vec<(&String, &Chain)> {
        let mut chains: Vec<_> = self.chains.iter().collect();
        chains.sort_by_key(|(_, chain)| match &chain.base {
            Some(base) => (0, Some(base.hook)),
            None => (1, None),
        });
        chains
    }
}
