//! What can go wrong: in encoding a plan, in committing it, in reading the kernel's state.

use crate::attribute::Malformed;
use crate::refusal::Refusal;
use nix::errno::Errno;
use std::io;

/// Why something couldn't be read from the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No socket.
    #[error("can't open a netlink socket")]
    Socket(#[source] io::Error),
    /// Without CAP_NET_ADMIN in the network namespace's user namespace.
    #[error("not permitted to read the firewall: this needs root, or CAP_NET_ADMIN")]
    NotPermitted,
    /// Sending a request or receiving its answer failed.
    #[error("can't read {what} from the kernel")]
    Transport {
        /// What was asked for.
        what: &'static str,
        /// The error of the system call.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("the kernel refused to list {what}: {}", errno.desc())]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// The kernel's error.
        errno: Errno,
    },
    /// The kernel's answer can't be read, or is missing.
    #[error("can't understand the kernel's answer about {what}")]
    Malformed {
        /// What was asked for.
        what: &'static str,
    },
    /// It changed each time it was read.
    #[error("{what} changed during each of {attempts} attempts to read it; try again later")]
    Unsteady {
        /// What was read.
        what: &'static str,
        /// How often it was tried.
        attempts: usize,
    },
}

impl Error {
    /// Turns a decoding error into one that says what was being read.
    pub(crate) fn malformed(what: &'static str) -> impl Fn(Malformed) -> Self {
        move |Malformed| Self::Malformed { what }
    }
}

/// Why a plan can't be written as netlink messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A name or comment that the kernel can't hold.
    #[error("{what} {text:?} is too long or has a NUL in it: at most {limit} bytes fit")]
    Text {
        /// What it is the name or text of.
        what: &'static str,
        /// The text.
        text: String,
        /// The kernel's limit in bytes.
        limit: usize,
    },
    /// A rule that can't be compiled.
    #[error("the rule {rule:?} of chain {chain} can't be encoded: {problem}")]
    Rule {
        /// The chain that it was for.
        chain: String,
        /// The rule's comment.
        rule: String,
        /// The reason.
        problem: String,
    },
    /// A rule index without a handle: the plan was made from another dump.
    #[error("chain {chain} had no rule number {index} when it was read; read it again")]
    UnknownRule {
        /// The chain.
        chain: String,
        /// The index.
        index: usize,
    },
    /// A chain, set or elements that can't be encoded.
    #[error("{object} can't be encoded: {problem}")]
    Object {
        /// The kind and name of it.
        object: String,
        /// The reason.
        problem: String,
    },
}

/// Why a plan was not committed, or whether it was is not known.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The plan can't be sent at all; nothing was.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// Without CAP_NET_ADMIN; nothing changed.
    #[error("not permitted to change the firewall: this needs root, or CAP_NET_ADMIN")]
    NotPermitted,
    /// The batch is larger than the socket's send buffer may be made here; nothing was sent.
    #[error(
        "a batch of {bytes} bytes doesn't fit the send buffer of {limit}: raise \
         net.core.wmem_max, or run with CAP_NET_ADMIN in the initial user namespace"
    )]
    TooLarge {
        /// The size of the batch.
        bytes: usize,
        /// What the socket takes.
        limit: usize,
    },
    /// The ruleset is not of the generation that the plan was made from; nothing changed. Read it
    /// again and plan again.
    #[error("the ruleset was changed by another program since it was read")]
    Stale,
    /// The kernel refused the batch; nothing changed.
    #[error("{0}")]
    Refused(Box<Refusal>),
    /// The table belongs to another socket, which alone may change it; nothing changed.
    #[error("{0}")]
    OwnedByOther(Box<Refusal>),
    /// Sending failed; nothing changed.
    #[error("can't send a batch to the kernel")]
    Send(#[source] io::Error),
    /// The batch was sent and the answer is lost: read the state back.
    #[error("the kernel's answer to a batch was lost: whether it was committed is not known")]
    Unknown(#[source] io::Error),
    /// The batch was committed or would have been, but reading from the kernel failed.
    #[error(transparent)]
    Read(#[from] Error),
}
