//! The lockout guard: no change may shut out who administers this server at the moment.
//!
//! Connections that are open survive every change, so a lockout shows only when somebody comes
//! again. That is what is asked here, before the change: would each open session on a guarded
//! service get in as a new connection? One that the table in the kernel wouldn't let in either is
//! no reason to refuse: it was locked out before, by force.

use control::Connection;
use netlink::{TcpSocket, TcpState, tcp_listeners, tcp_sockets};
use policy::Judge;
use policy::Policy;
use policy::judge::By;
use policy::model::Service;
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Hook, Ruleset, Transport};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A connection that somebody else opened to a guarded service of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// Why a change is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lockout {
    session: Session,
    /// How many more sessions it would shut out, of whatever address.
    more: usize,
    /// What let the session in so far, in words.
    by: String,
}

impl fmt::Display for Lockout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { session: Session { peer, local }, more, by } = self;
        let port = local.port();
        write!(
            f,
            "this would lock out the session from {} to port {port}, which {by} lets in so far",
            peer.ip()
        )?;
        match more {
            0 => {}
            1 => f.write_str("; and one more session")?,
            more => write!(f, "; and {more} more sessions")?,
        }
        f.write_str(
            "\n  hint: allow it in the policy; `--force` insists, and `[guard] services` says what \
             is guarded",
        )
    }
}

/// What is guarded: services, and the connection that a request comes over, whatever its port.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guarded<'a> {
    pub(crate) services: &'a [&'a Service],
    pub(crate) asker: Option<&'a Connection>,
}

impl Guarded<'_> {
    fn covers(&self, port: u16) -> bool {
        let by_service = self.services.iter().any(|service| {
            let ranges = service.ports.get(&Transport::Tcp);
            ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&port)))
        });
        by_service || self.asker.is_some_and(|asker| asker.local.port() == port)
    }

    fn covers_nothing(&self) -> bool {
        self.asker.is_none() && self.services.iter().all(|service| service.ports.is_empty())
    }
}

/// The open sessions of others with this server that are guarded. Of a request's connection none
/// but itself: its port is no guarded service.
pub(crate) fn sessions(guarded: Guarded<'_>) -> Result<BTreeSet<Session>, netlink::Error> {
    if guarded.covers_nothing() {
        return Ok(BTreeSet::new());
    }
    let services = Guarded { asker: None, ..guarded };
    let asker = guarded.asker.map(|Connection { peer, local }| Session {
        peer: canonical(*peer),
        local: canonical(*local),
    });
    let mut sockets = established(guarded)?;
    sockets.retain(|session| services.covers(session.local.port()) || Some(*session) == asker);
    Ok(sockets)
}

/// The open connections of others to the ports of what is guarded.
pub(crate) fn established(guarded: Guarded<'_>) -> Result<BTreeSet<Session>, netlink::Error> {
    let mut sockets = sockets(guarded)?;
    sockets.retain(|socket| socket.state == TcpState::Established);
    if sockets.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (listeners, own) = (tcp_listeners()?, netlink::addresses()?);
    let is_own = |address: IpAddr| address.is_loopback() || own.contains(&address);
    let accepted = sockets.into_iter().filter(|socket| listeners.accept(socket.local));
    let sessions = accepted.map(|socket| Session::of(&socket));
    Ok(sessions.filter(|session| !is_own(session.peer.ip())).collect())
}

/// Those of them that could come again, since this server still has the address that they are to.
/// The kernel keeps a connection whose address was taken away, for hours where nobody sends. All of
/// them where it can't tell its addresses, as when they change too fast.
pub(crate) fn to_own(mut sessions: BTreeSet<Session>) -> BTreeSet<Session> {
    if let Ok(own) = netlink::addresses() {
        sessions.retain(|session| session.is_to(&own));
    }
    sessions
}

/// Every connection, however far, on the ports of what is guarded.
pub(crate) fn any_state(guarded: Guarded<'_>) -> Result<BTreeSet<Session>, netlink::Error> {
    Ok(sockets(guarded)?.iter().map(Session::of).collect())
}

fn sockets(guarded: Guarded<'_>) -> Result<Vec<TcpSocket>, netlink::Error> {
    let mut sockets = tcp_sockets()?;
    sockets.retain(|socket| guarded.covers(socket.local.port()));
    Ok(sockets)
}

impl Session {
    fn of(socket: &TcpSocket) -> Self {
        Self { peer: canonical(socket.remote), local: canonical(socket.local) }
    }

    /// Whether it is to one of these addresses, or to one of the kinds that aren't among them:
    /// those of the loopback interface and of one link.
    fn is_to(&self, own: &[IpAddr]) -> bool {
        let local = self.local.ip();
        let is_of_link = match local {
            IpAddr::V4(local) => local.is_link_local(),
            IpAddr::V6(local) => local.is_unicast_link_local(),
        };
        local.is_loopback() || is_of_link || own.contains(&local)
    }
}

fn canonical(end: SocketAddr) -> SocketAddr {
    SocketAddr::new(end.ip().to_canonical(), end.port())
}

/// The lockout that the step from the table in the kernel to `after` would be, if it is one.
pub(crate) fn lockout(
    sessions: &BTreeSet<Session>,
    (policy, before): (&Policy, &Ruleset),
    after: &Ruleset,
) -> Option<Lockout> {
    let old = Judge::new(policy, before);
    let new = after.table.as_ref()?;
    let mut shut_out = sessions.iter().filter_map(|session| {
        let packet = Packet::opening(Hook::Input, Transport::Tcp, session.peer, session.local);
        if new.evaluate(&packet).outcome == Outcome::Accept {
            return None;
        }
        let ruling = old.rule_on(&packet);
        let by = match ruling.by {
            // It may hold the session in a set that nobody has read.
            _ if ruling.is_denied() && !has_unread(before) => return None,
            By::Allow(allow) => format!("the allow {} ({})", allow.key, allow.location),
            By::BuiltIn(name) => format!("the built-in rule {name}"),
            By::Closing | By::Unfiltered => "what holds now".to_owned(),
        };
        Some((*session, by))
    });
    let (session, by) = shut_out.next()?;
    Some(Lockout { session, by, more: shut_out.count() })
}

fn has_unread(ruleset: &Ruleset) -> bool {
    let sets = ruleset.table.iter().flat_map(|table| table.sets.values());
    sets.into_iter().any(|set| set.elements.are_unread())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_can_come_again_while_its_address_is_here() {
        let own = ["10.0.0.2", "2001:db8::2"].map(|own| own.parse().expect("an address"));
        let is_to_own = |local: &str| {
            let end = |text: &str| canonical(text.parse().expect("an address and a port"));
            Session { peer: end("192.0.2.1:4000"), local: end(local) }.is_to(&own)
        };
        assert!(is_to_own("10.0.0.2:22") && is_to_own("[::ffff:10.0.0.2]:22"));
        assert!(is_to_own("[2001:db8::2]:22"));
        assert!(!is_to_own("10.0.0.3:22") && !is_to_own("[::ffff:10.0.0.3]:22"));
        assert!(!is_to_own("[2001:db8::3]:22"));
        // Nobody tells whether these are still here.
        assert!(is_to_own("127.0.0.1:22") && is_to_own("[fe80::1]:22"));
    }
}
