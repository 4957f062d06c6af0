//! From a service to the chains of the allows that hold there, by one map lookup.
//!
//! Port ranges of different allows may overlap: the ports are cut into disjoint segments, on each
//! of which the same allows hold ([`segments`]). A segment of one allow leads straight to its chain;
//! one of several leads to a chain that jumps to each, or to the chains of the blocks of ports that
//! hold them. Whole protocols and `any` are asked after the
//! ports, since an accept there must not hide a counter of a closer allow.

use super::segments::{Group, Part, Range, Segment, segments};
use super::{Active, Compiler, Side};
use ruleset::{
    Address, AddressRange, AddressSet, Elements, Family, Field, Interval, KeyType, Rule, Set,
    SetSpec, Statement, Transport, Verdict,
};
use std::collections::BTreeMap;

/// Comment of the rules that look in a map. Allows' comments all begin with `allow`.
const BY_PORT: &str = "dispatch by port";
const BY_BLOCK: &str = "dispatch by block of ports";
const BY_PROTOCOL: &str = "dispatch by protocol";
const BY_PEER: &str = "dispatch by peer";

/// From this many allows of tiers on one service, a map leads from the peer's address to the allow.
const MANY_TIERS: usize = 4;

/// Tiers with more ranges aren't in that map, nor are those that would make it larger than
/// [`LARGE_MAP`]: an interval map rebuilds itself at every commit.
const LARGE_TIER: usize = 256;
const LARGE_MAP: usize = 4096;

/// How many elements of tiers all those maps of a table hold. A tier may be in as many maps as there
/// are services.
pub(super) const SHORT_CUTS: usize = 65_536;

/// The rules of a base chain that lead to the allows.
pub(super) struct Dispatch {
    /// By port, then by protocol.
    pub(super) services: Vec<Rule>,
    /// Allows of every service.
    pub(super) any: Option<Rule>,
}

impl Compiler<'_> {
    pub(super) fn dispatch(&mut self, side: Side, active: &[Active<'_>]) -> Dispatch {
        let mut targets =
            Targets { side, active, chains: BTreeMap::new(), blocks: BTreeMap::new() };
        let mut services = Vec::new();
        for transport in Transport::ALL {
            let ranges: Vec<Range> = ranges(transport, active).collect();
            if ranges.is_empty() {
                continue;
            }
            let name = format!("{}_{transport}", side.name());
            let elements = segments(&ranges).into_iter().map(|segment| {
                let ports = Interval { first: segment.first.into(), last: segment.last.into() };
                (ports, Verdict::Jump(targets.segment(self, transport, segment)))
            });
            let elements = elements.collect();
            self.add_map(&name, KeyType::Port, elements);
            let statement = Statement::dispatch(Field::Dport(transport), name);
            services.push(Rule::new(BY_PORT, vec![statement]));
        }

        let mut protocols: BTreeMap<u8, Group> = BTreeMap::new();
        for (position, allow) in active.iter().enumerate() {
            for protocol in &allow.allow.service.protocols {
                protocols.entry(*protocol).or_default().insert(position);
            }
        }
        if !protocols.is_empty() {
            let elements = protocols.into_iter().map(|(protocol, group)| {
                let name = || format!("{}_protocol_{protocol}", side.name());
                let chain = targets.chain(self, &group, name);
                (Interval::single(protocol.into()), Verdict::Jump(chain))
            });
            let elements = elements.collect();
            let map = format!("{}_protocols", side.name());
            self.add_map(&map, KeyType::Protocol, elements);
            let statement = Statement::dispatch(Field::L4Proto, map);
            services.push(Rule::new(BY_PROTOCOL, vec![statement]));
        }

        let of_any = |(_, allow): &(usize, &Active<'_>)| allow.allow.service.any;
        let group: Group =
            active.iter().enumerate().filter(of_any).map(|(position, _)| position).collect();
        let any = (!group.is_empty()).then(|| {
            let comment = match group.first() {
                Some(only) if group.len() == 1 => self.labels.comment(active[*only].index),
                _ => "dispatch of any service",
            };
            let comment = comment.to_owned();
            let chain = targets.chain(self, &group, || format!("{}_any", side.name()));
            Rule::new(comment, vec![Statement::jump(chain)])
        });
        Dispatch { services, any }
    }

    fn add_map(&mut self, name: &str, key: KeyType, elements: BTreeMap<Interval, Verdict>) {
        // Protocols are single numbers: a hash. The others may be ranges, now or after an edit.
        let spec = match key {
            KeyType::Protocol => SetSpec::exact(key, None),
            _ => SetSpec::intervals(key),
        };
        let map = Set { spec: spec.into_map(), elements: Elements::Verdicts(elements) };
        self.add_set(name, map);
    }
}

/// The port ranges of `transport`, each with the position of its allow.
pub(super) fn ranges<'a>(
    transport: Transport,
    active: &'a [Active<'_>],
) -> impl Iterator<Item = Range> + use<'a> {
    active.iter().enumerate().flat_map(move |(position, allow)| {
        let ranges = allow.allow.service.ports.get(&transport).into_iter().flatten();
        ranges.map(move |range| (range.clone(), position))
    })
}

/// The chains made so far for groups of allows: equal groups share one.
struct Targets<'a> {
    side: Side,
    active: &'a [Active<'a>],
    chains: BTreeMap<Group, String>,
    /// Those of blocks of ports.
    blocks: BTreeMap<(Transport, (u16, u16)), String>,
}

impl Targets<'_> {
    /// The chain that leads to every allow of a segment of the map of `transport`.
    fn segment(
        &mut self,
        compiler: &mut Compiler<'_>,
        transport: Transport,
        segment: Segment,
    ) -> String {
        let side = self.side.name();
        let name = |ports: &str| format!("{side}_{transport}_{ports}");
        let own_name = name(&segment.first.to_string());
        let mut rules = Vec::new();
        for Part { block, group } in segment.parts {
            let known = block.and_then(|block| self.blocks.get(&(transport, block)));
            let chain = match (known, block) {
                (Some(chain), _) => chain.clone(),
                (None, Some(block)) => {
                    let name = name(&format!("{}-{}", block.0, block.1));
                    let chain = self.chain(compiler, &group, || name);
                    self.blocks.insert((transport, block), chain.clone());
                    chain
                }
                (None, None) => return self.chain(compiler, &group, || own_name),
            };
            let comment = match group.first() {
                Some(only) if group.len() == 1 => compiler.labels.comment(self.active[*only].index),
                _ => BY_BLOCK,
            };
            rules.push((comment.to_owned(), chain));
        }
        if let [(_, only)] = &rules[..] {
            return only.clone();
        }
        let rules = rules.into_iter();
        let rules = rules.map(|(comment, chain)| Rule::new(comment, vec![Statement::jump(chain)]));
        compiler.add_chain(&own_name, None, rules.collect());
        own_name
    }

    /// The chain that leads to every allow of `group`, called `name` if one has to be made.
    fn chain(
        &mut self,
        compiler: &mut Compiler<'_>,
        group: &Group,
        name: impl FnOnce() -> String,
    ) -> String {
        if let Some(known) = self.chains.get(group) {
            return known.clone();
        }
        let own_chain = |position: &usize| {
            self.side.allow_chain(compiler.labels.slug(self.active[*position].index))
        };
        let chain = match group.first() {
            Some(only) if group.len() == 1 => own_chain(only),
            _ => {
                let name = name();
                let mut rules = Vec::new();
                let by_peer = self.peer_maps(compiler, group, &name, &mut rules);
                rules.extend(group.difference(&by_peer).map(|position| {
                    let comment = compiler.labels.comment(self.active[*position].index);
                    Rule::new(comment, vec![Statement::jump(own_chain(position))])
                }));
                compiler.add_chain(&name, None, rules);
                name
            }
        };
        self.chains.insert(group.clone(), chain.clone());
        chain
    }

    /// Dispatches by the peer's address, so that thousands of allows on one service cost what one
    /// does. Returns the allows that needn't be asked in turn any more.
    ///
    /// That are those with literal peers. A map has one verdict an address: where peers overlap,
    /// the narrower allow is dispatched and the wider one asked in turn. All that decides it is in
    /// the allows, so that the rules change with these only.
    ///
    /// Of tiers the map is a short cut: it leads to the chain of one allow, which looks in the
    /// tier's set itself, and every allow is asked in turn all the same. So what is in the map may
    /// follow the members without a rule following them, and is free to leave some out.
    fn peer_maps(
        &self,
        compiler: &mut Compiler<'_>,
        group: &Group,
        name: &str,
        rules: &mut Vec<Rule>,
    ) -> Group {
        let ByPeer { literal, tiers } = ByPeer::of(self.active, group);
        let chain = |compiler: &Compiler<'_>, position: usize| {
            self.side.allow_chain(compiler.labels.slug(self.active[position].index))
        };
        let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
        for position in &literal {
            let to = Verdict::Jump(chain(compiler, *position));
            let peer = self.active[*position].peer;
            occupy(&mut v4, &peer.v4, &to);
            occupy(&mut v6, &peer.v6, &to);
        }
        let many_tiers = !tiers.is_empty();
        for position in tiers {
            let chain = chain(compiler, position);
            for tier in &self.active[position].peer.tiers {
                let members = &compiler.policy.tiers[tier];
                let left = &mut compiler.short_cuts;
                occupy_free(&mut v4, &members.v4, &chain, left);
                occupy_free(&mut v6, &members.v6, &chain, left);
            }
        }
        for (family, elements, suffix) in [(Family::V4, v4, "v4"), (Family::V6, v6, "v6")] {
            if many_tiers || !elements.is_empty() {
                // With a dot, which no tier's name has: a tier may be called as the chain is.
                let map = format!("{name}.peers_{suffix}");
                compiler.add_map(&map, KeyType::Address(family), elements);
                let statement = Statement::dispatch(self.side.peer(family), map);
                rules.push(Rule::new(BY_PEER, vec![statement]));
            }
        }
        literal
    }
}

/// Which allows of a group are looked up by the peer's address.
pub(super) struct ByPeer {
    /// Those of literal peers that don't overlap, which needn't be asked in turn.
    pub(super) literal: Group,
    /// Those of tiers, if they are many.
    pub(super) tiers: Vec<usize>,
}

impl ByPeer {
    pub(super) fn of(active: &[Active<'_>], group: &Group) -> Self {
        let peer = |position: &usize| active[*position].peer;
        let bounded = group.iter().copied().filter(|position| {
            let peer = peer(position);
            !peer.any && !peer.every_server
        });
        let (mut literals, mut tiers): (Vec<usize>, Vec<usize>) =
            bounded.partition(|position| peer(position).tiers.is_empty());
        let mut literal = Group::new();
        if literals.len() > 1 {
            literals.sort_by_cached_key(|position| {
                (span(&peer(position).v4), span(&peer(position).v6))
            });
            let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
            for position in literals {
                let peer = peer(&position);
                if is_free(&v4, &peer.v4) && is_free(&v6, &peer.v6) {
                    occupy(&mut v4, &peer.v4, &());
                    occupy(&mut v6, &peer.v6, &());
                    literal.insert(position);
                }
            }
        }
        if tiers.len() < MANY_TIERS {
            tiers.clear();
        }
        Self { literal, tiers }
    }
}

/// How many addresses, less one a range: enough to order by.
fn span<A: Address>(set: &AddressSet<A>) -> u128 {
    let width = |range: AddressRange<A>| range.last.to_number() - range.first.to_number();
    set.ranges().fold(0, |sum: u128, range| sum.saturating_add(width(range)))
}

fn interval<A: Address>(range: AddressRange<A>) -> Interval {
    Interval { first: range.first.to_number(), last: range.last.to_number() }
}

fn is_free<A: Address>(taken: &BTreeMap<Interval, ()>, set: &AddressSet<A>) -> bool {
    set.ranges().map(interval).all(|range| {
        let mut before = taken.range(..=Interval { first: range.last, last: u128::MAX });
        before.next_back().is_none_or(|(other, _)| other.last < range.first)
    })
}

fn occupy<A: Address, T: Clone>(taken: &mut BTreeMap<Interval, T>, set: &AddressSet<A>, by: &T) {
    taken.extend(set.ranges().map(interval).map(|range| (range, by.clone())));
}

/// Adds what of `set` isn't taken, or nothing where that would make the map slow to change or
/// exceed what is `left` for all maps.
fn occupy_free<A: Address>(
    taken: &mut BTreeMap<Interval, Verdict>,
    set: &AddressSet<A>,
    chain: &str,
    left: &mut usize,
) {
    if set.len() > LARGE_TIER || taken.len() + set.len() > LARGE_MAP || set.len() > *left {
        return;
    }
    let mut free = Vec::new();
    for range in set.ranges().map(interval) {
        let mut first = Some(range.first);
        let before = taken.range(..=Interval { first: range.first, last: u128::MAX }).next_back();
        let within = taken.range(range..=Interval { first: range.last, last: u128::MAX });
        for (other, _) in before.into_iter().chain(within) {
            let Some(start) = first.filter(|start| other.last >= *start) else { continue };
            if start < other.first {
                free.push(Interval { first: start, last: other.first - 1 });
            }
            first = other.last.checked_add(1).filter(|next| *next <= range.last);
        }
        free.extend(first.map(|first| Interval { first, last: range.last }));
    }
    *left = left.saturating_sub(free.len());
    taken.extend(free.into_iter().map(|range| (range, Verdict::Jump(chain.to_owned()))));
}

#[cfg(test)]
mod tests {
    use super::{Verdict, interval, occupy, occupy_free};
    use proptest::prelude::*;
    use ruleset::{AddressRange, AddressSet};
    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    fn set() -> impl Strategy<Value = AddressSet<Ipv4Addr>> {
        // At the end of the address space, where the next address is none.
        let address = |n: u32| Ipv4Addr::from_bits(u32::MAX - 30 + n);
        let range = (0u32..=30, 0u32..6).prop_map(move |(first, more)| AddressRange {
            first: address(first),
            last: address((first + more).min(30)),
        });
        prop::collection::vec(range, 0..6).prop_map(AddressSet::new)
    }

    proptest! {
        #[test]
        fn what_is_taken_stays_and_the_rest_is_added(literal in set(), tier in set(), last in set()) {
            let mut taken = BTreeMap::new();
            occupy(&mut taken, &literal, &Verdict::Jump("literal".to_owned()));
            let mut left = usize::MAX;
            occupy_free(&mut taken, &tier, "tier", &mut left);
            occupy_free(&mut taken, &last, "last", &mut left);
            let holder = |address: Ipv4Addr| {
                let key = u128::from(address.to_bits());
                let mut holders = taken.iter().filter(|(range, _)| (range.first..=range.last).contains(&key));
                let holder = holders.next().map(|(_, verdict)| verdict.clone());
                assert_eq!(holders.next(), None, "{address} is there twice");
                holder
            };
            for address in (u32::MAX - 30..=u32::MAX).map(Ipv4Addr::from_bits) {
                let owner = [(&literal, "literal"), (&tier, "tier"), (&last, "last")]
                    .into_iter()
                    .find(|(set, _)| set.contains(address))
                    .map(|(_, chain)| Verdict::Jump(chain.to_owned()));
                prop_assert_eq!(holder(address), owner);
            }
            prop_assert!(literal.ranges().map(interval).all(|range| taken.contains_key(&range)));
        }
    }
}
