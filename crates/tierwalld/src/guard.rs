//! Who is in: the connections of others to the services by which this server is administered.
//!
//! Whether a change may be made although they are is for [`policy::guard`] to say.

use control::Connection;
use netlink::{TcpSocket, tcp_accepted, tcp_sockets};
use policy::guard::Session;
use policy::model::Service;
use ruleset::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU16;

/// As many ports are asked for one by one.
const FEW: usize = 16;

/// What is guarded: services, and the connection that a request comes over, whatever its port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarded<'a> {
    pub(crate) services: &'a [&'a Service],
    pub(crate) asker: Option<&'a Connection>,
}

impl Guarded<'_> {
    fn covers(&self, port: u16) -> bool {
        by_service(self.services, port)
            || self.asker.is_some_and(|asker| asker.local.port() == port)
    }

    fn covers_nothing(&self) -> bool {
        self.asker.is_none() && self.services.iter().all(|service| service.ports.is_empty())
    }

    /// Its ports, where they are few.
    fn ports(&self) -> Option<BTreeSet<NonZeroU16>> {
        let ranges = self.services.iter().filter_map(|service| service.ports.get(&Transport::Tcp));
        let ports = ranges.flatten().flat_map(|range| range.clone());
        let ports = ports.chain(self.asker.map(|asker| asker.local.port()));
        let ports: BTreeSet<NonZeroU16> = ports.take(FEW + 1).filter_map(NonZeroU16::new).collect();
        (ports.len() <= FEW).then_some(ports)
    }
}

/// Whether one of the services has this TCP port.
pub(crate) fn by_service(services: &[&Service], port: u16) -> bool {
    services.iter().any(|service| {
        let ranges = service.ports.get(&Transport::Tcp);
        ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&port)))
    })
}

/// The open sessions of others with this server that are guarded, each with what the kernel tells
/// its socket by. Of a request's connection none but itself: its port is no guarded service.
pub(crate) fn sessions(guarded: Guarded<'_>) -> Result<BTreeMap<Session, u64>, netlink::Error> {
    if guarded.covers_nothing() {
        return Ok(BTreeMap::new());
    }
    let asker = guarded.asker.map(|Connection { peer, local }| Session::new(*peer, *local));
    let mut sockets = established(guarded)?;
    sockets.retain(|session, _| {
        by_service(guarded.services, session.local.port()) || Some(*session) == asker
    });
    Ok(sockets)
}

/// The open connections of others to the ports of what is guarded.
pub(crate) fn established(guarded: Guarded<'_>) -> Result<BTreeMap<Session, u64>, netlink::Error> {
    let mut sockets = tcp_accepted(guarded.ports().as_ref())?;
    sockets.retain(|socket| guarded.covers(socket.local.port()));
    Ok(sockets.iter().map(|socket| (of(socket), socket.cookie)).collect())
}

/// The first of these connections that is open here.
pub(crate) fn open_one(connections: &[Connection]) -> Option<Connection> {
    let is_open = |connection: &&Connection| {
        let guarded = Guarded { services: &[], asker: Some(*connection) };
        sessions(guarded).is_ok_and(|found| !found.is_empty())
    };
    connections.iter().find(is_open).copied()
}

/// Those of them that could come again, since this server still has the address that they are to.
/// The kernel keeps a connection whose address was taken away, for hours where nobody sends. All of
/// them where it can't tell its addresses, as when they change too fast.
pub(crate) fn to_own(mut sessions: BTreeMap<Session, u64>) -> BTreeMap<Session, u64> {
    if let Ok(own) = netlink::addresses() {
        sessions.retain(|session, _| is_to(session, &own));
    }
    sessions
}

/// Every connection, however far, on the ports of what is guarded.
pub(crate) fn any_state(guarded: Guarded<'_>) -> Result<BTreeSet<Session>, netlink::Error> {
    let mut sockets = tcp_sockets()?;
    sockets.retain(|socket| guarded.covers(socket.local.port()));
    Ok(sockets.iter().map(of).collect())
}

fn of(socket: &TcpSocket) -> Session {
    Session::new(socket.remote, socket.local)
}

/// Whether it is to one of these addresses, or to one of the kinds that aren't among them: those of
/// the loopback interface and of one link.
fn is_to(session: &Session, own: &[IpAddr]) -> bool {
    let local = session.local.ip();
    let is_of_link = match local {
        IpAddr::V4(local) => local.is_link_local(),
        IpAddr::V6(local) => local.is_unicast_link_local(),
    };
    local.is_loopback() || is_of_link || own.contains(&local)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_can_come_again_while_its_address_is_here() {
        let own = ["10.0.0.2", "2001:db8::2"].map(|own| own.parse().expect("an address"));
        let is_to_own = |local: &str| {
            let end = |text: &str| text.parse().expect("an address and a port");
            is_to(&Session::new(end("192.0.2.1:4000"), end(local)), &own)
        };
        assert!(is_to_own("10.0.0.2:22") && is_to_own("[::ffff:10.0.0.2]:22"));
        assert!(is_to_own("[2001:db8::2]:22"));
        assert!(!is_to_own("10.0.0.3:22") && !is_to_own("[::ffff:10.0.0.3]:22"));
        assert!(!is_to_own("[2001:db8::3]:22"));
        // Nobody tells whether these are still here.
        assert!(is_to_own("127.0.0.1:22") && is_to_own("[fe80::1]:22"));
    }
}
