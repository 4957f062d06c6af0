//! Tiers: their names, and their members from the file itself and from list files.

use crate::diagnostic::{Diagnostic, Diagnostics, Excerpt, Label, quote};
use crate::document::{MemberText, Text, TierText, is_top_level_key};
use crate::file::{self, FileError, Opened};
use crate::include::{self, Reading};
use crate::list::{self, BadLine, Members, Parser};
use crate::list_cache::{Sets, Stamp};
use crate::member::{Member, MemberError};
use crate::model::{Location, Tier, TimedMembers};
use crate::name;
use crate::service::defined_twice;
use crate::unseen;
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
        let Sets { v4, v6 } = members(text, &mut lists, reading);
        if let Some(first) = defined.get(name.value.as_str()) {
            reading.diagnostics.push(defined_twice("tier", name, first));
            continue;
        }
        defined.insert(&name.value, name);
        let (timed, location) = (TimedMembers::default(), name.place.location());
        let tier = Tier { v4, v6, timed, location };
        tiers.insert(name.value.clone(), tier);
    }
    tiers
}

fn members(tier: &TierText, lists: &mut BTreeSet<PathBuf>, reading: &mut Reading<'_>) -> Sets {
    let (mut members, mut parts) = (Members::default(), Vec::new());
    let mut bad = 0;
    for member in &tier.members {
        match member {
            MemberText::File(name) => parts.extend(list_file(name, lists, reading)),
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
    if !members.is_empty() {
        parts.push(members.into());
    }
    Sets::union(parts)
}

fn bad_member(tier: &TierText, text: &Text, error: &MemberError) -> Diagnostic {
    let word = text.value.as_str();
    let is_word = matches!(error, MemberError::NotAnAddress { .. }) && name::check(word).is_ok();
    let hint = if is_word && is_top_level_key(&tier.name.value) {
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

/// The members of a list file. One that several tiers share is judged once.
fn list_file(
    name: &Text,
    lists: &mut BTreeSet<PathBuf>,
    reading: &mut Reading<'_>,
) -> Option<Sets> {
    if name.value.is_empty() {
        let diagnostic =
            Diagnostic::error("missing-file", name.place.label(), "a file name is empty");
        let hint = "name a file with one member a line";
        reading.diagnostics.push(diagnostic.hint(hint.to_owned()));
        return None;
    }
    let path = include::relative(&name.place, &name.value);
    if reading.options.warn_unseen {
        unseen::warn(name, &path, &mut reading.diagnostics);
    }
    let is_new = lists.insert(path.clone());
    reading.inputs.insert(include::Input { path: path.clone(), kind: include::InputKind::List });
    let opened = match file::open(&path, reading.options.check_permissions) {
        Ok(opened) => opened,
        Err(error) => {
            reading.diagnostics.push(unread(name, error));
            return None;
        }
    };
    let is_secret = reading.is_secret(&opened, &include::true_path(&path));
    let stamp = Stamp::of(&opened.metadata);
    if let Some(kept) = reading.lists.as_mut().and_then(|lists| lists.find(&path, &stamp)) {
        return Some(kept);
    }
    let path = Arc::new(path);
    if is_secret {
        reading.sources.conceal(path.clone());
    }
    let (members, diagnostics) = read_list(&path, opened, name);
    let is_good = diagnostics.is_empty();
    if is_new {
        reading.diagnostics.extend(diagnostics);
    }
    let sets = Sets::from(members);
    if let Some(lists) = reading.lists.as_mut().filter(|_| is_good) {
        lists.keep(&path, stamp, &sets);
    }
    Some(sets)
}

/// A list file that can't be read.
fn unread(name: &Text, error: FileError) -> Diagnostic {
    let diagnostic = Diagnostic::error(error.code(), name.place.label(), error.to_string());
    diagnostic.hint(match error {
        FileError::Directory(_) | FileError::Special { .. } => {
            Some("name a file with one member a line".to_owned())
        }
        FileError::Missing(_) => include::relative_hint(&name.place, &name.value),
        error => error.hint(),
    })
}

/// Why a list isn't read to its end.
enum ListError {
    File(FileError),
    NotText,
}

impl From<FileError> for ListError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// The members of a list file, and what is wrong with it. `name` is where it is named.
fn read_list(path: &Arc<PathBuf>, mut file: Opened, name: &Text) -> (Members, Diagnostics) {
    let mut diagnostics = Diagnostics::default();
    let (mut bad, mut next) = (0, None);
    let mut take_bad = |line: BadLine<'_>| {
        bad += 1;
        if bad > REPORTED + 1 {
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
        diagnostics.push(diagnostic.hint(line.error.hint()));
    };
    let mut parser = Parser::new(usize::try_from(file.metadata.len()).unwrap_or_default());
    let read = file.blocks(|block| {
        parser.read(block, &mut take_bad).map_err(|list::NotText| ListError::NotText)
    });
    if let Err(error) = read {
        let mut only = Diagnostics::default();
        only.push(match error {
            ListError::File(error) => unread(name, error),
            ListError::NotText => no_text(path, file, name),
        });
        return (Members::default(), only);
    }
    let members = parser.members();
    if let Some(next) = next {
        let message = match bad - REPORTED {
            1 => "one more line of this file is bad".to_owned(),
            more => format!("{more} more lines of this file are bad"),
        };
        let hint = "a list file holds one address, prefix or range a line; `#` starts a comment";
        diagnostics.push(Diagnostic::error("more", next, message).hint(hint.to_owned()));
    }
    (members, diagnostics)
}

/// What keeps a list from being text: the first place in the whole file.
fn no_text(path: &Arc<PathBuf>, file: Opened, name: &Text) -> Diagnostic {
    let bytes = match file.again().and_then(Opened::read) {
        Ok(bytes) => bytes,
        Err(error) => return unread(name, error),
    };
    let no_text = file::decode(path, &bytes).err().unwrap_or_else(|| {
        let label = Label::file(path.clone(), "");
        let message = "this file was no text a moment ago";
        let hint = "it is being written: write it elsewhere and rename it".to_owned();
        Box::new(Diagnostic::error("not-utf8", label, message).hint(hint))
    });
    no_text.related(name.place.labelled("named here"))
}
