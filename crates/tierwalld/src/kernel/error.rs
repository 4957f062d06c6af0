//! Why the kernel doesn't hold what was wanted, in words for the one who has to mend it.

use crate::errors::in_full;
use netlink::CommitError;
use policy::Policy;
use ruleset::TABLE;

/// Why the kernel doesn't hold the wanted table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    /// There is a table of that name that we didn't make.
    #[error(
        "there is a table inet {TABLE} that tierwall did not make; it stays as it is\n  \
         hint: `tierwall import` writes a policy out of it, `tierwall takeover` has it replaced \
         (a description is saved in the state directory first)"
    )]
    Foreign,
    /// The saved copy of a foreign table couldn't be written, so it wasn't replaced.
    #[error("can't save a copy of the foreign table in the state directory, so it stays")]
    NotSaved(#[source] std::io::Error),
    /// The right is missing.
    #[error(
        "no right to change the network: tierwalld needs root, or CAP_NET_ADMIN in its network \
         namespace"
    )]
    NotPermitted,
    /// Another process owns the table.
    #[error(
        "the table inet {TABLE} belongs to another process, with the netlink port {0} (often its \
         pid): is another tierwalld running in this network namespace?"
    )]
    Owned(u32),
    /// Others kept changing the table.
    #[error(
        "other programs kept changing nftables under every attempt to commit; nothing was changed"
    )]
    Contended,
    /// The kernel refused.
    #[error("{0}")]
    Refused(String),
    /// Reading failed.
    #[error("can't read the kernel's table")]
    Read(#[source] netlink::Error),
}

pub(super) fn reading(error: netlink::Error) -> KernelError {
    match error {
        netlink::Error::NotPermitted => KernelError::NotPermitted,
        error => KernelError::Read(error),
    }
}

/// The kernel's refusal with the line of the policy behind it.
pub(super) fn refused(error: CommitError, policy: &Policy) -> KernelError {
    match error {
        CommitError::NotPermitted => KernelError::NotPermitted,
        CommitError::Refused(ref refusal) | CommitError::OwnedByOther(ref refusal) => {
            let comment = refusal.rule.as_deref();
            let allow = comment.and_then(|comment| policy.allow_of_comment(comment));
            let place = allow.map(|allow| format!("{}: ", allow.location)).unwrap_or_default();
            KernelError::Refused(format!("{place}{error}"))
        }
        error => KernelError::Refused(in_full(&error)),
    }
}
