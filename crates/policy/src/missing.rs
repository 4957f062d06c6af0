//! What a denied connection lacks: the allow that comes nearest, and one that would let it through.

use crate::addresses::Addresses;
use crate::model::{Allow, Endpoint, Policy, Service, User};
use crate::question::{Party, Question};
use crate::reach::Direction;
use crate::role::{Role, tiers_of};
use crate::service_set::Point;
use ruleset::Transport;
use ruleset::evaluate::Packet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What is missing at one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing<'p> {
    /// The allow that lacks one thing only, if there is one, and what.
    pub nearest: Option<(&'p Allow, Gap)>,
    /// The sides of an allow that would let it through, as a policy names them.
    pub sides: Sides,
    /// And its service.
    pub service: Service,
}

/// The two sides of an allow that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sides {
    /// `from` and `to`.
    Named {
        /// Who opens it: a tier, or addresses.
        from: Vec<String>,
        /// To whom: a tier, or addresses.
        to: Vec<String>,
    },
    /// No allow would do, since this end's address is in none of its server's tiers.
    NoTier(IpAddr),
}

/// What an allow lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// It is for other users.
    User,
    /// It is for other services.
    Service,
    /// It names another peer.
    Peer,
    /// It is for other servers.
    Server,
}

/// The end of a connection where no allow names it.
pub(crate) struct ClosedEnd<'a> {
    pub(crate) role: &'a Role,
    pub(crate) users: &'a BTreeMap<String, u32>,
    pub(crate) direction: Direction,
    pub(crate) packet: &'a Packet,
    pub(crate) point: Point,
}

impl Missing<'_> {
    /// The allow to write, for one user where only one asked. None where none would do.
    pub fn to_toml(&self, policy: &Policy, user: Option<&str>) -> Option<String> {
        let Sides::Named { from, to } = &self.sides else { return None };
        let mut text = format!(
            "[[allow]]\nfrom    = {}\nto      = {}\nservice = {}\n",
            list(from),
            list(to),
            list(&self.service.names())
        );
        // Who isn't in a tier sends from no server that could tell users apart.
        if let Some(user) = user.filter(|_| from.iter().any(|from| policy.tiers.contains_key(from)))
        {
            text += &match user.parse::<u32>() {
                Ok(uid) => format!("user    = {uid}\n"),
                Err(_) => format!("user    = \"{user}\"\n"),
            };
        }
        Some(text)
    }

    /// Says of what answer this is: on which services, and for a side that is in no tier, which
    /// addresses.
    pub(crate) fn complete(&mut self, from: &Addresses, to: &Addresses, service: &Service) {
        self.service = service.clone();
        if let Sides::Named { from: sender, to: receiver } = &mut self.sides {
            for (side, addresses) in [(sender, from), (receiver, to)] {
                if side.is_empty() {
                    side.extend(addresses.ranges());
                }
            }
        }
    }

    /// Whether the same sides are missing, and the same allow comes near.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.nearest, &self.sides) == (&other.nearest, &other.sides)
    }
}

/// One string, or a list of them.
fn list(items: &[String]) -> String {
    match items {
        [one] => format!("\"{one}\""),
        items => {
            let quoted: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
            format!("[{}]", quoted.join(", "))
        }
    }
}

/// What would have let the packet through. Its service, and addresses where a side is in no tier, are
/// for [`Missing::complete`].
pub(crate) fn missing<'p>(
    policy: &'p Policy,
    end: &ClosedEnd<'_>,
    question: &Question,
) -> Missing<'p> {
    let (own, peer) = end.addresses();
    let (own, peer) = (tiers_of(policy, &[own]), tiers_of(policy, &[peer]));
    let near = policy.allows.iter().filter_map(|allow| {
        let (gap, distance) = end.gap(&own, &peer, allow)?;
        Some((gap, distance, allow))
    });
    let nearest = near.min_by_key(|(gap, distance, _)| (*gap, *distance));
    let nearest = nearest.map(|(gap, _, allow)| (allow, gap));
    let sides = end.sides(policy, question);
    Missing { nearest, sides, service: Service::default() }
}

impl ClosedEnd<'_> {
    /// Own address and the other side's.
    fn addresses(&self) -> (IpAddr, IpAddr) {
        match self.direction {
            Direction::Input => (self.packet.destination, self.packet.source),
            Direction::Output => (self.packet.source, self.packet.destination),
        }
    }

    /// The one thing that `allow` lacks, and how far it is from that; none where it lacks more.
    /// `own_tiers` and `peer_tiers` hold the addresses of the two ends.
    fn gap(
        &self,
        own_tiers: &BTreeSet<String>,
        peer_tiers: &BTreeSet<String>,
        allow: &Allow,
    ) -> Option<(Gap, u32)> {
        let (own, peer) = match self.direction {
            Direction::Input => (&allow.to, &allow.from),
            Direction::Output => (&allow.from, &allow.to),
        };
        let (_, peer_address) = self.addresses();
        let confined = self.direction == Direction::Input && self.role.auto;
        let acts =
            |tier: &String| own.tiers.contains(tier) && (!confined || own_tiers.contains(tier));
        let gaps = [
            (Gap::User, !self.has_user(allow), 0),
            (Gap::Service, !allow.service.holds(self.point), self.distance(&allow.service)),
            (Gap::Peer, !names(peer, peer_address, peer_tiers), 0),
            (Gap::Server, !own.every_server && !self.role.tiers.iter().any(acts), 0),
        ];
        let mut lacking: Vec<_> = gaps.iter().filter(|(_, is_lacking, _)| *is_lacking).collect();
        if lacking.len() > 1 && self.packet.user.is_none() {
            // Nobody said who asks.
            lacking.retain(|(gap, ..)| *gap != Gap::User);
        }
        match lacking[..] {
            [(gap, _, distance)] => Some((*gap, *distance)),
            _ => None,
        }
    }

    fn has_user(&self, allow: &Allow) -> bool {
        let is_sender = |user: &User| {
            let uid = match user {
                User::Uid(uid) => Some(uid),
                User::Name { name, .. } => self.users.get(name),
            };
            self.packet.user.is_some() && uid.copied() == self.packet.user
        };
        self.direction == Direction::Input
            || allow.users.is_empty()
            || allow.users.iter().any(is_sender)
    }

    /// From the port to the next one that is open; far away for another protocol.
    fn distance(&self, service: &Service) -> u32 {
        const OTHER_PROTOCOL: u32 = u32::MAX;
        let Some(port) = self.point.port else { return OTHER_PROTOCOL };
        let ranges = Transport::of_protocol(self.point.protocol)
            .and_then(|transport| service.ports.get(&transport));
        let of_range = |range: &std::ops::RangeInclusive<u16>| {
            u32::from(range.start().abs_diff(port).min(range.end().abs_diff(port)))
        };
        ranges.into_iter().flatten().map(of_range).min().unwrap_or(OTHER_PROTOCOL)
    }

    /// The sides of an allow in the words of a policy: tiers where there are any.
    fn sides(&self, policy: &Policy, question: &Question) -> Sides {
        let (own_address, peer_address) = self.addresses();
        let (own, peer) = match self.direction {
            Direction::Input => (&question.to, &question.from),
            Direction::Output => (&question.from, &question.to),
        };
        let acts = |tier: &&String| {
            let confined = self.role.auto && self.direction == Direction::Input;
            self.role.tiers.contains(*tier)
                && (!confined || Addresses::of_tier(&policy.tiers[*tier]).contains(own_address))
        };
        let asked = match own {
            Party::Tier(tier) => Some(tier).filter(acts),
            _ => None,
        };
        // Where tiers are addresses, a group is in none of them: only the allow of every server
        // lets it in.
        let is_group = match own_address {
            IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
            IpAddr::V6(address) => address.is_multicast(),
        };
        if is_group && self.direction == Direction::Input {
            let holding = tiers_of(policy, &[peer_address]);
            let from = smallest(policy, holding.iter()).cloned().into_iter().collect();
            return Sides::Named { from, to: vec!["*".to_owned()] };
        }
        let Some(own) = asked.or_else(|| smallest(policy, self.role.tiers.iter().filter(acts)))
        else {
            return Sides::NoTier(own_address);
        };
        let holding = tiers_of(policy, &[peer_address]);
        let peer = match peer {
            Party::Tier(tier) if holding.contains(tier) => vec![tier.clone()],
            _ => smallest(policy, holding.iter()).cloned().into_iter().collect(),
        };
        let own = vec![own.clone()];
        match self.direction {
            Direction::Input => Sides::Named { from: peer, to: own },
            Direction::Output => Sides::Named { from: own, to: peer },
        }
    }
}

/// The tier of fewest addresses: to be in it says most.
fn smallest<'t>(policy: &Policy, tiers: impl Iterator<Item = &'t String>) -> Option<&'t String> {
    tiers.min_by_key(|tier| {
        let members = policy.tiers.get(*tier).map(Addresses::of_tier).unwrap_or_default();
        members.count().unwrap_or(u64::MAX)
    })
}

/// Whether an endpoint names an address, which these tiers hold, as the other side.
fn names(side: &Endpoint, address: IpAddr, tiers: &BTreeSet<String>) -> bool {
    side.any
        || Addresses::of_literals(side).contains(address)
        || (side.every_server && !tiers.is_empty())
        || !tiers.is_disjoint(&side.tiers)
}
