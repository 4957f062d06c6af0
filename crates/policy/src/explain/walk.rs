//! The walk behind an explanation: the parties cut into pieces, and each end's table walked for
//! each pair of them.

use super::{
    Answer, End, ExplainError, Explanation, Fate, Ground, Party, Question, Server, Verdict,
};
use crate::addresses::Addresses;
use crate::compile::{Host, compile};
use crate::judge::{By, Judge};
use crate::missing::{ClosedEnd, Missing, missing};
use crate::model::{Allow, Policy, Service};
use crate::reach::Direction;
use crate::role::{Role, tiers_of};
use crate::service_set::Point;
use ruleset::evaluate::{LOOPBACK, Packet};
use ruleset::{Address, AddressSet, Hook, Ruleset, Transport};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// The port that the sender's side of a connection has here. Of what opens a connection, tables ask
/// for a source port only if it is DHCP's or that of a UDP service, which may speak first.
const SOURCE_PORT: u16 = 49_152;

/// The ICMP type of an echo request, in either family.
const ECHO: (u8, u8) = (8, 128);
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

pub(super) struct Explainer<'p, 'q> {
    policy: &'p Policy,
    server: &'q Server,
    users: &'q BTreeMap<String, u32>,
    question: &'q Question,
    /// The allows on the services of the question, which alone matter.
    relevant: Vec<&'p Allow>,
    /// Every set of addresses that those name.
    cutters: Vec<Addresses>,
}

impl<'p, 'q> Explainer<'p, 'q> {
    pub(super) fn new(
        policy: &'p Policy,
        server: &'q Server,
        users: &'q BTreeMap<String, u32>,
        question: &'q Question,
    ) -> Result<Self, ExplainError> {
        if question.service.any {
            return Err(ExplainError::AnyService);
        }
        let concerns = |allow: &&Allow| !allow.service.meet(&question.service).is_empty();
        let relevant: Vec<&Allow> = policy.allows.iter().filter(concerns).collect();
        let sides = || relevant.iter().flat_map(|allow| [&allow.from, &allow.to]);
        let named: BTreeSet<&String> = sides().flat_map(|side| &side.tiers).collect();
        let tiers = named.into_iter().filter_map(|name| policy.tiers.get(name));
        let mut cutters: Vec<Addresses> = tiers.map(Addresses::of_tier).collect();
        cutters.extend(sides().map(Addresses::of_literals).filter(|set| !set.is_empty()));
        // In no tier, it is no server of the policy.
        cutters.push(Addresses::of_all_tiers(policy));
        Ok(Self { policy, server, users, question, relevant, cutters })
    }

    pub(super) fn explain(self) -> Result<Explanation<'p>, ExplainError> {
        let sends = self.is_here(&self.question.from);
        // A group is wherever its members are. What another host sends there comes in here; what
        // this server sends comes in elsewhere.
        let receives = self.is_here(&self.question.to) || (!sends && is_group(&self.question.to));
        let output = self.end(Direction::Output, sends, receives)?;
        let input = self.end(Direction::Input, receives, sends)?;
        if !sends && !receives && [&output, &input].iter().all(|end| end.is_nobodys()) {
            let (from, to) = (self.name(&self.question.from), self.name(&self.question.to));
            return Err(ExplainError::Strangers(from, to));
        }
        let ends = if receives && !sends { [input, output] } else { [output, input] };
        Ok(Explanation { ends })
    }

    fn is_here(&self, party: &Party) -> bool {
        match party {
            Party::Here => true,
            Party::Tier(tier) => self.server.role.tiers.contains(tier),
            Party::Addresses { addresses, .. } => {
                let is_loopback = addresses.v4.first().is_some_and(|r| r.first.is_loopback())
                    || addresses.v6.first().is_some_and(|range| range.first.is_loopback());
                is_loopback || self.server.addresses.covers(addresses)
            }
        }
    }

    fn name(&self, party: &Party) -> String {
        match party {
            Party::Here => "this server".into(),
            Party::Tier(name) | Party::Addresses { name, .. } => name.clone(),
        }
    }

    /// The addresses that a party has at the end it is on: this server's own, or those of others.
    /// Of a tier that this server is in, it is itself at its own end and the others elsewhere.
    fn addresses(&self, party: &Party, own_end: bool, other_is_here: bool) -> Addresses {
        let own = &self.server.addresses;
        let tier = match party {
            Party::Here => return own.clone(),
            Party::Addresses { addresses, .. } => return addresses.clone(),
            Party::Tier(name) => self.policy.tiers.get(name).map(Addresses::of_tier),
        };
        let tier = tier.unwrap_or_default();
        let or = |some: Addresses, otherwise: &Addresses| match some.is_empty() {
            true => otherwise.clone(),
            false => some,
        };
        if !self.is_here(party) {
            return tier;
        }
        if own_end {
            return or(or(tier.meet(own), own), &tier);
        }
        if other_is_here { or(tier.minus(own), &tier) } else { tier }
    }

    /// One end, where `own_here` says that its own party is the server asked.
    fn end(
        &self,
        direction: Direction,
        own_here: bool,
        peer_here: bool,
    ) -> Result<End<'p>, ExplainError> {
        let Question { from, to, .. } = self.question;
        let sends = direction == Direction::Output;
        let sources =
            self.addresses(from, sends && own_here, if sends { peer_here } else { own_here });
        let targets =
            self.addresses(to, !sends && own_here, if sends { own_here } else { peer_here });
        for (party, addresses) in [(from, &sources), (to, &targets)] {
            if addresses.is_empty() {
                return Err(ExplainError::NoAddress(self.name(party)));
            }
        }
        let pairs = self.pairs(&sources, &targets);
        if pairs.is_empty() {
            return Err(ExplainError::NoCommonFamily(self.name(from), self.name(to)));
        }
        let own_role = |pair: &Pair| match own_here {
            true => Some(self.server.role.clone()),
            false => self.role_of(if sends { pair.source } else { pair.target }),
        };
        let roles: Vec<Option<Role>> = pairs.iter().map(own_role).collect();
        let tables = self.tables(&roles);
        let judges: Vec<(&Role, Judge<'_>)> =
            tables.iter().map(|(role, table)| (*role, Judge::new(self.policy, table))).collect();
        let judge_of = |role: &Option<Role>| {
            let role = role.as_ref()?;
            judges.iter().find(|(of, _)| *of == role).map(|(of, judge)| (*of, judge))
        };
        let judged: Vec<_> = pairs.iter().zip(roles.iter().map(judge_of)).collect();
        let mut answers: Vec<Answer<'p>> = Vec::new();
        for (service, point) in
            self.question.service.pieces(self.relevant.iter().map(|a| &a.service))
        {
            for answer in self.on(direction, &service, point, &judged) {
                let same = answers.iter_mut().find(|other| {
                    (&other.from, &other.to, &other.verdict)
                        == (&answer.from, &answer.to, &answer.verdict)
                        && same_gap(&other.missing, &answer.missing)
                });
                match same {
                    Some(other) => other.service = other.service.union(&service),
                    None => answers.push(answer),
                }
            }
        }
        for answer in &mut answers {
            if let Some(missing) = &mut answer.missing {
                missing.complete(&answer.from, &answer.to, &answer.service);
            }
        }
        Ok(End { direction, is_here: own_here, answers })
    }

    /// What becomes of one kind of traffic, between whom.
    fn on(
        &self,
        direction: Direction,
        service: &Service,
        point: Point,
        judged: &[(&Pair, Option<(&Role, &Judge<'_>)>)],
    ) -> Vec<Answer<'p>> {
        let answer = |(pair, judge): &(&Pair, Option<(&Role, &Judge<'_>)>)| {
            let packet = self.packet(direction, pair, point);
            let (verdict, missing) = match judge {
                None => (Verdict { fate: Fate::Allowed, ground: Ground::NoServer }, None),
                Some((role, judge)) => {
                    let verdict = self.verdict(judge, &packet);
                    let end =
                        ClosedEnd { role, users: self.users, direction, packet: &packet, point };
                    let is_missing = verdict.ground == Ground::Closing;
                    let missing = is_missing.then(|| missing(self.policy, &end, self.question));
                    (verdict, missing)
                }
            };
            let (from, to, service) = (pair.sources.clone(), pair.targets.clone(), service.clone());
            Answer { from, to, service, verdict, missing }
        };
        let mut answers: Vec<Answer<'p>> = judged.iter().map(answer).collect();
        join(&mut answers, |answer| &answer.from, |answer| &mut answer.to);
        join(&mut answers, |answer| &answer.to, |answer| &mut answer.from);
        answers
    }

    fn verdict(&self, judge: &Judge<'_>, packet: &Packet) -> Verdict<'p> {
        let ruling = judge.rule_on(packet);
        let own = |allow: &Allow| self.policy.allows.iter().find(|own| std::ptr::eq(*own, allow));
        let ground = match ruling.by {
            By::Allow(allow) => own(allow).map_or(Ground::Closing, Ground::Allow),
            By::BuiltIn(name) => Ground::BuiltIn(name.to_owned()),
            By::Closing => Ground::Closing,
            By::Unfiltered => Ground::Unfiltered,
        };
        Verdict { fate: ruling.fate(), ground }
    }

    /// The part that a server with this address has; none where no tier holds it.
    fn role_of(&self, address: IpAddr) -> Option<Role> {
        let tiers = tiers_of(self.policy, &[address]);
        (!tiers.is_empty()).then_some(Role { tiers, auto: true })
    }

    /// The tables of servers of these roles, each once.
    fn tables<'r>(&self, roles: &'r [Option<Role>]) -> Vec<(&'r Role, Ruleset)> {
        let mut tables: Vec<(&Role, Ruleset)> = Vec::new();
        for role in roles.iter().flatten() {
            if tables.iter().all(|(known, _)| *known != role) {
                let host = Host { role, users: self.users, previous: None };
                tables.push((role, compile(self.policy, host)));
            }
        }
        tables
    }

    fn packet(&self, direction: Direction, pair: &Pair, point: Point) -> Packet {
        let Pair { source, target, .. } = *pair;
        let within = source == target || source.is_loopback() || target.is_loopback();
        let (mut protocol, mut icmp_type) = (point.protocol, None);
        if matches!(protocol, ICMP | ICMPV6) {
            let (v4, v6) = ((ICMP, ECHO.0), (ICMPV6, ECHO.1));
            let (number, echo) = if source.is_ipv4() { v4 } else { v6 };
            (protocol, icmp_type) = (number, Some(echo));
        }
        // Of "every port" some port has to be asked; the pieces see to it that any will do.
        let port = point.port.or_else(|| Transport::of_protocol(protocol).map(|_| 1));
        let hook = match direction {
            Direction::Input => Hook::Input,
            Direction::Output => Hook::Output,
        };
        Packet {
            interface: if within { LOOPBACK } else { LOOPBACK + 1 },
            ports: port.map(|port| (SOURCE_PORT, port)),
            icmp_type,
            user: self.question.user.filter(|_| direction == Direction::Output),
            ..Packet::first(hook, source, target, protocol)
        }
    }

    /// Every piece of the one side with every piece of the other, and addresses that stand for
    /// them: two different ones, unless there is only one host.
    fn pairs(&self, sources: &Addresses, targets: &Addresses) -> Vec<Pair> {
        let (from, to) = (self.pieces(sources), self.pieces(targets));
        let mut pairs = Vec::new();
        for sources in &from {
            for targets in &to {
                let (Some((first, last)), Some((target, other))) = (ends(sources), ends(targets))
                else {
                    continue;
                };
                if first.is_ipv4() != target.is_ipv4() {
                    continue;
                }
                let source = if first == target { last } else { first };
                let target = if source == target { other } else { target };
                let (sources, targets) = (sources.clone(), targets.clone());
                pairs.push(Pair { sources, targets, source, target });
            }
        }
        // A host and itself are no two members of a tier.
        let between = |pair: &Pair| pair.source != pair.target;
        if pairs.iter().any(between) {
            pairs.retain(between);
        }
        pairs
    }

    /// Cut at the borders of all that the policy names; each piece is of one family.
    fn pieces(&self, addresses: &Addresses) -> Vec<Addresses> {
        let families = [
            Addresses { v4: addresses.v4.clone(), ..Addresses::default() },
            Addresses { v6: addresses.v6.clone(), ..Addresses::default() },
        ];
        let mut pieces: Vec<Addresses> =
            families.into_iter().filter(|family| !family.is_empty()).collect();
        for cutter in &self.cutters {
            pieces = pieces
                .into_iter()
                .flat_map(|piece| match piece.intersects(cutter) {
                    true => [piece.meet(cutter), piece.minus(cutter)],
                    false => [piece, Addresses::default()],
                })
                .filter(|piece| !piece.is_empty())
                .collect();
        }
        pieces
    }
}

/// Whether packets to these addresses go to every host that listens: multicast and broadcast.
fn is_group(party: &Party) -> bool {
    let Party::Addresses { addresses, .. } = party else { return false };
    let is_v4 = |address: Ipv4Addr| address.is_multicast() || address.is_broadcast();
    // The groups are one range, and the broadcast address is another.
    !addresses.is_empty()
        && addresses.v4.ranges().all(|range| is_v4(range.first) && is_v4(range.last))
        && addresses.v6.ranges().all(|range| range.first.is_multicast())
}

/// Two pieces and an address of each that stands for it.
struct Pair {
    sources: Addresses,
    targets: Addresses,
    source: IpAddr,
    target: IpAddr,
}

/// The lowest and the highest address of a piece.
fn ends(piece: &Addresses) -> Option<(IpAddr, IpAddr)> {
    fn of<A: Address>(set: &AddressSet<A>) -> Option<(IpAddr, IpAddr)> {
        Some((set.first()?.first.to_ip(), set.last()?.last.to_ip()))
    }
    of(&piece.v4).or_else(|| of(&piece.v6))
}

/// Joins the answers that are the same but for one side's addresses.
fn join<'p>(
    answers: &mut Vec<Answer<'p>>,
    same: impl for<'a> Fn(&'a Answer<'p>) -> &'a Addresses,
    joined: impl for<'a> Fn(&'a mut Answer<'p>) -> &'a mut Addresses,
) {
    let mut kept: Vec<Answer<'p>> = Vec::new();
    for mut answer in answers.drain(..) {
        let like = kept.iter_mut().find(|other| {
            same(other) == same(&answer)
                && other.verdict == answer.verdict
                && same_gap(&other.missing, &answer.missing)
        });
        match like {
            Some(other) => {
                let more = std::mem::take(joined(&mut answer));
                let all = joined(other);
                *all = all.union(&more);
            }
            None => kept.push(answer),
        }
    }
    *answers = kept;
}

/// Whether the same would mend both, on whatever service.
fn same_gap(one: &Option<Missing<'_>>, other: &Option<Missing<'_>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.is_like(other),
        (None, None) => true,
        _ => false,
    }
}
