//! Raw sockets at both ends: sending with own IP headers, and hearing what got past the filter.
//!
//! The kernel hands packets to raw sockets after the input hook (`ip_local_deliver_finish`,
//! `ip6_protocol_deliver_rcu`): what such a socket hears, the firewall of its host let through.

use super::packet::{ICMP, ICMPV6, IGMP, Mark, Packet, TCP, UDP, UDPLITE};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use tierwall_tests::network::Host;

/// How long a packet may be under way. It takes microseconds, but for the first between two hosts
/// on a busy machine, which waits for neighbour discovery.
pub(crate) const ARRIVED: Duration = Duration::from_secs(15);

/// `IPPROTO_RAW`: the sender makes the IP header, of either family (raw(7)).
const HEADER_INCLUDED: i32 = 255;

/// What DHCPv6 servers and MLDv2 routers listen to, beside the groups that every host is in.
const GROUPS: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16)];

/// Sends `packet` from `host`, whatever its source address says.
pub(crate) fn send_from(host: &Host, packet: &Packet, mark: Mark) -> io::Result<()> {
    let domain = if packet.target.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let protocol = Protocol::from(HEADER_INCLUDED);
    let socket = host.namespace.run(|| Socket::new(domain, Type::RAW, Some(protocol)))?;
    if !host.addresses.contains(&packet.next_hop) {
        // For addresses that need to know their link.
        socket.bind_device(Some(b"eth0"))?;
    }
    if packet.target.is_ipv4() {
        socket.set_broadcast(true)?;
    }
    socket.send_to(&packet.bytes(mark), &SocketAddr::new(packet.next_hop, 0).into())?;
    Ok(())
}

/// A packet that was delivered, from its transport header on.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) protocol: u8,
    pub(crate) from: IpAddr,
    pub(crate) transport: Vec<u8>,
}

impl Heard {
    pub(crate) fn has(&self, mark: Mark) -> bool {
        self.transport.ends_with(&mark.0)
    }

    /// Whether it quotes the packet with that mark, as ICMP errors do.
    pub(crate) fn quotes(&self, mark: Mark) -> bool {
        self.transport.windows(mark.0.len()).any(|part| part == mark.0)
    }
}

/// Hears all TCP, UDP, UDPLITE, ICMP, IGMP and ICMPv6 that is delivered to a host.
#[derive(Debug)]
pub(crate) struct Ears {
    sockets: Vec<(u8, UdpSocket)>,
    heard: Vec<Heard>,
}

impl Ears {
    pub(crate) fn open(host: &Host) -> io::Result<Self> {
        let v4 = [ICMP, IGMP, TCP, UDP, UDPLITE].map(|protocol| (Domain::IPV4, protocol));
        let v6 = [ICMPV6, TCP, UDP, UDPLITE].map(|protocol| (Domain::IPV6, protocol));
        let sockets = host.namespace.run(|| {
            let interface = nix::net::if_::if_nametoindex("eth0")?;
            let open = |(domain, protocol): (Domain, u8)| -> io::Result<(u8, UdpSocket)> {
                let raw = Protocol::from(i32::from(protocol));
                let socket = Socket::new(domain, Type::RAW, Some(raw))?;
                socket.set_nonblocking(true)?;
                if protocol == ICMPV6 {
                    for group in &GROUPS {
                        socket.join_multicast_v6(group, interface)?;
                    }
                }
                Ok((protocol, socket.into()))
            };
            v4.into_iter().chain(v6).map(open).collect::<io::Result<_>>()
        })?;
        Ok(Self { sockets, heard: Vec::new() })
    }

    /// Waits until a packet is heard that `wanted` accepts; false after the limit.
    pub(crate) fn wait(&mut self, wanted: impl Fn(&Heard) -> bool) -> bool {
        let start = Instant::now();
        loop {
            let before = self.heard.len();
            self.collect();
            if self.heard.iter().any(&wanted) {
                return true;
            }
            let Some(left) = ARRIVED.checked_sub(start.elapsed()) else { return false };
            if self.heard.len() == before {
                let mut polled: Vec<PollFd<'_>> = self
                    .sockets
                    .iter()
                    .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
                    .collect();
                // Whatever wakes it, the sockets are asked again.
                let _ = poll(&mut polled, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
            }
        }
    }

    /// Everything that was delivered since the ears were opened, in the order of each protocol.
    pub(crate) fn heard(&mut self) -> &[Heard] {
        self.collect();
        &self.heard
    }

    fn collect(&mut self) {
        let mut buffer = [0; 65536];
        for (protocol, socket) in &self.sockets {
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => {
                        // A raw IPv4 socket gets the IP header too (raw(7)).
                        let header = match from {
                            SocketAddr::V4(_) => usize::from(buffer[0] & 0x0f) * 4,
                            SocketAddr::V6(_) => 0,
                        };
                        let transport = buffer[header.min(length)..length].to_vec();
                        self.heard.push(Heard { protocol: *protocol, from: from.ip(), transport });
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("can't hear protocol {protocol}: {error}"),
                }
            }
        }
    }
}
