//! What a compiled table opens, read back from the table itself: who may reach this server on
//! what, and what it may open to whom.
//!
//! This works on any table that [`compile`](crate::compile()) made, the one in the kernel
//! included, so that a change can be told in the words of the policy although the policy behind
//! the old state is gone.

mod read;

pub(crate) use read::EVERY;
pub use read::tier_of_set;

use crate::addresses::Addresses;
use crate::model::Service;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The direction of an opening, as this server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// Others to this server.
    Input,
    /// This server to others.
    Output,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Input, Self::Output];

    fn chain(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.chain())
    }
}

/// What a table lets through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Directions in which everything passes: no table, mode off or mode observe.
    pub open: BTreeSet<Direction>,
    /// Whether packets pass through this server that are for others.
    pub forwards: bool,
    /// What allows open, for each what its chain opens to each peer.
    pub openings: Vec<Opening>,
    /// The tiers that the table knows, with their members; those of all together as `*`.
    pub tiers: BTreeMap<String, Addresses>,
    /// Tiers of which a part wasn't read ([`Elements::Unread`](ruleset::Elements::Unread)), so that
    /// nobody knows all of their members.
    pub unread: BTreeSet<String>,
}

/// One thing that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// Which way.
    pub direction: Direction,
    /// For whom on this server.
    pub scope: Scope,
    /// The other side.
    pub peer: Peer,
    /// On what.
    pub service: Service,
    /// The comment of the allow that opens it.
    pub comment: String,
}

/// For whom on this server something is open.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All of it.
    Server,
    /// The addresses of it that these tiers hold, under `role = "auto"`. At least one.
    Tiers(BTreeSet<String>),
    /// Programs of these users, by their ids. At least one.
    Users(BTreeSet<u32>),
}

/// The other side of an opening.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Peer {
    /// The members of a tier.
    Tier(String),
    /// Addresses.
    Addresses(Addresses),
}

impl Opening {
    /// The other side in words, one for each tier or range: `web`, `10.0.0.0/8`, `any`.
    pub fn peers(&self) -> Vec<String> {
        match &self.peer {
            Peer::Tier(name) => vec![name.clone()],
            Peer::Addresses(all) if *all == Addresses::every() => vec!["any".into()],
            Peer::Addresses(addresses) => addresses.ranges().collect(),
        }
    }

    /// The users that it is for, where not for all.
    pub fn users(&self) -> Vec<u32> {
        match &self.scope {
            Scope::Users(users) => users.iter().copied().collect(),
            Scope::Server | Scope::Tiers(_) => Vec::new(),
        }
    }
}

impl Reach {
    /// The addresses of a peer, as far as they are known.
    pub fn addresses(&self, peer: &Peer) -> Addresses {
        match peer {
            Peer::Tier(name) => self.tiers.get(name).cloned().unwrap_or_default(),
            Peer::Addresses(addresses) => addresses.clone(),
        }
    }
}
