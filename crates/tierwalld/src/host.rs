//! What a policy depends on beside its files: this server's addresses and users.

use crate::state::StateDirectory;
use nix::unistd::User;
use policy::model::RoleSetting;
use policy::{Diagnostics, Policy, Role, check_role, resolve_users, role_of};
use std::collections::BTreeMap;

/// This server, as far as the policy asks.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) role: Role,
    /// Whether the role is the last one, for want of an address.
    pub(crate) role_is_old: bool,
    pub(crate) users: BTreeMap<String, u32>,
}

impl Server {
    /// Finds this server's role and the users the policy names, and judges the policy by them.
    pub(crate) fn resolve(policy: &Policy, state: Option<&StateDirectory>) -> (Self, Diagnostics) {
        let addresses = netlink::addresses().unwrap_or_else(|error| {
            tracing::warn!(%error, "can't read this server's addresses");
            Vec::new()
        });
        let role_is_old = policy.role == RoleSetting::Auto && addresses.is_empty();
        let (role, mut diagnostics) = match role_is_old {
            true => (last_role(policy, state), Diagnostics::default()),
            false => (role_of(policy, &addresses), check_role(policy, &addresses)),
        };
        let (users, unknown) = resolve_users(policy, &role, lookup_user);
        diagnostics.extend(unknown);
        (Self { role, role_is_old, users }, diagnostics)
    }
}

/// Before the network is up there is no address: the last role holds until there is one.
fn last_role(policy: &Policy, state: Option<&StateDirectory>) -> Role {
    let last = state.and_then(StateDirectory::last_role).unwrap_or_default();
    let tiers = last.into_iter().filter(|tier| policy.tiers.contains_key(tier)).collect();
    Role { tiers, auto: true }
}

fn lookup_user(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}
