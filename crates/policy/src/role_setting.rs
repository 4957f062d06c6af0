//! The setting `role`: which tiers it names, in the policy file or in a file of its own.

use crate::allow::unknown_tier;
use crate::diagnostic::{Diagnostic, Label};
use crate::document::Text;
use crate::file::{self, FileError};
use crate::include::{self, Reading};
use crate::input::{Input, InputKind};
use crate::location::Location;
use crate::model::{RoleSetting, Tier};
use crate::setting::RoleText;
use crate::source::{Place, Source};
use crate::unseen;
use crate::way::true_path;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the setting means, and the names that it is made of. What is wrong with it is reported.
pub(crate) fn resolve(
    reading: &mut Reading<'_>,
    tiers: &BTreeMap<String, Tier>,
) -> (RoleSetting, Vec<Text>) {
    let (names, location) = match reading.settings.role.take() {
        None => return (RoleSetting::Auto, Vec::new()),
        Some(RoleText::AutoAny) => return (RoleSetting::AutoAny, Vec::new()),
        Some(RoleText::Names(role)) => match &role.items[..] {
            [only] if only.value == "auto" => return (RoleSetting::Auto, role.items),
            _ => (role.items, role.place.location()),
        },
        Some(RoleText::File(name)) => of_file(&name, reading),
    };
    (named(&names, location, reading, tiers), names)
}

/// The tiers of these names.
fn named(
    names: &[Text],
    location: Location,
    reading: &mut Reading<'_>,
    tiers: &BTreeMap<String, Tier>,
) -> RoleSetting {
    let mut known = BTreeSet::new();
    for text in names {
        if tiers.contains_key(&text.value) {
            known.insert(text.value.clone());
        } else if text.value == "auto" {
            let message = "`auto` can't be one of several roles";
            let diagnostic = Diagnostic::error("bad-setting", text.place.label(), message);
            let hint = "write role = \"auto\" alone, or name the tiers";
            reading.diagnostics.push(diagnostic.hint(hint.to_owned()));
        } else if !reading.gaps.may_define(&text.value) {
            let unknown = unknown_tier(text, tiers, &["auto"], &reading.diagnostics);
            reading.diagnostics.push(unknown);
        }
    }
    RoleSetting::Tiers { tiers: known, location }
}

/// The names in the file called `name`, one a line, and where it begins. `#` starts a comment.
fn of_file(name: &Text, reading: &mut Reading<'_>) -> (Vec<Text>, Location) {
    let path = include::relative(&name.place, &name.value);
    if reading.options.warn_unseen {
        unseen::warn(name, &path, &mut reading.diagnostics);
    }
    reading.inputs.insert(Input { path: path.clone(), kind: InputKind::Role });
    let file = Arc::new(path.clone());
    let nothing = (Vec::new(), Location { file: file.clone(), line: 1, column: 1 });
    let opened = reading.open(&path);
    if opened.as_ref().is_ok_and(|opened| reading.is_secret(opened, &true_path(&path))) {
        reading.sources.conceal(file.clone());
    }
    let bytes = match opened.and_then(|opened| reading.read(opened)) {
        Ok(bytes) => bytes,
        Err(error) => {
            let label = name.place.label();
            let diagnostic = Diagnostic::error(error.code(), label, error.to_string());
            reading.diagnostics.push(diagnostic.hint(match error {
                FileError::Missing(_) | FileError::Directory(_) | FileError::Special { .. } => {
                    Some("write the tiers of this server into it, one a line".to_owned())
                }
                error => error.hint(),
            }));
            return nothing;
        }
    };
    let text = match file::decode(&file, &bytes) {
        Ok(text) => text,
        Err(diagnostic) => {
            reading.diagnostics.push(diagnostic.related(name.place.labelled("named here")));
            return nothing;
        }
    };
    let source = Arc::new(Source::new(path, text));
    reading.sources.push(source.clone());
    let mut names = Vec::new();
    let mut start = 0;
    for line in source.text().split_inclusive('\n') {
        let said = line.trim_start_matches('\u{feff}').split('#').next().unwrap_or_default().trim();
        if !said.is_empty() {
            // A part of the line, so that it is found there.
            let at = start + line.find(said).unwrap_or_default();
            let place = Place { source: source.clone(), span: at..at + said.len() };
            names.push(Text { value: said.to_owned(), place });
        }
        start += line.len();
    }
    let location = source.location(0);
    if names.is_empty() {
        let label = Label::file(source.name().clone(), "");
        let diagnostic = Diagnostic::error("empty-list", label, "this file names no tier")
            .related(name.place.labelled("named here"))
            .hint("write the tiers of this server into it, one a line".to_owned());
        reading.diagnostics.push(diagnostic);
    }
    (names, location)
}
