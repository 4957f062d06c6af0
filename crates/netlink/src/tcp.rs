//! This host's TCP sockets, by socket diagnostics (`sock_diag(7)`).
//!
//! What is open here is asked of TCP itself: connection tracking knows only what it has seen, and
//! before the first table it has seen nothing.
//!
//! A connection has no mark of who opened it. It follows from the sockets that listen: where the
//! local end is listened on, the peer did.

use crate::attribute::{Attributes, Malformed};
use crate::error::Error;
use crate::message::{self, Message};
use crate::socket::Socket;
use crate::uapi::*;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

/// The length of `struct inet_diag_sockid`, of which an empty one selects every socket.
const SOCKET_ID: usize = 48;
const WHAT: &str = "this host's TCP sockets";
/// Every local port.
const ANY_PORT: u16 = 0;

/// A connection's state at this end. Sockets that listen, are closed, or only wait for stray
/// packets of a connection that ended (TIME_WAIT) are no connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TcpState {
    /// This host asked for a connection and wasn't answered yet.
    SynSent,
    /// This host answered a request for a connection, which wasn't confirmed yet.
    SynReceived,
    /// Both ends may send.
    Established,
    /// This end has said that it sends no more.
    FinWait1,
    /// The peer acknowledged that.
    FinWait2,
    /// The peer has said that it sends no more.
    CloseWait,
    /// Both ends have; the peer's acknowledgement is awaited.
    LastAck,
    /// Both ends have, at the same time.
    Closing,
}

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: u8 = 10;
/// A connection that was asked for has a state of its own in the mask (`TCP_NEW_SYN_RECV`), and is
/// reported as `TCP_SYN_RECV`.
const NEW_SYN_RECV: u8 = 12;

impl TcpState {
    const ALL: [Self; 8] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::LastAck,
        Self::Closing,
    ];

    /// The kernel's number (`include/net/tcp_states.h`).
    fn number(self) -> u8 {
        match self {
            Self::Established => 1,
            Self::SynSent => 2,
            Self::SynReceived => 3,
            Self::FinWait1 => 4,
            Self::FinWait2 => 5,
            Self::CloseWait => 8,
            Self::LastAck => 9,
            Self::Closing => 11,
        }
    }
}

impl fmt::Display for TcpState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::LastAck => "LAST-ACK",
            Self::Closing => "CLOSING",
        })
    }
}

/// One end of a TCP connection on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpSocket {
    /// This end. An IPv4 connection of an IPv6 socket (`::ffff:10.0.0.1`) has its IPv4 addresses
    /// here, as its packets do.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// How far it is.
    pub state: TcpState,
    /// The interface it is bound to; 0 for none.
    pub interface: u32,
    /// The user it belongs to.
    pub uid: u32,
    /// Its inode; 0 where no process holds it any more, or not yet.
    pub inode: u32,
    /// What the kernel tells it by from every other socket since the boot.
    pub cookie: u64,
}

impl fmt::Display for TcpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.local, self.remote, self.state)
    }
}

/// The addresses and ports that are listened on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listeners {
    by_port: BTreeMap<u16, Vec<Listener>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Listener {
    address: IpAddr,
    /// An IPv6 socket that also takes IPv4 connections, when bound to every address.
    dual_stack: bool,
}

impl Listeners {
    /// Whether a connection to `local` is taken by one of them.
    pub fn accept(&self, local: SocketAddr) -> bool {
        let mut on_port = self.by_port.get(&local.port()).into_iter().flatten();
        on_port.any(|listener| listener.accepts(local.ip()))
    }

    fn insert(&mut self, local: SocketAddr, dual_stack: bool) {
        let listener = Listener { address: local.ip(), dual_stack };
        self.by_port.entry(local.port()).or_default().push(listener);
    }
}

impl Listener {
    fn accepts(self, local: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == local.is_ipv4();
        let every = self.address.is_unspecified() && (same_family || self.dual_stack);
        every || self.address == local
    }
}

/// The ends of TCP connections on this host: in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel can't be asked. It needs no rights.
pub fn tcp_sockets() -> Result<Vec<TcpSocket>, Error> {
    sockets(ANY_PORT)
}

/// Those of them whose local port that is: the kernel leaves out the others, which may be many.
///
/// # Errors
/// As [`tcp_sockets`].
pub fn tcp_sockets_on(port: NonZeroU16) -> Result<Vec<TcpSocket>, Error> {
    sockets(port.get())
}

fn sockets(port: u16) -> Result<Vec<TcpSocket>, Error> {
    let states = TcpState::ALL.iter().fold(1 << NEW_SYN_RECV, |mask, s| mask | 1 << s.number());
    let mut sockets = Vec::new();
    list(states, port, |found| {
        let state = TcpState::ALL.into_iter().find(|state| state.number() == found.state);
        sockets.extend(state.map(|state| TcpSocket {
            local: found.local,
            remote: found.remote,
            state,
            interface: found.interface,
            uid: found.uid,
            inode: found.inode,
            cookie: found.cookie,
        }));
    })?;
    Ok(sockets)
}

/// Where TCP connections are accepted on this host: in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel can't be asked. It needs no rights.
pub fn tcp_listeners() -> Result<Listeners, Error> {
    let mut listeners = Listeners::default();
    list(1 << LISTEN, ANY_PORT, |found| listeners.insert(found.local, found.dual_stack))?;
    Ok(listeners)
}

/// A socket that accepts TCP connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpListener {
    /// The address and port.
    pub local: SocketAddr,
    /// Its inode, by which the process that holds it is found.
    pub inode: u32,
}

/// The sockets that accept TCP connections on this host: in the network namespace of the calling
/// thread.
///
/// # Errors
/// As [`tcp_sockets`].
pub fn tcp_listening() -> Result<Vec<TcpListener>, Error> {
    let mut listening = Vec::new();
    list(1 << LISTEN, ANY_PORT, |found| {
        listening.push(TcpListener { local: found.local, inode: found.inode });
    })?;
    Ok(listening)
}

/// Hands over the sockets of these states on this local port, of both families: that of IPv4 leaves
/// out the IPv4 connections of IPv6 sockets.
fn list(states: u32, port: u16, mut hand_over: impl FnMut(Found)) -> Result<(), Error> {
    let mut socket = Socket::open(mnl::Bus::SockDiag)?;
    for family in [AF_INET, AF_INET6] {
        let mut bytes = Vec::new();
        let sequence = socket.next_sequence();
        let flags = NLM_F_REQUEST | NLM_F_DUMP;
        let start = message::begin(&mut bytes, SOCK_DIAG_BY_FAMILY, flags, sequence);
        // `struct inet_diag_req_v2`: no extensions, and padding.
        bytes.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
        bytes.extend_from_slice(&states.to_ne_bytes());
        // Of a `struct inet_diag_sockid` a dump looks at the ports only.
        bytes.extend_from_slice(&port.to_be_bytes());
        bytes.extend_from_slice(&[0; SOCKET_ID - 2]);
        message::close(&mut bytes, start);
        socket.ask(WHAT, &bytes, |message| {
            decode(message)?.map(&mut hand_over);
            Ok(())
        })?;
    }
    Ok(())
}

/// A socket as it is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    interface: u32,
    uid: u32,
    inode: u32,
    cookie: u64,
    dual_stack: bool,
}

/// Reads a `struct inet_diag_msg` and what follows it. Ports and addresses are in network byte
/// order, the rest in the host's.
fn decode(message: Message<'_>) -> Result<Option<Found>, Malformed> {
    if message.kind != SOCK_DIAG_BY_FAMILY {
        return Ok(None);
    }
    let mut rest = message.payload;
    let [family, state, _timer, _retransmissions] = take(&mut rest)?;
    let local_port = u16::from_be_bytes(take(&mut rest)?);
    let remote_port = u16::from_be_bytes(take(&mut rest)?);
    let local = address(family, take(&mut rest)?);
    let remote = address(family, take(&mut rest)?);
    let interface = u32::from_ne_bytes(take(&mut rest)?);
    // Two words, the lower one first (`sock_diag_save_cookie`).
    let low = u32::from_ne_bytes(take(&mut rest)?);
    let high = u32::from_ne_bytes(take(&mut rest)?);
    let _expiry_and_queues: [u8; 12] = take(&mut rest)?;
    let uid = u32::from_ne_bytes(take(&mut rest)?);
    let inode = u32::from_ne_bytes(take(&mut rest)?);
    let mut dual_stack = false;
    for attribute in Attributes::new(rest) {
        let attribute = attribute?;
        if attribute.kind == INET_DIAG_SKV6ONLY {
            dual_stack = family == AF_INET6 && attribute.u8()? == 0;
        }
    }
    Ok(local.zip(remote).map(|(local, remote)| Found {
        local: SocketAddr::new(local, local_port),
        remote: SocketAddr::new(remote, remote_port),
        state,
        interface,
        uid,
        inode,
        cookie: u64::from(high) << 32 | u64::from(low),
        dual_stack,
    }))
}

/// Takes the first bytes off.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (first, after) = rest.split_first_chunk::<N>().ok_or(Malformed)?;
    *rest = after;
    Ok(*first)
}

fn address(family: u8, bytes: [u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, ..] = bytes;
    match family {
        AF_INET => Some(Ipv4Addr::new(a, b, c, d).into()),
        AF_INET6 => Some(Ipv6Addr::from(bytes).to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::attribute::put;
    use proptest::prelude::*;

    fn message(payload: &[u8]) -> Message<'_> {
        Message { kind: SOCK_DIAG_BY_FAMILY, flags: 0, sequence: 1, payload, port: 0 }
    }

    /// A socket from `local` port 22 to `remote` port 4000.
    fn report(family: u8, state: u8, local: &[u8], remote: &[u8]) -> Vec<u8> {
        let mut bytes = vec![family, state, 0, 0, 0, 22, 15, 160];
        for address in [local, remote] {
            bytes.extend_from_slice(address);
            bytes.resize(bytes.len() + 16 - address.len(), 0);
        }
        bytes.extend_from_slice(&3u32.to_ne_bytes());
        bytes.extend_from_slice(&5u32.to_ne_bytes());
        bytes.extend_from_slice(&6u32.to_ne_bytes());
        bytes.extend_from_slice(&[0xff; 12]);
        bytes.extend_from_slice(&1000u32.to_ne_bytes());
        bytes.extend_from_slice(&77u32.to_ne_bytes());
        bytes
    }

    #[test]
    fn reads_a_socket_of_either_family_and_a_mapped_one() {
        let mapped = |last| Ipv4Addr::new(10, 0, 0, last).to_ipv6_mapped().octets();
        let v6 = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        let (a, b) = (v6(1), v6(2));
        let cases = [
            (report(AF_INET, 1, &[10, 0, 0, 1], &[10, 0, 0, 2]), "10.0.0.1:22", "10.0.0.2:4000"),
            (report(AF_INET6, 1, &mapped(1), &mapped(2)), "10.0.0.1:22", "10.0.0.2:4000"),
            (
                report(AF_INET6, 8, &a.octets(), &b.octets()),
                "[2001:db8::1]:22",
                "[2001:db8::2]:4000",
            ),
        ];
        for (bytes, local, remote) in cases {
            let found = decode(message(&bytes)).expect("well-formed").expect("a socket");
            assert_eq!(
                (found.local, found.remote),
                (local.parse().unwrap(), remote.parse().unwrap())
            );
            assert_eq!((found.interface, found.uid, found.inode), (3, 1000, 77));
            assert_eq!(found.cookie, 6 << 32 | 5);
        }
        let other = report(1, 1, &[], &[]);
        assert_eq!(decode(message(&other)), Ok(None));
    }

    #[test]
    fn tells_a_dual_stack_listener_from_one_of_ipv6_only() {
        for (only, dual_stack) in [(0, true), (1, false)] {
            let mut bytes = report(AF_INET6, LISTEN, &[], &[]);
            put(&mut bytes, INET_DIAG_SKV6ONLY, &[only]);
            let found = decode(message(&bytes)).expect("well-formed").expect("a socket");
            assert_eq!(found.dual_stack, dual_stack);
        }
    }

    #[test]
    fn a_listener_accepts_its_address_or_every_one_of_its_families() {
        let mut listeners = Listeners::default();
        listeners.insert("10.0.0.1:22".parse().unwrap(), false);
        listeners.insert("0.0.0.0:80".parse().unwrap(), false);
        listeners.insert("[::]:443".parse().unwrap(), true);
        listeners.insert("[::]:8443".parse().unwrap(), false);
        let cases = [
            ("10.0.0.1:22", true),
            ("10.0.0.2:22", false),
            ("10.0.0.2:80", true),
            ("[::1]:80", false),
            ("10.0.0.2:443", true),
            ("[2001:db8::1]:443", true),
            ("10.0.0.2:8443", false),
            ("[2001:db8::1]:8443", true),
            ("10.0.0.1:23", false),
        ];
        for (local, accepted) in cases {
            assert_eq!(listeners.accept(local.parse().unwrap()), accepted, "{local}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(message(&bytes));
        }
    }
}
