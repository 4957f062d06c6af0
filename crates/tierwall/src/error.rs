//! What can go wrong, and the exit code that says so.

use crate::output::{BAD, clean, styled};
use control::{ClientError, Failure, FailureKind, exit};
use netlink::trace::TraceError;
use std::io;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Error {
    /// The policy has errors, told already.
    BadPolicy,
    /// `--as` names nobody.
    As(policy::AsError),
    /// The server's own addresses can't be read.
    Addresses(netlink::Error),
    /// The kernel's table can't be read.
    Kernel(netlink::Error),
    /// Packets can't be traced.
    Trace(TraceError),
    /// The table can't be taken away.
    Commit(netlink::CommitError),
    /// A table that tierwall did not make.
    Foreign,
    /// The daemon gave no answer.
    Client(ClientError),
    /// The daemon refused.
    Refused(Failure),
    /// The daemon refused, which was told already.
    Told(FailureKind),
    /// The policy file can't be edited.
    Edit(String),
    /// There is nothing to import.
    Import(String),
    /// A command line from which something is missing, and how it is typed.
    Usage(String),
    /// A question that has no answer, and the way out.
    Question(String, Option<String>),
    /// Standard output.
    Output(io::Error),
    /// The terminal of a view.
    Terminal(io::Error),
}

impl Error {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::BadPolicy => exit::BAD_POLICY,
            Self::As(_) => exit::FAILED,
            Self::Kernel(netlink::Error::NotPermitted) => exit::NOT_PERMITTED,
            Self::Commit(netlink::CommitError::NotPermitted) => exit::NOT_PERMITTED,
            Self::Trace(TraceError::Open(netlink::Error::NotPermitted)) => exit::NOT_PERMITTED,
            Self::Client(ClientError::NotPermitted { .. }) => exit::NOT_PERMITTED,
            Self::Refused(failure) => refused(failure.kind),
            Self::Told(kind) => refused(*kind),
            Self::Foreign => exit::FOREIGN_TABLE,
            Self::Usage(_) => exit::USAGE,
            _ => exit::FAILED,
        }
    }

    /// All that is told of it; nothing where that was done already. The daemon tells errors of a policy
    /// as `check` does, each with its heading.
    pub(crate) fn told(&self) -> String {
        match (self, self.message()) {
            (_, None) => String::new(),
            (Self::Refused(Failure { kind: FailureKind::BadPolicy, .. }), Some(message)) => {
                format!("{}\n", message.trim_end())
            }
            (_, Some(message)) => format!("{} {message}\n", styled(BAD, "error:")),
        }
    }

    /// One sentence; none where all was told already.
    pub(crate) fn message(&self) -> Option<String> {
        const NO_RIGHT: &str =
            "no right to read or change the firewall: run as root, or with CAP_NET_ADMIN";
        Some(match self {
            Self::BadPolicy | Self::Told(_) => return None,
            Self::As(error) => match error.hint() {
                Some(hint) => format!("{error}\n  hint: {hint}"),
                None => error.to_string(),
            },
            Self::Addresses(error) => {
                format!("can't read this server's addresses: {}", in_full(error))
            }
            Self::Kernel(netlink::Error::NotPermitted)
            | Self::Commit(netlink::CommitError::NotPermitted)
            | Self::Trace(TraceError::Open(netlink::Error::NotPermitted)) => NO_RIGHT.into(),
            Self::Trace(error) => {
                let message = format!("can't trace: {}", in_full(error));
                match error {
                    TraceError::NoOwner => {
                        format!("{message}\n  hint: `nft monitor trace` needs rules of your own")
                    }
                    TraceError::TooMany(_) => {
                        format!("{message}\n  hint: name an address or a prefix")
                    }
                    _ => message,
                }
            }
            Self::Kernel(error) => format!("can't read the kernel's table: {}", in_full(error)),
            Self::Commit(error) => format!("the table stays: {}", in_full(error)),
            Self::Foreign => format!(
                "the table inet {} was not made by tierwall; it stays as it is",
                ruleset::TABLE
            ),
            Self::Client(error) => in_full(error),
            Self::Refused(failure) => clean(&failure.message),
            Self::Edit(message) | Self::Import(message) | Self::Usage(message) => message.clone(),
            Self::Question(message, Some(hint)) => format!("{message}\n  hint: {hint}"),
            Self::Question(message, None) => message.clone(),
            Self::Output(error) => format!("can't write to standard output: {error}"),
            Self::Terminal(error) => {
                format!("can't use the terminal: {error}\n  hint: `--lines` prints lines instead")
            }
        })
    }
}

fn refused(kind: FailureKind) -> u8 {
    match kind {
        FailureKind::NotPermitted => exit::NOT_PERMITTED,
        FailureKind::ForeignTable => exit::FOREIGN_TABLE,
        FailureKind::BadPolicy => exit::BAD_POLICY,
        FailureKind::Lockout => exit::LOCKOUT,
        FailureKind::Pending | FailureKind::Unproven => exit::UNCONFIRMED,
        FailureKind::BadRequest
        | FailureKind::NothingPending
        | FailureKind::NoGeneration
        | FailureKind::Failed => exit::FAILED,
    }
}

/// An error with its causes, on one line.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heading_stands_once() {
        let told = |kind, message: &str| {
            let error = Error::Refused(Failure { kind, message: message.into() });
            anstream::adapter::strip_str(&error.told()).to_string()
        };
        let diagnostics = "warning: a tier nobody uses\nerror: unknown tier `amdin`\n\n";
        assert_eq!(
            told(FailureKind::BadPolicy, diagnostics),
            format!("{}\n", diagnostics.trim_end())
        );
        assert_eq!(told(FailureKind::Lockout, "no"), "error: no\n");
        assert_eq!(Error::BadPolicy.told(), "");
    }
}
