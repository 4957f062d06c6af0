//! Under `watch = "members"`: what of an edited policy applies by itself, and what waits.
//!
//! Members flow, rules are a decision. The enforced policy takes the members of the edited one,
//! tier by tier; everything else stays until somebody says `reload`.

use crate::location::Location;
use crate::model::{Allow, Policy, RoleSetting, Service, Tier, TimedMembers, User};
use ruleset::AddressSet;
use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

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

    /// The same policy, whose tiers share with those of another what both hold.
    pub fn sharing_members_with(mut self, other: &Self) -> Self {
        for (name, tier) in &mut self.tiers {
            if let Some(other) = other.tiers.get(name) {
                tier.v4 = tier.v4.sharing(&other.v4);
                tier.v6 = tier.v6.sharing(&other.v6);
            }
        }
        self
    }

    /// This policy with what the step `from` one policy `to` another adds to its tiers and takes
    /// from them. Tiers that one of the two lacks stay as they are.
    pub fn with_member_changes(&self, from: &Self, to: &Self) -> Self {
        let mut changed = self.clone();
        for (name, tier) in &mut changed.tiers {
            if let (Some(from), Some(to)) = (from.tiers.get(name), to.tiers.get(name)) {
                if from.v4 != to.v4 {
                    tier.v4 = tier.v4.minus(&from.v4.minus(&to.v4)).union(&to.v4.minus(&from.v4));
                }
                if from.v6 != to.v6 {
                    tier.v6 = tier.v6.minus(&from.v6.minus(&to.v6)).union(&to.v6.minus(&from.v6));
                }
            }
        }
        changed
    }

    /// Whether this policy and `other` are written alike but for what is in their tiers.
    pub fn is_alike_but_for_members(&self, other: &Self) -> bool {
        self.role == other.role
            && self.watch == other.watch
            && self.boot == other.boot
            && self.deny == other.deny
            && self.mode == other.mode
            && self.forward == other.forward
            && self.ownership == other.ownership
            && self.kernel_log == other.kernel_log
            && self.guarded == other.guarded
            && self.rollback_on_denials == other.rollback_on_denials
            && self.confirm == other.confirm
            && self.metrics == other.metrics
            && self.tiers.keys().eq(other.tiers.keys())
            && self.allows == other.allows
    }

    /// Whether the tiers of both hold the same addresses.
    pub fn has_members_of(&self, other: &Self) -> bool {
        self.tiers.len() == other.tiers.len()
            && self.tiers.iter().all(|(name, tier)| {
                let same = |other: &Tier| tier.v4 == other.v4 && tier.v6 == other.v6;
                other.tiers.get(name).is_some_and(same)
            })
    }

    /// What of this policy isn't members or places: the same value for two policies between which
    /// nothing [waits](Policy::waiting). Its allows are in the order of their keys, its places
    /// nowhere.
    pub fn rules(&self) -> Self {
        let nowhere = Location { file: Arc::new(PathBuf::new()), line: 1, column: 1 };
        let empty = Tier {
            v4: AddressSet::default(),
            v6: AddressSet::default(),
            timed: TimedMembers::default(),
            location: nowhere.clone(),
        };
        let role = match &self.role {
            RoleSetting::Tiers { tiers, location: _ } => {
                RoleSetting::Tiers { tiers: tiers.clone(), location: nowhere.clone() }
            }
            auto @ (RoleSetting::Auto | RoleSetting::AutoAny) => auto.clone(),
        };
        let placed = |allow: &Allow| {
            let users = allow.users.iter().map(|user| match user {
                User::Uid(uid) => User::Uid(*uid),
                User::Name { name, .. } => {
                    User::Name { name: name.clone(), location: nowhere.clone() }
                }
            });
            Allow { location: nowhere.clone(), users: users.collect(), ..allow.clone() }
        };
        let mut allows: Vec<Allow> = self.allows.iter().map(placed).collect();
        allows.sort_by_cached_key(|allow| allow.key.to_string());
        let tiers = self.tiers.keys().map(|name| (name.clone(), empty.clone())).collect();
        Self { role, tiers, allows, ..self.clone() }
    }

    /// What `[guard]` says.
    fn guard(&self) -> (&Service, Option<NonZeroU32>) {
        (&self.guarded, self.rollback_on_denials)
    }

    /// What differs between this policy and `edited` beside members and places: a line each, for
    /// `status`. Empty where a reload would change no rule.
    pub fn waiting(&self, edited: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        let settings = [
            ("role", !same_role(&self.role, &edited.role)),
            ("watch", self.watch != edited.watch),
            ("boot", self.boot != edited.boot),
            ("deny", self.deny != edited.deny),
            ("mode", self.mode != edited.mode),
            ("forward", self.forward != edited.forward),
            ("ownership", self.ownership != edited.ownership),
            ("kernel_log", self.kernel_log != edited.kernel_log),
            ("guard", self.guard() != edited.guard()),
            ("confirm", self.confirm != edited.confirm),
            ("metrics", self.metrics != edited.metrics),
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

/// Whether two settings mean the same, wherever they stand.
fn same_role(a: &RoleSetting, b: &RoleSetting) -> bool {
    match (a, b) {
        (
            RoleSetting::Tiers { tiers: a, location: _ },
            RoleSetting::Tiers { tiers: b, location: _ },
        ) => a == b,
        (a, b) => a == b,
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

#[cfg(test)]
mod tests {
    use crate::model::Policy;
    use crate::{Options, load_text};
    use std::path::Path;

    fn policy(text: &str) -> Policy {
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    fn tiers(policy: &Policy) -> Vec<String> {
        policy.tiers.values().map(|tier| format!("{} {}", tier.v4, tier.v6)).collect()
    }

    #[test]
    fn a_step_of_members_is_taken_along_by_another_policy() {
        let text = |app: &str, web: &str| {
            policy(&format!(
                "[tiers]\napp = [{app}]\nweb = [{web}]\n[[allow]]\nfrom = \"app\"\nto = \
                 \"web\"\nservice = \"any\"\n"
            ))
        };
        let from = text("\"10.0.0.1\"", "\"10.0.1.0/24\", \"2001:db8::1\"");
        let to = text("\"10.0.0.2\"", "\"10.0.1.0/25\", \"2001:db8::2\"");
        let other = text("\"10.0.0.1\", \"10.0.0.9\"", "\"10.0.0.0/16\"");
        let expected = text(
            "\"10.0.0.2\", \"10.0.0.9\"",
            "\"10.0.0.0/24\", \"10.0.1.0/25\", \"10.0.2.0-10.0.255.255\", \"2001:db8::2\"",
        );
        assert_eq!(tiers(&other.with_member_changes(&from, &to)), tiers(&expected));
        assert_eq!(tiers(&from.with_member_changes(&from, &to)), tiers(&to));
        assert!(!from.has_members_of(&to) && from.with_members_of(&to).has_members_of(&to));
    }

    #[test]
    fn rules_are_the_same_where_nothing_waits() {
        const ALLOW: &str = "[[allow]]\nfrom = \"any\"\nto = \"web\"\nservice = \"tcp/80\"\n";
        const NAMED: &str = "[[allow]]\nname = \"x\"\nfrom = \"web\"\nto = \"any\"\nservice = \
                             \"tcp/25\"\nuser = [\"root\", 8]\n";
        let text = |settings: &str, members: &str, allows: &[&str]| {
            policy(&format!("{settings}[tiers]\nweb = [{members}]\n{}", allows.concat()))
        };
        let one = text("role = \"web\"\n", "\"10.0.0.1\"", &[ALLOW, NAMED]);
        let moved = text("\n\nrole = \"web\"\n", "\"10.0.0.2\"", &[NAMED, "\n", ALLOW]);
        assert_eq!(one.waiting(&moved), Vec::<String>::new());
        assert!(one.rules() == moved.rules() && one != moved);
        assert!(one.rules().is_sound());
        let named = NAMED.replace("8]", "9]");
        for other in [
            text("role = \"web\"\nconfirm = \"60s\"\n", "\"10.0.0.1\"", &[ALLOW, NAMED]),
            text("", "\"10.0.0.1\"", &[ALLOW, NAMED]),
            text("role = \"web\"\n", "\"10.0.0.1\"", &[ALLOW, &named]),
            text("role = \"web\"\n", "\"10.0.0.1\"", &[ALLOW]),
            text("role = \"web\"\n", "\"10.0.0.1\"", &[ALLOW, NAMED, "[services]\n"]),
        ] {
            assert_eq!(one.waiting(&other).is_empty(), one.rules() == other.rules());
        }
    }
}
