//! Whether a policy that was not made from files is one: what its fields' types leave open.
//!
//! A load makes sound policies only. One that was kept somewhere is judged before it is used,
//! since everybody relies on what [`model`](crate::model) says of its values.

use crate::location::Location;
use crate::model::{Allow, Endpoint, Policy, RoleSetting, Service, User};
use std::collections::BTreeSet;

impl Policy {
    /// Whether every tier that is named exists, keys are unique, ports are merged, and places can
    /// be places.
    pub fn is_sound(&self) -> bool {
        let is_known =
            |names: &BTreeSet<String>| names.iter().all(|name| self.tiers.contains_key(name));
        let is_side = |side: &Endpoint| is_known(&side.tiers);
        let role = match &self.role {
            RoleSetting::Auto | RoleSetting::AutoAny => true,
            RoleSetting::Tiers { tiers, location } => {
                !tiers.is_empty() && is_known(tiers) && is_place(location)
            }
        };
        let keys: BTreeSet<_> = self.allows.iter().map(|allow| &allow.key).collect();
        role && keys.len() == self.allows.len()
            && has_merged_ports(&self.guarded)
            && self.metrics.textfile.as_ref().is_none_or(|path| path.is_absolute())
            && self.tiers.values().all(|tier| is_place(&tier.location))
            && self.allows.iter().all(|allow| {
                let Allow { key: _, location, from, to, service, users } = allow;
                is_place(location)
                    && is_side(from)
                    && is_side(to)
                    && has_merged_ports(service)
                    && users.iter().all(is_user)
            })
    }
}

fn is_place(location: &Location) -> bool {
    location.line > 0 && location.column > 0
}

fn is_user(user: &User) -> bool {
    match user {
        User::Uid(_) => true,
        User::Name { location, .. } => is_place(location),
    }
}

fn has_merged_ports(service: &Service) -> bool {
    service.ports.values().all(|ranges| {
        let mut free = 1;
        ranges.iter().all(|range| {
            let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
            let is_behind = first >= free && first <= last;
            // The next one neither overlaps nor touches it.
            free = last + 2;
            is_behind
        })
    })
}

#[cfg(test)]
mod tests {
    use crate::model::{Policy, RoleSetting, User};
    use crate::{Options, load_text};
    use ruleset::Transport;
    use std::path::Path;

    fn policy() -> Policy {
        let text = include_str!("../tests/good/everything.toml");
        let options = Options { check_permissions: false, ..Options::default() };
        load_text(Path::new("tests/good/everything.toml"), text, &options).policy.expect("good")
    }

    #[test]
    fn what_a_load_makes_is_sound() {
        assert!(policy().is_sound());
    }

    #[test]
    fn what_no_load_makes_is_not() {
        let spoilt: [fn(&mut Policy); 9] = [
            |policy| policy.tiers.clear(),
            |policy| policy.allows.push(policy.allows[0].clone()),
            |policy| policy.allows[0].location.line = 0,
            |policy| policy.allows[0].from.tiers = ["nobody".to_owned()].into(),
            |policy| policy.allows[0].to.tiers = ["nobody".to_owned()].into(),
            |policy| {
                let location = policy.allows[0].location.clone();
                policy.role = RoleSetting::Tiers { tiers: ["nobody".to_owned()].into(), location };
            },
            |policy| {
                let mut location = policy.allows[0].location.clone();
                location.column = 0;
                policy.allows[0].users = vec![User::Name { name: "root".to_owned(), location }];
            },
            |policy| {
                policy.allows[0].service.ports = [(Transport::Tcp, vec![0..=9])].into();
            },
            |policy| {
                policy.allows[0].service.ports = [(Transport::Tcp, vec![1..=9, 10..=12])].into();
            },
        ];
        for (index, spoil) in spoilt.into_iter().enumerate() {
            let mut policy = policy();
            spoil(&mut policy);
            assert!(!policy.is_sound(), "{index}");
        }
    }
}
