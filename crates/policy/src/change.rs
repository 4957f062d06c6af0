//! What the step from one table to another means, in the words of the policy: who can reach whom
//! now and couldn't before, and the other way round.
//!
//! What is compared is what gets through, not the allows: a text that says the same otherwise is no
//! change. Applied to what the old table lets through, the lines give what the new one does; a
//! property test holds them to that.

mod compare;
mod group;
mod peers;
mod services;
mod words;

pub use compare::Part;
pub use peers::Peers;
pub use words::Words;

use crate::addresses::Addresses;
use crate::model::Service;
use crate::reach::{Direction, EVERY, Peer, Reach, Scope};
use compare::{AllMembers, Comparison};
use ruleset::Ruleset;
use std::collections::{BTreeMap, BTreeSet};

/// A step from one table to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What becomes of each direction.
    pub sides: BTreeMap<Direction, Side>,
    /// Whether packets for others pass from now on, where that changes.
    pub forwards: Option<bool>,
    /// What is open after and wasn't before, besides what members gain.
    pub gained: Vec<Step>,
    /// What was open before and isn't after, besides what members lose.
    pub lost: Vec<Step>,
    /// Addresses that tiers gain and lose, and with them all that the tier has before and after. Under
    /// `*` stand those of tiers that have no set of their own, since only `"*"` means them here.
    pub members: BTreeMap<String, Members>,
}

/// What becomes of a direction as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Only what allows name passed before, and does after.
    Closed,
    /// Everything passed, and does.
    Open,
    /// Everything passed; now only what allows name.
    Closes,
    /// Only what allows name passed; now everything does.
    Opens,
}

/// Something that is opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which way.
    pub direction: Direction,
    /// For whom on this server.
    pub scopes: Scopes,
    /// The other side.
    pub peers: Peers,
    /// On what: `tcp/8080`, `udp/1000-2000`, `gre`, `any`, `any except tcp/22`.
    pub services: Vec<String>,
    /// The comments of the allows that open it.
    pub comments: BTreeSet<String>,
}

/// For whom on this server something is opened or closed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scopes {
    /// All of it but these parts.
    AllBut(BTreeSet<Part>),
    /// These parts.
    Only(BTreeSet<Part>),
}

/// The addresses that a tier gains and loses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Members {
    pub gained: Addresses,
    pub lost: Addresses,
}

/// Which way a line goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sign {
    /// Something passes that didn't.
    More,
    /// Something passes no longer.
    Less,
}

/// One line of a change for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which way.
    pub sign: Sign,
    /// The sentence.
    pub text: String,
}

impl Change {
    /// What leads from `before` to `after`.
    pub fn of(before: &Ruleset, after: &Ruleset) -> Self {
        Self::between(Reach::of(before), &Reach::of(after))
    }

    /// What leads from one reach to another. Of a tier whose members weren't read before nobody
    /// knows what it gains and loses.
    pub fn between(mut before: Reach, after: &Reach) -> Self {
        let unread = std::mem::take(&mut before.unread);
        for tier in &unread {
            if let Some(members) = after.tiers.get(tier) {
                before.tiers.insert(tier.clone(), members.clone());
            }
        }
        let mut members = scopes_of_tiers(&before, after);
        let comparisons =
            Direction::BOTH.map(|direction| Comparison::of(direction, &before, after));
        for comparison in &comparisons {
            comparison.tell_members(&mut members);
        }
        // Of every server only what no tier says that is told of.
        if let Some(Members { mut gained, mut lost }) = members.remove(EVERY) {
            for of_tier in members.values() {
                gained = gained.minus(&of_tier.gained);
                lost = lost.minus(&of_tier.lost);
            }
            members.insert(EVERY.to_owned(), Members { gained, lost });
        }
        members.retain(|_, members| *members != Members::default());
        let (names_before, names_after) = (names(&before), names(after));
        let (mut gained, mut lost) = (Vec::new(), Vec::new());
        for comparison in &comparisons {
            let (more, less) = comparison.steps(&members, [&names_before, &names_after]);
            gained.extend(more);
            lost.extend(less);
        }
        lost.extend(lost_unread(&before, after, &unread));
        let key = |step: &Step| (step.direction, step.peers.to_string(), step.services.clone());
        gained.sort_by_cached_key(key);
        lost.sort_by_cached_key(key);
        let side = |direction: Direction| match (
            before.open.contains(&direction),
            after.open.contains(&direction),
        ) {
            (false, false) => Side::Closed,
            (true, true) => Side::Open,
            (true, false) => Side::Closes,
            (false, true) => Side::Opens,
        };
        Self {
            sides: Direction::BOTH.map(|direction| (direction, side(direction))).into(),
            forwards: (before.forwards != after.forwards).then_some(after.forwards),
            gained,
            lost,
            members,
        }
    }
}

fn names(reach: &Reach) -> Vec<(&str, &Addresses)> {
    reach.tiers.iter().map(|(name, tier)| (name.as_str(), tier)).collect()
}

/// The members that tiers of this server itself gain and lose, which decide at which of its
/// addresses it is reached under `role = "auto"`.
fn scopes_of_tiers(before: &Reach, after: &Reach) -> AllMembers {
    let own = |reach: &Reach| -> BTreeSet<String> {
        let scopes = reach.openings.iter().filter_map(|opening| match &opening.scope {
            Scope::Tiers(tiers) => Some(tiers),
            Scope::Server | Scope::Users(_) => None,
        });
        scopes.flatten().cloned().collect()
    };
    let both = &own(before) & &own(after);
    let changes = both.into_iter().filter_map(|tier| {
        let (was, is) = (before.tiers.get(&tier)?, after.tiers.get(&tier)?);
        Some((tier, Members { gained: is.minus(was), lost: was.minus(is) }))
    });
    changes.collect()
}

/// What a tier loses that nobody knows the members of, and that is gone.
fn lost_unread(before: &Reach, after: &Reach, unread: &BTreeSet<String>) -> Vec<Step> {
    let mut lost: BTreeMap<(Direction, Scope, &str), Service> = BTreeMap::new();
    for opening in &before.openings {
        match &opening.peer {
            Peer::Tier(tier) if unread.contains(tier) && !after.tiers.contains_key(tier) => {
                let key = (opening.direction, opening.scope.clone(), tier.as_str());
                let service = lost.entry(key).or_default();
                *service = service.union(&opening.service);
            }
            _ => {}
        }
    }
    let steps = lost.into_iter().map(|((direction, scope, tier), service)| Step {
        direction,
        scopes: match scope {
            Scope::Server => Scopes::AllBut(BTreeSet::new()),
            Scope::Tiers(tiers) => Scopes::Only(tiers.into_iter().map(Part::Tier).collect()),
            Scope::Users(users) => Scopes::Only(users.into_iter().map(Part::User).collect()),
        },
        peers: Peers::tier(tier),
        services: service.names(),
        comments: BTreeSet::new(),
    });
    steps.collect()
}
