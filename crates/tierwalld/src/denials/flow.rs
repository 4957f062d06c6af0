//! What tells one denial from another.

use netlink::{Headers, LoggedPacket};
use policy::{Mark, protocol_name};
use ruleset::Hook;
use std::fmt;
use std::net::IpAddr;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

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

/// What somebody wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Service {
    pub(crate) protocol: u8,
    /// The destination port, or the type of an ICMP message; none where the protocol has neither.
    pub(crate) detail: Option<u16>,
}

/// `tcp/22`, `icmp type 8`, `gre`
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The policy's first name for it is another one than people use.
        let name = match self.protocol {
            ICMPV6 => "icmpv6".to_owned(),
            protocol => protocol_name(protocol),
        };
        match (self.protocol, self.detail) {
            (_, None) => f.write_str(&name),
            (ICMP | ICMPV6, Some(kind)) => write!(f, "{name} type {kind}"),
            (_, Some(port)) => write!(f, "{name}/{port}"),
        }
    }
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
mod tests {
    use super::*;

    #[test]
    fn a_service_is_told_as_people_say_it() {
        let told = |protocol, detail| Service { protocol, detail }.to_string();
        assert_eq!(told(6, Some(22)), "tcp/22");
        assert_eq!(told(1, Some(8)), "icmp type 8");
        assert_eq!(told(58, Some(128)), "icmpv6 type 128");
        assert_eq!(told(47, None), "gre");
        assert_eq!(told(200, None), "200");
    }
}
