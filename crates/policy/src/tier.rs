//! Tiers: their names, and their members from the file itself and from list files.

use crate::diagnostic::{Diagnostic, Excerpt, Label, quote};
use crate::document::{MemberText, SETTINGS, Text, TierText};
use crate::include::Reading;
use crate::list::{self, Members};
use crate::member::{Member, MemberError};
use crate::model::{Location, Tier, TimedMembers};
use crate::name;
use crate::service::defined_twice;
use crate::{file, include};
use ruleset::AddressSet;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Bad members reported of one tier or list file. The others are counted: a wrong column in a file
/// of a million lines is one mistake.
const REPORTED: usize = 20;

/// The tiers of all files, by name.
pub(crate) fn resolve<'d>(
    texts: impl IntoIterator<Item = &'d TierText>,
    reading: &mut Reading<'_>,
) -> BTreeMap<String, Tier> {
    let mut tiers = BTreeMap::new();
    let mut defined: BTreeMap<&str, &Text> = BTreeMap::new();
    let mut lists = BTreeSet::new();
    for text in texts {
        let name = &text.name;
        if let Err(error) = name::check(&name.value) {
            let message = format!("the tier name {} {error}", quote(&name.value));
            let diagnostic = Diagnostic::error("bad-name", name.place.label(), message);
            reading.diagnostics.push(diagnostic.hint(error.hint().to_owned()));
        }
        let members = members(text, &mut lists, reading);
        if let Some(first) = defined.get(name.value.as_str()) {
            reading.diagnostics.push(defined_twice("tier", name, first));
            continue;
        }
        defined.insert(&name.value, name);
        let tier = Tier {
            timed: TimedMembers::default(),
            v4: AddressSet::new(members.v4),
            v6: AddressSet::new(members.v6),
            location: name.place.location(),
        };
        tiers.insert(name.value.clone(), tier);
    }
    tiers
}

fn members(tier: &TierText, lists: &mut BTreeSet<PathBuf>, reading: &mut Reading<'_>) -> Members {
    let mut members = Members::default();
    let mut bad = 0;
    for member in &tier.members {
        match member {
            MemberText::File(name) => list_file(name, &mut members, lists, reading),
            MemberText::Member(text) => match text.value.parse::<Member>() {
                Ok(member) => members.push(member),
                Err(error) => {
                    bad += 1;
                    if bad <= REPORTED {
                        reading.diagnostics.push(bad_member(tier, text, &error));
                    }
                }
            },
        }
    }
    if bad > REPORTED {
        let tier_name = quote(&tier.name.value);
        let message = match bad - REPORTED {
            1 => format!("one more member of {tier_name} is bad"),
            more => format!("{more} more members of {tier_name} are bad"),
        };
        reading.diagnostics.push(Diagnostic::error("more", tier.name.place.label(), message));
    }
    members
}

fn bad_member(tier: &TierText, text: &Text, error: &MemberError) -> Diagnostic {
    let word = text.value.as_str();
    let is_word = matches!(error, MemberError::NotAnAddress { .. }) && name::check(word).is_ok();
    let hint = if is_word && SETTINGS.contains(&tier.name.value.as_str()) {
        let setting = quote(&tier.name.value);
        Some(format!(
            "below [tiers], {setting} is a tier: the setting stands above the first [table]"
        ))
    } else if is_word {
        Some("tiers hold addresses, not other tiers or host names".to_owned())
    } else {
        error.hint()
    };
    Diagnostic::error("bad-address", text.place.label(), error.to_string()).hint(hint)
}

/// Reads a list file. One that several tiers share is read for each, and judged once.
fn list_file(
    name: &Text,
    members: &mut Members,
    lists: &mut BTreeSet<PathBuf>,
    reading: &mut Reading<'_>,
) {
    if name.value.is_empty() {
        let diagnostic =
            Diagnostic::error("missing-file", name.place.label(), "a file name is empty");
        let hint = "name a file with one member a line";
        return reading.diagnostics.push(diagnostic.hint(hint.to_owned()));
    }
    let path = include::relative(&name.place, &name.value);
    let is_new = lists.insert(path.clone());
    reading.inputs.insert(include::Input { path: path.clone(), kind: include::InputKind::List });
    let bytes = match file::read(&path, reading.options.check_permissions) {
        Ok(bytes) => bytes,
        Err(error) => {
            let diagnostic = Diagnostic::error(error.code(), name.place.label(), error.to_string());
            let hint = match error {
                file::FileError::Directory(_) | file::FileError::Special(_) => {
                    Some("name a file with one member a line".to_owned())
                }
                file::FileError::Missing(_) => include::relative_hint(&name.place, &name.value),
                error => error.hint(),
            };
            reading.diagnostics.push(diagnostic.hint(hint));
            return;
        }
    };
    let path = Arc::new(path);
    let text = match file::decode(&path, bytes) {
        Ok(text) => text,
        Err(diagnostic) if is_new => {
            let named = name.place.labelled("named here");
            return reading.diagnostics.push(diagnostic.related(named));
        }
        Err(_) => return,
    };
    let (mut bad, mut next) = (0, None);
    list::parse(text.trim_start_matches('\u{feff}'), members, |line| {
        bad += 1;
        if !is_new || bad > REPORTED + 1 {
            return;
        }
        let column = line.text[..line.member.start].chars().count() + 1;
        let location = Location { file: path.clone(), line: line.number, column };
        let excerpt = Excerpt::new(line.text, line.member);
        let label = Label::at(location, "").with_excerpt(excerpt);
        if bad > REPORTED {
            next = Some(label);
            return;
        }
        let diagnostic = Diagnostic::error("bad-address", label, line.error.to_string());
        reading.diagnostics.push(diagnostic.hint(line.error.hint()));
    });
    if let Some(next) = next {
        let message = match bad - REPORTED {
            1 => "one more line of this file is bad".to_owned(),
            more => format!("{more} more lines of this file are bad"),
        };
        let hint = "a list file holds one address, prefix or range a line; `#` starts a comment";
        reading.diagnostics.push(Diagnostic::error("more", next, message).hint(hint.to_owned()));
    }
}
