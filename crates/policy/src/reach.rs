//! What a compiled table opens, read back from the table itself: who may reach this server on
//! what, and what it may open to whom.
//!
//! This works on any table that [`compile`](crate::compile()) made, the one in the kernel
//! included, so that a change can be told in the words of the policy although the policy behind
//! the old state is gone.

use crate::compile::{EVERY_SERVER, set_name};
use crate::name::is_name;
use crate::protocol;
use ruleset::{
    Address, AddressSet, Base, Elements, Family, Field, Interval, KeyType, Policy, Rule, Ruleset,
    Statement, Table, Transport, Value,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The direction of an opening, as this server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Others to this server.
    Input,
    /// This server to others.
    Output,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Input, Self::Output];

    fn chain(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.chain())
    }
}

/// One thing that is open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Opening {
    /// Which way.
    pub direction: Direction,
    /// The other side: a tier, addresses, or `any`.
    pub peer: String,
    /// On what: `tcp/8080`, `udp/1000-2000`, `gre`, `any`.
    pub service: String,
    /// By whose programs, where not everybody's: user ids.
    pub users: Vec<u32>,
    /// The comment of the allow that opens it.
    pub comment: String,
}

/// What a table lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Directions in which everything passes: no table, mode off or mode observe.
    pub open: BTreeSet<Direction>,
    /// What allows open.
    pub openings: BTreeSet<Opening>,
}

impl Reach {
    /// Reads it from a table.
    pub fn of(ruleset: &Ruleset) -> Self {
        let Some(table) = &ruleset.table else {
            return Self { open: Direction::BOTH.into(), openings: BTreeSet::new() };
        };
        let mut reach = Self::default();
        for direction in Direction::BOTH {
            let base = table.chains.get(direction.chain()).and_then(|chain| chain.base.as_ref());
            if !matches!(base, Some(Base { policy: Policy::Drop, .. })) {
                reach.open.insert(direction);
            }
            for (chain, services) in services(table, direction) {
                for (peer, users, comment) in peers(table, &chain) {
                    reach.openings.extend(services.names().map(|service| Opening {
                        direction,
                        peer: peer.clone(),
                        service,
                        users: users.clone(),
                        comment: comment.clone(),
                    }));
                }
            }
        }
        reach
    }
}

/// The services that lead to one chain.
#[derive(Debug, Default, Clone)]
struct Services {
    any: bool,
    protocols: BTreeSet<u128>,
    ports: BTreeMap<Transport, BTreeSet<Interval>>,
}

impl Services {
    /// In the words of the policy file.
    fn names(&self) -> impl Iterator<Item = String> {
        let mut names: Vec<String> = Vec::new();
        if self.any {
            names.push("any".into());
        }
        names.extend(self.protocols.iter().map(|protocol| protocol::name(*protocol as u8)));
        for (transport, segments) in &self.ports {
            names.extend(joined(segments).iter().map(|Interval { first, last }| {
                match first == last {
                    true => format!("{transport}/{first}"),
                    false => format!("{transport}/{first}-{last}"),
                }
            }));
        }
        names.into_iter()
    }

    fn add(&mut self, field: Field, interval: Interval) {
        match field {
            Field::Dport(transport) => {
                self.ports.entry(transport).or_default().insert(interval);
            }
            _ => {
                self.protocols.insert(interval.first);
            }
        }
    }

    /// Adds what leads to a chain that leads here.
    fn extend(&mut self, from: &Self) {
        let Self { any, protocols, ports } = from;
        self.any |= any;
        self.protocols.extend(protocols);
        for (transport, segments) in ports {
            self.ports.entry(*transport).or_default().extend(joined(segments));
        }
    }
}

/// Segments with those that touch made one.
fn joined(segments: &BTreeSet<Interval>) -> Vec<Interval> {
    let mut joined: Vec<Interval> = Vec::new();
    for segment in segments {
        match joined.last_mut() {
            Some(last) if segment.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(segment.last);
            }
            _ => joined.push(*segment),
        }
    }
    joined
}

/// The allow chains of a side, with the services that lead there.
fn services(table: &Table, direction: Direction) -> BTreeMap<String, Services> {
    /// Allows are two jumps away at most; a table that isn't ours may have a circle.
    const DEEPEST: usize = 16;
    let mut reached: BTreeMap<String, Services> = BTreeMap::new();
    let side = direction.chain();
    for (field, interval, target) in dispatched(table, side) {
        reached.entry(target).or_default().add(field, interval);
    }
    // What the base chain jumps to without a condition holds for every service.
    let base = table.chains.get(side).map_or(&[][..], |chain| &chain.rules);
    for rule in base.iter().filter(|rule| rule.statements.len() == 1) {
        for target in rule.targets() {
            reached.entry(target.to_owned()).or_default().any = true;
        }
    }
    let mut services: BTreeMap<String, Services> = BTreeMap::new();
    for _ in 0..DEEPEST {
        let mut next: BTreeMap<String, Services> = BTreeMap::new();
        for (chain, by) in std::mem::take(&mut reached) {
            if is_allow_chain(&chain) {
                services.entry(chain).or_default().extend(&by);
                continue;
            }
            for target in targets(table, &chain) {
                next.entry(target).or_default().extend(&by);
            }
        }
        reached = next;
    }
    services
}

/// Where a chain that is shared leads: to those of its allows, and to others that are shared.
fn targets(table: &Table, chain: &str) -> BTreeSet<String> {
    let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
    let by_peer = dispatched(table, chain).into_iter().map(|(_, _, chain)| chain);
    rules.iter().flat_map(Rule::targets).map(String::from).chain(by_peer).collect()
}

/// Every element of the maps that the chain dispatches by.
fn dispatched(table: &Table, chain: &str) -> Vec<(Field, Interval, String)> {
    let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
    let maps = rules.iter().flat_map(|rule| &rule.statements).filter_map(|statement| {
        let Statement::Dispatch { field, map } = statement else { return None };
        let Elements::Verdicts(verdicts) = &table.sets.get(map)?.elements else { return None };
        Some((field, verdicts))
    });
    maps.flat_map(|(field, verdicts)| {
        verdicts.iter().filter_map(|(interval, verdict)| {
            Some((*field, *interval, verdict.target()?.to_owned()))
        })
    })
    .collect()
}

fn is_allow_chain(name: &str) -> bool {
    name.starts_with("in.") || name.starts_with("out.")
}

/// Who passes an allow's chain: peer, users, comment, each once though both families have rules.
///
/// Of one for every server only that is told, not the large tiers that are asked by themselves.
fn peers(table: &Table, chain: &str) -> BTreeSet<(String, Vec<u32>, String)> {
    let mut peers = peers_by_rule(table, chain);
    if peers.iter().any(|(peer, _, _)| peer == "*") {
        peers.retain(|(peer, _, _)| !is_name(peer));
    }
    peers
}

fn peers_by_rule(table: &Table, chain: &str) -> BTreeSet<(String, Vec<u32>, String)> {
    let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
    let own = if chain.starts_with("in.") { Field::Saddr } else { Field::Daddr };
    rules
        .iter()
        .flat_map(|rule| {
            let peers = Family::BOTH.iter().find_map(|family| {
                rule.statements.iter().find_map(|step| peer(table, step, own(*family)))
            });
            let users = rule.statements.iter().find_map(|step| users(table, step));
            let peers = peers.unwrap_or_else(|| vec!["any".into()]);
            let users = users.unwrap_or_default();
            peers.into_iter().map(move |peer| (peer, users.clone(), rule.comment.clone()))
        })
        .collect()
}

/// The peers that a statement on `field` lets through.
fn peer(table: &Table, statement: &Statement, field: Field) -> Option<Vec<String>> {
    match statement {
        Statement::Match { field: own, value } if *own == field => {
            Some(vec![literal(field, *value)])
        }
        Statement::Lookup { field: own, set } if *own == field => {
            if let Some(tier) = tier_of_set(set) {
                return Some(vec![tier.to_owned()]);
            }
            match &table.sets.get(set)?.elements {
                Elements::Ipv4(set) => Some(ranges(set)),
                Elements::Ipv6(set) => Some(ranges(set)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn ranges<A: Address>(set: &AddressSet<A>) -> Vec<String> {
    set.ranges().map(|range| range.to_string()).collect()
}

fn literal(field: Field, value: Value) -> String {
    let address = |number: u128| match field {
        Field::Saddr(Family::V4) | Field::Daddr(Family::V4) => {
            Ipv4Addr::from_number(number).to_string()
        }
        _ => Ipv6Addr::from_number(number).to_string(),
    };
    match value {
        Value::Prefix { address: network, length } => format!("{}/{length}", address(network)),
        Value::Number(number) => address(number),
        Value::States(states) => states.to_string(),
        Value::Flags(flags) => flags.to_string(),
    }
}

fn users(table: &Table, statement: &Statement) -> Option<Vec<u32>> {
    match statement {
        Statement::Match { field: Field::SkUid, value: Value::Number(uid) } => {
            Some(vec![*uid as u32])
        }
        Statement::Lookup { field: Field::SkUid, set } => {
            let set = table.sets.get(set).filter(|set| set.spec.key == KeyType::Uid)?;
            let Elements::Keys(keys) = &set.elements else { return None };
            Some(keys.iter().map(|key| key.first as u32).collect())
        }
        _ => None,
    }
}

/// The tier whose set this is, or `*` of the set of every server; none for sets of other kinds.
pub fn tier_of_set(set: &str) -> Option<&str> {
    let stem = set.strip_suffix("_hosts").or_else(|| set.strip_suffix("_timed")).unwrap_or(set);
    let tier = stem.strip_suffix("_v4").or_else(|| stem.strip_suffix("_v6"))?;
    if tier == EVERY_SERVER {
        return Some("*");
    }
    // Dots stand only in names that are not tiers'.
    (!tier.contains('.')).then_some(tier)
}

/// The set that holds a tier, or every server, in a table where there is one.
pub(crate) fn set_of_tier(tier: &str, family: Family) -> String {
    set_name(if tier == "*" { EVERY_SERVER } else { tier }, family)
}
