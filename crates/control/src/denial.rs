//! What is said of packets that were denied, or would have been.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What denials are summed up by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialsBy {
    /// Everything that tells one from another, but the source port.
    Flow,
    /// Where they went.
    Destination,
    /// Where they came from.
    Source,
    /// Whose programs sent them; of this server's own only.
    User,
    /// Protocol and port.
    Service,
    /// The tiers of either side.
    Tier,
    /// What the kernel held at the time.
    Generation,
}

/// Which groups come first, and so which are left out where there are too many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialsOrder {
    /// Those with the most connections.
    #[default]
    Heaviest,
    /// Those that were seen last.
    Latest,
}

/// The chain that denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To this server.
    Input,
    /// From this server.
    Output,
    /// Through this server.
    Forward,
}

/// What became of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DenialFate {
    /// They were dropped or refused, since no allow names them.
    Denied,
    /// They would have been, but the side only observes.
    WouldDeny,
    /// They were dropped, since connection tracking calls them invalid.
    Invalid,
    /// They would have been, but the side only observes.
    WouldDropInvalid,
}

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialCount {
    /// Connections that somebody tried to open.
    pub connections: u64,
    /// Packets beyond the first of each.
    pub retries: u64,
}

/// The answer to [`Request::Denied`](crate::Request::Denied).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denials {
    /// From when on it counts, in seconds since the epoch; what began to be read later counts
    /// from then.
    pub since: u64,
    /// When it was asked for, in seconds since the epoch.
    pub until: u64,
    /// By direction and fate; complete, whatever became of the groups.
    pub totals: Vec<DenialTotal>,
    /// What it is summed up by.
    pub by: DenialsBy,
    /// In the order that was asked for.
    pub groups: Vec<DenialGroup>,
    /// Groups that were left out, since only so many were asked for.
    pub left_out: usize,
    /// What is in no group any more, or never was, since there were too many different ones.
    pub rest: DenialCount,
    /// What was lost before it was counted.
    pub losses: Losses,
}

/// The sum of one direction and fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialTotal {
    /// The chain.
    pub direction: Direction,
    /// What became of them.
    pub fate: DenialFate,
    /// How many.
    #[serde(flatten)]
    pub count: DenialCount,
    /// New connections in each minute of the last hour, the present one last.
    pub minutes: Vec<u32>,
}

/// Denials that have something in common: where they are summed up by it, the others are none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialGroup {
    /// The chain.
    pub direction: Direction,
    /// What became of them.
    pub fate: DenialFate,
    /// Where they came from.
    pub source: Option<IpAddr>,
    /// The tiers that hold the source.
    pub source_tiers: Vec<String>,
    /// Where they went.
    pub destination: Option<IpAddr>,
    /// The tiers that hold the destination.
    pub destination_tiers: Vec<String>,
    /// Protocol and port: `tcp/22`.
    pub service: Option<String>,
    /// The user whose programs sent them.
    pub user: Option<u32>,
    /// The interface they came in by, or went out by.
    pub interface: Option<String>,
    /// The generation of the policy at the time; of a flow, the last one.
    pub generation: Option<u64>,
    /// How many.
    #[serde(flatten)]
    pub count: DenialCount,
    /// When the first was seen, in seconds since the epoch.
    pub first: u64,
    /// When the last was seen, in seconds since the epoch.
    pub last: u64,
    /// How many packets more it may have been before `first`, at most, that are counted in the
    /// rest.
    pub uncertain: u64,
}

/// What isn't counted, and what is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Since when packets are read, in seconds since the epoch; none while they aren't.
    pub reading_since: Option<u64>,
    /// Packets read since then.
    pub read: u64,
    /// Packets that came too fast to be read.
    pub lost: u64,
    /// Packets among those read that nobody can make sense of.
    pub unknown: u64,
    /// What the rate limits in the kernel let through, since its counters began; empty where they
    /// can't be read.
    pub limits: Vec<LimitCount>,
}

/// The closing counters of a chain against the counter of what it logged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitCount {
    /// The chain.
    pub direction: Direction,
    /// Packets denied, or that would have been, the invalid among them.
    pub packets: u64,
    /// Those among them that were logged.
    pub logged: u64,
    /// Those that a rate limit held back.
    pub held_back: u64,
}

/// The sides that only observe, and since when, in seconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Observing {
    pub input: Option<u64>,
    pub output: Option<u64>,
}

/// Denials in a few numbers, for `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialSummary {
    /// Connections that were denied in the last hour.
    pub denied: u64,
    /// Different flows that would have been denied in the last hour, if nobody only observed.
    pub would_deny_flows: u64,
    /// Whether there were more of them than can be told apart.
    pub at_least: bool,
    /// Packets that came too fast to be counted.
    pub lost: u64,
}

impl Direction {
    /// The name of the chain.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Forward => "forward",
        }
    }
}

impl DenialFate {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Denied => "denied",
            Self::WouldDeny => "would be denied",
            Self::Invalid => "invalid",
            Self::WouldDropInvalid => "invalid, would be dropped",
        }
    }
}
