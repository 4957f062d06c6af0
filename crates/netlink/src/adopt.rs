//! Adopting the connections that are older than the table.
//!
//! A network namespace without rules tracks nothing. To the first table every packet of a
//! connection that was open before is new or invalid, and a default drop would end them all. So
//! the first enforcement is two commits: the table in its observe form, which turns tracking on
//! and denies nothing; then this; then the table that enforces.
//!
//! The order keeps a connection that is opened in between from falling through: one whose first
//! packet came after tracking began is tracked by itself, and one whose first packet came before
//! has a socket now. Only while its handshake is under way may the entry made for it, or by its
//! next packet, not yet say that it is established. So the sockets are listed a second time.

use crate::conntrack::{Conntrack, Insertion, Usage};
use crate::error::Error;
use crate::flow::{End, Flow, Stage};
use crate::tcp::{Listeners, TcpSocket, TcpState, tcp_listeners, tcp_sockets};
use nix::errno::Errno;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

/// How often sockets are listed, as long as new ones are found.
const ROUNDS: usize = 4;
/// How full of a hundred the table of tracked connections may become: new connections need room.
const FULL: u64 = 90;

/// What became of the connections of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopted {
    /// The connections that there were.
    pub found: usize,
    /// Those that weren't tracked and are now.
    pub inserted: usize,
    /// Those that were tracked already, many of them from a packet in their middle.
    pub existed: usize,
    /// Those that the kernel refused to track, by its error.
    pub failed: Vec<(Errno, usize)>,
}

/// Why the connections of this host weren't adopted.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Too many; none was.
    #[error(
        "no room to track the open connections: {needed} of them, beside {entries} that are \
         tracked, with a limit of {limit}; raise net.netfilter.nf_conntrack_max to {} or more",
        raised(*needed, *entries)
    )]
    NoRoom {
        /// How many aren't tracked.
        needed: usize,
        /// How many connections are tracked.
        entries: u32,
        /// How many may be (`nf_conntrack_max`).
        limit: u32,
    },
    /// The kernel couldn't be asked.
    #[error(transparent)]
    Kernel(#[from] Error),
}

/// Has every TCP connection of this host tracked as established: of the network namespace of the
/// calling thread, where a table that tracks connections has to be in the kernel already.
///
/// Connections over the loopback interface are among them. A table may accept that interface by
/// name, but it calls packets invalid before it asks for the interface, and the first packet of an
/// untracked connection that is closed is invalid.
///
/// # Errors
/// With [`AdoptError::NoRoom`] nothing was changed. With others some connections may have been
/// adopted; doing it again does no harm.
pub fn adopt_connections() -> Result<Adopted, AdoptError> {
    let mut conntrack = Conntrack::open()?;
    let mut adopted = Adopted::default();
    let mut done = HashMap::new();
    for _ in 0..ROUNDS {
        let listeners = tcp_listeners()?;
        let mut flows = flows(tcp_sockets()?, &listeners);
        flows.retain(|flow| done.get(&ends(flow)) != Some(&flow.stage));
        if flows.is_empty() {
            break;
        }
        make_sure_of_room(&mut conntrack, &flows)?;
        for (flow, insertion) in flows.iter().zip(conntrack.insert(&flows)?) {
            let again = done.insert(ends(flow), flow.stage).is_some();
            adopted.count(insertion, again);
        }
    }
    adopted.found = done.len();
    Ok(adopted)
}

impl Adopted {
    /// Counts each connection once, as it was found first; a failure in any case.
    fn count(&mut self, insertion: Insertion, again: bool) {
        match insertion {
            Insertion::Failed(errno) => {
                match self.failed.iter_mut().find(|(known, _)| *known == errno) {
                    Some((_, count)) => *count += 1,
                    None => self.failed.push((errno, 1)),
                }
            }
            _ if again => {}
            Insertion::Inserted => self.inserted += 1,
            Insertion::Updated | Insertion::Known => self.existed += 1,
        }
    }
}

/// What a connection is told from others by. One between two sockets of this host has two ends
/// here, and one entry.
fn ends(flow: &Flow) -> (SocketAddr, SocketAddr) {
    (flow.local.min(flow.remote), flow.local.max(flow.remote))
}

/// The connections that sockets are ends of.
fn flows(sockets: Vec<TcpSocket>, listeners: &Listeners) -> Vec<Flow> {
    let mut seen = HashSet::new();
    let flows = sockets.into_iter().map(|socket| flow(&socket, listeners));
    flows.filter(|flow| seen.insert(ends(flow))).collect()
}

fn flow(socket: &TcpSocket, listeners: &Listeners) -> Flow {
    let opened_by = match socket.state {
        TcpState::SynSent => End::Local,
        TcpState::SynReceived => End::Remote,
        _ if listeners.accept(socket.local) => End::Remote,
        _ => End::Local,
    };
    let orphan = socket.inode == 0;
    let stage = match socket.state {
        TcpState::SynSent => Stage::Asked,
        TcpState::SynReceived => Stage::Answered,
        TcpState::Established | TcpState::CloseWait => Stage::Open,
        TcpState::FinWait1 | TcpState::FinWait2 if orphan => Stage::Closing,
        TcpState::FinWait1 | TcpState::FinWait2 => Stage::Open,
        TcpState::LastAck | TcpState::Closing => Stage::Closing,
    };
    Flow { local: socket.local, remote: socket.remote, opened_by, stage }
}

/// Asks for each flow whether it is tracked already only where that decides.
fn make_sure_of_room(conntrack: &mut Conntrack, flows: &[Flow]) -> Result<(), AdoptError> {
    let usage = conntrack.usage()?;
    if usage.has_room_for(flows.len()) {
        return Ok(());
    }
    let mut needed = 0;
    for flow in flows {
        needed += usize::from(conntrack.entry(flow)?.is_none());
    }
    if needed == 0 || usage.has_room_for(needed) {
        return Ok(());
    }
    Err(AdoptError::NoRoom { needed, entries: usage.entries, limit: usage.limit })
}

impl Usage {
    /// Whether so many more can be tracked, and others after them.
    fn has_room_for(self, more: usize) -> bool {
        let wanted = u64::from(self.entries) + more as u64;
        self.limit == 0 || wanted * 100 <= u64::from(self.limit) * FULL
    }
}

/// The limit that would do.
fn raised(needed: usize, entries: u32) -> u64 {
    ((u64::from(entries) + needed as u64) * 100).div_ceil(FULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_table_stays_free() {
        let usage = Usage { entries: 40, limit: 100 };
        assert!(usage.has_room_for(50));
        assert!(!usage.has_room_for(51));
        assert!(Usage { limit: 0, ..usage }.has_room_for(1_000_000));
        assert!(Usage { entries: 0, limit: raised(51, 40) as u32 }.has_room_for(91));
        assert!(!Usage { entries: 0, limit: raised(51, 40) as u32 - 1 }.has_room_for(91));
    }

    #[test]
    fn an_orphan_that_waits_for_the_peer_is_closing_and_a_half_closed_one_is_open() {
        let socket = |state, inode| TcpSocket {
            local: "10.0.0.1:22".parse().expect("an address"),
            remote: "10.0.0.2:4000".parse().expect("an address"),
            state,
            interface: 0,
            uid: 0,
            inode,
            cookie: 0,
        };
        let stage = |state, inode| flow(&socket(state, inode), &Listeners::default()).stage;
        assert_eq!(stage(TcpState::FinWait2, 0), Stage::Closing);
        assert_eq!(stage(TcpState::FinWait2, 5), Stage::Open);
        assert_eq!(stage(TcpState::CloseWait, 5), Stage::Open);
        assert_eq!(stage(TcpState::LastAck, 0), Stage::Closing);
        // In the queue of a listener, where no program has taken it yet.
        assert_eq!(stage(TcpState::Established, 0), Stage::Open);
    }
}
