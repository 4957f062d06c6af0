//! The chain of one allow: who may pass, and the accept with its counter.
//!
//! From many tiers to many tiers of this server it is two chains, so that there is no rule for each
//! pair: `in.NAME` asks for the own address and jumps to `from.NAME`, which asks for the peer.

use super::{Active, Compiler, Side, uid};
use crate::model::Endpoint;
use crate::role::Role;
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

        let users = self.users(side, allow, &chain);
        let rule = |own: Option<Statement>, peer: Option<Statement>, end: &[Statement]| {
            let conditions = users.iter().cloned().chain(own).chain(peer);
            Rule::new(&comment, conditions.chain(end.iter().cloned()).collect())
        };
        let peers = self.peers(side, allow, &chain);
        let mut rules = Vec::new();
        if asks_in_two_steps(self.host.role, side, allow) {
            let shared = format!("from.{}", self.labels.slug(allow.index));
            let jump = [Statement::jump(&shared)];
            for family in Family::BOTH {
                let own = self.own_addresses(side, allow, Some(family)).into_iter();
                rules.extend(own.map(|own| rule(own, None, &jump)));
            }
            let peers = peers.into_iter().map(|(_, peer)| rule(None, peer, &accept));
            self.add_chain(&shared, None, peers.collect());
        } else {
            for (family, peer) in peers {
                let own = self.own_addresses(side, allow, family).into_iter();
                rules.extend(own.map(|own| rule(own, peer.clone(), &accept)));
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
            return match is_confined(self.host.role, side, allow) {
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

    /// The matches on this server's own address, one alternative each; a single empty one where
    /// any will do. On input the destination is always an address of this server, so the tier's
    /// own set says whether it is one of those in the tier.
    fn own_addresses(
        &mut self,
        side: Side,
        allow: Active<'a>,
        family: Option<Family>,
    ) -> Vec<Option<Statement>> {
        let Some(family) = family.filter(|_| is_confined(self.host.role, side, allow)) else {
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

/// From more pairs of a peer and an own tier on, the own address is asked first, and then the peer
/// in a chain that all own tiers share. Fewer pairs are a rule each, which is one chain less.
const PAIRS: usize = 16;

/// Whether an accept must also match this server's own address: under `role = "auto"`, where
/// a tier is an address and not the whole server.
pub(super) fn is_confined(role: &Role, side: Side, allow: Active<'_>) -> bool {
    side == Side::Input && role.auto && !allow.allow.to.every_server
}

/// Whether the rules of an allow are as many as its peers and this server's tiers together, and not
/// one for each pair. It follows from the allow and the role only, so no change of members changes it.
pub(super) fn asks_in_two_steps(role: &Role, side: Side, allow: Active<'_>) -> bool {
    let Endpoint { any, every_server, tiers, v4, v6 } = allow.peer;
    let named = if *any || *every_server { 1 } else { tiers.len() };
    let peers = named + usize::from(!v4.is_empty()) + usize::from(!v6.is_empty());
    let own = allow.allow.to.tiers.intersection(&role.tiers).count();
    is_confined(role, side, allow) && own > 1 && peers > 1 && own.saturating_mul(peers) > PAIRS
}
