//! What an allow names: a packet made at random seldom meets one.

use crate::exchange::USERS;
use crate::packet::{Checksum, Content, TCP, UDP, headless, other, sctp_init, tcp, udp};
use crate::packet::{Path, SCTP, SYN};
use crate::world::random::Random;
use policy::model::{Allow, Endpoint, User};
use policy::{Policy, Role};
use ruleset::{Address, AddressSet};
use std::net::IpAddr;

/// The other side of an allow of this server, and what it opens to them.
#[derive(Debug)]
pub(crate) struct Aim {
    pub(crate) peer: IpAddr,
    pub(crate) content: Content,
    /// On the sender's side, one for whom it is open, mostly.
    pub(crate) user: u32,
}

impl Aim {
    /// At some allow that the server acts on, for packets on `path`; none if what was picked can't
    /// be sent.
    pub(crate) fn random(
        random: &mut Random,
        (policy, role): (&Policy, &Role),
        (path, is_v4): (Path, bool),
        port: u16,
    ) -> Option<Self> {
        let sides = |allow: &'_ Allow| match path {
            Path::In => (allow.to.clone(), allow.from.clone()),
            _ => (allow.from.clone(), allow.to.clone()),
        };
        let acts = |allow: &&Allow| {
            let own = sides(allow).0;
            own.every_server || !own.tiers.is_disjoint(&role.tiers)
        };
        let allows: Vec<&Allow> = policy.allows.iter().filter(acts).collect();
        let allow = *allows.get(random.below(allows.len().max(1)))?;
        let peers = peers(policy, &sides(allow).1, is_v4);
        let peer = *peers.get(random.below(peers.len().max(1)))?;
        let content = content(random, allow, port)?;
        let users = allow.users.iter().map(|user| match user {
            User::Uid(uid) => *uid,
            User::Name { name, .. } if name == "root" => 0,
            User::Name { .. } => 65534,
        });
        let users: Vec<u32> = users.collect();
        let user = match users.is_empty() || random.percent(20) {
            true => random.pick(&USERS),
            false => random.pick(&users),
        };
        Some(Self { peer, content, user })
    }
}

/// The ends of every range that the endpoint names, and what lies just outside of it.
fn peers(policy: &Policy, endpoint: &Endpoint, is_v4: bool) -> Vec<IpAddr> {
    let tiers = policy.tiers.iter().filter(|(name, _)| {
        endpoint.any || endpoint.every_server || endpoint.tiers.contains(*name)
    });
    let mut peers: Vec<IpAddr> = Vec::new();
    match is_v4 {
        true => {
            peers.extend(edges(&endpoint.v4));
            tiers.for_each(|(_, tier)| {
                let timed = tier.timed.v4.elements().map(|(range, _)| *range).collect();
                peers.extend(edges(&tier.v4).chain(edges(&timed)));
            });
        }
        false => {
            peers.extend(edges(&endpoint.v6));
            tiers.for_each(|(_, tier)| peers.extend(edges(&tier.v6)));
        }
    }
    peers.retain(is_somebody);
    peers
}

fn edges<A: Address + Into<IpAddr>>(set: &AddressSet<A>) -> impl Iterator<Item = IpAddr> {
    let edges = |first: A, last: A| {
        let (first, last) = (first.to_number(), last.to_number());
        let all = [first, last, first.saturating_sub(1), last.saturating_add(1)];
        all.map(|number| A::from_number(number).into())
    };
    // Enough of a large one.
    let ranges: Vec<(A, A)> =
        set.ranges().take(20).map(|range| (range.first, range.last)).collect();
    ranges.into_iter().flat_map(move |(first, last)| edges(first, last))
}

/// Whether a packet may come from there and go there: not the ends of the address space, which
/// some ranges reach, nor the zero address of a link, which is never told of a refusal
/// (`ipv6_anycast_destination`).
fn is_somebody(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => (1..224).contains(&address.octets()[0]) && !address.is_loopback(),
        IpAddr::V6(address) => {
            !address.is_multicast() && !matches!(address.segments()[0], 0 | 0xfd01)
        }
    }
}

/// Something of what the allow opens.
fn content(random: &mut Random, allow: &Allow, from: u16) -> Option<Content> {
    let service = &allow.service;
    let mut contents: Vec<Content> = service
        .ports
        .iter()
        .flat_map(|(transport, ranges)| {
            let ports = ranges.iter().flat_map(|range| [*range.start(), *range.end()]);
            ports.map(|port| match transport.protocol() {
                TCP => tcp(from, port, SYN),
                UDP => udp(from, port),
                SCTP => sctp_init(from, port),
                protocol => headless(protocol, from, port),
            })
        })
        .collect();
    for protocol in &service.protocols {
        contents.extend(match *protocol {
            TCP => Some(tcp(from, 4000, SYN)),
            UDP => Some(udp(from, 4000)),
            47 | 50 => Some(other(*protocol, Checksum::None)),
            253 => Some(other(*protocol, Checksum::Internet(2))),
            _ => None,
        });
    }
    if service.any {
        contents.push(udp(from, 4000));
    }
    let index = random.below(contents.len().max(1));
    (index < contents.len()).then(|| contents.swap_remove(index))
}
