//! A change as sentences, about one server.

use crate::change::{Change, Line, Members, Part, Scopes, Side, Sign, Step};
use crate::model::{Allow, Policy};
use crate::reach::{Direction, EVERY};
use crate::role::Role;
use crate::user::UserNames;
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};

/// A change, and what it takes to tell it.
pub struct Words<'a> {
    change: &'a Change,
    policy: &'a Policy,
    role: &'a Role,
    users: &'a UserNames,
    /// Most changes are of members, and need none.
    allows: OnceCell<HashMap<String, &'a Allow>>,
}

impl Change {
    /// The sentences of it about a server of `role`, under the new `policy`. `users` are the names of
    /// both policies: what is lost is told as well.
    pub fn words<'a>(
        &'a self,
        policy: &'a Policy,
        role: &'a Role,
        users: &'a UserNames,
    ) -> Words<'a> {
        Words { change: self, policy, role, users, allows: OnceCell::new() }
    }
}

impl Words<'_> {
    /// A line for each thing that changes.
    pub fn lines(&self) -> Vec<Line> {
        let Change { sides, forwards, gained, lost, members } = self.change;
        let mut lines = Vec::new();
        let mut say = |sign, text: String| lines.push(Line { sign, text });
        for (direction, side) in sides {
            match side {
                Side::Closed | Side::Open => {}
                Side::Closes => {
                    let what = "was open to everything; now only what allows name passes";
                    say(Sign::Less, format!("{direction} {what}"));
                }
                Side::Opens => say(Sign::More, format!("{direction} is now open to everything")),
            }
        }
        match forwards {
            Some(true) => say(Sign::More, "packets through this server now pass".into()),
            Some(false) => say(Sign::Less, "packets through this server are now dropped".into()),
            None => {}
        }
        gained.iter().for_each(|step| say(Sign::More, self.gain(step)));
        lost.iter().for_each(|step| say(Sign::Less, self.loss(step)));
        for (tier, Members { gained, lost }) in members {
            let tier = if tier == EVERY { "\"*\"" } else { tier };
            if !gained.is_empty() {
                say(Sign::More, format!("{tier} gains {gained}"));
            }
            if !lost.is_empty() {
                say(Sign::Less, format!("{tier} loses {lost}"));
            }
        }
        lines
    }

    fn side(&self, direction: Direction) -> Side {
        self.change.sides.get(&direction).copied().unwrap_or(Side::Closed)
    }

    /// That this is open after, and by which line.
    pub fn gain(&self, step: &Step) -> String {
        let Step { direction, peers, .. } = step;
        let (services, (own, is)) = (step.services.join(", "), self.own(step));
        let by = self.by(step);
        let what = match (direction, self.side(*direction)) {
            (Direction::Input, Side::Closes) => {
                format!("{own} {is} reachable from {peers} on {services}")
            }
            (Direction::Output, Side::Closes) => {
                format!("{own} may open {services} to {peers}{by}")
            }
            (Direction::Input, Side::Closed) => {
                format!("{own} {is} now reachable from {peers} on {services}")
            }
            (Direction::Output, Side::Closed) => {
                format!("{own} may now open {services} to {peers}{by}")
            }
            (Direction::Input, Side::Open | Side::Opens) => {
                format!("an allow lets {peers} reach {own} on {services}; input is open to all")
            }
            (Direction::Output, Side::Open | Side::Opens) => {
                format!("an allow lets {own} open {services} to {peers}{by}; output is open to all")
            }
        };
        what + &self.place(step)
    }

    /// That this isn't open after.
    pub fn loss(&self, step: &Step) -> String {
        let Step { direction, peers, .. } = step;
        let (services, (own, is)) = (step.services.join(", "), self.own(step));
        let by = self.by(step);
        match (direction, self.side(*direction)) {
            (Direction::Input, Side::Closed | Side::Closes) => {
                format!("{own} {is} no longer reachable from {peers} on {services}{by}")
            }
            (Direction::Output, Side::Closed | Side::Closes) => {
                format!("{own} may no longer open {services} to {peers}{by}")
            }
            (Direction::Input, Side::Open | Side::Opens) => {
                format!(
                    "no allow lets {peers} reach {own} on {services}{by} any more; input is open to all"
                )
            }
            (Direction::Output, Side::Open | Side::Opens) => {
                format!(
                    "no allow lets {own} open {services} to {peers}{by} any more; output is open to all"
                )
            }
        }
    }

    /// What of this server it is about, and its verb.
    fn own(&self, step: &Step) -> (String, &'static str) {
        match &step.scopes {
            Scopes::Only(parts) if step.direction == Direction::Input => {
                let is = if parts.len() == 1 { "is" } else { "are" };
                (self.list(parts, " and "), is)
            }
            _ => match Vec::from_iter(&self.role.tiers)[..] {
                [tier] => (tier.clone(), "is"),
                _ => ("this server".into(), "is"),
            },
        }
    }

    /// By whose programs; as which tier it stays.
    fn by(&self, step: &Step) -> String {
        match (&step.scopes, step.direction) {
            (Scopes::Only(users), Direction::Output) => format!(" by {}", self.list(users, ", ")),
            (Scopes::AllBut(parts), _) if parts.is_empty() => String::new(),
            (Scopes::AllBut(users), Direction::Output) => {
                format!(" except by {}", self.list(users, ", "))
            }
            (Scopes::AllBut(tiers), Direction::Input) => {
                format!(" except as {}", self.list(tiers, ", "))
            }
            (Scopes::Only(_), Direction::Input) => String::new(),
        }
    }

    fn list(&self, parts: &BTreeSet<Part>, with: &str) -> String {
        parts.iter().map(|part| self.part(part)).collect::<Vec<_>>().join(with)
    }

    /// A tier's name, or `user` with the name that a policy gives it.
    pub fn part(&self, part: &Part) -> String {
        match part {
            Part::Tier(tier) => tier.clone(),
            Part::User(uid) => self.users.words(*uid),
        }
    }

    /// Where the allows stand that open it.
    fn place(&self, step: &Step) -> String {
        let allows = self.allows.get_or_init(|| self.policy.allows_by_comment());
        let mut places: Vec<_> =
            step.comments.iter().filter_map(|c| Some(&allows.get(c)?.location)).collect();
        places.sort();
        match places[..] {
            [] => String::new(),
            [only] => format!("  ({only})"),
            [first, ..] => format!("  ({first} and {} more)", places.len() - 1),
        }
    }
}
