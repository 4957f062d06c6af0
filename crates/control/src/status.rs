//! The answer to `status`.

use crate::after_change::AfterChange;
use crate::denial::{DenialSummary, Observing};
use crate::generation::{Differs, HeldBack, Pending};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What holds on this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// The policy is committed.
    Committed,
    /// The table was taken away by `tierwall teardown`; nothing is filtered until the daemon is
    /// restarted.
    TornDown,
}

/// Whose table `inet filter` is in the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableState {
    /// The daemon's.
    #[default]
    Ours,
    /// There is none.
    Gone,
    /// One that tierwall did not make.
    Foreign,
}

/// The mode of a side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum SideMode {
    Enforce,
    Observe,
    Off,
}

/// The daemon's answer to `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The daemon's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// When it became ready, in seconds since the epoch.
    pub since: u64,
    /// The policy file.
    pub policy_file: String,
    /// Whether the policy holds.
    pub enforcement: Enforcement,
    /// The policy generation: how many policies were committed on this server. Members of tiers
    /// may change within one.
    pub generation: u64,
    /// The kernel's nftables generation after our last commit.
    #[serde(default)]
    pub kernel_generation: u32,
    /// The tiers this server is in.
    pub role: BTreeSet<String>,
    /// Whether they follow from its addresses.
    pub role_auto: bool,
    /// The mode of input.
    pub input: SideMode,
    /// The mode of output.
    pub output: SideMode,
    /// Whether both only observe although the policy says otherwise, since the first enforcement would
    /// lock out a session.
    #[serde(default)]
    pub first_refused: bool,
    /// Every tier of the policy.
    pub tiers: Vec<TierSummary>,
    /// The number of allows in the policy.
    pub allows: usize,
    /// The last batch that was committed; none where the kernel was in the wanted state already.
    pub last_commit: Option<CommitSummary>,
    /// Warnings of the policy, a line each.
    pub warnings: Vec<String>,
    /// What an edit would change that waits for a reload, a line each.
    pub waiting: Vec<String>,
    /// Lists whose last content stays although their files say something else, a line each.
    #[serde(default)]
    pub held_lists: Vec<String>,
    /// Why the files as they are now can't be applied.
    pub problem: Option<String>,
    /// The lockout for which a change was refused; none once a later one holds.
    #[serde(default)]
    pub refused: Option<String>,
    /// Connections that were open when the policy was enforced for the first time and couldn't be opened
    /// again under it, a line for those alike. They live until they reconnect.
    #[serde(default)]
    pub cannot_reconnect: Vec<String>,
    /// The change that waits to be confirmed.
    #[serde(default)]
    pub pending: Option<Pending>,
    /// Why the policy files aren't what is enforced and aren't applied by themselves.
    #[serde(default)]
    pub differs: Option<Differs>,
    /// What another process changed in the table that was left so.
    pub drift: Option<String>,
    /// Why the kernel doesn't hold what was wanted; it is tried again.
    #[serde(default)]
    pub kernel_problem: Option<String>,
    /// Whose table the kernel holds. Only [`TableState::Ours`] enforces anything.
    #[serde(default)]
    pub table: TableState,
    /// Members by command that end soon while somebody is in by them.
    #[serde(default)]
    pub ending: Vec<Ending>,
    /// What can't be watched at the moment, and why, a line each.
    #[serde(default)]
    pub unwatched: Vec<String>,
    /// The sides that only observe, and since when.
    #[serde(default)]
    pub observing: Observing,
    /// What was denied lately.
    #[serde(default)]
    pub denials: DenialSummary,
    /// Denials since the last change; none where there was none since the daemon started.
    #[serde(default)]
    pub after_change: Option<AfterChange>,
    /// That the state directory can't be written; none while it can.
    #[serde(default)]
    pub unrecorded: Option<Unrecorded>,
}

impl Status {
    /// Why the policy files are held back, where that isn't told as [`Status::refused`].
    pub fn held_back(&self) -> Option<&Differs> {
        let is_told =
            |differs: &&Differs| differs.kind == HeldBack::Refused && self.refused.is_some();
        self.differs.as_ref().filter(|differs| !is_told(differs))
    }
}

/// What isn't in the state directory, since it can't be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrecorded {
    /// Since when, in seconds since the epoch.
    pub since: u64,
    /// The last error.
    pub why: String,
    /// What isn't written, a phrase each; nothing while only requests failed that were told so.
    pub files: Vec<String>,
    /// What a start or a reboot would do for want of it, a phrase each: it "applies the policy files,
    /// which are held back". Nothing where it would enforce the same.
    pub at_start: Vec<String>,
}

/// That a member by command ends while a session is open that could not come again then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ending {
    /// Its tier.
    pub tier: String,
    /// An address, prefix or range.
    pub member: String,
    /// When, in seconds since the epoch.
    pub until: u64,
    /// Where the session comes from.
    pub from: IpAddr,
    /// The port of this server that it is on.
    pub port: u16,
}

/// One tier in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TierSummary {
    /// Its name.
    pub name: String,
    /// Its IPv4 addresses, however they are written.
    pub v4: u64,
    /// Its IPv6 addresses; none if they are more than anybody counts, as a /64 is.
    pub v6: Option<u64>,
    /// Members added by command, beside those.
    pub by_command: usize,
    /// Whether its sets are in the kernel here, because an allow of this server names it.
    pub in_use: bool,
}

/// One committed batch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitSummary {
    /// When, in seconds since the epoch.
    pub time: u64,
    /// Why: `start`, …
    pub reason: String,
    /// The policy generation that it belongs to.
    pub generation: u64,
    /// The kernel's nftables generation that it made.
    #[serde(default)]
    pub kernel_generation: u32,
    /// Elements added and deleted by set.
    pub sets: BTreeMap<String, SetChange>,
    /// Rules added.
    pub rules_added: usize,
    /// Rules deleted.
    pub rules_deleted: usize,
    /// The size of the batch in bytes.
    pub bytes: usize,
    /// From handing it to the kernel to its acknowledgement, in microseconds.
    pub duration_us: u64,
}

/// What changed in one set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SetChange {
    pub added: usize,
    pub deleted: usize,
}
