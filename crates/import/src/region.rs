//! What a rule matches, as a box: a set of values for each thing that an allow or the built-in
//! traffic can name.
//!
//! Boxes are of one address family. They can be intersected and, exactly, subtracted from each
//! other: so a drop in front of an accept is taken into account and not guessed at. What can't be
//! told by a box is kept beside it in words ([`Region::beyond`]): such a region is smaller than its
//! box, and nobody knows where.

use crate::intervals::Intervals;
use ruleset::{Family, States, Transport};
use std::collections::BTreeSet;

/// Protocol and port, or ICMP type, in one number: the protocol above 16 bits.
pub(crate) const SERVICES: u128 = 0xff_ffff;
/// User ids, and above 32 bits names that are none.
pub(crate) const USERS: u128 = 0xff_ffff_ffff;
/// Connection states, by the number of their bit (`NF_CT_STATE_BIT`).
pub(crate) const STATES: u128 = 6;

/// The packets of one protocol, whatever their ports.
pub(crate) fn protocol(protocol: u8) -> (u128, u128) {
    let first = u128::from(protocol) << 16;
    (first, first | 0xffff)
}

/// Everything but what comes over the loopback interface.
pub(crate) const NETWORK: u128 = 1;
/// The loopback interface.
pub(crate) const LOOPBACK: u128 = 0;

/// Addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Addresses {
    pub(crate) ranges: Intervals,
    /// The set that they are the members of, or, negated, that they aren't the members of.
    pub(crate) set: Option<(String, bool)>,
}

pub(crate) fn width(family: Family) -> u128 {
    match family {
        Family::V4 => u32::MAX.into(),
        Family::V6 => u128::MAX,
    }
}

impl Addresses {
    pub(crate) fn all(family: Family) -> Self {
        Self { ranges: Intervals::all(width(family)), set: None }
    }

    pub(crate) fn is_all(&self, family: Family) -> bool {
        self.set.is_none() && self.ranges == Intervals::all(width(family))
    }

    /// Whether they are all of groups (multicast), or the broadcast address.
    pub(crate) fn is_group(&self, family: Family) -> bool {
        let groups = match family {
            Family::V4 => {
                Intervals::new(vec![(0xe000_0000, 0xefff_ffff), (0xffff_ffff, 0xffff_ffff)])
            }
            Family::V6 => Intervals::range(0xff << 120, u128::MAX),
        };
        !self.ranges.is_empty() && groups.covers(&self.ranges)
    }

    /// Whether this is the complement of a set, which changes while the policy doesn't.
    pub(crate) fn is_complement_of_set(&self) -> bool {
        matches!(self.set, Some((_, true)))
    }

    fn intersection(&self, other: &Self, family: Family) -> Self {
        if other.is_all(family) || self == other {
            return self.clone();
        }
        if self.is_all(family) {
            return other.clone();
        }
        if self.is_opposite(other) {
            return Self { ranges: Intervals::default(), set: None };
        }
        Self { ranges: self.ranges.intersection(&other.ranges), set: None }
    }

    fn minus(&self, other: &Self, family: Family) -> Self {
        if let (true, Some((name, negated))) = (self.is_all(family), &other.set) {
            let ranges = self.ranges.minus(&other.ranges);
            return Self { ranges, set: Some((name.clone(), !negated)) };
        }
        if self.is_opposite(other) || !self.intersects(other) {
            return self.clone();
        }
        Self { ranges: self.ranges.minus(&other.ranges), set: None }
    }

    /// Whether what is left without the members of a set would change with the set.
    fn is_wider_than_set(&self, other: &Self) -> bool {
        matches!(other.set, Some((_, false))) && self != other
    }

    fn is_opposite(&self, other: &Self) -> bool {
        match (&self.set, &other.set) {
            (Some((one, a)), Some((two, b))) => one == two && a != b,
            _ => false,
        }
    }

    /// A set that is empty now may have members tomorrow.
    fn is_empty(&self) -> bool {
        self.ranges.is_empty() && self.set.is_none()
    }

    fn intersects(&self, other: &Self) -> bool {
        let will = |one: &Self| one.ranges.is_empty() && one.set.is_some();
        !self.is_opposite(other)
            && (self.ranges.intersects(&other.ranges) || will(self) || will(other))
    }

    fn covers(&self, other: &Self) -> bool {
        self == other || (!self.is_empty() && self.ranges.covers(&other.ranges))
    }
}

/// A condition that no box can say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Beyond {
    /// The condition in nft's words.
    pub(crate) what: String,
    /// Why a policy can't say it.
    pub(crate) why: &'static str,
    /// Whether it picks out packets that no sound program sends, or that the kernel or connection
    /// tracking sees to.
    pub(crate) is_hygiene: bool,
}

/// What a rule matches in one address family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Region {
    pub(crate) family: Family,
    pub(crate) source: Addresses,
    pub(crate) target: Addresses,
    /// Protocols with destination ports or ICMP types: see [`SERVICES`].
    pub(crate) service: Intervals,
    /// Protocols with source ports.
    pub(crate) client: Intervals,
    pub(crate) users: Intervals,
    /// Bits of connection states, by their numbers.
    pub(crate) states: Intervals,
    /// [`LOOPBACK`] and [`NETWORK`].
    pub(crate) interface: Intervals,
    pub(crate) beyond: BTreeSet<Beyond>,
}

/// The things that regions differ in, family and words aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Target,
    Service,
    Client,
    Users,
    States,
    Interface,
}

const SIDES: [Side; 7] = [
    Side::Interface,
    Side::States,
    Side::Users,
    Side::Client,
    Side::Service,
    Side::Source,
    Side::Target,
];

impl Region {
    pub(crate) fn all(family: Family) -> Self {
        Self {
            family,
            source: Addresses::all(family),
            target: Addresses::all(family),
            service: Intervals::all(SERVICES),
            client: Intervals::all(SERVICES),
            users: Intervals::all(USERS),
            states: Intervals::all(STATES),
            interface: Intervals::all(NETWORK),
            beyond: BTreeSet::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        SIDES.into_iter().any(|side| match side {
            Side::Source => self.source.is_empty(),
            Side::Target => self.target.is_empty(),
            side => self.numbers(side).is_empty(),
        })
    }

    fn numbers(&self, side: Side) -> &Intervals {
        match side {
            Side::Source => &self.source.ranges,
            Side::Target => &self.target.ranges,
            Side::Service => &self.service,
            Side::Client => &self.client,
            Side::Users => &self.users,
            Side::States => &self.states,
            Side::Interface => &self.interface,
        }
    }

    fn numbers_mut(&mut self, side: Side) -> &mut Intervals {
        match side {
            Side::Source => &mut self.source.ranges,
            Side::Target => &mut self.target.ranges,
            Side::Service => &mut self.service,
            Side::Client => &mut self.client,
            Side::Users => &mut self.users,
            Side::States => &mut self.states,
            Side::Interface => &mut self.interface,
        }
    }

    /// The packets of both; none where there surely are none.
    pub(crate) fn intersection(&self, other: &Self) -> Option<Self> {
        if self.family != other.family {
            return None;
        }
        let mut both = self.clone();
        for side in SIDES {
            both.narrow(side, other);
        }
        both.beyond.extend(other.beyond.iter().cloned());
        (!both.is_empty()).then_some(both)
    }

    fn narrow(&mut self, side: Side, other: &Self) {
        match side {
            Side::Source => self.source = self.source.intersection(&other.source, self.family),
            Side::Target => self.target = self.target.intersection(&other.target, self.family),
            side => {
                let common = self.numbers(side).intersection(other.numbers(side));
                *self.numbers_mut(side) = common;
            }
        }
    }

    fn covers_side(&self, side: Side, other: &Self) -> bool {
        match side {
            Side::Source => self.source.covers(&other.source),
            Side::Target => self.target.covers(&other.target),
            side => self.numbers(side).covers(other.numbers(side)),
        }
    }

    /// Whether no packet is in both, as far as boxes tell.
    pub(crate) fn is_disjoint(&self, other: &Self) -> bool {
        self.family != other.family
            || SIDES.into_iter().any(|side| match side {
                Side::Source => !self.source.intersects(&other.source),
                Side::Target => !self.target.intersects(&other.target),
                side => !self.numbers(side).intersects(other.numbers(side)),
            })
    }

    /// The packets of this that aren't in `other`: regions that share none. None where that can't
    /// be told in boxes.
    pub(crate) fn minus(&self, other: &Self) -> Option<Vec<Self>> {
        if self.is_disjoint(other) {
            return Some(vec![self.clone()]);
        }
        if !other.beyond.is_empty()
            || self.source.is_wider_than_set(&other.source)
            || self.target.is_wider_than_set(&other.target)
        {
            return None;
        }
        let mut rest = Vec::new();
        let mut inside = self.clone();
        for side in SIDES {
            if other.covers_side(side, &inside) {
                continue;
            }
            let mut outside = inside.clone();
            match side {
                Side::Source => {
                    outside.source = inside.source.minus(&other.source, self.family);
                }
                Side::Target => {
                    outside.target = inside.target.minus(&other.target, self.family);
                }
                side => {
                    let left = inside.numbers(side).minus(other.numbers(side));
                    *outside.numbers_mut(side) = left;
                }
            }
            if !outside.is_empty() {
                rest.push(outside);
            }
            inside.narrow(side, other);
        }
        Some(rest)
    }

    /// Whether packets of new connections are in it.
    pub(crate) fn has_new(&self) -> bool {
        self.has_state(States::NEW)
    }

    pub(crate) fn has_state(&self, state: States) -> bool {
        self.states.intersects(&states(state))
    }

    /// Whether any source port will do.
    pub(crate) fn has_any_client(&self) -> bool {
        self.client.covers(&protocols_of(&self.service))
    }

    /// Whether it is about ICMP or ICMPv6 only.
    pub(crate) fn is_icmp(&self) -> bool {
        Intervals::new(vec![protocol(1), protocol(58)]).covers(&self.service)
    }
}

/// The states of a mask, by number of their bit.
pub(crate) fn states(mask: States) -> Intervals {
    let bits = (0..7).filter(|bit| mask.0 & (1 << bit) != 0);
    Intervals::new(bits.map(|bit| (bit, bit)).collect())
}

/// A destination or source port of one transport, or of each.
pub(crate) fn ports(transport: Option<Transport>, ports: &Intervals) -> Intervals {
    let transports = Transport::ALL.into_iter().filter(|one| transport.is_none_or(|t| t == *one));
    let of = |transport: Transport| {
        let base = u128::from(transport.protocol()) << 16;
        ports.ranges().iter().map(move |(first, last)| (base | first, base | last))
    };
    Intervals::new(transports.flat_map(of).collect())
}

/// All packets of the protocols that are named in `services`.
pub(crate) fn protocols_of(services: &Intervals) -> Intervals {
    let spans = services.ranges().iter().map(|(first, last)| (first & !0xffff, last | 0xffff));
    Intervals::new(spans.collect())
}
