//! From what was denied on a server to allows that would let it through, for somebody to choose
//! from.
//!
//! ```text
//! denials ─► sort ─► gather ─► Suggestions ─► words (TOML)
//!             │ place: which tier stands for an address
//!             └► what no allow can say, what passes by now
//! ```
//!
//! An allow that is suggested names nothing that wasn't seen, but for one thing: an address in a
//! tier stands for the narrowest tier that holds it, whose other members may then do the same, and
//! this server for its own tier. So with the suggestions in the policy, a connection passes here
//! that didn't before only if one was seen between the same two words, on the same port and, where
//! it leaves this server, by the same user. `tests/tests/suggest` holds it to that.

mod gather;
mod place;
mod sort;
mod words;

use crate::explain::Server;
use crate::mark::{Fate, Mark};
use crate::model::{Allow, Policy, Service};
use crate::wanted::Wanted;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

pub use sort::SCAN;

/// Connections that were denied, or would have been: all between the same two, for the same, by the
/// same user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The side, and what became of them.
    pub mark: Mark,
    /// Where they came from.
    pub source: IpAddr,
    /// Where they went.
    pub destination: IpAddr,
    /// What they wanted.
    pub wanted: Wanted,
    /// The user whose programs sent them; on output only, and only where a socket did.
    pub user: Option<u32>,
    /// How many.
    pub count: Count,
    /// When the first was seen, in seconds since the epoch.
    pub first: u64,
    /// When the last was seen, in seconds since the epoch.
    pub last: u64,
}

/// How many connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// That somebody tried to open.
    pub connections: u64,
    /// Packets beyond the first of each.
    pub retries: u64,
    /// Packets that may have been counted elsewhere, at most.
    pub uncertain: u64,
}

/// What to write, and what can't be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suggestions<'p> {
    /// The most connections first, but what is in [`Doubt`] last.
    pub allows: Vec<Suggestion<'p>>,
    /// What no allow would let through; the most connections first.
    pub unsayable: Vec<Unsayable>,
    /// What the policy lets through by now; none where nothing was denied that it does.
    pub passing: Option<Evidence>,
}

/// An allow that would let something through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion<'p> {
    /// Who opens it.
    pub from: Side,
    /// To whom.
    pub to: Side,
    /// On what.
    pub service: Service,
    /// By whose programs on this server; none for everybody's.
    pub user: Option<u32>,
    /// Why it shouldn't be allowed without a second look.
    pub doubt: Doubt,
    /// What was seen of it.
    pub evidence: Evidence,
    /// What the servers at the other end do with it so far; none where no server of the policy is
    /// there.
    pub other_end: Option<OtherEnd<'p>>,
}

/// One side of an allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// A tier.
    Tier(String),
    /// Addresses in no tier.
    Addresses(BTreeSet<IpAddr>),
}

/// What makes a suggestion look like an attack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Doubt {
    /// Those who want in are in no tier.
    pub stranger: bool,
    /// It is among more than [`SCAN`] services that the same address tried, or on which the same
    /// address was tried: a scan, or a protocol that chooses its ports.
    pub scan: bool,
}

impl Doubt {
    /// Whether there is none.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// What the servers at the other end of a suggestion do with such a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherEnd<'p> {
    /// Nothing lets it through there: they need the allow too.
    Closed,
    /// This allow does, for some users perhaps.
    Open(&'p Allow),
}

/// What was seen, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Connections that were denied.
    pub denied: u64,
    /// Connections that would have been, if nobody only observed.
    pub would: u64,
    /// Packets beyond the first of each.
    pub retries: u64,
    /// Packets that may have been counted elsewhere, at most.
    pub uncertain: u64,
    /// When the first was seen, in seconds since the epoch.
    pub first: u64,
    /// When the last was seen.
    pub last: u64,
    /// The sides of this server that saw it.
    pub sides: BTreeSet<crate::reach::Direction>,
    /// Where it came from.
    pub sources: BTreeSet<IpAddr>,
    /// Where it went.
    pub destinations: BTreeSet<IpAddr>,
    /// Other tiers that hold an address of the other side; wider ones than the one named.
    pub also: BTreeSet<String>,
}

/// Denials that no allow would have let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsayable {
    /// Why.
    pub reason: Reason,
    /// What they wanted.
    pub wanted: Wanted,
    /// What was seen of them.
    pub evidence: Evidence,
}

/// Why no allow lets something through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It went through this server.
    Forwarded,
    /// Connection tracking called it invalid.
    Invalid,
    /// ICMP, of which an allow opens every type or none.
    IcmpType,
    /// No port to name: port 0, or a fragment.
    NoPort,
    /// A protocol whose number would be taken for a port.
    NoWord,
    /// An IPv4 address in an IPv6 packet.
    Mapped,
    /// It came from one of this server's own addresses.
    Own,
    /// This server's end is in none of its tiers.
    NoTier,
}

/// A clause that ends a sentence.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forwarded => {
                "it went through this server, and allows are about what a server sends and gets: \
                 see `forward`"
            }
            Self::Invalid => {
                "connection tracking knows no connection that it could belong to, and such packets \
                 pass by no allow"
            }
            Self::IcmpType => {
                "an allow opens every type of ICMP or none; what servers need of it is built in"
            }
            Self::NoPort => "it has no port that an allow could name",
            Self::NoWord => "in an allow the number of this protocol would be taken for a port",
            Self::Mapped => "no allow names an IPv4 address in IPv6 clothes",
            Self::Own => {
                "it came in with this server's own address: its own multicast that came back, or \
                 somebody who claims to be it"
            }
            Self::NoTier => {
                "its address on this server is in none of this server's tiers (one of the whole world \
                 doesn't count, and multicast and broadcast are in none): add the address to one, or \
                 name \"*\""
            }
        })
    }
}

impl Policy {
    /// The allows that would let `denials` through on `server`, where the policy doesn't by now.
    /// `users` are the ids of those that it names.
    pub fn suggest(
        &self,
        server: &Server,
        users: &BTreeMap<String, u32>,
        denials: &[Denial],
    ) -> Suggestions<'_> {
        let sorted = sort::sort(self, server, users, denials);
        let allows = gather::gather(self, &sorted.flows);
        Suggestions { allows, unsayable: sorted.unsayable, passing: sorted.passing }
    }
}

impl Evidence {
    fn of(denial: &Denial) -> Self {
        let Count { connections, retries, uncertain } = denial.count;
        let would = matches!(denial.mark.fate, Fate::WouldDeny | Fate::WouldDropInvalid);
        Self {
            denied: if would { 0 } else { connections },
            would: if would { connections } else { 0 },
            retries,
            uncertain,
            first: denial.first,
            last: denial.last,
            sides: sort::direction(denial.mark.hook).into_iter().collect(),
            sources: BTreeSet::from([denial.source]),
            destinations: BTreeSet::from([denial.destination]),
            also: BTreeSet::new(),
        }
    }

    fn add(&mut self, other: &Self) {
        let is_first = self.sources.is_empty();
        self.denied += other.denied;
        self.would += other.would;
        self.retries += other.retries;
        self.uncertain += other.uncertain;
        self.first = if is_first { other.first } else { self.first.min(other.first) };
        self.last = self.last.max(other.last);
        self.sides.extend(&other.sides);
        self.sources.extend(&other.sources);
        self.destinations.extend(&other.destinations);
        self.also.extend(other.also.iter().cloned());
    }

    /// Connections in all.
    pub fn connections(&self) -> u64 {
        self.denied + self.would
    }
}
