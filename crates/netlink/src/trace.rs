//! Live packets, step by step: what the kernel tells of each rule that a packet matches.
//!
//! Packets are marked to be traced by a table of this module's own (`trace/table.rs`). It belongs to
//! the socket that made it and doesn't outlive it (`NFT_TABLE_F_OWNER` without `PERSIST`), so it is
//! gone with the process however that ends. No other table is touched.
//!
//! The steps come to everybody who listens in the network namespace; those of packets that other
//! tables mark come here too, and are told apart by [`Stage`]: what was never marked here is no
//! business of ours.

mod step;
mod table;

pub use step::{Event, Step, Verdict};

use crate::attribute::Malformed;
use crate::connection::{Connection, nft};
use crate::error::Error;
use crate::message::{self, Messages};
use crate::socket::Socket;
use crate::survey::Family;
use crate::table::ObjectHead;
use crate::uapi::*;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ruleset::AddressSet;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

/// What may wait to be read, in bytes, which the kernel doubles: it charges about 1 KiB a step.
const RECEIVE_BUFFER: usize = 8 << 20;

/// Datagrams read before the caller gets its turn: the steps of a few hundred packets.
const AT_ONCE: usize = 4096;

/// How many ranges a side may have: a set is made of them for as long as the trace lasts.
pub const MOST_RANGES: usize = 20_000;

/// What the name of a table that marks packets begins with; it is of the family inet.
pub const TABLE_PREFIX: &str = "tierwall-trace-";

/// Which packets are traced. What isn't given doesn't matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Their source.
    pub from: Option<Side>,
    /// Their destination.
    pub to: Option<Side>,
    /// Their protocol and destination port: one of these.
    pub traffic: Vec<Traffic>,
    /// Also what is answered to them.
    pub both: bool,
    /// How many a second are traced, of those that open a TCP connection and of all others each.
    pub rate: u32,
}

/// Addresses of either family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Side {
    pub v4: AddressSet<Ipv4Addr>,
    pub v6: AddressSet<Ipv6Addr>,
}

/// A protocol, and its ports where it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// IANA number.
    pub protocol: u8,
    /// Of the side that is asked; none for every port.
    pub ports: Option<RangeInclusive<u16>>,
}

/// Where a packet is, as the table of this module sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It comes in, or is sent from here.
    Begin,
    /// The same, and it is one that was asked for. What another table marks to be traced begins here
    /// too, without this.
    Marked,
    /// The same, and it isn't asked for, or is one too many.
    Unmarked,
    /// It passed all chains of the hook input: it is delivered.
    Delivered,
    /// It passed all chains of the hook postrouting: it leaves.
    Sent,
}

/// How many packets the selection matched, and how many of them were traced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Counts {
    pub matched: u64,
    pub traced: u64,
}

impl Counts {
    /// How many weren't traced, since more came than the rates allow.
    pub fn held_back(self) -> u64 {
        self.matched.saturating_sub(self.traced)
    }
}

/// Traces as long as it lives.
pub struct Tracer {
    /// Its table is this socket's.
    owner: Connection,
    group: Socket,
    table: String,
    losses: u64,
}

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The kernel can't be asked, or the right is missing.
    #[error(transparent)]
    Open(#[from] Error),
    /// Before Linux 5.12 a table can't belong to a program.
    #[error(
        "this kernel can't take a table away with the program that made it (Linux 5.12 can): a \
         trace that is killed would leave its own behind"
    )]
    NoOwner,
    /// One side has IPv4 addresses only, the other IPv6.
    #[error("the two sides have no address family in common")]
    NoCommonFamily,
    /// A side has more ranges than [`MOST_RANGES`].
    #[error("it has {0} ranges, and {MOST_RANGES} can be traced")]
    TooMany(usize),
    /// The kernel refused the table.
    #[error("the kernel refused the table that marks packets: {}", errno.desc())]
    Refused {
        /// The kernel's error.
        errno: Errno,
    },
    /// Sending or receiving failed.
    #[error("can't talk to the kernel about traced packets")]
    Transport(#[source] io::Error),
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Tracer {
    /// Begins to trace, in the network namespace in which this is called.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, where the kernel can't bind a table to this process, and where the
    /// selection is none that a table can be made of.
    pub fn start(selector: &Selector) -> Result<Self, TraceError> {
        for side in [&selector.from, &selector.to].into_iter().flatten() {
            let ranges = side.v4.len() + side.v6.len();
            if ranges > MOST_RANGES {
                return Err(TraceError::TooMany(ranges));
            }
        }
        let mut owner = Connection::open()?;
        if !owner.probe()?.owner {
            return Err(TraceError::NoOwner);
        }
        // Listening comes first: what the table marks is then heard from its first step on.
        let group = Socket::open(mnl::Bus::Netfilter)?;
        group.make_room_to_receive(RECEIVE_BUFFER);
        group.join(NFNLGRP_NFTRACE).map_err(not_joined)?;
        // No two sockets of a network namespace have the same port.
        let table = format!("{TABLE_PREFIX}{}", owner.socket.port());
        let batch = table::encode(&table, selector).ok_or(TraceError::NoCommonFamily)?;
        owner.make(batch)?;
        Ok(Self { owner, group, table, losses: 0 })
    }

    /// The name of the table that marks packets, of the family inet.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// What a step says of where the packet is; none if it is of another table.
    pub fn stage(&self, step: &Step) -> Option<Stage> {
        if step.family != Family::Inet || step.table != self.table {
            return None;
        }
        match step.chain.as_str() {
            table::PREROUTING | table::OUTPUT | table::MARK => Some(match step.event {
                // The last rules of the chain that marks; nothing else there accepts.
                Event::Rule { verdict: Verdict::Accept, .. } => Stage::Marked,
                Event::Policy { .. } => Stage::Unmarked,
                _ => Stage::Begin,
            }),
            table::INPUT => Some(Stage::Delivered),
            table::POSTROUTING => Some(Stage::Sent),
            _ => None,
        }
    }

    /// Waits until there is something to read, at most `patience`. Returns whether there is.
    ///
    /// # Errors
    /// When the socket can't be polled.
    pub fn wait(&self, patience: Duration) -> Result<bool, TraceError> {
        use std::os::fd::AsFd;
        let mut sockets = [PollFd::new(self.group.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut sockets, patience) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(TraceError::Transport(errno.into())),
        }
    }

    /// Hands out what has come, in its order, up to some thousands of steps.
    ///
    /// # Errors
    /// When receiving fails for good. Losses are no error: see [`losses`](Self::losses).
    pub fn read(&mut self, mut take: impl FnMut(Step)) -> Result<(), TraceError> {
        for _ in 0..AT_ONCE {
            let datagram = match self.group.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    self.losses += 1;
                    continue;
                }
                Err(error) => return Err(TraceError::Transport(error)),
            };
            for message in Messages::new(datagram) {
                match message.and_then(|message| Step::decode(&message)) {
                    Ok(Some(step)) => take(step),
                    Ok(None) => {}
                    Err(Malformed) => self.losses += 1,
                }
            }
        }
        Ok(())
    }

    /// How often steps were lost, since more came than the buffer holds, or one couldn't be
    /// understood. How many they were, the kernel doesn't tell.
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// How many packets were matched and traced so far.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub fn counts(&mut self) -> Result<Counts, Error> {
        let mut counts = Counts::default();
        let table = &self.table;
        let select = [(NFTA_OBJ_TABLE, table.as_str())];
        self.owner.list("counters", NFT_MSG_GETOBJ, &select, |message| {
            let fields = message.table()?;
            let is_ours = message.kind == nft(NFT_MSG_NEWOBJ)
                && fields.require(NFTA_OBJ_TABLE)?.is_text(table);
            if let (true, ObjectHead::Counter { name, packets, .. }) =
                (is_ours, ObjectHead::decode(&fields)?)
            {
                match name.as_str() {
                    table::MATCHED => counts.matched = packets,
                    table::TRACED => counts.traced = packets,
                    _ => {}
                }
            }
            Ok(())
        })?;
        Ok(counts)
    }
}

impl Connection {
    /// Commits the table. It is there when this returns.
    fn make(&mut self, mut batch: table::Encoded) -> Result<(), TraceError> {
        let last = batch.last;
        acknowledge(&mut batch.bytes, last);
        let length = batch.bytes.len();
        let too_large = |_| TraceError::Transport(io::ErrorKind::OutOfMemory.into());
        self.socket.make_room(length, last as usize).map_err(too_large)?;
        self.socket.drain();
        self.socket.send(&batch.bytes).map_err(TraceError::Transport)?;
        let mut acknowledged = false;
        // All errors come before any of them is judged: one means that nothing was made.
        let mut refused = None;
        while let Some(datagram) = self.socket.receive().map_err(TraceError::Transport)? {
            for message in Messages::new(datagram) {
                let malformed = |Malformed| Error::Malformed { what: WHAT };
                let message = message.map_err(malformed)?;
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                match message.error().map_err(malformed)?.errno {
                    0 => acknowledged |= message.sequence == last,
                    errno => refused = refused.or(Some(Errno::from_raw(errno))),
                }
            }
        }
        match refused {
            Some(Errno::EPERM) => Err(Error::NotPermitted.into()),
            Some(errno) => Err(TraceError::Refused { errno }),
            None if acknowledged => Ok(()),
            None => Err(Error::Malformed { what: WHAT }.into()),
        }
    }
}

const WHAT: &str = "the table that marks packets";

/// Asks for an acknowledgement of the message with this sequence number. Without an error to any
/// other, that means that the batch was committed.
fn acknowledge(bytes: &mut [u8], sequence: u32) {
    let mut start = 0;
    while let Some(header) = bytes.get(start..).and_then(|rest| rest.first_chunk::<12>()) {
        let [l0, l1, l2, l3, _, _, _, _, s0, s1, s2, s3] = *header;
        if u32::from_ne_bytes([s0, s1, s2, s3]) == sequence {
            message::set_flags(bytes, start, NLM_F_ACK, true);
            return;
        }
        start += u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
    }
}

fn not_joined(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(code) if code == Errno::EPERM as i32 => Error::NotPermitted,
        _ => Error::Socket(error),
    }
}
