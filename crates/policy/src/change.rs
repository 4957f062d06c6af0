//! What the step from one table to another means, in the words of the policy: who can reach whom
//! now and couldn't before, and the other way round.

use crate::model::{Allow, Policy};
use crate::reach::{Direction, Opening, Reach, set_of_tier, tier_of_set};
use crate::role::Role;
use ruleset::{Address, AddressSet, Elements, Family, Operation, Plan, Ruleset, TimedSet};
use std::cell::LazyCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Members of a tier named in full in a line; more are counted.
const MEMBERS_SHOWN: usize = 8;

/// A step from one table to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What passed before.
    pub before: Reach,
    /// What passes after.
    pub after: Reach,
    /// Addresses that tiers gain and lose; tiers without a change are missing. Under `*` stand those of
    /// tiers that have no set of their own, since only `"*"` means them here.
    pub members: BTreeMap<String, Members>,
}

/// The addresses that a tier gains and loses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Members {
    pub gained: Addresses,
    pub lost: Addresses,
}

/// Addresses of both families.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Addresses {
    pub v4: AddressSet<Ipv4Addr>,
    pub v6: AddressSet<Ipv6Addr>,
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
    /// What `plan` does, which leads from `before` to `after`.
    pub fn of(before: &Ruleset, plan: &Plan, after: &Ruleset) -> Self {
        let members = members(before, plan);
        if plan.is_elements_only() && members_only(plan) {
            // The same traffic between other addresses: nothing to compare.
            return Self { members, ..Self::default() };
        }
        Self { before: Reach::of(before), after: Reach::of(after), members }
    }

    /// What passes after and didn't before.
    pub fn gained(&self) -> impl Iterator<Item = &Opening> {
        self.after.openings.difference(&self.before.openings)
    }

    /// What passed before and doesn't after.
    pub fn lost(&self) -> impl Iterator<Item = &Opening> {
        self.before.openings.difference(&self.after.openings)
    }

    /// The change as sentences about a server of `role`, under the new `policy`.
    pub fn lines(&self, policy: &Policy, role: &Role) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut say = |sign, text: String| lines.push(Line { sign, text });
        for direction in Direction::BOTH {
            let was = self.before.open.contains(&direction);
            let is = self.after.open.contains(&direction);
            if was && !is {
                let what = "was open to everything; now only what allows name passes";
                say(Sign::Less, format!("{direction} {what}"));
            } else if is && !was {
                say(Sign::More, format!("{direction} is now open to everything"));
            }
        }
        // Most changes are of members, and need none.
        let allows = LazyCell::new(|| policy.allows_by_comment());
        self.gained().for_each(|opening| say(Sign::More, opening.gained(&allows, role)));
        self.lost().for_each(|opening| say(Sign::Less, opening.lost(role)));
        for (tier, Members { gained, lost }) in &self.members {
            let tier = if tier == "*" { "\"*\"" } else { tier };
            if !gained.is_empty() {
                say(Sign::More, format!("{tier} gains {gained}"));
            }
            if !lost.is_empty() {
                say(Sign::Less, format!("{tier} loses {lost}"));
            }
        }
        lines
    }
}

impl Opening {
    /// That this is open now. `allows` are those of the policy by comment.
    pub fn gained(&self, allows: &HashMap<String, &Allow>, role: &Role) -> String {
        let Self { peer, service, .. } = self;
        let (own, by) = (own_name(role), self.by());
        let place = allows.get(&self.comment);
        let place = place.map(|allow| format!("  ({})", allow.location)).unwrap_or_default();
        match self.direction {
            Direction::Input => format!("{own} is now reachable from {peer} on {service}{place}"),
            Direction::Output => format!("{own} may now open {service} to {peer}{by}{place}"),
        }
    }

    /// That this is no longer open.
    pub fn lost(&self, role: &Role) -> String {
        let Self { peer, service, .. } = self;
        let (own, by) = (own_name(role), self.by());
        match self.direction {
            Direction::Input => format!("{own} is no longer reachable from {peer} on {service}"),
            Direction::Output => format!("{own} may no longer open {service} to {peer}{by}"),
        }
    }

    fn by(&self) -> String {
        let users: Vec<String> = self.users.iter().map(|uid| format!("user {uid}")).collect();
        if users.is_empty() { String::new() } else { format!(" by {}", users.join(", ")) }
    }
}

fn own_name(role: &Role) -> String {
    let tiers: Vec<&str> = role.tiers.iter().map(String::as_str).collect();
    if tiers.is_empty() { "this server".into() } else { tiers.join(", ") }
}

/// Whether every set that the plan changes is a tier's.
fn members_only(plan: &Plan) -> bool {
    plan.operations.iter().all(|operation| match operation {
        Operation::AddElements { set, .. }
        | Operation::DeleteElements { set, .. }
        | Operation::FlushSet { set } => tier_of_set(set).is_some(),
        _ => false,
    })
}

/// Member changes of the tiers that the table knows before and after: addresses, not elements, since a
/// range that grows is another element to the kernel. Of a set that wasn't read nobody knows.
fn members(before: &Ruleset, plan: &Plan) -> BTreeMap<String, Members> {
    let made = |set: &String| {
        plan.operations.iter().any(
            |operation| matches!(operation, Operation::AddSet { set: made, .. } if made == set),
        )
    };
    let held = |set: &String| Some(&before.table.as_ref()?.sets.get(set)?.elements);
    let unread = |set: &String| held(set).is_some_and(Elements::are_unread);
    let mut changes: BTreeMap<&str, [Addresses; 2]> = BTreeMap::new();
    for operation in &plan.operations {
        let (set, elements, side) = match operation {
            Operation::AddElements { set, .. } if unread(set) => continue,
            Operation::AddElements { set, elements, .. } => (set, Some(elements), 0),
            Operation::DeleteElements { set, elements, .. } => (set, Some(elements), 1),
            Operation::FlushSet { set } => (set, held(set), 1),
            _ => continue,
        };
        let Some(tier) = tier_of_set(set) else { continue };
        if made(&set_of_tier(tier, Family::V4)) {
            continue;
        }
        if let Some(elements) = elements {
            changes.entry(tier).or_default()[side].extend(elements);
        }
    }
    let tiers = changes.into_iter().map(|(tier, [added, deleted])| {
        let members = Members { gained: added.without(&deleted), lost: deleted.without(&added) };
        (tier.to_owned(), members)
    });
    let mut tiers: BTreeMap<String, Members> = tiers.collect();
    // Of every server only what no tier says that has a set of its own.
    if let Some(Members { mut gained, mut lost }) = tiers.remove("*") {
        for of_tier in tiers.values() {
            gained = gained.without(&of_tier.gained);
            lost = lost.without(&of_tier.lost);
        }
        tiers.insert("*".to_owned(), Members { gained, lost });
    }
    tiers.retain(|_, members| *members != Members::default());
    tiers
}

fn ranges<A: Address>(set: &TimedSet<A>) -> AddressSet<A> {
    set.elements().map(|(range, _)| *range).collect()
}

impl Addresses {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// All of them, as they are written in a policy.
    pub fn ranges(&self) -> impl Iterator<Item = String> {
        let v4 = self.v4.ranges().map(|range| range.to_string());
        v4.chain(self.v6.ranges().map(|range| range.to_string()))
    }

    fn extend(&mut self, elements: &Elements) {
        match elements {
            Elements::Ipv4(set) => self.v4 = self.v4.union(set),
            Elements::Ipv6(set) => self.v6 = self.v6.union(set),
            Elements::TimedIpv4(set) => self.v4 = self.v4.union(&ranges(set)),
            Elements::TimedIpv6(set) => self.v6 = self.v6.union(&ranges(set)),
            _ => {}
        }
    }

    pub(crate) fn without(&self, others: &Self) -> Self {
        Self { v4: self.v4.minus(&others.v4), v6: self.v6.minus(&others.v6) }
    }
}

/// The first few, and how many more ranges.
impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.ranges().take(MEMBERS_SHOWN).collect();
        f.write_str(&shown.join(", "))?;
        match self.v4.len() + self.v6.len() - shown.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
