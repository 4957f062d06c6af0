//! Denials sorted: what passes by now, what no allow can say, and flows that an allow can be
//! written for.
//!
//! What passes by now is what the compiled table lets through ([`Judge`]): the policy isn't read a
//! second time here.

use super::place::{Place, Places};
use super::{Denial, Doubt, Evidence, Reason, Unsayable};
use crate::compile::{Host, compile};
use crate::explain::Server;
use crate::judge::Judge;
use crate::mark::Fate;
use crate::model::Policy;
use crate::protocol;
use crate::reach::Direction;
use crate::service_set::Point;
use crate::wanted::Wanted;
use ruleset::evaluate::Packet;
use ruleset::{Hook, Transport};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Services that one address may try, or be tried on, before that looks like a scan.
pub const SCAN: usize = 16;

/// The port that the sender's side of a connection has here. Of what opens a connection, tables ask
/// for a source port only if it is DHCP's or that of a UDP service, which may speak first.
const SOURCE_PORT: u16 = 49_152;

/// What can be allowed, in the words of the policy.
pub(super) struct Flow {
    pub(super) direction: Direction,
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) point: Point,
    pub(super) user: Option<u32>,
    pub(super) doubt: Doubt,
    pub(super) evidence: Evidence,
}

#[derive(Default)]
pub(super) struct Sorted {
    pub(super) flows: Vec<Flow>,
    pub(super) unsayable: Vec<Unsayable>,
    pub(super) passing: Option<Evidence>,
}

/// The side of an allow that a chain is about; none of what is forwarded.
pub(super) fn direction(hook: Hook) -> Option<Direction> {
    match hook {
        Hook::Input => Some(Direction::Input),
        Hook::Output => Some(Direction::Output),
        Hook::Forward | Hook::Other(_) => None,
    }
}

pub(super) fn sort(
    policy: &Policy,
    server: &Server,
    users: &BTreeMap<String, u32>,
    denials: &[Denial],
) -> Sorted {
    let table = compile(policy, Host { role: &server.role, users, previous: None });
    let judge = Judge::new(policy, &table);
    let places = Places::new(policy);
    let mut sorted = Sorted::default();
    let mut unsayable: BTreeMap<(Reason, Wanted), Evidence> = BTreeMap::new();
    for denial in denials {
        if passes(&judge, server, denial) {
            sorted.passing.get_or_insert_default().add(&Evidence::of(denial));
            continue;
        }
        match flow(server, &places, denial) {
            Ok(flow) => sorted.flows.push(flow),
            Err(reason) => {
                unsayable.entry((reason, denial.wanted)).or_default().add(&Evidence::of(denial));
            }
        }
    }
    doubt_scans(&mut sorted.flows);
    let unsayable = unsayable.into_iter();
    sorted.unsayable = unsayable
        .map(|((reason, wanted), evidence)| Unsayable { reason, wanted, evidence })
        .collect();
    sorted.unsayable.sort_by_key(|unsayable| Reverse(unsayable.evidence.connections()));
    sorted
}

/// Whether the table lets such a connection through, and not only since its side observes.
fn passes(judge: &Judge<'_>, server: &Server, denial: &Denial) -> bool {
    let Denial { mark, source, destination, wanted, user, .. } = *denial;
    if !matches!(mark.fate, Fate::Denied | Fate::WouldDeny) {
        return false;
    }
    let ports = Transport::of_protocol(wanted.protocol).and(wanted.detail);
    let packet = Packet {
        ports: ports.map(|port| (SOURCE_PORT, port)),
        icmp_type: wanted.detail.filter(|_| wanted.is_icmp()).and_then(|kind| kind.try_into().ok()),
        user: user.filter(|_| mark.hook == Hook::Output),
        is_from_own: mark.hook == Hook::Input && server.addresses.contains(source),
        ..Packet::first(mark.hook, source, destination, wanted.protocol)
    };
    let ruling = judge.rule_on(&packet);
    !ruling.is_denied() && !ruling.would_be_denied()
}

/// A denial in the words of the policy.
fn flow(server: &Server, places: &Places<'_>, denial: &Denial) -> Result<Flow, Reason> {
    let direction = direction(denial.mark.hook).ok_or(Reason::Forwarded)?;
    if matches!(denial.mark.fate, Fate::Invalid | Fate::WouldDropInvalid) {
        return Err(Reason::Invalid);
    }
    let is_mapped = |address: IpAddr| address.to_canonical() != address;
    if is_mapped(denial.source) || is_mapped(denial.destination) {
        return Err(Reason::Mapped);
    }
    let point = point(denial.wanted)?;
    let (own, peer) = match direction {
        Direction::Input => (denial.destination, denial.source),
        Direction::Output => (denial.source, denial.destination),
    };
    if direction == Direction::Input && server.addresses.contains(peer) {
        return Err(Reason::Own);
    }
    let own = places.own(server, direction, own).ok_or(Reason::NoTier)?;
    let (peer, also) = places.peer(peer);
    let is_stranger = direction == Direction::Input && matches!(peer, Place::Address(_));
    let mut evidence = Evidence::of(denial);
    evidence.also.extend(also);
    let (from, to, user) = match direction {
        Direction::Input => (peer, own, None),
        Direction::Output => (own, peer, denial.user),
    };
    let doubt = Doubt { stranger: is_stranger, scan: false };
    Ok(Flow { direction, from, to, point, user, doubt, evidence })
}

/// What an allow names of it.
fn point(wanted: Wanted) -> Result<Point, Reason> {
    let Wanted { protocol, detail } = wanted;
    if wanted.is_icmp() {
        return Err(Reason::IcmpType);
    }
    if Transport::of_protocol(protocol).is_some() {
        let port = detail.filter(|port| *port > 0).ok_or(Reason::NoPort)?;
        return Ok(Point { protocol, port: Some(port) });
    }
    protocol::service_word(protocol).ok_or(Reason::NoWord)?;
    Ok(Point { protocol, port: None })
}

/// Marks what was tried by an address that tried a great many services, or was tried on them.
fn doubt_scans(flows: &mut [Flow]) {
    let mut tried: BTreeMap<(Direction, IpAddr), BTreeSet<Point>> = BTreeMap::new();
    for flow in flows.iter() {
        for peer in peers(flow) {
            tried.entry((flow.direction, peer)).or_default().insert(flow.point);
        }
    }
    for flow in flows {
        let many = |peer| tried.get(&(flow.direction, peer)).is_some_and(|all| all.len() > SCAN);
        flow.doubt.scan = peers(flow).any(many);
    }
}

/// The other side's address, of which a flow has one.
fn peers(flow: &Flow) -> impl Iterator<Item = IpAddr> + use<> {
    let peers = match flow.direction {
        Direction::Input => &flow.evidence.sources,
        Direction::Output => &flow.evidence.destinations,
    };
    peers.clone().into_iter()
}
