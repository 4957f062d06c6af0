//! What is said over the socket.

use crate::caller::Caller;
use crate::denial::{Denials, DenialsBy, DenialsOrder};
use crate::generation::{ChangeLine, Difference, Past, Pending};
use crate::status::{CommitSummary, Status};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::PathBuf;

/// The version of the messages. It grows when a change is not understood by the other side.
pub const VERSION: u32 = 1;

/// The longest request in bytes, its line end included.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The longest response in bytes, its line end included.
pub const MAX_RESPONSE: usize = 16 * 1024 * 1024;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// What the daemon does and holds.
    Status,
    /// Take the table away and stay idle.
    Teardown,
    /// Replace a table that tierwall did not make; answered when the kernel has acknowledged it.
    Takeover {
        /// Also where that locks out a session that is guarded.
        force: bool,
    },
    /// Read the policy files again and apply all of them; answered when the kernel has
    /// acknowledged it.
    Reload(Reload),
    /// What the lockout guard would say of a reload, of which nothing is done.
    Guard,
    /// The change that waits is good: somebody can get in.
    Confirm {
        /// Also where nothing shows that.
        force: bool,
    },
    /// Go back to an earlier generation; answered when the kernel has acknowledged it.
    Rollback(Rollback),
    /// The generations that are remembered.
    History,
    /// What differs between two generations.
    Difference {
        /// From this one.
        from: u64,
        /// To that one; none for what is enforced.
        to: Option<u64>,
    },
    /// What was denied, or would have been.
    Denied {
        /// What it is summed up by.
        by: DenialsBy,
        /// How far back, in seconds; none for all that is remembered.
        seconds: Option<u64>,
        /// How many groups at most.
        limit: usize,
        /// Which of them.
        #[serde(default)]
        order: DenialsOrder,
        /// Only those that were seen then or later, in seconds since the epoch; none for all.
        #[serde(default)]
        seen_since: Option<u64>,
    },
    /// Numbers for Prometheus.
    Metrics,
    /// The members that were added by command.
    Members {
        /// Of this tier only.
        tier: Option<String>,
    },
    /// Add a member to a tier, beside those of the files.
    AddMember {
        /// The tier.
        tier: String,
        /// An address, prefix or range.
        member: String,
        /// How long, in seconds, from 1 to 315,360,000 (ten years); none until it is removed.
        seconds: Option<u64>,
        /// Why.
        reason: Option<String>,
    },
    /// The policy files name this member now: read them, and forget that it was added by command.
    /// It never leaves the tier on the way.
    PromotedMember {
        /// The tier.
        tier: String,
        /// An address, prefix or range, as it was added.
        member: String,
    },
    /// Remove a member that was added by command.
    RemoveMember {
        /// The tier.
        tier: String,
        /// An address, prefix or range, as it was added.
        member: String,
        /// Also where that locks out a session that is guarded.
        force: bool,
    },
}

/// How to reload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// Also where that locks out a session that is guarded.
    pub force: bool,
    /// Go back unless it is confirmed within so many seconds, from 5 to 3600; none for what the
    /// policy says.
    #[serde(default)]
    pub confirm: Option<u32>,
    /// In place of a change that waits to be confirmed. The way back stays the same.
    #[serde(default)]
    pub replace: bool,
}

/// How to go back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollback {
    /// To which generation; none for the one before, or for the one before the change that waits.
    pub generation: Option<u64>,
    /// As for a reload.
    #[allow(missing_docs)]
    pub force: bool,
    #[allow(missing_docs)]
    pub confirm: Option<u32>,
}

impl Request {
    /// Whether it only asks, changes nothing, and takes no work: others than root may ask for it.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Status
            | Self::Members { .. }
            | Self::Denied { .. }
            | Self::Metrics
            | Self::History => true,
            Self::Reload(_)
            | Self::Guard
            | Self::Difference { .. }
            | Self::Confirm { .. }
            | Self::Rollback(_)
            | Self::Teardown
            | Self::Takeover { .. }
            | Self::AddMember { .. }
            | Self::PromotedMember { .. }
            | Self::RemoveMember { .. } => false,
        }
    }

    /// Whether it changes nothing, so that it does no harm to ask again.
    pub fn changes_nothing(&self) -> bool {
        self.is_read_only() || matches!(self, Self::Guard | Self::Difference { .. })
    }
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Teardown`]: whether there was a table to take away.
    TornDown(bool),
    /// To [`Request::Members`].
    Members(Vec<MemberSummary>),
    /// To [`Request::Guard`].
    Guard(Guarded),
    /// To [`Request::Confirm`]: the generation that stays.
    Confirmed(u64),
    /// To [`Request::History`], the oldest first.
    History(Vec<Past>),
    /// To [`Request::Difference`].
    Difference(Box<Difference>),
    /// To [`Request::Denied`].
    Denied(Box<Denials>),
    /// To [`Request::Metrics`], in Prometheus' text format.
    Metrics(String),
    /// To requests that change something: it holds.
    Done(Box<Done>),
    /// The request could not be fulfilled.
    Failed(Failure),
}

/// What the lockout guard says of the policy files as they are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// Which files: the path of the policy file.
    pub policy_file: String,
    /// Why a reload would be refused, if it would.
    pub refused: Option<String>,
    /// The sessions that it would shut out otherwise, a line each.
    pub shut_out: Vec<String>,
}

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// The batch; none where nothing had to be sent.
    pub commit: Option<CommitSummary>,
    /// The change that waits to be confirmed; none where none does.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// What it means, a line each.
    pub changes: Vec<ChangeLine>,
    /// Warnings of the policy, a line each.
    pub warnings: Vec<String>,
    /// The copy of a table that tierwall did not make and that was replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved: Option<PathBuf>,
    /// If the policy is enforced for the first time: open connections that couldn't be opened again
    /// under it, a line for those alike.
    #[serde(default)]
    pub cannot_reconnect: Vec<String>,
}

/// A member that was added by command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberSummary {
    /// Its tier.
    pub tier: String,
    /// An address, prefix or range.
    pub member: String,
    /// When it was added, in seconds since the epoch.
    pub added: u64,
    /// When it ends by itself, in seconds since the epoch.
    pub until: Option<u64>,
    /// The user who added it.
    pub by: u32,
    /// Why.
    pub reason: Option<String>,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind, for the exit code.
    pub kind: FailureKind,
    /// A sentence for a person.
    pub message: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The caller may not do that.
    NotPermitted,
    /// The table is one that tierwall did not make.
    ForeignTable,
    /// The request can't be understood, or is of another version.
    BadRequest,
    /// The policy files have errors; what was enforced stays.
    BadPolicy,
    /// A session that is guarded would be locked out; what was enforced stays.
    Lockout,
    /// A change waits to be confirmed, and no other may be made.
    Pending,
    /// Nothing shows that somebody can get in after the change that waits; it still does.
    Unproven,
    /// No change waits to be confirmed.
    NothingPending,
    /// There is no such generation, or its policy isn't kept any more.
    NoGeneration,
    /// The kernel refused, or something else went wrong.
    Failed,
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<&'a Caller>,
    body: &'a T,
}

/// Why a line is not a message.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The line is not JSON, or not of this shape.
    #[error("not a tierwall message: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The other side speaks another version.
    #[error(
        "the other side speaks version {found} of the protocol, this one version {VERSION}: restart tierwalld after an upgrade"
    )]
    Version {
        /// What it speaks.
        found: u64,
    },
}

/// A message as a line, `\n` included.
///
/// # Panics
/// Never: the messages hold nothing that JSON can't say.
pub fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    seal(body, None)
}

/// A request as such a line, with what the process that asks says of itself.
pub fn encode_request(request: &Request, caller: Option<&Caller>) -> Vec<u8> {
    seal(request, caller)
}

fn seal<T: Serialize>(body: &T, caller: Option<&Caller>) -> Vec<u8> {
    let envelope = Envelope { version: VERSION, caller, body };
    let mut line = serde_json::to_vec(&envelope).expect("messages are plain data with string keys");
    line.push(b'\n');
    line
}

/// The message of a line.
///
/// # Errors
/// When it is not a message, or one of another version: that is looked at first, since its body
/// may have any shape.
pub fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, DecodeError> {
    let mut envelope = open(line)?;
    Ok(serde_json::from_value(part(&mut envelope, "body"))?)
}

/// The request of a line, and what the process that asks says of itself, where it says anything.
///
/// # Errors
/// As [`decode`].
pub fn decode_request(line: &[u8]) -> Result<(Request, Option<Caller>), DecodeError> {
    let mut envelope = open(line)?;
    let caller = serde_json::from_value(part(&mut envelope, "caller"))?;
    Ok((serde_json::from_value(part(&mut envelope, "body"))?, caller))
}

fn open(line: &[u8]) -> Result<Value, DecodeError> {
    let envelope: Value = serde_json::from_slice(line)?;
    match envelope.get("version").and_then(Value::as_u64) {
        Some(found) if found != u64::from(VERSION) => Err(DecodeError::Version { found }),
        _ => Ok(envelope),
    }
}

fn part(envelope: &mut Value, name: &str) -> Value {
    envelope.get_mut(name).map(Value::take).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::Connection;
    use crate::origin::Origin;
    use crate::status::TableState;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let line = encode(&Request::Teardown);
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(decode::<Request>(&line).ok(), Some(Request::Teardown));
    }

    #[test]
    fn what_only_asks_is_no_change_that_may_have_been_made() {
        let asks = [Request::Status, Request::History, Request::Guard];
        assert!(asks.iter().all(Request::changes_nothing));
        assert!(!Request::Teardown.changes_nothing());
        // What the guard says is for root.
        assert!(!Request::Guard.is_read_only());
    }

    #[test]
    fn a_request_says_who_asks_and_an_older_daemon_reads_it_too() {
        let connection = Connection {
            peer: "10.0.0.5:7".parse().expect("an address and a port"),
            local: "10.0.1.20:22".parse().expect("an address and a port"),
        };
        let origin = Origin { connections: vec![connection], session: Some("3".into()) };
        let caller = Caller { process: "tierwall".into(), login: Some(1000), origin };
        let line = encode_request(&Request::History, Some(&caller));
        assert_eq!(decode_request(&line).ok(), Some((Request::History, Some(caller))));
        assert_eq!(decode::<Request>(&line).ok(), Some(Request::History));
    }

    #[test]
    fn a_request_of_an_older_client_says_nothing_of_it() {
        let line = encode(&Request::History);
        assert_eq!(line, b"{\"version\":1,\"body\":\"history\"}\n");
        assert_eq!(decode_request(&line).ok(), Some((Request::History, None)));
        let part = br#"{"version":1,"caller":{"host":"x"},"body":"history"}"#;
        let caller = Some(Caller::default());
        assert_eq!(decode_request(part).ok(), Some((Request::History, caller)));
    }

    #[test]
    fn a_status_of_an_older_daemon_is_understood() {
        let line = br#"{"version":1,"body":{"status":{"version":"0.1.0","pid":1,"since":1,
            "policy_file":"p","enforcement":"committed","generation":1,"role":[],"role_auto":true,
            "input":"enforce","output":"enforce","tiers":[],"allows":0,"last_commit":null,
            "warnings":[],"waiting":[],"problem":null,"drift":null}}}"#;
        let Ok(Response::Status(status)) = decode(line) else { panic!("not understood") };
        assert_eq!(
            (status.table, status.kernel_problem, status.pending),
            (TableState::Ours, None, None)
        );
    }

    #[test]
    fn another_version_is_told_before_the_body_is_read() {
        let error = decode::<Request>(br#"{"version":2,"body":{"dance":1}}"#).err();
        assert!(error.is_some_and(|e| e.to_string().contains("version 2")));
    }

    #[test]
    fn garbage_is_an_error() {
        for line in [&b""[..], b"\0\xff", b"{}", b"[1]", b"{\"version\":1}", b"7"] {
            assert!(matches!(decode::<Request>(line), Err(DecodeError::Malformed(_))), "{line:?}");
        }
    }
}
