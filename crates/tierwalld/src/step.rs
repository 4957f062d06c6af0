//! A step of the engine: who asks for it, what it did, and why it changed nothing.

use crate::history::NoGeneration;
use crate::kernel::KernelError;
use crate::members::MemberFailure;
use control::{CommitSummary, Connection, Origin, Requester};
use policy::Change;
use std::io;
use std::path::PathBuf;

/// Why a step changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The policy files have errors; they are told in full.
    #[error("{}", .0.trim_end())]
    BadPolicy(String),
    /// The kernel doesn't hold what was wanted.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A member can't be added or removed.
    #[error(transparent)]
    Member(#[from] MemberFailure),
    /// Somebody who administers this server would be shut out.
    #[error("{0}")]
    Lockout(String),
    /// Another change waits to be confirmed.
    #[error("{0}")]
    Pending(String),
    /// A change that waits to be confirmed can't be recorded, so it isn't made.
    #[error(
        "can't record in the state directory what to go back to, so nothing was changed\n  hint: \
         make room there, or change without waiting for a confirmation"
    )]
    NotRecorded(#[source] io::Error),
    /// A confirmation can't be recorded, so the change still waits.
    #[error(
        "can't record in the state directory that the change is confirmed, so it still waits\n  \
         hint: make room there, or make it writable, then confirm again"
    )]
    NotConfirmed(#[source] io::Error),
    /// Nothing shows that somebody can get in.
    #[error("{0}")]
    Unproven(String),
    /// No change waits to be confirmed.
    #[error("no change waits to be confirmed")]
    NothingPending,
    /// There is no such generation to go back to.
    #[error(transparent)]
    NoGeneration(#[from] NoGeneration),
}

/// What a step did.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The last batch; none where the kernel held the wanted state already.
    pub(crate) commit: Option<CommitSummary>,
    /// What it means.
    pub(crate) change: Change,
    /// The copy of a foreign table that it replaced.
    pub(crate) saved: Option<PathBuf>,
    /// The open connections that couldn't be opened again under a policy that is enforced for the first
    /// time, a line for those alike.
    pub(crate) denied: Vec<String>,
}

/// Who asks for a step, and where from. Nobody, for what happens by itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Asked {
    pub(crate) by: Option<Requester>,
    /// By their own word.
    pub(crate) origin: Origin,
    /// The connection of theirs that is open here.
    pub(crate) over: Option<Connection>,
}
