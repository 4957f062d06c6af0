//! The validated policy: what the files say, resolved and checked, with the place of each
//! statement kept for messages.
//!
//! Every value here is right by construction: tiers that allows name exist, services are
//! resolved to protocols and ports, address sets are merged, keys are unique.

use crate::confirm::ConfirmTime;
use crate::location::Location;
use crate::member::Member;
use crate::metrics::Metrics;
use ruleset::{AddressSet, TimedSet, Transport};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

/// The policy, for every server that loads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Which tiers this server is in.
    pub role: RoleSetting,
    /// Which edits apply by themselves.
    pub watch: Watch,
    /// What holds at boot while no policy was ever good.
    pub boot: Boot,
    /// How a denied packet is refused, by side.
    pub deny: Deny,
    /// What each side does with what no allow lets through.
    pub mode: Modes,
    /// What happens to packets through this server.
    pub forward: Forward,
    /// Who else may change the table.
    pub ownership: Ownership,
    /// Whether denied packets are written to the kernel log too.
    pub kernel_log: bool,
    /// The services by which this server is administered: TCP ports whose open sessions no change
    /// may lock out. Without any, nothing is guarded.
    pub guarded: Service,
    /// How many connections that a change made denied take it back, while it waits to be confirmed;
    /// none where their number doesn't matter.
    pub rollback_on_denials: Option<NonZeroU32>,
    /// How long a change of rules waits until it is confirmed, before it is taken back; none where
    /// it needn't be.
    pub confirm: Option<ConfirmTime>,
    /// Where the daemon's numbers go.
    pub metrics: Metrics,
    /// The address groups, by name.
    pub tiers: BTreeMap<String, Tier>,
    /// The allows, in the order of the files.
    pub allows: Vec<Allow>,
}

impl Policy {
    /// The same with built-in traffic and the default drop only, whatever the mode, if it says
    /// `boot = "closed"`: what then holds at a boot where this policy can't be applied and none ever
    /// was.
    pub fn closed(&self) -> Option<Self> {
        (self.boot == Boot::Closed).then(|| Self {
            role: RoleSetting::Auto,
            mode: Modes::default(),
            tiers: BTreeMap::new(),
            allows: Vec::new(),
            ..self.clone()
        })
    }
}

/// `role`. New forms go to the end: stored policies name them by their place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoleSetting {
    /// Every tier that holds one of this server's addresses, unless a neighbour may have chosen
    /// that address by a router advertisement.
    Auto,
    /// These tiers, whatever the addresses; `location` is where a file says so.
    Tiers {
        /// Names of tiers that exist; at least one.
        tiers: BTreeSet<String>,
        /// The place of the setting, or the beginning of the file that it names.
        location: Location,
    },
    /// Every tier that holds one of this server's addresses, wherever the address came from.
    AutoAny,
}

impl RoleSetting {
    /// Whether the tiers follow from this server's addresses.
    pub fn is_auto(&self) -> bool {
        matches!(self, Self::Auto | Self::AutoAny)
    }
}

/// `watch`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Watch {
    /// Members apply by themselves, other edits wait for a reload.
    #[default]
    Members,
    /// Every edit applies by itself.
    All,
}

/// `boot`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Boot {
    /// Leave the network as it was.
    #[default]
    Open,
    /// Built-in traffic and the default drop only.
    Closed,
}

/// One side's way of refusing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DenyAction {
    /// Silence.
    Drop,
    /// A prompt error: TCP reset, or ICMP administratively prohibited.
    Reject,
}

/// `deny`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deny {
    /// For strangers; `drop` unless said otherwise.
    pub input: DenyAction,
    /// For this server's own programs; `reject` unless said otherwise.
    pub output: DenyAction,
}

impl Default for Deny {
    fn default() -> Self {
        Self { input: DenyAction::Drop, output: DenyAction::Reject }
    }
}

/// One side's mode.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Deny what no allow lets through.
    #[default]
    Enforce,
    /// Count and log it, deny nothing.
    Observe,
    /// Open and unlogged.
    Off,
}

/// `mode`, of each side. Forward follows input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Modes {
    pub input: Mode,
    pub output: Mode,
}

/// `forward`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Forward {
    /// Nothing passes through this server.
    #[default]
    Drop,
    /// A forward chain that accepts.
    Accept,
    /// No forward chain.
    Unmanaged,
}

/// `ownership`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// Nobody, where the kernel can see to that; else as `repair`.
    #[default]
    Exclusive,
    /// Anybody; what they change is put back.
    Repair,
    /// Anybody; what they change is told and stays until the next commit.
    Report,
}

/// An address group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tier {
    /// Its IPv4 members, merged.
    #[serde(with = "ruleset::compact")]
    pub v4: AddressSet<Ipv4Addr>,
    /// Its IPv6 members, merged.
    #[serde(with = "ruleset::compact")]
    pub v6: AddressSet<Ipv6Addr>,
    /// Members that end by themselves; files never name any.
    #[serde(skip)]
    pub timed: TimedMembers,
    /// Where it is defined.
    pub location: Location,
}

impl Tier {
    /// Whether it holds every address of `member`, members that end aside.
    pub fn covers(&self, member: Member) -> bool {
        match member {
            Member::V4(range) => self.v4.covers(&AddressSet::new(vec![range])),
            Member::V6(range) => self.v6.covers(&AddressSet::new(vec![range])),
        }
    }
}

impl Tier {
    /// Whether an address is a member, for good or for a time.
    pub fn holds(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.v4.contains(address) || self.timed.v4.contains(address),
            IpAddr::V6(address) => self.v6.contains(address) || self.timed.v6.contains(address),
        }
    }
}

/// The names of the tiers that hold an address, for good or for a time.
pub fn tiers_with(
    tiers: &BTreeMap<String, Tier>,
    address: IpAddr,
) -> impl Iterator<Item = &String> {
    tiers.iter().filter(move |(_, tier)| tier.holds(address)).map(|(name, _)| name)
}

/// Members of a tier that the kernel forgets by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TimedMembers {
    /// Its IPv4 members.
    pub v4: TimedSet<Ipv4Addr>,
    /// Its IPv6 members.
    pub v6: TimedSet<Ipv6Addr>,
}

impl TimedMembers {
    /// Forgets those that ended by `now`, in seconds since the epoch.
    pub fn expire(&mut self, now: u64) {
        self.v4.expire(now);
        self.v6.expire(now);
    }
}

/// One `[[allow]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allow {
    /// What identifies it, unique in the policy.
    pub key: AllowKey,
    /// Where it stands (the line of its `[[allow]]` header).
    pub location: Location,
    /// Who may open connections.
    pub from: Endpoint,
    /// To whom.
    pub to: Endpoint,
    /// On what.
    pub service: Service,
    /// On the sender's side, by which users' programs only; empty for any.
    pub users: Vec<User>,
}

/// The identity of an allow: its name, or else its content in one canonical line, such as `web ->
/// app tcp/8080` or `app -> 198.51.100.40 tcp/443 user appuser`. Lists are joined by commas in the
/// order of the file; services stand as they are written there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AllowKey {
    /// `name = "…"`
    Named(String),
    /// The content.
    Content(String),
}

impl fmt::Display for AllowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(text) | Self::Content(text) => f.write_str(text),
        }
    }
}

/// One side of an allow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `"any"`: every address.
    pub any: bool,
    /// `"*"`: every server that loads this policy; as a peer, the union of all tiers.
    pub every_server: bool,
    /// The tiers named.
    pub tiers: BTreeSet<String>,
    /// Literal IPv4 addresses.
    #[serde(with = "ruleset::compact")]
    pub v4: AddressSet<Ipv4Addr>,
    /// Literal IPv6 addresses.
    #[serde(with = "ruleset::compact")]
    pub v6: AddressSet<Ipv6Addr>,
}

/// What an allow opens, resolved from names and literals.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// `"any"`: every protocol and port.
    pub any: bool,
    /// Whole IP protocols, by number.
    pub protocols: BTreeSet<u8>,
    /// Destination ports: sorted, disjoint, not adjacent, never 0.
    pub ports: BTreeMap<Transport, Vec<RangeInclusive<u16>>>,
}

/// Whose programs an allow is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum User {
    /// By number.
    Uid(u32),
    /// By name, looked up where this server is the sender.
    Name {
        /// The account's name.
        name: String,
        /// Where the file names it.
        location: Location,
    },
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uid(uid) => uid.fmt(f),
            Self::Name { name, .. } => f.write_str(name),
        }
    }
}
