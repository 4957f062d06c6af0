//! What connection tracking calls a packet: as much of it as the packets of this test need.
//!
//! The state of a packet is an input of the evaluator, so the test has to know it beforehand. Each
//! exchange has ports of its own, so that only protocols without ports meet entries of others.

use crate::exchange::{Sending, UNTRACKED};
use crate::packet::{ACK, ICMP, ICMPV6, Packet, SYN, TCP};
use ruleset::States;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Requests that begin a connection (`nf_conntrack_icmp_packet`, `icmp_valid_new`): echo,
/// timestamp, information, address mask.
const ICMP_REQUESTS: [u8; 4] = [8, 13, 15, 17];
/// Echo and node information (`nf_conntrack_icmpv6_packet`, `valid_new`).
const ICMPV6_REQUESTS: [u8; 2] = [128, 139];
/// Multicast listeners and neighbour discovery are never tracked (`noct_valid_new`).
const ICMPV6_UNTRACKED: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tuple {
    protocol: u8,
    source: (IpAddr, u16),
    target: (IpAddr, u16),
}

impl Tuple {
    fn of(packet: &Packet) -> Self {
        let (from, to) = packet.ports().unwrap_or_default();
        let (source, target) = ((packet.source, from), (packet.target, to));
        Self { protocol: packet.protocol(), source, target }
    }

    fn reversed(self) -> Self {
        Self { source: self.target, target: self.source, ..self }
    }
}

/// The connections of a namespace, and whether each was answered.
#[derive(Debug, Default)]
pub(crate) struct Tracking {
    connections: BTreeMap<Tuple, bool>,
}

impl Tracking {
    /// The state of the packet, before any filter sees it.
    pub(crate) fn state(&mut self, sending: &Sending) -> States {
        let packet = &sending.packet;
        let kind = packet.content.header[0];
        let is_icmp = [ICMP, ICMPV6].contains(&packet.protocol());
        if packet.dscp == UNTRACKED
            || packet.protocol() == ICMPV6 && ICMPV6_UNTRACKED.contains(&kind)
        {
            return States::UNTRACKED;
        }
        if packet.broken {
            return States::INVALID;
        }
        if let Some(about) = &sending.about {
            let tuple = Tuple::of(about);
            let known = [tuple, tuple.reversed()].iter().any(|t| self.connections.contains_key(t));
            return if known { States::RELATED } else { States::INVALID };
        }
        if is_icmp {
            // Every request has an identifier of its own, and none is answered by a packet of ours.
            let requests: &[u8] =
                if packet.protocol() == ICMP { &ICMP_REQUESTS } else { &ICMPV6_REQUESTS };
            return if requests.contains(&kind) { States::NEW } else { States::INVALID };
        }
        if packet.protocol() == TCP && ![SYN, ACK].contains(&packet.content.header[13]) {
            return States::INVALID;
        }
        self.lookup(Tuple::of(packet))
    }

    fn lookup(&mut self, tuple: Tuple) -> States {
        if let Some(answered) = self.connections.get(&tuple) {
            return if *answered { States::ESTABLISHED } else { States::NEW };
        }
        match self.connections.get_mut(&tuple.reversed()) {
            Some(answered) => {
                *answered = true;
                States::ESTABLISHED
            }
            None => States::NEW,
        }
    }

    /// Whether the packet goes against the direction in which its connection began.
    pub(crate) fn is_reply(&self, packet: &Packet) -> bool {
        let tuple = Tuple::of(packet);
        !self.connections.contains_key(&tuple) && self.connections.contains_key(&tuple.reversed())
    }

    /// A packet in that state got through: from now on its connection is known.
    pub(crate) fn passed(&mut self, packet: &Packet, state: States) {
        if state == States::NEW && ![ICMP, ICMPV6].contains(&packet.protocol()) {
            self.connections.entry(Tuple::of(packet)).or_insert(false);
        }
    }
}
