//! Random packets, and short exchanges of them: the first, what comes back, and what follows.

use crate::aim::Aim;
use crate::packet::Path::{self, In, Out, Through, Within};
use crate::packet::{
    ACK, Checksum, Content, DCCP, FIN, Packet, RST, SYN, TCP, UDP, UDPLITE, error, headless, icmp,
    icmpv6, other, sctp_init, tcp, udp,
};
use crate::world::random::Random;
use policy::{Policy, Role};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The code point of packets that connection tracking is told not to see. Errors about such a
/// packet have another one, since the kernel adds precedence bits (`icmp_pointers`).
pub(crate) const UNTRACKED: u8 = 1;

/// Whose programs send: some are named in policies.
pub(crate) const USERS: [u32; 5] = [0, 1000, 65534, 4_294_967_294, 77];

/// A protocol for experiments (RFC 3692), which nothing in the kernel knows.
pub(crate) const EXPERIMENTAL: u8 = 253;
pub(crate) const GRE: u8 = 47;
pub(crate) const ESP: u8 = 50;

/// The server's addresses: tiers may hold the first two of each family.
pub(crate) const OWN_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 20), Ipv4Addr::new(192, 0, 2, 1)];
pub(crate) const OWN_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x14),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
];

/// In no tier but those that hold nearly everything.
const OUTSIDE_V4: [Ipv4Addr; 4] = [
    Ipv4Addr::new(203, 0, 113, 7),
    Ipv4Addr::new(10, 0, 1, 5),
    Ipv4Addr::new(128, 0, 0, 9),
    Ipv4Addr::new(223, 255, 255, 254),
];
const OUTSIDE_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77),
    Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 1),
    Ipv6Addr::new(0x9000, 0, 0, 0, 0, 0, 0, 1),
];

/// The server's link-local address, to which DHCPv6 answers go, and another one.
pub(crate) const OWN_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x98);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);

/// A packet and who sends it.
#[derive(Debug, Clone)]
pub(crate) struct Sending {
    pub(crate) packet: Packet,
    /// Whose program, on the server.
    pub(crate) user: u32,
    /// Whether an ordinary socket sends it, and not a raw one.
    pub(crate) socket: bool,
    /// What it is an error about.
    pub(crate) about: Option<Packet>,
}

/// Packets that are sent one after the other.
pub(crate) type Exchange = Vec<Sending>;

/// Makes exchanges.
#[derive(Debug)]
pub(crate) struct Exchanges<'r> {
    random: &'r mut Random,
    policy: &'r Policy,
    role: &'r Role,
    /// Source ports and identifiers, none twice.
    next: u16,
}

impl<'r> Exchanges<'r> {
    /// Some of them such as the policy names.
    pub(crate) fn new(random: &'r mut Random, policy: &'r Policy, role: &'r Role) -> Self {
        // Below the range from which the kernel takes ports for others.
        Self { random, policy, role, next: 20_000 }
    }

    pub(crate) fn exchange(&mut self) -> Exchange {
        let is_v4 = self.random.percent(60);
        match self.random.below(20) {
            0..=2 => self.conversation(is_v4),
            3 | 4 => self.error_about_something(is_v4),
            5 => vec![self.dhcp(is_v4)],
            6..=12 => match self.aimed(is_v4) {
                Some(sending) => vec![sending],
                None => vec![self.single(is_v4)],
            },
            13 => match (0..4).find_map(|_| self.forgotten(is_v4)) {
                Some(sending) => vec![sending],
                None => vec![self.single(is_v4)],
            },
            14 => (0..8).find_map(|_| self.flow(is_v4)).unwrap_or_else(|| vec![self.single(is_v4)]),
            _ => vec![self.single(is_v4)],
        }
    }

    fn number(&mut self) -> u16 {
        self.next += 1;
        self.next
    }

    /// One that policies name, mostly.
    fn port(&mut self) -> u16 {
        match self.random.below(10) {
            0 => self.random.pick(&[22, 65534, 65535]),
            _ => 1 + self.random.below(8) as u16,
        }
    }

    fn own(&mut self, is_v4: bool) -> IpAddr {
        match is_v4 {
            true => self.random.pick(&OWN_V4).into(),
            false => self.random.pick(&OWN_V6).into(),
        }
    }

    /// Somebody else.
    fn stranger(&mut self, is_v4: bool) -> IpAddr {
        loop {
            let near = self.random.below(90);
            let address: IpAddr = match (is_v4, self.random.percent(85)) {
                (true, true) => Ipv4Addr::new(10, 0, 0, near as u8).into(),
                (false, true) => Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, near as u16).into(),
                (true, false) => self.random.pick(&OUTSIDE_V4).into(),
                (false, false) => self.random.pick(&OUTSIDE_V6).into(),
            };
            if !is_own(address) {
                return address;
            }
        }
    }

    /// Whom the server routes to.
    fn beyond(&mut self, is_v4: bool) -> IpAddr {
        let host = 1 + self.random.below(90) as u8;
        match is_v4 {
            true => Ipv4Addr::new(172, 16, 0, host).into(),
            false => Ipv6Addr::new(0xfd01, 0, 0, 0, 0, 0, 0, host.into()).into(),
        }
    }

    fn ends(&mut self, path: Path, is_v4: bool) -> (IpAddr, IpAddr) {
        match path {
            In => (self.stranger(is_v4), self.own(is_v4)),
            Through => (self.stranger(is_v4), self.beyond(is_v4)),
            Out => (self.own(is_v4), self.stranger(is_v4)),
            Within => loop {
                let (source, target) = (self.own(is_v4), self.own(is_v4));
                if source != target {
                    break (source, target);
                }
            },
        }
    }

    fn sending(&mut self, packet: Packet) -> Sending {
        let user = self.random.pick(&USERS);
        Sending { packet, user, socket: false, about: None }
    }

    fn single(&mut self, is_v4: bool) -> Sending {
        let path = self.random.pick(&[In, In, In, In, Out, Out, Out, Out, Within, Through]);
        let (mut source, target) = self.ends(path, is_v4);
        let (from, to) = (self.number(), self.port());
        let is_own = path == Out && self.random.percent(90);
        if path == Out && !is_own {
            // Programs with the right to may send from any address.
            source = self.stranger(is_v4);
        }
        // Of IPv4 the kernel drops these by itself.
        if path == In && !is_v4 && self.random.percent(5) {
            source = self.own(is_v4);
        }
        let between = |content| Packet::between(path, source, target, content);
        let kind = self.random.below(100);
        if (70..85).contains(&kind) {
            return self.icmp(path, source, target);
        }
        let content = match kind {
            0..=29 => tcp(from, to, SYN),
            30..=33 => tcp(from, to, ACK),
            34..=39 => tcp(from, to, self.random.pick(&[RST, FIN, SYN | ACK, SYN | FIN, 0])),
            40..=61 => udp(from, to),
            62..=64 => sctp_init(from, to),
            65..=69 => self.portless(is_v4),
            85..=92 => {
                let content = match self.random.below(4) {
                    0 => tcp(from, to, RST),
                    1 => headless(UDPLITE, from, to),
                    2 if is_v4 => other(EXPERIMENTAL, Checksum::Internet(2)),
                    _ => headless(DCCP, from, to),
                };
                let packet = between(content).dscp(UNTRACKED);
                return self.sending(packet);
            }
            // The checksum is looked at where a packet comes in.
            93..=96 if path == In => {
                let content =
                    if kind.is_multiple_of(2) { tcp(from, to, SYN) } else { udp(from, to) };
                let packet = between(content).broken();
                return self.sending(packet);
            }
            _ => udp(from, to),
        };
        let mut packet = between(content);
        let socket = is_own && matches!(kind, 0..=29 | 40..=61) && self.random.percent(60);
        if !is_v4 && !socket && self.random.percent(15) {
            packet = packet.behind_hop_by_hop();
        }
        Sending { socket, ..self.sending(packet) }
    }

    /// What some allow names, or nearly so.
    fn aimed(&mut self, is_v4: bool) -> Option<Sending> {
        let path = self.random.pick(&[In, Out]);
        let port = self.number();
        let aim = Aim::random(self.random, (self.policy, self.role), (path, is_v4), port)?;
        let own = self.own(is_v4);
        if is_own(aim.peer) {
            return None;
        }
        let (source, target) = if path == In { (aim.peer, own) } else { (own, aim.peer) };
        let mut packet = Packet::between(path, source, target, aim.content);
        if [DCCP, UDPLITE].contains(&packet.protocol()) {
            // Not every kernel knows their connections.
            packet = packet.dscp(UNTRACKED);
        }
        let is_common = [TCP, UDP].contains(&packet.protocol());
        let socket = path == Out && is_common && self.random.percent(60);
        Some(Sending { packet, user: aim.user, socket, about: None })
    }

    /// What goes the other way than what an allow names: within a connection that nobody knows.
    fn forgotten(&mut self, is_v4: bool) -> Option<Sending> {
        let (path, back) = self.random.pick(&[(In, Out), (Out, In)]);
        let port = self.number();
        let aim = Aim::random(self.random, (self.policy, self.role), (path, is_v4), port)?;
        let own = self.own(is_v4);
        let there = Packet::between(path, own, aim.peer, aim.content);
        let (from, to) = there.ports().filter(|_| !is_own(aim.peer))?;
        let content = match there.protocol() {
            TCP => tcp(to, from, if self.random.percent(80) { ACK } else { SYN }),
            UDP => udp(to, from),
            _ => return None,
        };
        let (source, target) = if back == In { (aim.peer, own) } else { (own, aim.peer) };
        Some(self.sending(Packet::between(back, source, target, content)))
    }

    /// A datagram that an allow names, its answer, and the same from another user perhaps.
    fn flow(&mut self, is_v4: bool) -> Option<Exchange> {
        let port = self.number();
        let aim = Aim::random(self.random, (self.policy, self.role), (Out, is_v4), port)?;
        let own = self.own(is_v4);
        let first = Packet::between(Out, own, aim.peer, aim.content);
        let (from, to) = first.ports().filter(|_| first.protocol() == UDP && !is_own(aim.peer))?;
        let answer = Packet::between(In, aim.peer, own, udp(to, from));
        let sending = Sending { user: aim.user, ..self.sending(first.clone()) };
        Some(vec![sending, self.sending(answer), self.sending(first)])
    }

    fn portless(&mut self, is_v4: bool) -> Content {
        match self.random.below(3) {
            0 => other(GRE, Checksum::None),
            1 if is_v4 => other(EXPERIMENTAL, Checksum::Internet(2)),
            _ => other(ESP, Checksum::None),
        }
    }

    /// ICMP of any type; what is an error is one about a packet that nobody sent.
    fn icmp(&mut self, path: Path, source: IpAddr, target: IpAddr) -> Sending {
        const V4: [u8; 18] = [0, 3, 4, 5, 8, 8, 8, 9, 10, 11, 12, 13, 13, 14, 15, 17, 18, 30];
        const V6: [u8; 24] = [
            1, 2, 3, 4, 100, 127, 128, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 139, 139,
            140, 143, 144, 200, 255,
        ];
        let is_v4 = source.is_ipv4();
        let kind = if is_v4 { self.random.pick(&V4) } else { self.random.pick(&V6) };
        let is_error = if is_v4 { matches!(kind, 3..=5 | 11 | 12) } else { kind < 128 };
        let identifier = self.number();
        if is_error {
            let never = Packet::between(path, target, source, udp(identifier, 9));
            return self.error(kind, path, (source, target), never);
        }
        // Long enough for whatever the type has: the identifier, or a neighbour's address.
        let body = [&identifier.to_be_bytes(), [0; 18].as_slice()].concat();
        let content = if is_v4 { icmp(kind, 0, &body) } else { icmpv6(kind, 0, &body) };
        let mut packet = Packet::between(path, source, target, content);
        if self.random.percent(50) {
            packet = packet.hops(255);
        }
        if !is_v4 && self.random.percent(20) {
            packet = packet.behind_hop_by_hop();
        }
        self.sending(packet)
    }

    fn error(&mut self, kind: u8, path: Path, ends: (IpAddr, IpAddr), about: Packet) -> Sending {
        let packet = Packet::between(path, ends.0, ends.1, error(kind, 0, &about));
        Sending { about: Some(about), ..self.sending(packet) }
    }

    /// There, back, and there again.
    fn conversation(&mut self, is_v4: bool) -> Exchange {
        let path = self.random.pick(&[In, Out, Within]);
        let (source, target) = self.ends(path, is_v4);
        let (from, to) = (self.number(), self.port());
        let back = match path {
            In => Out,
            Out => In,
            other => other,
        };
        // A bare acknowledgement is taken for that of an older connection. The server answers one
        // with a reset, which ends it.
        let (there, answer) = match self.random.below(4) {
            0 | 1 => (udp(from, to), udp(to, from)),
            2 if path == Out => (tcp(from, to, ACK), tcp(to, from, ACK)),
            _ => {
                let content = self.portless(is_v4);
                (content.clone(), content)
            }
        };
        let ends_early = there.protocol == TCP;
        let first = Packet::between(path, source, target, there);
        let mut exchange = vec![self.sending(first.clone())];
        let answer = Packet::between(back, target, source, answer);
        exchange.push(self.sending(answer));
        if !ends_early {
            exchange.push(self.sending(first));
        }
        exchange
    }

    /// A datagram and an error about it from the other side, or from a router.
    fn error_about_something(&mut self, is_v4: bool) -> Exchange {
        let (path, back) = self.random.pick(&[(In, Out), (Out, In)]);
        let (source, target) = self.ends(path, is_v4);
        let about = Packet::between(path, source, target, udp(self.number(), self.port()));
        let kind = match is_v4 {
            true => self.random.pick(&[3, 11, 12, 4, 5]),
            false => self.random.pick(&[1, 2, 3, 4]),
        };
        let from = match back {
            In if self.random.percent(30) => self.stranger(is_v4),
            _ => target,
        };
        let first = self.sending(about.clone());
        let error = self.error(kind, back, (from, source), about);
        vec![first, error]
    }

    /// A client's, or nearly so.
    fn dhcp(&mut self, is_v4: bool) -> Sending {
        let path = self.random.pick(&[In, Out]);
        let (mut source, mut target) = self.ends(path, is_v4);
        let (server, client) = if is_v4 { (67, 68) } else { (547, 546) };
        let (from, to) = if path == In { (server, client) } else { (client, server) };
        let (from, to) = if self.random.percent(10) { (to, from) } else { (from, to) };
        if !is_v4 && self.random.percent(70) {
            match path {
                In => target = OWN_LINK_LOCAL.into(),
                _ => source = LINK_LOCAL.into(),
            }
        }
        let packet = Packet::between(path, source, target, udp(from, to));
        self.sending(packet)
    }
}

pub(crate) fn is_own(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => OWN_V4.contains(&address),
        IpAddr::V6(address) => OWN_V6.contains(&address),
    }
}
