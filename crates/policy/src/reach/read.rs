//! Reading it from a table: from the base chains over the dispatch by service to the chains of
//! allows, whose rules say who passes.

use super::{Direction, Opening, Peer, Reach, Scope};
use crate::addresses::Addresses;
use crate::compile::{BUILT_IN, EVERY_SERVER, set_name};
use crate::model::Service;
use crate::port;
use ruleset::{
    Address, AddressRange, AddressSet, Base, Elements, Family, Field, Hook, Interval, KeyType,
    Policy, Rule, Ruleset, Statement, Table, Value, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};

/// What `"*"` is called among tiers.
pub(crate) const EVERY: &str = "*";

impl Reach {
    /// Reads it from a table.
    pub fn of(ruleset: &Ruleset) -> Self {
        let Some(table) = &ruleset.table else {
            return Self { open: Direction::BOTH.into(), forwards: true, ..Self::default() };
        };
        let (tiers, unread) = tiers(table);
        let mut reach = Self { forwards: forwards(table), tiers, unread, ..Self::default() };
        // Tiers that are too large for the set of every server.
        let mut beside = BTreeSet::new();
        for direction in Direction::BOTH {
            let base = table.chains.get(direction.chain()).and_then(|chain| chain.base.as_ref());
            if !matches!(base, Some(Base { policy: Policy::Drop, .. })) {
                reach.open.insert(direction);
            }
            for (chain, service) in services(table, direction) {
                let service = service.in_order();
                let openings = Peers::of_chain(table, chain, direction).into_iter();
                reach.openings.extend(openings.flat_map(|((scope, comment), peers)| {
                    let of_peer = |peer| Opening {
                        direction,
                        scope: scope.clone(),
                        peer,
                        service: service.clone(),
                        comment: comment.clone(),
                    };
                    let (peers, large) = peers.into_peers(table);
                    beside.extend(large);
                    peers.into_iter().map(of_peer).collect::<Vec<_>>()
                }));
            }
        }
        for large in beside {
            let members = reach.tiers.get(large).cloned().unwrap_or_default();
            let every = reach.tiers.entry(EVERY.to_owned()).or_default();
            *every = every.union(&members);
        }
        reach
    }
}

/// Whether packets for others pass: nothing drops them at the end of a chain of ours.
fn forwards(table: &Table) -> bool {
    let drops = |base: &Base| base.hook == Hook::Forward && base.policy == Policy::Drop;
    !table.chains.values().filter_map(|chain| chain.base.as_ref()).any(drops)
}

fn tiers(table: &Table) -> (BTreeMap<String, Addresses>, BTreeSet<String>) {
    let mut tiers: BTreeMap<String, Addresses> = BTreeMap::new();
    let mut unread = BTreeSet::new();
    for (name, set) in &table.sets {
        let Some(tier) = tier_of_set(name) else { continue };
        if !matches!(set.spec.key, KeyType::Address(_)) || set.spec.map {
            continue;
        }
        if set.elements.are_unread() {
            unread.insert(tier.to_owned());
        }
        let members = tiers.entry(tier.to_owned()).or_default();
        *members = members.union(&Addresses::of_elements(&set.elements));
    }
    (tiers, unread)
}

/// The tier whose set this is, or `*` of the set of every server; none for sets of other kinds.
pub fn tier_of_set(set: &str) -> Option<&str> {
    let stem = set.strip_suffix("_hosts").or_else(|| set.strip_suffix("_timed")).unwrap_or(set);
    let tier = stem.strip_suffix("_v4").or_else(|| stem.strip_suffix("_v6"))?;
    if tier == EVERY_SERVER {
        return Some(EVERY);
    }
    // Dots stand only in names that are not tiers'.
    (!tier.contains('.')).then_some(tier)
}

/// The chains whose rules let through what the side dispatches to them, with the services that
/// lead there.
fn services(table: &Table, direction: Direction) -> BTreeMap<&str, Service> {
    /// Allows are a few jumps away at most; a table that isn't ours may have a circle.
    const DEEPEST: usize = 16;
    let mut targets: BTreeMap<&str, Service> = BTreeMap::new();
    let base = table.chains.get(direction.chain()).map_or(&[][..], |chain| &chain.rules);
    for rule in base.iter().filter(|rule| !rule.comment.starts_with(BUILT_IN)) {
        for (field, interval, target) in dispatched(table, rule) {
            let service = targets.entry(target).or_default();
            match (field, interval.first, interval.last) {
                (Field::Dport(transport), first, last) => {
                    let range = first as u16..=last as u16;
                    service.ports.entry(transport).or_default().push(range);
                }
                (_, first, last) => {
                    service.protocols.extend((first..=last).filter_map(|n| u8::try_from(n).ok()));
                }
            }
        }
        // What the base chain jumps to without a condition holds for every service.
        if rule.statements.len() == 1 {
            rule.targets().for_each(|target| targets.entry(target).or_default().any = true);
        }
    }
    let mut services: BTreeMap<&str, Service> = BTreeMap::new();
    for _ in 0..DEEPEST {
        let mut next: BTreeMap<&str, Service> = BTreeMap::new();
        for (chain, service) in std::mem::take(&mut targets) {
            let service = service.in_order();
            let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
            if rules.iter().any(|rule| accepts(rule) || asks_first(rule).is_some()) {
                port::append(services.entry(chain).or_default(), service.clone());
            }
            let behind: BTreeSet<&str> = rules
                .iter()
                .filter(|rule| asks_first(rule).is_none())
                .flat_map(|rule| leads_to(table, rule))
                .collect();
            for chain in behind {
                port::append(next.entry(chain).or_default(), service.clone());
            }
        }
        targets = next;
    }
    services
}

/// Whether a rule lets packets through.
fn accepts(rule: &Rule) -> bool {
    rule.statements.last() == Some(&Statement::Verdict(Verdict::Accept))
}

/// The tier of this server's and the chain of peers, of a rule that asks for the own address before
/// it jumps to those who may send there.
fn asks_first(rule: &Rule) -> Option<(&str, &str)> {
    let [
        Statement::Lookup { field: Field::Daddr(_), set },
        Statement::Verdict(Verdict::Jump(peers)),
    ] = &rule.statements[..]
    else {
        return None;
    };
    Some((tier_of_set(set)?, peers))
}

/// The elements of the maps that a rule dispatches by.
fn dispatched<'t>(
    table: &'t Table,
    rule: &'t Rule,
) -> impl Iterator<Item = (Field, Interval, &'t str)> {
    let maps = rule.statements.iter().filter_map(|statement| {
        let Statement::Dispatch { field, map } = statement else { return None };
        let Elements::Verdicts(verdicts) = &table.sets.get(map)?.elements else { return None };
        Some((*field, verdicts))
    });
    maps.flat_map(|(field, verdicts)| {
        let targets = verdicts.iter();
        targets.filter_map(move |(interval, verdict)| Some((field, *interval, verdict.target()?)))
    })
}

/// Where a rule leads. A map by the peer's address is a short cut: the chain behind it asks for the
/// peer once more, and so do all others.
fn leads_to<'t>(table: &'t Table, rule: &'t Rule) -> impl Iterator<Item = &'t str> {
    rule.targets().chain(dispatched(table, rule).map(|(_, _, chain)| chain))
}

/// The other side of an allow's rules, gathered over both families.
#[derive(Default)]
struct Peers<'t> {
    /// Sets by tier, of which a tier has several.
    tiers: BTreeMap<&'t str, BTreeSet<&'t str>>,
    addresses: Addresses,
}

impl<'t> Peers<'t> {
    fn of_chain(
        table: &'t Table,
        chain: &str,
        direction: Direction,
    ) -> BTreeMap<(Scope, String), Self> {
        let mut all: BTreeMap<(Scope, String), Self> = BTreeMap::new();
        let mut two_steps: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        let rules = table.chains.get(chain).map_or(&[][..], |chain| &chain.rules);
        for rule in rules.iter().filter(|rule| !rule.comment.starts_with(BUILT_IN)) {
            if let Some((own, peers)) = asks_first(rule) {
                two_steps.entry(peers).or_default().insert(own.to_owned());
            } else if accepts(rule) {
                let scope = scope(table, rule, direction);
                all.entry((scope, rule.comment.clone())).or_default().add(table, rule, direction);
            }
        }
        for (peers, own) in two_steps {
            let scope = Scope::Tiers(own);
            let rules = table.chains.get(peers).map_or(&[][..], |chain| &chain.rules);
            for rule in rules.iter().filter(|rule| accepts(rule)) {
                let key = (scope.clone(), rule.comment.clone());
                all.entry(key).or_default().add(table, rule, direction);
            }
        }
        all
    }

    fn add(&mut self, table: &'t Table, rule: &'t Rule, direction: Direction) {
        let peer = |family| match direction {
            Direction::Input => Field::Saddr(family),
            Direction::Output => Field::Daddr(family),
        };
        let own = |family| match direction {
            Direction::Input => Field::Daddr(family),
            Direction::Output => Field::Saddr(family),
        };
        let fields = |statement: &'t Statement| match statement {
            Statement::Match { field, .. } | Statement::Lookup { field, .. } => Some(*field),
            _ => None,
        };
        for family in Family::BOTH {
            let asked = rule.statements.iter().find(|step| fields(step) == Some(peer(family)));
            match asked {
                Some(Statement::Lookup { set, .. }) => match tier_of_set(set) {
                    Some(tier) => {
                        self.tiers.entry(tier).or_default().insert(set);
                    }
                    None => self.add_addresses(&contents(table, set)),
                },
                Some(Statement::Match { value, .. }) => {
                    self.add_addresses(&literal(family, *value));
                }
                _ => {
                    // Of this family alone, where it asks for an address of the other.
                    let other = Family::BOTH.into_iter().any(|other| {
                        let asks = |field| rule.statements.iter().any(|s| fields(s) == Some(field));
                        other != family && (asks(peer(other)) || asks(own(other)))
                    });
                    if !other {
                        self.add_addresses(&every(family));
                    }
                }
            }
        }
    }

    fn add_addresses(&mut self, more: &Addresses) {
        self.addresses = self.addresses.union(more);
    }

    /// Tiers by name, if the rules look in all of their sets; and of every server the tiers that are
    /// asked by themselves, since they are too large.
    fn into_peers(self, table: &Table) -> (Vec<Peer>, BTreeSet<&'t str>) {
        let Self { mut tiers, mut addresses } = self;
        let mut large = BTreeSet::new();
        if tiers.contains_key(EVERY) {
            large = tiers.keys().copied().filter(|tier| *tier != EVERY).collect();
            tiers.retain(|tier, _| *tier == EVERY);
        }
        let mut peers = Vec::new();
        for (tier, sets) in tiers {
            let forms = ["", "_hosts", "_timed"].into_iter();
            let stem = if tier == EVERY { EVERY_SERVER } else { tier };
            let mut all =
                forms.flat_map(|form| Family::BOTH.map(|f| format!("{}{form}", set_name(stem, f))));
            if all.all(|set| sets.contains(set.as_str()) || !table.sets.contains_key(&set)) {
                peers.push(Peer::Tier(tier.to_owned()));
            } else {
                let part = sets.into_iter().map(|set| contents(table, set));
                addresses = addresses.union(&part.collect());
            }
        }
        if !addresses.is_empty() {
            peers.push(Peer::Addresses(addresses));
        }
        (peers, large)
    }
}

fn contents(table: &Table, set: &str) -> Addresses {
    table.sets.get(set).map(|set| Addresses::of_elements(&set.elements)).unwrap_or_default()
}

fn every(family: Family) -> Addresses {
    let Addresses { v4, v6 } = Addresses::every();
    match family {
        Family::V4 => Addresses { v4, ..Addresses::default() },
        Family::V6 => Addresses { v6, ..Addresses::default() },
    }
}

fn literal(family: Family, value: Value) -> Addresses {
    fn range<A: Address>(value: Value) -> AddressSet<A> {
        let range = match value {
            Value::Prefix { address, length } => {
                AddressRange::prefix(A::from_number(address), length)
            }
            Value::Number(number) => Some(AddressRange::single(A::from_number(number))),
            Value::States(_) | Value::Flags(_) => None,
        };
        AddressSet::new(range.into_iter().collect())
    }
    match family {
        Family::V4 => Addresses { v4: range(value), ..Addresses::default() },
        Family::V6 => Addresses { v6: range(value), ..Addresses::default() },
    }
}

fn scope(table: &Table, rule: &Rule, direction: Direction) -> Scope {
    let scope = rule.statements.iter().find_map(|statement| match (direction, statement) {
        (Direction::Input, Statement::Lookup { field: Field::Daddr(_), set }) => {
            tier_of_set(set).map(|tier| Scope::Tiers(BTreeSet::from([tier.to_owned()])))
        }
        (
            Direction::Output,
            Statement::Match { field: Field::SkUid, value: Value::Number(uid) },
        ) => Some(Scope::Users(BTreeSet::from([*uid as u32]))),
        (Direction::Output, Statement::Lookup { field: Field::SkUid, set }) => {
            let Elements::Keys(keys) = &table.sets.get(set)?.elements else { return None };
            Some(Scope::Users(keys.iter().map(|key| key.first as u32).collect()))
        }
        _ => None,
    });
    scope.unwrap_or(Scope::Server)
}
