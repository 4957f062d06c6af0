//! The lockout guard: no change may shut out who administers this server at the moment.
//!
//! Connections that are open survive every change, so a lockout shows only when somebody comes
//! again. That is what is asked here, before the change: would each open session on a guarded
//! service get in as a new connection? One that the table in the kernel wouldn't let in either is
//! no reason to refuse: it was locked out before, by force.

use netlink::{TcpState, tcp_listeners, tcp_sockets};
use policy::Judge;
use policy::Policy;
use policy::judge::By;
use policy::model::Service;
use ruleset::evaluate::{Outcome, Packet};
use ruleset::{Hook, Ruleset, Transport};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A connection that somebody else opened to a guarded service of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// The open sessions on guarded services, those of this server with itself aside.
pub(crate) fn sessions(guarded: &Service) -> Result<BTreeSet<Session>, netlink::Error> {
    let is_guarded = |port: u16| {
        let ranges = guarded.ports.get(&Transport::Tcp);
        ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&port)))
    };
    if guarded.ports.is_empty() {
        return Ok(BTreeSet::new());
    }
    let mut sockets = tcp_sockets()?;
    sockets
        .retain(|socket| socket.state == TcpState::Established && is_guarded(socket.local.port()));
    if sockets.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (listeners, own) = (tcp_listeners()?, netlink::addresses()?);
    let is_own = |address: IpAddr| address.is_loopback() || own.contains(&address);
    let accepted = sockets.into_iter().filter(|socket| listeners.accept(socket.local));
    let sessions = accepted.map(|socket| {
        let canonical = |end: SocketAddr| SocketAddr::new(end.ip().to_canonical(), end.port());
        Session { peer: canonical(socket.remote), local: canonical(socket.local) }
    });
    Ok(sessions.filter(|session| !is_own(session.peer.ip())).collect())
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
