//! Under `watch = "members"`: what of an edited policy applies by itself, and what waits.
//!
//! Members flow, rules are a decision. The enforced policy takes the members of the edited one,
//! tier by tier; everything else stays until somebody says `reload`.

use crate::model::{Allow, Policy, RoleSetting};
use std::collections::BTreeMap;

impl Policy {
    /// This policy with the members that `edited` gives its tiers. A tier that `edited` lacks
    /// keeps its members, since allows here still name it.
    pub fn with_members_of(&self, edited: &Self) -> Self {
        let mut merged = self.clone();
        for (name, tier) in &mut merged.tiers {
            if let Some(edited) = edited.tiers.get(name) {
                *tier = edited.clone();
            }
        }
        merged
    }

    /// What differs between this policy and `edited` beside members and places: a line each, for
    /// `status`. Empty where a reload would change no rule.
    pub fn waiting(&self, edited: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let settings = [
            ("role", tiers_of(&self.role) != tiers_of(&edited.role)),
            ("watch", self.watch != edited.watch),
            ("boot", self.boot != edited.boot),
            ("deny", self.deny != edited.deny),
            ("mode", self.mode != edited.mode),
            ("forward", self.forward != edited.forward),
            ("ownership", self.ownership != edited.ownership),
            ("guard", self.guarded != edited.guarded),
        ];
        let changed = settings.into_iter().filter(|(_, changed)| *changed);
        lines.extend(changed.map(|(setting, _)| format!("the setting {setting} changes")));
        let missing = |from: &Self, other: &Self, what: &str| -> Vec<String> {
            let tiers = from.tiers.keys().filter(|name| !other.tiers.contains_key(*name));
            tiers.map(|name| format!("the tier {name} is {what}")).collect()
        };
        lines.extend(missing(edited, self, "new"));
        lines.extend(missing(self, edited, "removed"));

        let (old, new) = (by_key(self), by_key(edited));
        for (key, allow) in &new {
            match old.get(key) {
                None => lines.push(format!("new allow: {key} ({})", allow.location)),
                Some(old) if !same(old, allow) => {
                    lines.push(format!("changed allow: {key} ({})", allow.location));
                }
                Some(_) => {}
            }
        }
        let removed = old.keys().filter(|key| !new.contains_key(*key));
        lines.extend(removed.map(|key| format!("removed allow: {key}")));
        lines
    }
}

fn tiers_of(role: &RoleSetting) -> Option<&std::collections::BTreeSet<String>> {
    match role {
        RoleSetting::Auto => None,
        RoleSetting::Tiers { tiers, .. } => Some(tiers),
    }
}

fn by_key(policy: &Policy) -> BTreeMap<String, &Allow> {
    policy.allows.iter().map(|allow| (allow.key.to_string(), allow)).collect()
}

/// Whether two allows mean the same, wherever they stand.
fn same(a: &Allow, b: &Allow) -> bool {
    let users = |allow: &Allow| -> Vec<String> {
        allow.users.iter().map(|user| user.to_string()).collect()
    };
    a.from == b.from && a.to == b.to && a.service == b.service && users(a) == users(b)
}
