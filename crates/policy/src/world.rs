//! Tiers that hold the whole world, or so much of it that they mean everybody.
//!
//! `0.0.0.0/0` in a tier is usually meant as `"any"`. But whatever is in a tier is a server of it: under
//! `role = "auto"` each accepts what its allows accept and opens what they open, and `"*"`, which is
//! every member of every tier, becomes everybody too.

use crate::addresses::Addresses;
use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::model::{Allow, Endpoint, Policy, RoleSetting, Tier, TimedMembers};
use crate::quoting::quote;
use ruleset::AddressSet;

/// Half of all IPv4 addresses, which no network of anybody's is.
const MANY_V4: u128 = 1 << 31;

/// As many IPv6 addresses as are given out at all: `2000::/3`.
const MANY_V6: u128 = 1 << 125;

/// Allows that are shown.
const SHOWN: usize = 3;

/// Warns of every such tier, and says what it makes of servers and what it opens.
pub(crate) fn lint(policy: &Policy, diagnostics: &mut Diagnostics) {
    for (name, tier) in &policy.tiers {
        if let Some(amount) = amount(&Addresses::of_tier(tier)) {
            diagnostics.push(warning(policy, name, tier, "", amount));
        }
    }
}

/// Warns of every tier that its runtime members make such a one. `files` is the policy without them,
/// of which a load has warned, and `whole` the one with them.
pub fn check_added(files: &Policy, whole: &Policy) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    for (name, tier) in &whole.tiers {
        let of_files = files.tiers.get(name).and_then(|tier| amount(&Addresses::of_tier(tier)));
        let found = amount(&for_now(tier)).filter(|found| Some(*found) != of_files);
        if let Some(found) = found {
            diagnostics.push(warning(whole, name, tier, ", with its runtime members,", found));
        }
    }
    diagnostics
}

/// The members of a tier with those that end by themselves.
fn for_now(tier: &Tier) -> Addresses {
    let mut addresses = Addresses::of_tier(tier);
    let TimedMembers { v4, v6 } = &tier.timed;
    if !v4.is_empty() {
        let timed = AddressSet::new(v4.elements().map(|(range, _)| *range).collect());
        addresses.v4 = addresses.v4.union(&timed);
    }
    if !v6.is_empty() {
        let timed = AddressSet::new(v6.elements().map(|(range, _)| *range).collect());
        addresses.v6 = addresses.v6.union(&timed);
    }
    addresses
}

/// What a tier of so much makes of servers and opens.
fn warning(
    policy: &Policy,
    name: &str,
    tier: &Tier,
    with: &str,
    (family, amount): (&str, &str),
) -> Diagnostic {
    let consequence = match &policy.role {
        // Of IPv6 only some addresses grant a role.
        RoleSetting::Auto | RoleSetting::AutoAny => {
            let are = if family == "IPv4" { "are" } else { "may be" };
            format!(", so under role = \"auto\" servers with an {family} address {are} in it")
        }
        RoleSetting::Tiers { tiers, .. } if tiers.contains(name) => {
            ", and this server is in it".to_owned()
        }
        RoleSetting::Tiers { .. } => String::new(),
    };
    let message = format!("the tier {}{with} holds {amount}{consequence}", quote(name));
    let label = Label::at(tier.location.clone(), "");
    let mut diagnostic = Diagnostic::warning("whole-world-tier", label, message);
    let mut opened: Vec<(&Allow, String)> =
        policy.allows.iter().filter_map(|allow| Some((allow, opens(allow, name)?))).collect();
    let more = opened.split_off(opened.len().min(SHOWN)).len();
    for (allow, text) in opened {
        diagnostic = diagnostic.related(Label::at(allow.location.clone(), text));
    }
    let rest = match more {
        0 => String::new(),
        1 => " (one more allow opens something in this way)".to_owned(),
        more => format!(" ({more} more allows open something in this way)"),
    };
    let hint = format!(
        "write \"any\" in allows that are meant for everybody, and only your own addresses in tiers{rest}"
    );
    diagnostic.hint(hint)
}

/// The family of which a tier holds so much, and how much that is.
fn amount(addresses: &Addresses) -> Option<(&'static str, &'static str)> {
    match addresses.sizes() {
        (v4, _) if v4 == 1 << 32 => Some(("IPv4", "every IPv4 address")),
        (v4, _) if v4 >= MANY_V4 => Some(("IPv4", "at least half of all IPv4 addresses")),
        (_, u128::MAX) => Some(("IPv6", "every IPv6 address")),
        (_, v6) if v6 >= MANY_V6 => Some(("IPv6", "most IPv6 addresses in use")),
        _ => None,
    }
}

/// What an allow opens to everybody since `tier` holds everybody.
fn opens(allow: &Allow, tier: &str) -> Option<String> {
    let means = |side: &Endpoint| side.every_server || side.tiers.contains(tier);
    let is_any = |side: &Endpoint| side.any;
    let service = &allow.service;
    let star = match allow.from.every_server || allow.to.every_server {
        true => "\"*\" means its members too: ",
        false => "",
    };
    let (from, to) =
        (means(&allow.from) && !is_any(&allow.from), means(&allow.to) && !is_any(&allow.to));
    let text = match (from, to) {
        (true, true) => format!("everybody may reach everybody on {service}"),
        (true, false) => format!("everybody is let in on {service}"),
        (false, true) => format!("{service} may be opened to everybody"),
        (false, false) => return None,
    };
    Some(format!("{star}{text}"))
}
