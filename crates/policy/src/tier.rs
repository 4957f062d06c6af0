//! Tiers: their names, and their members from the file itself and from list files.

use crate::diagnostic::{BEING_WRITTEN, Diagnostic, Diagnostics, Excerpt, Label};
use crate::document::{Document, MemberText, Text, TierText, is_top_level_key};
use crate::file::{self, FileError, Opened};
use crate::held::{Content, HoldReason, Taking, UsedTiers, hold};
use crate::include::{self, Reading};
use crate::input::{Input, InputKind};
use crate::list::{self, BadLine, Members, Parser};
use crate::list_cache::{Sets, Stamp};
use crate::location::Location;
use crate::member::{Member, MemberError};
use crate::model::{Tier, TimedMembers};
use crate::name;
use crate::quoting::quote;
use crate::service::defined_twice;
use crate::unseen;
use crate::way::true_path;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bad members reported of one tier or list file. The others are counted: a wrong column in a file
/// of a million lines is one mistake.
const REPORTED: usize = 20;

/// The tiers of all files, by name.
pub(crate) fn resolve(documents: &[Document], reading: &mut Reading<'_>) -> BTreeMap<String, Tier> {
    let used = UsedTiers::of(documents);
    let texts = documents.iter().flat_map(|document| &document.tiers);
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
        let Sets { v4, v6, written: _ } = members(text, &used, &mut lists, reading);
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

fn members(
    tier: &TierText,
    used: &UsedTiers<'_>,
    lists: &mut BTreeSet<PathBuf>,
    reading: &mut Reading<'_>,
) -> Sets {
    // Only what is let in or out by a list can be lost by an accident.
    let is_used = used.contains(&tier.name.value);
    let (mut members, mut parts) = (Members::default(), Vec::new());
    let mut bad = 0;
    for member in &tier.members {
        match member {
            MemberText::File(name) => {
                let list = List { name, tier: &tier.name.value, is_used };
                parts.extend(list_file(&list, lists, reading));
            }
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

/// A list file in a tier.
struct List<'t> {
    /// Where it is named.
    name: &'t Text,
    tier: &'t str,
    /// Whether an allow names the tier.
    is_used: bool,
}

/// The members of a list file. One that several tiers share is judged once.
fn list_file(
    list: &List<'_>,
    lists: &mut BTreeSet<PathBuf>,
    reading: &mut Reading<'_>,
) -> Option<Sets> {
    let name = list.name;
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
    reading.inputs.insert(Input { path: path.clone(), kind: InputKind::List });
    let opened = reading.open(&path);
    let is_shown = matches!(opened, Err(FileError::BeingWritten(_))) && reading.only_shows();
    let opened = match opened {
        Err(_) if is_shown => file::open(&path, reading.options.check_permissions),
        opened => opened,
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => return kept(list, &path, error, reading),
    };
    if is_shown && is_new {
        reading.diagnostics.push(shown_as_it_is(name, &path));
    }
    let is_secret = reading.is_secret(&opened, &true_path(&path));
    let stamp = Stamp::of(&opened.metadata);
    let has_bytes = opened.metadata.len() > 0;
    let again = reading.again.as_mut();
    if let Some(sets) = again.and_then(|again| again.lists.find(&path, &stamp)) {
        return Some(taken(list, &path, Content::Members(&sets), is_secret, reading));
    }
    let path = Arc::new(path);
    if is_secret {
        reading.sources.conceal(path.clone());
    }
    let witness = reading.witness(&opened);
    let (members, diagnostics) = read_list(&path, opened, name);
    match reading.is_as_it_was(&path, witness) {
        Err(_) if reading.only_shows() => {
            if !is_shown && is_new {
                reading.diagnostics.push(shown_as_it_is(name, &path));
            }
        }
        Err(error) => return kept(list, &path, error, reading),
        Ok(()) => {}
    }
    let is_good = diagnostics.is_empty();
    if is_new {
        reading.diagnostics.extend(diagnostics);
    }
    let sets = Sets::from(members);
    if !is_good {
        return Some(sets);
    }
    if let Some(again) = &mut reading.again {
        again.lists.keep(&path, stamp, &sets);
    }
    let content = if has_bytes { Content::Members(&sets) } else { Content::NoBytes };
    Some(taken(list, &path, content, is_secret, reading))
}

/// What a list that can't be read holds in the meantime, if anything.
fn kept(list: &List<'_>, path: &Path, error: FileError, reading: &mut Reading<'_>) -> Option<Sets> {
    let why = match &error {
        FileError::BeingWritten(_) => Some(HoldReason::BeingWritten),
        FileError::Missing(_) if list.is_used => Some(HoldReason::Missing),
        _ => None,
    };
    let again = reading
        .again
        .as_mut()
        .filter(|again| why == Some(HoldReason::BeingWritten) || again.taking == Taking::Unasked);
    let last = again.and_then(|again| again.lists.last(path).cloned());
    let (Some(why), Some(last)) = (why, last) else {
        reading.diagnostics.push(unread(list.name, error));
        return None;
    };
    Some(held(list, path, why, last, None, reading))
}

/// What a list holds whose file was read: that, unless it looks like an accident.
fn taken(
    list: &List<'_>,
    path: &Path,
    content: Content<'_>,
    is_secret: bool,
    reading: &mut Reading<'_>,
) -> Sets {
    let nothing = Sets::default();
    let now = match content {
        Content::Members(sets) => sets,
        Content::NoBytes => &nothing,
    };
    let Some(again) = &mut reading.again else { return now.clone() };
    let is_judged = list.is_used && again.taking == Taking::Unasked;
    let last = again.lists.last(path).filter(|_| is_judged);
    let found = last.and_then(|last| Some((hold(last, content)?, last.clone())));
    if let Some((why, last)) = found {
        let named = (!is_secret).then_some(now);
        return held(list, path, why, last, named, reading);
    }
    // Of a tier that an allow names it may be held already.
    if !reading.held.contains(path) {
        again.lists.take(path, now);
    }
    now.clone()
}

/// Holds a list, so that it holds what it did `last`.
fn held(
    list: &List<'_>,
    path: &Path,
    why: HoldReason,
    last: Sets,
    now: Option<&Sets>,
    reading: &mut Reading<'_>,
) -> Sets {
    reading.held.hold((path, list.tier), why, &last, now);
    if let Some(again) = &mut reading.again {
        again.lists.take(path, &last);
    }
    last
}

/// A list that somebody is writing, for who only looks.
fn shown_as_it_is(name: &Text, path: &Path) -> Diagnostic {
    let path = path.display();
    let message = format!("{path} is still being written: this is judged by what it holds now");
    let hint = "until it is closed, `tierwall reload` goes on with what it held before; \
                `tierwall reload --force` takes it as it is now";
    Diagnostic::warning(BEING_WRITTEN, name.place.label(), message).hint(hint.to_owned())
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
    let none = parser.none();
    let members = parser.members();
    if let (Some((line, text)), false) = (none, members.is_empty()) {
        let location = Location { file: path.clone(), line, column: 1 };
        let label = Label::at(location, "").with_excerpt(Excerpt::new(&text, 0..text.len()));
        let message = "`none` says that nobody is in this list, and somebody is";
        let hint = "remove the line, or the members";
        diagnostics
            .push(Diagnostic::error("none-and-members", label, message).hint(hint.to_owned()));
    }
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
