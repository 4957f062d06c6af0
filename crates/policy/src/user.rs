//! Users by name: looked up only where this server is the sender.

use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::model::{Allow, Mode, Policy, User};
use crate::quoting::quote;
use crate::role::Role;
use std::collections::BTreeMap;

/// What users are called where people read of them: as a policy names them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserNames(BTreeMap<u32, String>);

impl UserNames {
    /// The names of a policy, as they were looked up.
    pub fn of(users: &BTreeMap<String, u32>) -> Self {
        let mut names = Self::default();
        names.learn(users);
        names
    }

    /// Adds the names of another policy. If both name a user, this one's name counts.
    pub fn learn(&mut self, users: &BTreeMap<String, u32>) {
        self.0.extend(users.iter().map(|(name, uid)| (*uid, name.clone())));
    }

    /// The name of a user that a policy names.
    pub fn name(&self, uid: u32) -> Option<&str> {
        self.0.get(&uid).map(String::as_str)
    }

    /// `user backup`, or `user 34` if no policy names that one.
    pub fn words(&self, uid: u32) -> String {
        match self.name(uid) {
            Some(name) => format!("user {name}"),
            None => format!("user {uid}"),
        }
    }
}

/// Whether a server of this role opens connections by an allow.
fn sends(role: &Role, allow: &Allow) -> bool {
    allow.from.every_server || !allow.from.tiers.is_disjoint(&role.tiers)
}

/// The user ids of the names that a server of this role needs, and a warning for each place that
/// names one who isn't known there: such an allow has no rule for that user until a later lookup
/// finds one. Names are looked up once each, and none where output is off.
pub fn resolve_users(
    policy: &Policy,
    role: &Role,
    lookup: impl Fn(&str) -> Option<u32>,
) -> (BTreeMap<String, u32>, Diagnostics) {
    let (mut asked, mut diagnostics) = (BTreeMap::new(), Diagnostics::default());
    let allows = policy.allows.iter().filter(|allow| sends(role, allow));
    let users = allows.filter(|_| policy.mode.output != Mode::Off).flat_map(|allow| &allow.users);
    for user in users {
        let User::Name { name, location } = user else { continue };
        let uid = *asked.entry(name.clone()).or_insert_with(|| lookup(name));
        if uid.is_none() {
            let message = format!("this server has no user {}", quote(name));
            let label = Label::at(location.clone(), "");
            let hint =
                "the allow opens nothing for it here until there is one; it is looked up again";
            let diagnostic = Diagnostic::warning("unknown-user", label, message);
            diagnostics.push(diagnostic.hint(hint.to_owned()));
        }
    }
    (asked.into_iter().filter_map(|(name, uid)| Some((name, uid?))).collect(), diagnostics)
}
