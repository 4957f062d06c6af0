//! The policy, judged as `tierwall check` judges it.

use super::super::facts::{Good, Policy};
use crate::judge::{load, lookup_user};
use crate::options::Common;
use crate::own_addresses::own_addresses;
use crate::sshd;
use policy::{
    Diagnostics, Entered, Input, Options, check_role, check_size, check_sshd, check_way_in,
    resolve_users, role_of, roles_by_network,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

/// The policy, and what of the file system it depends on.
pub(super) fn observe(common: &Common, root: &Path) -> (Policy, BTreeSet<Input>) {
    if matches!(common.config.try_exists(), Ok(false)) {
        return (Policy::Missing, BTreeSet::new());
    }
    let options = Options { check_permissions: !common.insecure_permissions, ..Options::default() };
    let loaded = load(common, &options);
    let Some(policy) = loaded.policy else {
        let errors = lines(&loaded.diagnostics, true);
        return (Policy::Bad { errors, says: None }, loaded.inputs);
    };
    let mut ports = sshd::listening();
    if ports.is_empty() {
        // The service manager may hold the sockets.
        ports = control::sshd_ports(root);
    }
    let mut diagnostics = check_sshd(&policy, &ports);
    diagnostics.extend(loaded.diagnostics);
    let mut by_network = Vec::new();
    // Without an address nothing is known of its role.
    if let Ok(addresses) = own_addresses() {
        let role = role_of(&policy, &addresses);
        diagnostics.extend(check_role(&policy, &role, &addresses));
        by_network = roles_by_network(&policy, &addresses);
        let own: Vec<IpAddr> = addresses.iter().map(|own| own.address).collect();
        diagnostics.extend(check_way_in(&policy, Entered { role: &role, own: &own }));
        diagnostics.extend(resolve_users(&policy, &role, lookup_user).1);
        diagnostics.extend(check_size(&policy, &role));
    }
    let has_ipv6 = policy.tiers.values().any(|tier| !tier.v6.is_empty());
    let warnings = lines(&diagnostics, false);
    let roles_by_network =
        by_network.into_iter().map(|(tier, address)| (tier.to_owned(), address)).collect();
    let (forward, mode) = (policy.forward, policy.mode);
    let good = Good { forward, mode, has_ipv6, warnings, roles_by_network };
    if diagnostics.has_errors() {
        let errors = lines(&diagnostics, true);
        return (Policy::Bad { errors, says: Some(good) }, loaded.inputs);
    }
    (Policy::Good(good), loaded.inputs)
}

fn lines(diagnostics: &Diagnostics, errors: bool) -> Vec<String> {
    let wanted = diagnostics.iter().filter(|diagnostic| diagnostic.is_error() == errors);
    let line = |diagnostic: &policy::Diagnostic| {
        let place = diagnostic.place.as_ref().and_then(policy::Label::location);
        match place {
            Some(place) => format!("{place}: {}", diagnostic.message),
            None => diagnostic.message.clone(),
        }
    };
    wanted.map(line).collect()
}
