//! A limit on the table, which is asked before it is made.
//!
//! The rules are counted as the compiler makes them, from the same segments and groups of allows, but
//! nothing is made.

use super::again::is_of_a_service;
use super::allow::{asks_in_two_steps, is_confined};
use super::asked::{meets, ports_of_users};
use super::dispatch::{ByPeer, ranges};
use super::segments::{Group, Segment, segments};
use super::tiers::{FEW, NO_LONGER_LARGE};
use super::{Active, Side, active};
use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::model::{Forward, Mode, Policy, Tier};
use crate::role::Role;
use ruleset::{Interval, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// Rules of a server's table. The kernel takes more, but each reload would take seconds, and tens of
/// seconds on a small machine.
const RULES_MAX: usize = 250_000;

/// Rules of a side that are the same for every policy, at most.
const BUILT_IN: usize = 80;

/// Logs of a side, each of which knows members of tiers: of what is denied and of what is invalid. There
/// is one more of what is forwarded.
const LOGS: usize = 2;

/// An error if a server of this role would get more than 250,000 rules, as
/// [`estimate_rules`] counts them, at the allow that makes most of them.
pub fn check_size(policy: &Policy, role: &Role) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    let count = Count::of(policy, role);
    let total = count.total();
    let widest = count.by_allow.iter().zip(&policy.allows).max_by_key(|(rules, _)| **rules);
    let Some((most, allow)) = widest.filter(|_| total > RULES_MAX) else { return diagnostics };
    let message = format!(
        "this policy makes about {} rules on this server; at most {} are possible",
        grouped(total),
        grouped(RULES_MAX)
    );
    let label = Label::at(allow.location.clone(), format!("{} of them", grouped(*most)));
    let hint = "this allow makes the most: name fewer tiers in it, make one tier of those that stand \
                together, or write \"*\" for all of them";
    diagnostics.push(Diagnostic::error("too-many-rules", label, message).hint(hint.to_owned()));
    diagnostics
}

/// About how many rules the table of a server of this role has: never too few, and at most a quarter
/// too many and 50.
///
/// A table has fewer where the server doesn't know all users that the policy names, and more where it
/// keeps sets of members for a time that no tier has any more, or of a tier that was large.
pub fn estimate_rules(policy: &Policy, role: &Role) -> usize {
    Count::of(policy, role).total()
}

struct Count {
    /// The rules of each allow, and those that name it alone.
    by_allow: Vec<usize>,
    /// The others.
    beside: usize,
}

impl Count {
    fn of(policy: &Policy, role: &Role) -> Self {
        let mut count = Self { by_allow: vec![0; policy.allows.len()], beside: 0 };
        let lookups = Lookups::of(policy);
        let is_off = |side| match side {
            Side::Input => policy.mode.input == Mode::Off,
            Side::Output => policy.mode.output == Mode::Off,
        };
        let asked_ports = ports_of_users(policy, role);
        let (mut named, mut every, mut logs) = (BTreeSet::new(), false, 0);
        for (side, other) in [(Side::Input, Side::Output), (Side::Output, Side::Input)] {
            if is_off(side) {
                continue;
            }
            count.beside += BUILT_IN;
            logs += LOGS + usize::from(side == Side::Input && policy.forward == Forward::Drop);
            let active: Vec<Active<'_>> = active(policy, role, side).collect();
            for allow in &active {
                every |= allow.peer.every_server;
                named.extend(allow.peer.tiers.iter().map(String::as_str));
                if is_confined(role, side, *allow) {
                    let own = allow.allow.to.tiers.intersection(&role.tiers);
                    named.extend(own.map(String::as_str));
                }
            }
            let asked = (side == Side::Output && !asked_ports.is_empty()).then_some(&asked_ports);
            let chains = Chains { side, is_copied: !is_off(other), asked, active: &active };
            for led in chains.all() {
                count.beside += led.beside;
                for (position, rules) in led.by_position {
                    let allow = active[position];
                    let own = lookups.rules(role, side, allow);
                    let sum = &mut count.by_allow[allow.index];
                    *sum = sum.saturating_add(rules).saturating_add(own);
                }
            }
        }
        count.beside += logs * lookups.of_log(&named, every);
        count
    }

    fn total(&self) -> usize {
        self.by_allow.iter().fold(self.beside, |sum, rules| sum.saturating_add(*rules))
    }
}

/// What a side dispatches by.
struct Chains<'a> {
    side: Side,
    /// Whether the other side takes connections up again.
    is_copied: bool,
    /// The ports that are asked for the user in each packet, if there are any.
    asked: Option<&'a BTreeSet<Interval>>,
    active: &'a [Active<'a>],
}

impl Chains<'_> {
    /// What leads to the allows: the dispatch, and its copies.
    fn all(&self) -> [Led; 3] {
        let [mut first, mut again, mut asked] = [(); 3].map(|()| Led::default());
        for transport in Transport::ALL {
            let ranges: Vec<_> = ranges(transport, self.active).collect();
            let of_a_service = transport == Transport::Udp && self.side == Side::Input;
            for segment in segments(&ranges) {
                let ports = Interval { first: segment.first.into(), last: segment.last.into() };
                first.add_segment(self.active, &segment);
                let is_copied =
                    transport == Transport::Tcp || of_a_service && is_of_a_service(ports);
                if self.is_copied && is_copied {
                    again.add_segment(self.active, &segment);
                }
                if transport == Transport::Udp && self.asked.is_some_and(|all| meets(all, ports)) {
                    asked.add_segment(self.active, &segment);
                }
            }
        }
        let mut protocols: BTreeMap<Option<u8>, Group> = BTreeMap::new();
        for (position, allow) in self.active.iter().enumerate() {
            let service = &allow.allow.service;
            let any = service.any.then_some(None);
            for protocol in service.protocols.iter().copied().map(Some).chain(any) {
                protocols.entry(protocol).or_default().insert(position);
            }
        }
        for (protocol, group) in protocols {
            let group = Rc::new(group);
            let is = |transport: Transport| protocol.is_none_or(|p| p == transport.protocol());
            first.add_group(self.active, &group);
            if self.is_copied && is(Transport::Tcp) {
                again.add_group(self.active, &group);
            }
            if self.asked.is_some() && is(Transport::Udp) {
                asked.add_group(self.active, &group);
            }
        }
        [first, again, asked]
    }
}

/// The chains that a dispatch leads to.
#[derive(Default)]
struct Led {
    /// The groups of several allows that have a chain.
    groups: BTreeSet<Rc<Group>>,
    /// How many rules of these chains name each allow.
    by_position: BTreeMap<usize, usize>,
    /// Rules of chains that name none.
    beside: usize,
}

impl Led {
    fn add_segment(&mut self, active: &[Active<'_>], segment: &Segment) {
        if segment.parts.len() > 1 {
            self.beside += segment.parts.len();
        }
        segment.parts.iter().for_each(|part| self.add_group(active, &part.group));
    }

    fn add_group(&mut self, active: &[Active<'_>], group: &Rc<Group>) {
        if group.len() == 1 {
            self.by_position.entry(group.first().copied().unwrap_or_default()).or_default();
            return;
        }
        if !self.groups.insert(Rc::clone(group)) {
            return;
        }
        let ByPeer { literal, tiers } = ByPeer::of(active, group);
        if !literal.is_empty() || !tiers.is_empty() {
            self.beside += 2;
        }
        for position in group.iter() {
            let rules = self.by_position.entry(*position).or_default();
            *rules += usize::from(!literal.contains(position));
        }
    }
}

/// In how many sets an address of a family is looked up: of IPv4, then of IPv6.
type ByFamily = [usize; 2];

fn sum(all: impl Iterator<Item = ByFamily>) -> ByFamily {
    all.fold([0; 2], |[v4, v6], more| [v4 + more[0], v6 + more[1]])
}

struct Lookups<'a> {
    policy: &'a Policy,
    /// In the sets of every server, and in those of each tier that is too large for them.
    every_server: ByFamily,
}

impl<'a> Lookups<'a> {
    fn of(policy: &'a Policy) -> Self {
        let large = policy.tiers.values().map(|tier| {
            let sets = lookups(tier);
            [0, 1].map(|family| if is_large(tier, family) { sets[family] } else { 0 })
        });
        let every_server = sum(large.chain([union_of(&mut policy.tiers.values())]));
        Self { policy, every_server }
    }

    /// The rules by which a log knows members of tiers. `named` are the tiers that allows look in, and
    /// `every` whether one looks for every server.
    fn of_log(&self, named: &BTreeSet<&str>, every: bool) -> usize {
        let mut rules = 0;
        for family in 0..2 {
            let is_together = every || named.len() > FEW;
            let (alone, together): (Vec<&Tier>, Vec<&Tier>) = self
                .policy
                .tiers
                .iter()
                .filter(|(name, _)| every || named.contains(name.as_str()))
                .map(|(_, tier)| tier)
                .partition(|tier| !is_together || is_large(tier, family));
            rules += alone.into_iter().map(|tier| lookups(tier)[family]).sum::<usize>();
            if is_together {
                rules += union_of(&mut together.into_iter())[family];
            }
        }
        rules
    }

    /// The rules of an allow's own chains on a side.
    fn rules(&self, role: &Role, side: Side, active: Active<'_>) -> usize {
        let of = |tiers: &mut dyn Iterator<Item = &String>| {
            sum(tiers.map(|tier| lookups(&self.policy.tiers[tier])))
        };
        let Active { allow, peer, .. } = active;
        let own = match is_confined(role, side, active) {
            true => of(&mut allow.to.tiers.intersection(&role.tiers)),
            false => [1; 2],
        };
        if peer.any {
            return if is_confined(role, side, active) { own[0] + own[1] } else { 1 };
        }
        let named = if peer.every_server { self.every_server } else { of(&mut peer.tiers.iter()) };
        let literals = [usize::from(!peer.v4.is_empty()), usize::from(!peer.v6.is_empty())];
        let peers = sum([named, literals].into_iter());
        match asks_in_two_steps(role, side, active) {
            true => own.iter().chain(&peers).sum(),
            false => own.iter().zip(peers).map(|(own, peers)| own.saturating_mul(peers)).sum(),
        }
    }
}

/// The sets of tiers together, without those that are too large to be in them.
fn union_of(tiers: &mut dyn Iterator<Item = &Tier>) -> ByFamily {
    let (mut members, mut timed) = ([0; 2], [0; 2]);
    for tier in tiers {
        let of_tier = [tier.v4.len(), tier.v6.len()];
        let of_time = [tier.timed.v4.len(), tier.timed.v6.len()];
        for family in (0..2).filter(|family| !is_large(tier, *family)) {
            members[family] += of_tier[family];
            timed[family] += of_time[family];
        }
    }
    [0, 1].map(|family| sets(members[family], timed[family]))
}

/// Whether a tier may be asked by itself where others are asked together.
fn is_large(tier: &Tier, family: usize) -> bool {
    [tier.v4.len(), tier.v6.len()][family] > NO_LONGER_LARGE
}

fn lookups(tier: &Tier) -> ByFamily {
    let Tier { v4, v6, timed, .. } = tier;
    [sets(v4.len(), timed.v4.len()), sets(v6.len(), timed.v6.len())]
}

/// The sets that hold so many members, and so many for a time.
fn sets(members: usize, timed: usize) -> usize {
    1 + usize::from(members > NO_LONGER_LARGE) + usize::from(timed > 0)
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
