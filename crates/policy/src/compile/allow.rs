//! The chain of one allow: who may pass, and the accept with its counter.

use super::{Active, Compiler, Side, uid};
use ruleset::{
    Address, AddressSet, Elements, Family, Field, Interval, KeyType, Rule, Set, SetSpec, Statement,
    Value, Verdict,
};

impl<'a> Compiler<'a> {
    /// Adds the chain of `allow` on `side`, with what it refers to.
    pub(super) fn allow_chain(&mut self, side: Side, allow: Active<'a>) {
        let chain = side.allow_chain(self.labels.slug(allow.index));
        let counter = self.labels.counter(allow.index);
        let accept = [Statement::Counter(counter), Statement::Verdict(Verdict::Accept)];
        let comment = self.labels.comment(allow.index).to_owned();

        let mut rules = Vec::new();
        let users = self.users(side, allow, &chain);
        for (family, peer) in self.peers(side, allow, &chain) {
            for own in self.own_addresses(side, allow, family) {
                let mut statements: Vec<Statement> = users.iter().cloned().collect();
                statements.extend(own);
                statements.extend(peer.clone());
                statements.extend(accept.clone());
                rules.push(Rule::new(&comment, statements));
            }
        }
        self.add_chain(&chain, None, rules);
    }

    /// Matches on the other side's address: a family (none where any address of both will do) and
    /// a statement each.
    fn peers(
        &mut self,
        side: Side,
        allow: Active<'a>,
        chain: &str,
    ) -> Vec<(Option<Family>, Option<Statement>)> {
        let peer = allow.peer;
        if peer.any {
            return match self.confined(side, allow) {
                true => Family::BOTH.map(|family| (Some(family), None)).to_vec(),
                false => vec![(None, None)],
            };
        }
        let mut matches = Vec::new();
        matches.extend(self.literals(side.peer(Family::V4), chain, &peer.v4, Elements::Ipv4));
        matches.extend(self.literals(side.peer(Family::V6), chain, &peer.v6, Elements::Ipv6));
        for family in Family::BOTH.into_iter().filter(|_| peer.every_server) {
            let lookups = self.every_server_lookups(side.peer(family), family);
            matches.extend(lookups.into_iter().map(|lookup| (Some(family), Some(lookup))));
        }
        for tier in peer.tiers.iter().filter(|_| !peer.every_server) {
            for family in Family::BOTH {
                let lookups = self.tier_lookups(side.peer(family), family, tier);
                matches.extend(lookups.into_iter().map(|lookup| (Some(family), Some(lookup))));
            }
        }
        matches
    }

    /// A match on literal addresses: a comparison for one, a set of their own for several.
    fn literals<A: Address>(
        &mut self,
        field: Field,
        chain: &str,
        addresses: &AddressSet<A>,
        elements: fn(AddressSet<A>) -> Elements,
    ) -> Option<(Option<Family>, Option<Statement>)> {
        let family = if A::BITS == 32 { Family::V4 } else { Family::V6 };
        let statement = match addresses.ranges().take(2).collect::<Vec<_>>()[..] {
            [] => return None,
            [one] if one.is_single() => Statement::matches(field, one.first.to_number()),
            [one] if one.prefix_length().is_some_and(|length| length > 0) => {
                let length = one.prefix_length().unwrap_or(A::BITS);
                let value = Value::Prefix { address: one.first.to_number(), length };
                Statement::Match { field, value }
            }
            _ => {
                let name = match family {
                    Family::V4 => format!("{chain}_v4"),
                    Family::V6 => format!("{chain}_v6"),
                };
                let spec = SetSpec::intervals(KeyType::Address(family));
                let elements = elements(addresses.clone());
                self.add_set(&name, Set { spec, elements });
                Statement::lookup(field, name)
            }
        };
        Some((Some(family), Some(statement)))
    }

    /// Whether an accept must also match this server's own address: under `role = "auto"`, where
    /// a tier is an address and not the whole server.
    fn confined(&self, side: Side, allow: Active<'a>) -> bool {
        side == Side::Input && self.host.role.auto && !allow.allow.to.every_server
    }

    /// The matches on this server's own address, one alternative each; a single empty one where
    /// any will do. On input the destination is always an address of this server, so the tier's
    /// own set says whether it is one of those in the tier.
    fn own_addresses(
        &mut self,
        side: Side,
        allow: Active<'a>,
        family: Option<Family>,
    ) -> Vec<Option<Statement>> {
        let Some(family) = family.filter(|_| self.confined(side, allow)) else {
            return vec![None];
        };
        let own = allow.allow.to.tiers.intersection(&self.host.role.tiers);
        own.flat_map(|tier| self.tier_lookups(Field::Daddr(family), family, tier))
            .map(Some)
            .collect()
    }

    /// The match on the sending user, where the allow is for some users only.
    fn users(&mut self, side: Side, allow: Active<'a>, chain: &str) -> Option<Statement> {
        if side == Side::Input || allow.allow.users.is_empty() {
            return None;
        }
        let users = self.host.users;
        let ids = allow.allow.users.iter().filter_map(|user| uid(user, users)).map(u128::from);
        let ids: std::collections::BTreeSet<Interval> = ids.map(Interval::single).collect();
        match ids.first() {
            Some(only) if ids.len() == 1 => Some(Statement::matches(Field::SkUid, only.first)),
            _ => {
                let name = format!("{chain}_users");
                let spec = SetSpec::exact(KeyType::Uid, None);
                self.add_set(&name, Set { spec, elements: Elements::Keys(ids) });
                Some(Statement::lookup(Field::SkUid, name))
            }
        }
    }
}
