//! The messages between daemon and command line, and the client's end of the socket.
//!
//! One request a connection: a line of JSON each way, ended by `\n`. Every line carries the
//! protocol's version, so that a command line meets a daemon of another version with a sentence
//! and not with a puzzle: see [`decode`].

mod after_change;
mod bounds;
mod caller;
mod client;
mod denial;
mod generation;
mod login;
mod message;
mod origin;
mod sshd;
mod standing;
mod status;
pub mod takeover;

pub use after_change::{AfterChange, DenialRate, DenialRates, DeniedKind};
pub use bounds::encode_response;
pub use caller::Caller;
pub use client::{Client, ClientError};
pub use denial::{
    DenialCount, DenialFate, DenialGroup, DenialSummary, DenialTotal, Denials, DenialsBy,
    DenialsOrder, Direction, LimitCount, Losses, Observing,
};
pub use generation::{
    ChangeLine, Confirmation, Connection, Difference, Differs, Generation, HeldBack,
    MemberDifference, Past, Pending, Requester,
};
pub use login::Login;
pub use message::{
    DecodeError, Done, Failure, FailureKind, Guarded, MAX_REQUEST, MAX_RESPONSE, MemberSummary,
    Reload, Request, Response, Rollback, VERSION, decode, decode_request, encode, encode_request,
};
pub use origin::Origin;
pub use sshd::sshd_ports;
pub use standing::Standing;
pub use status::{
    CommitSummary, Ending, Enforcement, SetChange, SideMode, Status, TableState, TierSummary,
    Unrecorded,
};

use std::path::{Path, PathBuf};

/// Where the daemon keeps its socket unless told otherwise.
pub const RUNTIME_DIRECTORY: &str = "/run/tierwall";

/// Where the daemon keeps its state unless told otherwise.
pub const STATE_DIRECTORY: &str = "/var/lib/tierwall";

/// The policy file unless told otherwise.
pub const POLICY_FILE: &str = "/etc/tierwall/tierwall.toml";

/// The daemon's socket in its runtime directory.
pub fn socket_path(runtime_directory: &Path) -> PathBuf {
    runtime_directory.join("control.sock")
}

/// Exit codes of `tierwall` and `tierwalld`, as tierwall(1) documents them.
pub mod exit {
    /// Done, or nothing to do.
    pub const OK: u8 = 0;
    /// Something failed: the kernel, a file, or the daemon can't be reached.
    pub const FAILED: u8 = 1;
    /// `plan --detailed-exitcode`: there are changes.
    pub const CHANGES: u8 = 2;
    /// `doctor`: there is something to see to.
    pub const FINDINGS: u8 = 2;
    /// The policy has errors, or warnings under `--strict`.
    pub const BAD_POLICY: u8 = 3;
    /// The right to change the network is missing.
    pub const NOT_PERMITTED: u8 = 4;
    /// There is a table `inet filter` that tierwall did not make.
    pub const FOREIGN_TABLE: u8 = 5;
    /// A session that is guarded would be locked out, or nobody could come in any more.
    pub const LOCKOUT: u8 = 6;
    /// A change waits to be confirmed: no other may be made, or nothing shows yet that somebody
    /// can get in.
    pub const UNCONFIRMED: u8 = 7;
    /// `import`: the policy doesn't say all that the table did.
    pub const INCOMPLETE: u8 = 8;
    /// `explain`: the connection would be denied.
    pub const DENIED: u8 = 9;
    /// `status --exit-code`: a change waits to be confirmed, an edit for a reload, the files or a
    /// list are held, or a reboot would enforce something else.
    pub const PENDING: u8 = 10;
    /// `status --exit-code`: a change was refused, the files are bad, or nothing is denied.
    pub const NOT_ENFORCED: u8 = 11;
    /// `status --exit-code`: no daemon runs.
    pub const NOT_RUNNING: u8 = 12;
    /// The command line can't be understood (`EX_USAGE` of sysexits.h).
    pub const USAGE: u8 = 64;
}
