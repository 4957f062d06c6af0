//! Connection tracking (ctnetlink): telling it of connections that it didn't see begin.
//!
//! Its messages form no batch: each is done or refused by itself. They are sent many at a time,
//! only the last of them is asked to be acknowledged, and the kernel reports each that fails.

use crate::error::Error;
use crate::flow::{Entry, Flow, Stage};
use crate::message::{self, Messages};
use crate::socket::Socket;
use crate::uapi::*;
use nix::errno::Errno;
use std::fmt;
use std::fs;
use std::io;

/// How many messages are sent at a time. So many errors fit into a receive buffer of the default
/// size, and so many messages of at most 232 bytes into a send buffer.
const CHUNK: usize = 128;
const WHAT: &str = "connection tracking";

/// How full the table of tracked connections is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Connections tracked in this network namespace.
    pub entries: u32,
    /// How many there may be (`nf_conntrack_max`); 0 for no limit.
    pub limit: u32,
}

/// What became of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    /// It wasn't tracked, and is now.
    Inserted,
    /// It was tracked already, and is known as established now.
    Updated,
    /// It was tracked already, from its first packet on or under translated addresses, and nothing
    /// was to be done.
    Known,
    /// The kernel refused: ENOMEM where its table is full.
    Failed(Errno),
}

/// A connection to connection tracking, in the network namespace in which it was opened.
pub struct Conntrack {
    socket: Socket,
    timeouts: Timeouts,
}

impl fmt::Debug for Conntrack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conntrack").field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

impl Conntrack {
    /// Opens a connection.
    ///
    /// # Errors
    /// When there is no netlink socket to be had. Missing rights show only when something is asked.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(mnl::Bus::Netfilter)?, timeouts: Timeouts::read() })
    }

    /// How many connections are tracked, and may be.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when the kernel can't be asked or tracks no connections.
    pub fn usage(&mut self) -> Result<Usage, Error> {
        let mut bytes = Vec::new();
        let sequence = self.socket.next_sequence();
        let (kind, flags) = (ct(IPCTNL_MSG_CT_GET_STATS), NLM_F_REQUEST | NLM_F_ACK);
        let start = message::open(&mut bytes, kind, flags, sequence, (NFPROTO_UNSPEC, 0));
        message::close(&mut bytes, start);
        let mut usage = None;
        self.socket.ask(WHAT, &bytes, |message| {
            let fields = message.table::<3>()?;
            let entries = fields.require(CTA_STATS_GLOBAL_ENTRIES)?.u32()?;
            let limit = fields.require(CTA_STATS_GLOBAL_MAX_ENTRIES)?.u32()?;
            usage = Some(Usage { entries, limit });
            Ok(())
        })?;
        usage.ok_or(Error::Malformed { what: WHAT })
    }

    /// How a flow is tracked; none if it isn't.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when the kernel can't be asked.
    pub fn entry(&mut self, flow: &Flow) -> Result<Option<Entry>, Error> {
        let mut bytes = Vec::new();
        let sequence = self.socket.next_sequence();
        let (kind, flags) = (ct(IPCTNL_MSG_CT_GET), NLM_F_REQUEST | NLM_F_ACK);
        let start = message::open(&mut bytes, kind, flags, sequence, (flow.family(), 0));
        flow.put_key(&mut bytes);
        message::close(&mut bytes, start);
        let mut entry = None;
        let answer = self.socket.ask(WHAT, &bytes, |message| {
            entry = Some(Entry::read(message)?);
            Ok(())
        });
        match answer {
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            answer => answer.map(|_| entry),
        }
    }

    /// Has every flow tracked, those that are open as established. Says of each, in their order,
    /// what became of it.
    ///
    /// Tracking has to be on, and whether there is room has to be asked before: where the table is
    /// full, the kernel throws out connections that aren't assured for each new one.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when the kernel can't be reached. Flows may have been inserted
    /// then; doing it again does no harm.
    pub fn insert(&mut self, flows: &[Flow]) -> Result<Vec<Insertion>, Error> {
        let mut insertions = Vec::with_capacity(flows.len());
        for flows in flows.chunks(CHUNK) {
            insertions.extend(self.insert_chunk(flows)?);
        }
        Ok(insertions)
    }

    fn insert_chunk(&mut self, flows: &[Flow]) -> Result<Vec<Insertion>, Error> {
        let timeouts = self.timeouts;
        let create = NLM_F_CREATE | NLM_F_EXCL;
        let created = self.send(create, flows.iter(), |flow, bytes| {
            flow.put_entry(bytes, timeouts.of(flow.stage));
        })?;
        let mut insertions: Vec<Insertion> = created.into_iter().map(created_or).collect();
        let known = insertions
            .iter_mut()
            .zip(flows)
            .filter(|(insertion, flow)| **insertion == Insertion::Known && flow.stage.overrides());
        let (known, flows): (Vec<_>, Vec<_>) = known.unzip();
        let updated = self.send(0, flows.into_iter(), Flow::put_update)?;
        for (insertion, errno) in known.into_iter().zip(updated) {
            *insertion = updated_or(errno);
        }
        Ok(insertions)
    }

    /// Sends a message for each flow and returns what the kernel said to each: no error, or one.
    fn send<'a>(
        &mut self,
        flags: u16,
        flows: impl ExactSizeIterator<Item = &'a Flow>,
        mut put: impl FnMut(&'a Flow, &mut Vec<u8>),
    ) -> Result<Vec<Option<Errno>>, Error> {
        let mut answers = vec![None; flows.len()];
        let (Some(last), mut bytes) = (flows.len().checked_sub(1), Vec::new()) else {
            return Ok(answers);
        };
        let mut first = 0;
        for (index, flow) in flows.enumerate() {
            let sequence = self.socket.next_sequence();
            first = if index == 0 { sequence } else { first };
            let ack = if index == last { NLM_F_ACK } else { 0 };
            let flags = NLM_F_REQUEST | flags | ack;
            let kind = ct(IPCTNL_MSG_CT_NEW);
            let start = message::open(&mut bytes, kind, flags, sequence, (flow.family(), 0));
            put(flow, &mut bytes);
            message::close(&mut bytes, start);
        }
        let transport = |source| Error::Transport { what: WHAT, source };
        // Where the default buffers were made small. What doesn't fit then, fails or is noticed.
        let _ = self.socket.make_room(bytes.len(), answers.len());
        self.socket.drain();
        self.socket.send(&bytes).map_err(transport)?;
        let mut complete = false;
        while let Some(datagram) = self.socket.receive().map_err(transport)? {
            for message in Messages::new(datagram) {
                let message = message.map_err(Error::malformed(WHAT))?;
                let index = message.sequence.wrapping_sub(first) as usize;
                let Some(answer) = answers.get_mut(index) else { continue };
                if message.kind != NLMSG_ERROR {
                    continue;
                }
                complete |= index == last;
                match message.error().map_err(Error::malformed(WHAT))?.errno {
                    0 => {}
                    errno => match Errno::from_raw(errno) {
                        // Said once for all of them (`nfnetlink_rcv`).
                        Errno::EPERM => return Err(Error::NotPermitted),
                        errno => *answer = Some(errno),
                    },
                }
            }
        }
        let lost = || transport(io::ErrorKind::UnexpectedEof.into());
        complete.then_some(answers).ok_or_else(lost)
    }
}

/// What the answer to a new entry means.
fn created_or(errno: Option<Errno>) -> Insertion {
    match errno {
        None => Insertion::Inserted,
        Some(Errno::EEXIST) => Insertion::Known,
        Some(errno) => Insertion::Failed(errno),
    }
}

/// What the answer to the update of an entry that is there means.
fn updated_or(errno: Option<Errno>) -> Insertion {
    match errno {
        None => Insertion::Updated,
        // The bits that nobody may change say that a helper expected it or that it is ending
        // (`nf_ct_change_status_common`): tracking has seen all of it.
        Some(Errno::EBUSY) => Insertion::Known,
        // It ended meanwhile.
        Some(Errno::ENOENT) => Insertion::Known,
        Some(errno) => Insertion::Failed(errno),
    }
}

/// The type of a message of connection tracking.
fn ct(kind: u16) -> u16 {
    NFNL_SUBSYS_CTNETLINK << 8 | kind
}

/// For how many seconds a connection without packets is tracked, by stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timeouts {
    asked: u32,
    answered: u32,
    open: u32,
    closing: u32,
}

impl Timeouts {
    /// Reads the kernel's own, of the network namespace of the calling thread. Where they can't be
    /// read, those it starts with (`nf_conntrack_proto_tcp.c`): the first packet sets them right.
    fn read() -> Self {
        let of = |state: &str, default| {
            let path = format!("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_{state}");
            let text = fs::read_to_string(path).unwrap_or_default();
            text.trim().parse().unwrap_or(default)
        };
        Self {
            asked: of("syn_sent", 120),
            answered: of("syn_recv", 60),
            open: of("established", 432_000),
            closing: of("fin_wait", 120),
        }
    }

    fn of(self, stage: Stage) -> u32 {
        match stage {
            Stage::Asked => self.asked,
            Stage::Answered => self.answered,
            Stage::Open => self.open,
            Stage::Closing => self.closing,
        }
    }
}
