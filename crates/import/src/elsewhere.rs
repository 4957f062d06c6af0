//! What an allow of one host opens on the others of a merged policy: it holds at both ends, and the
//! tables of the other end may have denied it.

use crate::condition::Direction;
use crate::entry::{Allow, Elsewhere, Entry};
use crate::hook::Hooks;
use crate::intervals::Intervals;
use crate::owner::Owner;
use crate::region::{Addresses, Region, width};
use crate::tier::Tier;
use ruleset::Family;

/// A host of the merged policy.
#[derive(Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) name: &'a str,
    pub(crate) hooks: &'a Hooks,
    pub(crate) entries: &'a [Entry],
    pub(crate) owner: &'a Owner,
}

impl Host<'_> {
    /// Its addresses. Anything might be one of those that nobody knows.
    fn ranges(&self, family: Family) -> Intervals {
        match self.owner.addresses.is_empty() {
            true => Intervals::all(width(family)),
            false => self.owner.ranges(family),
        }
    }

    /// What of `wanted`, which is of that direction as this host sees it, no allow of its own says.
    fn lacks(&self, wanted: Region, direction: Direction) -> bool {
        let side = self.hooks.sides.iter().find(|side| side.direction == direction);
        if side.is_none_or(|side| side.is_open) {
            return false;
        }
        let family = wanted.family;
        let mut rest = vec![wanted];
        let allows = self.entries.iter().filter_map(|entry| match entry {
            Entry::Allow(allow) if allow.direction == direction => Some(allow),
            _ => None,
        });
        for allow in allows {
            for (_, peer) in allow.peers.iter().filter(|(of, _)| *of == family) {
                let known = seen(direction, family, &peer.ranges, allow);
                rest = rest.iter().flat_map(|one| one.minus(&known).unwrap_or_default()).collect();
            }
        }
        !rest.is_empty()
    }
}

/// The packets of an allow between this server and such peers.
fn seen(direction: Direction, family: Family, peers: &Intervals, allow: &Allow) -> Region {
    let peers = Addresses { ranges: peers.clone(), set: None };
    let mut region = Region::all(family);
    match direction {
        Direction::Input => region.source = peers,
        Direction::Output => {
            region.target = peers;
            region.users = allow.users.clone();
        }
    }
    region.service = allow.service.clone();
    region
}

/// What an allow of the hosts of `group` opens on all others, and on each other. Who is in a tier that
/// it names, of `named`, acts on it: addresses and `any` bind nobody.
pub(crate) fn opened(
    allow: &Allow,
    named: &[&Tier],
    group: &[usize],
    hosts: &[Host<'_>],
) -> Elsewhere {
    let other = match allow.direction {
        Direction::Input => Direction::Output,
        Direction::Output => Direction::Input,
    };
    let is_in = |host: &Host<'_>, tier: &Tier| {
        Family::BOTH
            .into_iter()
            .any(|family| tier.ranges(family).intersects(&host.owner.ranges(family)))
    };
    let mut wider = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        if !named.iter().any(|tier| is_in(host, tier)) {
            continue;
        }
        let mut servers = group.iter().filter(|at| **at != index).filter_map(|at| hosts.get(*at));
        let is_new = servers.any(|server| {
            Family::BOTH.into_iter().any(|family| {
                // The policy opens it for all users of the other end.
                let wanted = Region {
                    users: Region::all(family).users,
                    ..seen(other, family, &server.ranges(family), allow)
                };
                !wanted.is_empty() && host.lacks(wanted, other)
            })
        });
        if is_new {
            wider.push(host.name.to_owned());
        }
    }
    match other {
        Direction::Output => Elsewhere { open: wider, accept: vec![] },
        Direction::Input => Elsewhere { open: vec![], accept: wider },
    }
}
