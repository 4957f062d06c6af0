//! The connection to nf_tables: a socket, and what was found out about the kernel behind it.

use crate::attribute::{self, Malformed};
use crate::error::Error;
use crate::message::{self, Message};
use crate::socket::{Consistency, Socket};
use crate::uapi::*;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

/// A connection to the kernel's nf_tables, in the network namespace in which it was opened.
///
/// It joins no group, so that nothing arrives that wasn't asked for.
pub struct Connection {
    pub(crate) socket: Socket,
    /// Whether the kernel acknowledges the end of a batch, once that was tried.
    pub(crate) acknowledges_end: Option<bool>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("acknowledges_end", &self.acknowledges_end)
            .finish_non_exhaustive()
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The number of a state of the namespace's ruleset: every commit, of any program to any table,
/// makes a new one. It starts anew with each network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// The generation after one more commit: the kernel skips 0 (`nf_tables_commit`).
    pub fn next(self) -> Self {
        Self(self.0.wrapping_add(1).max(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Connection {
    /// Opens a connection.
    ///
    /// # Errors
    /// When the kernel has no nf_tables. Missing rights show only when something is asked.
    pub fn open() -> Result<Self, Error> {
        Ok(Self::new(Socket::open(mnl::Bus::Netfilter)?))
    }

    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, acknowledges_end: None }
    }

    /// Commits as on kernels before 6.10, whatever this one can do: for tests.
    #[doc(hidden)]
    pub fn expect_no_acknowledgement_of_the_end(&mut self) {
        self.acknowledges_end = Some(false);
    }

    /// The generation of the ruleset now.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when the kernel can't be asked.
    pub fn generation(&mut self) -> Result<Generation, Error> {
        const WHAT: &str = "the generation";
        let mut generation = None;
        self.get(WHAT, NFT_MSG_GETGEN, &[], |message| {
            if message.kind == nft(NFT_MSG_NEWGEN) {
                let fields = message.table::<4>()?;
                generation = Some(Generation(fields.require(NFTA_GEN_ID)?.u32()?));
            }
            Ok(())
        })?;
        generation.ok_or(Error::Malformed { what: WHAT })
    }

    /// Asks for one object, which the attributes name.
    pub(crate) fn get(
        &mut self,
        what: &'static str,
        kind: u16,
        attributes: &[(u16, &str)],
        take: impl FnMut(Message<'_>) -> Result<(), Malformed>,
    ) -> Result<Consistency, Error> {
        self.request(what, (kind, NLM_F_ACK), NFPROTO_INET, attributes, take)
    }

    /// Asks for all objects of a kind, of those that the attributes select.
    pub(crate) fn list(
        &mut self,
        what: &'static str,
        kind: u16,
        attributes: &[(u16, &str)],
        take: impl FnMut(Message<'_>) -> Result<(), Malformed>,
    ) -> Result<Consistency, Error> {
        self.request(what, (kind, NLM_F_DUMP), NFPROTO_INET, attributes, take)
    }

    /// The same of another family, or of all with [`NFPROTO_UNSPEC`].
    pub(crate) fn list_of(
        &mut self,
        what: &'static str,
        kind: u16,
        family: u8,
        attributes: &[(u16, &str)],
        take: impl FnMut(Message<'_>) -> Result<(), Malformed>,
    ) -> Result<Consistency, Error> {
        self.request(what, (kind, NLM_F_DUMP), family, attributes, take)
    }

    fn request(
        &mut self,
        what: &'static str,
        (kind, flags): (u16, u16),
        family: u8,
        attributes: &[(u16, &str)],
        take: impl FnMut(Message<'_>) -> Result<(), Malformed>,
    ) -> Result<Consistency, Error> {
        let mut bytes = Vec::new();
        let sequence = self.socket.next_sequence();
        let flags = NLM_F_REQUEST | flags;
        let start = message::open(&mut bytes, nft(kind), flags, sequence, (family, 0));
        for (kind, text) in attributes {
            attribute::put_text(&mut bytes, *kind, text);
        }
        message::close(&mut bytes, start);
        self.socket.ask(what, &bytes, take)
    }
}

/// The type of an nf_tables message.
pub(crate) fn nft(kind: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | kind
}
