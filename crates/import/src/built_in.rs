//! The traffic that tierwall lets through whatever the policy says (docs/traffic.md): rules of a
//! table that are about it need no allow.

use crate::condition::Direction;
use crate::intervals::Intervals;
use crate::region::{LOOPBACK, NETWORK, Region, protocol};
use ruleset::{Family, States};

/// Types of `compile/base.rs` in the policy crate, and what stands in docs/traffic.md.
const ICMP: [u128; 4] = [3, 8, 11, 12];
const ICMPV6: [u128; 13] = [1, 2, 3, 4, 128, 130, 131, 132, 133, 134, 135, 136, 143];

/// What rules about built-in traffic say, and how tierwall differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BuiltIn {
    /// What is different, if anything.
    pub(crate) differs: Option<&'static str>,
    /// Whether more new connections pass than by the rule.
    pub(crate) wider: bool,
}

const SAME: BuiltIn = BuiltIn { differs: None, wider: false };

fn differs(how: &'static str) -> BuiltIn {
    BuiltIn { differs: Some(how), wider: false }
}

fn wider(how: &'static str) -> BuiltIn {
    BuiltIn { differs: Some(how), wider: true }
}

/// Whether what is accepted here is accepted anyway.
pub(crate) fn accepted(region: &Region, direction: Direction) -> Option<BuiltIn> {
    if is_loopback(region) {
        return Some(SAME);
    }
    if !region.has_new() {
        let tracked = [States::ESTABLISHED, States::RELATED];
        let has_tracked = tracked.into_iter().any(|state| region.has_state(state));
        let has_more = region.has_state(States::INVALID) || region.has_state(States::UNTRACKED);
        return (has_tracked && !has_more).then(|| match is_narrow(region) {
            true => differs("tierwall accepts every established connection"),
            false => SAME,
        });
    }
    if region.is_icmp() {
        return icmp(region);
    }
    dhcp(region, direction)
}

/// Whether what is dropped here is dropped anyway: the invalid, and what can't come from a network.
pub(crate) fn dropped(region: &Region) -> bool {
    let only_invalid = !region.has_new()
        && !region.has_state(States::ESTABLISHED)
        && !region.has_state(States::RELATED);
    let network_only = !region.interface.intersects(&Intervals::range(LOOPBACK, LOOPBACK));
    only_invalid || (network_only && has_loopback_address(region)) || redirects(region)
}

/// Whether tierwall lets through what is dropped here.
pub(crate) fn passes_anyway(region: &Region) -> bool {
    let types = icmp_types(region.family);
    let is_tracked = !region.has_new()
        && (region.has_state(States::ESTABLISHED) || region.has_state(States::RELATED));
    is_tracked || (region.is_icmp() && region.service.intersects(&types))
}

fn is_loopback(region: &Region) -> bool {
    let network = Intervals::range(NETWORK, NETWORK);
    !region.interface.intersects(&network) || has_loopback_address(region)
}

/// Addresses that the kernel lets through the loopback interface only.
fn has_loopback_address(region: &Region) -> bool {
    let own = match region.family {
        Family::V4 => Intervals::range(0x7f00_0000, 0x7fff_ffff),
        Family::V6 => Intervals::range(1, 1),
    };
    let within = |ranges: &Intervals| !ranges.is_empty() && own.covers(ranges);
    within(&region.source.ranges) || within(&region.target.ranges)
}

/// Whether it asks for more than the state.
fn is_narrow(region: &Region) -> bool {
    let mut all = Region::all(region.family);
    all.states = region.states.clone();
    all.interface = region.interface.clone();
    *region != all
}

fn icmp_types(family: Family) -> Intervals {
    let (base, types): (u128, &[u128]) = match family {
        Family::V4 => (protocol(1).0, &ICMP),
        Family::V6 => (protocol(58).0, &ICMPV6),
    };
    Intervals::new(types.iter().map(|kind| (base | kind, base | kind)).collect())
}

fn redirects(region: &Region) -> bool {
    let redirects =
        Intervals::new(vec![(1 << 16 | 5, 1 << 16 | 5), (58 << 16 | 137, 58 << 16 | 137)]);
    redirects.covers(&region.service)
}

fn icmp(region: &Region) -> Option<BuiltIn> {
    let types = icmp_types(region.family);
    let foreign = match region.family {
        Family::V4 => protocol(58),
        Family::V6 => protocol(1),
    };
    // IPv4 has no ICMPv6 and the other way round: an allow of both protocols names both.
    let about = region.service.minus(&Intervals::new(vec![foreign]));
    if about.is_empty() {
        return Some(SAME);
    }
    // Echo replies belong to a connection that tracking knows.
    let replies = match region.family {
        Family::V4 => Intervals::range(protocol(1).0, protocol(1).0),
        Family::V6 => Intervals::range(protocol(58).0 | 129, protocol(58).0 | 129),
    };
    if !about.intersects(&types.union(&replies)) {
        return None;
    }
    let is_open = region.source.is_all(region.family) && region.target.is_all(region.family);
    let has_more = !types.union(&replies).covers(&about);
    let is_held = region.beyond.iter().any(|beyond| !beyond.is_hygiene);
    Some(match (is_open, has_more) {
        _ if is_held => wider("tierwall accepts the usual types without this condition"),
        (false, _) => wider("tierwall accepts the usual types from everyone"),
        (true, true) => differs("tierwall accepts the usual types, not all"),
        (true, false) => SAME,
    })
}

/// DHCP and DHCPv6 as a client.
fn dhcp(region: &Region, direction: Direction) -> Option<BuiltIn> {
    let port = |number: u128| 17 << 16 | number;
    let (v4, v6) = match direction {
        Direction::Input => ((67, 68), (547, 546)),
        Direction::Output => ((68, 67), (546, 547)),
    };
    let both = [v4, v6];
    let all = |side: fn(&(u128, u128)) -> u128| {
        Intervals::new(both.iter().map(|pair| (port(side(pair)), port(side(pair)))).collect())
    };
    let (clients, services) = (all(|pair| pair.0), all(|pair| pair.1));
    if !services.covers(&region.service) {
        return None;
    }
    let is_exact = clients.covers(&region.client);
    Some(match (is_exact, region.beyond.is_empty()) {
        (true, true) => SAME,
        (true, false) => wider("tierwall accepts it without this condition"),
        (false, _) => differs("tierwall accepts it between DHCP's own ports only"),
    })
}
