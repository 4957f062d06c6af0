//! UDP that some users may send: their flows are asked for the user in each packet, not in the
//! first alone.
//!
//! A source port is free again once its program ends, and whoever takes it over would go on with the
//! flow, since that is established. TCP has no such gap: a connection is its socket's. The general
//! accept is therefore preceded by a look at the port, where there is such an allow at all. What
//! nobody may send any more isn't refused but dropped, which a program is told of at once.

use super::base::{built_in, dhcp_client, goto_never};
use super::copies::Copies;
use super::dispatch::Dispatch;
use super::{Compiler, Side, concerns};
use crate::model::{Allow, Policy};
use crate::role::Role;
use ruleset::evaluate::LOOPBACK;
use ruleset::known::ORIGINAL;
use ruleset::{
    Elements, Field, Interval, KeyType, Rule, Set, SetSpec, Statement, States, Transport, Verdict,
};
use std::collections::BTreeSet;

/// The chain that asks.
const CHAIN: &str = "output_asked";
/// The ports of allows for some users. With a dot, which no tier's name has.
pub(crate) const PORTS: &str = "output.asked";
/// What the names of the copies that it asks begin with.
const PREFIX: &str = "asked";

/// Counters count connections, so the copies don't count. Each packet of such a flow asks them, so
/// they keep the short cuts.
const COPIES: Copies = Copies {
    prefix: PREFIX,
    change: |statement| (!matches!(statement, Statement::Counter(_))).then_some(statement),
    short_cuts: true,
};

impl Compiler<'_> {
    /// The rule in front of the general accept, if there are allows for some users' UDP; `late` are
    /// the rules for late answers.
    pub(super) fn asked(&mut self, dispatch: &Dispatch, late: &[Rule]) -> Option<Rule> {
        let ports = ports_of_users(self.policy, self.host.role);
        if ports.is_empty() {
            return None;
        }
        let accept = Statement::Verdict(Verdict::Accept);
        let loopback = Statement::matches(Field::Oif, LOOPBACK.into());
        let mut rules = vec![built_in("loopback", [loopback, accept])];
        for service in &dispatch.services {
            let [Statement::Dispatch { field, map }] = &service.statements[..] else { continue };
            let end = match field {
                Field::Dport(Transport::Udp) => {
                    let map = self.copy_ports(COPIES, map, |interval| meets(&ports, interval));
                    map.map(|map| Statement::dispatch(*field, map))
                }
                Field::L4Proto => {
                    let chain = self.target_of(map, Transport::Udp);
                    chain.map(|chain| Statement::jump(self.copy_chain(COPIES, &chain)))
                }
                _ => None,
            };
            rules.extend(end.map(|end| Rule::new(&service.comment, vec![end])));
        }
        for chain in dispatch.any.iter().flat_map(Rule::targets) {
            let chain = self.copy_chain(COPIES, chain);
            rules.push(built_in("any service", [Statement::jump(chain)]));
        }
        rules.extend(dhcp_client(Side::Output));
        let is_udp = |rule: &&Rule| {
            let udp = Field::Sport(Transport::Udp);
            rule.statements
                .iter()
                .any(|s| matches!(s, Statement::Dispatch { field, .. } if *field == udp))
        };
        rules.extend(late.iter().filter(is_udp).cloned());
        rules.push(built_in("no flow of another user", [goto_never(Side::Output)]));
        self.add_chain(CHAIN, None, rules);

        let spec = SetSpec::intervals(KeyType::Port);
        self.add_set(PORTS, Set { spec, elements: Elements::Keys(ports) });
        let statements = [
            Statement::states(States::ESTABLISHED),
            Statement::matches(Field::CtDirection, ORIGINAL),
            Statement::lookup(Field::Dport(Transport::Udp), PORTS),
            Statement::Verdict(Verdict::Goto(CHAIN.to_owned())),
        ];
        Some(built_in("established, of some users", statements))
    }
}

/// The ports of which an allow of this server says which users may send there, disjoint. A user
/// that this server doesn't know counts too: nobody may go on with what was theirs.
pub(super) fn ports_of_users(policy: &Policy, role: &Role) -> BTreeSet<Interval> {
    let is_bound = |allow: &&Allow| !allow.users.is_empty() && concerns(&allow.from, role);
    let bound = policy.allows.iter().filter(is_bound);
    let mut ranges: Vec<Interval> = bound
        .flat_map(|allow| {
            let service = &allow.service;
            let whole = service.any || service.protocols.contains(&Transport::Udp.protocol());
            let all = whole.then_some(Interval { first: 0, last: u16::MAX.into() });
            let ports = service.ports.get(&Transport::Udp).into_iter().flatten();
            let ports = ports.map(|range| Interval {
                first: (*range.start()).into(),
                last: (*range.end()).into(),
            });
            ports.chain(all).collect::<Vec<_>>()
        })
        .collect();
    ranges.sort();
    let mut joined: Vec<Interval> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.first <= last.last + 1 => last.last = last.last.max(range.last),
            _ => joined.push(range),
        }
    }
    joined.into_iter().collect()
}

/// Whether some of `interval` is in `ports`, which are disjoint.
pub(super) fn meets(ports: &BTreeSet<Interval>, interval: Interval) -> bool {
    let mut before = ports.range(..=Interval { first: interval.last, last: u128::MAX });
    before.next_back().is_some_and(|ports| ports.last >= interval.first)
}
