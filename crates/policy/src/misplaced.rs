//! Tiers and services that are called like a setting.
//!
//! A setting that is written below `[tiers]` is a tier of that name, which TOML can't tell from the
//! one that was meant: `block = ["198.51.100.0/24"]` there blocks nothing. Where nothing uses the
//! name, it was meant as the setting.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{ABOVE, Document, List, MemberText, Text, is_top_level_key};
use crate::member::Member;
use crate::quoting::quote;
use std::collections::BTreeSet;

/// Reports tiers and services with the name of a setting: an error where nothing names them,
/// otherwise a warning. `role` and `guarded` are what the settings name.
pub(crate) fn check(
    documents: &[Document],
    role: &[Text],
    guarded: Option<&List<Text>>,
    diagnostics: &mut Diagnostics,
) {
    // What a bad member says about it is said.
    let is_good = |member: &MemberText| match member {
        MemberText::Member(text) => text.value.parse::<Member>().is_ok(),
        MemberText::File(_) => true,
    };
    let tiers = documents.iter().flat_map(|document| &document.tiers);
    let tiers = tiers.filter(|tier| is_top_level_key(&tier.name.value));
    let tiers: Vec<&Text> =
        tiers.filter(|tier| tier.members.iter().all(is_good)).map(|tier| &tier.name).collect();
    let services = documents.iter().flat_map(|document| &document.services);
    let services = services.map(|service| &service.name);
    let services: Vec<&Text> = services.filter(|name| is_top_level_key(&name.value)).collect();
    if tiers.is_empty() && services.is_empty() {
        return;
    }
    let words = |lists: &mut dyn Iterator<Item = &List<Text>>| -> BTreeSet<String> {
        lists.flat_map(|list| &list.items).map(|text| text.value.clone()).collect()
    };
    let role = role.iter().map(|text| text.value.clone());
    let allows = || documents.iter().flat_map(|document| &document.allows);
    let mut sides = allows().flat_map(|allow| [&allow.from, &allow.to]).flatten();
    let named_tiers = words(&mut sides).into_iter().chain(role).collect();
    let parts = documents.iter().flat_map(|document| &document.services);
    let parts = parts.map(|service| &service.parts);
    let named_services =
        words(&mut allows().filter_map(|allow| allow.service.as_ref()).chain(parts).chain(guarded));
    for (kind, names, used) in [("tier", tiers, named_tiers), ("service", services, named_services)]
    {
        for name in names {
            diagnostics.push(misplaced(kind, name, used.contains(&name.value)));
        }
    }
}

fn misplaced(kind: &str, name: &Text, is_used: bool) -> Diagnostic {
    let word = quote(&name.value);
    let label = name.place.label();
    if is_used {
        let message = format!("the {kind} {word} has the name of a setting");
        let hint = "choose another name: below a [table] the two can't be told apart";
        return Diagnostic::warning("setting-as-name", label, message).hint(hint.to_owned());
    }
    let message = format!("{word} is a {kind} here, not the setting, and nothing uses it");
    let hint = format!("{ABOVE}; a {kind} needs another name");
    Diagnostic::error("setting-as-name", label, message).hint(hint)
}
