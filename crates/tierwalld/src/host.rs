//! What a policy depends on beside its files: this server's addresses and users.

use crate::state::StateDirectory;
use nix::unistd::User;
use policy::model::RoleSetting;
use policy::{Diagnostics, Policy, Role, check_role, resolve_users, role_of};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// This server, as far as the policy asks.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) role: Role,
    pub(crate) users: BTreeMap<String, u32>,
}

impl Server {
    /// Finds this server's role and the users the policy names, and judges the policy by them.
    pub(crate) fn resolve(policy: &Policy, state: Option<&StateDirectory>) -> (Self, Diagnostics) {
        let addresses = netlink::addresses().unwrap_or_else(|error| {
            tracing::warn!(%error, "can't read this server's addresses");
            Vec::new()
        });
        let (role, mut diagnostics) = role(policy, &addresses, state);
        let (users, unknown) = resolve_users(policy, &role, lookup_user);
        diagnostics.extend(unknown);
        (Self { role, users }, diagnostics)
    }
}

/// Before the network is up there is no address: the last role holds until there is one.
fn role(
    policy: &Policy,
    addresses: &[IpAddr],
    state: Option<&StateDirectory>,
) -> (Role, Diagnostics) {
    if policy.role != RoleSetting::Auto || !addresses.is_empty() {
        return (role_of(policy, addresses), check_role(policy, addresses));
    }
    let last = state.and_then(StateDirectory::last_role).unwrap_or_default();
    let tiers = last.into_iter().filter(|tier| policy.tiers.contains_key(tier)).collect();
    (Role { tiers, auto: true }, Diagnostics::default())
}

fn lookup_user(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}
