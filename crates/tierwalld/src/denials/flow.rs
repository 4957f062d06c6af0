//! What tells one denial from another.

use netlink::{Headers, LoggedPacket};
use policy::Mark;
use ruleset::Hook;
use std::net::IpAddr;

pub(crate) use policy::Wanted as Service;

/// Denials of the same kind, between the same two, by the same user: all but the source port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flow {
    /// The side, and what became of it.
    pub(crate) mark: Mark,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) service: Service,
    /// The user whose socket sent it; none on input, and of packets without a socket.
    pub(crate) user: Option<u32>,
    /// The index of the interface it came in by or goes out by.
    pub(crate) interface: u32,
}

/// A packet as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Denial {
    pub(crate) flow: Flow,
    /// The source port, or what an ICMP message has in place of one.
    pub(crate) port: u16,
}

impl Denial {
    /// Reads a packet that a rule logged. None where no rule of ours did, or it has no headers.
    pub(crate) fn of(packet: &LoggedPacket<'_>) -> Option<Self> {
        let mark = Mark::read(packet.prefix)?;
        let headers = packet.headers?;
        let Headers { source, destination, protocol, ports, icmp, icmp_id, .. } = headers;
        let kind = icmp.map(|(kind, _)| u16::from(kind));
        let detail = ports.map(|(_, destination)| destination).or(kind);
        let interface = if mark.hook == Hook::Output { packet.output } else { packet.input };
        let service = Service { protocol, detail };
        let user = packet.user;
        let flow = Flow { mark, source, destination, service, user, interface };
        Some(Self { flow, port: ports.map(|(source, _)| source).or(icmp_id).unwrap_or(0) })
    }
}

#[cfg(test)]
impl Flow {
    /// Some flow.
    pub(super) fn example() -> Self {
        Self {
            mark: Mark { hook: Hook::Input, fate: policy::Fate::Denied },
            source: [10, 0, 0, 1].into(),
            destination: [10, 0, 0, 9].into(),
            service: Service { protocol: 6, detail: Some(22) },
            user: None,
            interface: 2,
        }
    }
}
