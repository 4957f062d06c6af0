//! What changes in nf_tables, by whomever: transactions as the kernel announces them.
//!
//! The kernel announces each object of a transaction after the commit, then the new generation with
//! the process that made it (`nf_tables_commit`). [`Events`] collects up to there. What it keeps is
//! bounded: the elements of a set are counted, and of everything else the first few are kept.
//!
//! Listening has its price: while somebody does, the kernel writes a message for every element of
//! every commit, which makes large ones many times slower. Hence [`pause`](Events::pause).

use crate::attribute::Malformed;
use crate::change::{Change, Changes};
use crate::connection::{Generation, nft};
use crate::error::Error;
use crate::message::{Message, Messages};
use crate::socket::Socket;
use crate::uapi::*;
use nix::errno::Errno;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Room for what is announced faster than it is read. The kernel charges about 8 KiB for a page of
/// thirty elements.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What is announced about nf_tables in the network namespace in which this was opened.
///
/// Nothing here waits: to be woken, poll the descriptor.
pub struct Events {
    socket: Socket,
    /// Of the transaction whose end hasn't arrived.
    changes: Changes,
    /// Whether something before its changes was lost.
    partial: bool,
    complete: VecDeque<Transaction>,
}

/// A transaction that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The generation that it made.
    pub generation: Generation,
    /// The name of the process that committed it, at most 15 bytes (`TASK_COMM_LEN`).
    pub process: String,
    /// Its id, as the initial process namespace counts.
    pub pid: u32,
    /// The port of the socket that it was committed through: [`Connection::port`] for our own
    /// commits.
    ///
    /// [`Connection::port`]: crate::Connection::port
    pub port: u32,
    /// Whether anything in our table changed, among `changes` or beyond them.
    pub ours: bool,
    /// What changed; the elements of a set are one change.
    pub changes: Vec<Change>,
    /// How many more objects changed than `changes` holds.
    pub more: usize,
    /// Whether the beginning of the transaction may be missing, after a loss or a pause.
    pub partial: bool,
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// More was announced than the buffer holds: what changed is to be read back.
    #[error("too much changed in nf_tables at once: some notifications were lost")]
    Lost,
    /// Receiving failed.
    #[error("can't receive notifications about nf_tables")]
    Receive(#[source] io::Error),
    /// A notification that can't be read; it and the rest of what came with it are left out.
    #[error("can't understand a notification about nf_tables")]
    Malformed,
}

impl From<Malformed> for EventsError {
    fn from(Malformed: Malformed) -> Self {
        Self::Malformed
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("partial", &self.partial).finish_non_exhaustive()
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_fd().as_raw_fd()
    }
}

/// `nft (1234), generation 7: add rule in chain input (handle 12) of inet filter`
impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), generation {}:", self.process, self.pid, self.generation)?;
        for (index, change) in self.changes.iter().enumerate() {
            write!(f, "{} {change}", if index > 0 { "," } else { "" })?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

impl Events {
    /// Begins to listen.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when the kernel has no nf_tables.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(mnl::Bus::Netfilter)?;
        socket.make_room_to_receive(RECEIVE_BUFFER);
        socket.join(NFNLGRP_NFTABLES).map_err(not_joined)?;
        let changes = Changes::default();
        Ok(Self { socket, changes, partial: false, complete: VecDeque::new() })
    }

    /// The next transaction, none where nothing more has arrived: only then the descriptor need be
    /// polled again.
    ///
    /// # Errors
    /// With [`EventsError::Lost`] everything that was announced up to now is left out; listening
    /// goes on.
    pub fn read(&mut self) -> Result<Option<Transaction>, EventsError> {
        loop {
            if let Some(transaction) = self.complete.pop_front() {
                return Ok(Some(transaction));
            }
            let datagram = match self.socket.receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => return Ok(None),
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    // The kernel delivers nothing until all that is queued was read
                    // (`NETLINK_S_CONGESTED`).
                    self.socket.drain();
                    self.forget();
                    return Err(EventsError::Lost);
                }
                Err(error) => return Err(EventsError::Receive(error)),
            };
            for message in Messages::new(datagram) {
                let message = message?;
                if message.kind != nft(NFT_MSG_NEWGEN) {
                    self.changes.note(&message)?;
                    continue;
                }
                let changes = std::mem::take(&mut self.changes);
                let partial = std::mem::take(&mut self.partial);
                self.complete.push_back(end(&message, changes, partial)?);
            }
        }
    }

    /// Stops listening. What was announced before can still be read.
    ///
    /// # Errors
    /// When the kernel refuses, which it has no reason to.
    pub fn pause(&mut self) -> Result<(), Error> {
        self.socket.leave(NFNLGRP_NFTABLES).map_err(Error::Socket)
    }

    /// Listens again. What changed meanwhile is never told: the generation shows whether anything
    /// did.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN.
    pub fn resume(&mut self) -> Result<(), Error> {
        self.forget();
        self.socket.join(NFNLGRP_NFTABLES).map_err(not_joined)
    }

    /// Forgets a transaction whose end may never arrive.
    fn forget(&mut self) {
        self.changes = Changes::default();
        self.partial = true;
    }
}

fn not_joined(error: io::Error) -> Error {
    match error.raw_os_error() {
        Some(code) if code == Errno::EPERM as i32 => Error::NotPermitted,
        _ => Error::Socket(error),
    }
}

/// The transaction that a generation message ends.
fn end(message: &Message<'_>, changes: Changes, partial: bool) -> Result<Transaction, Malformed> {
    let fields = message.table::<4>()?;
    let process = fields.get(NFTA_GEN_PROC_NAME);
    Ok(Transaction {
        generation: Generation(fields.require(NFTA_GEN_ID)?.u32()?),
        process: process.map(|name| name.text()).unwrap_or_default(),
        pid: fields.u32_or_zero(NFTA_GEN_PROC_PID)?,
        port: message.port,
        ours: changes.ours,
        changes: changes.kept,
        more: changes.more,
        partial,
    })
}
