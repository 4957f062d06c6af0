//! What is wrong with the files, for people: what it is, where it stands, and the way out.
//!
//! A diagnostic holds the line it speaks of, so it can be shown long after the file is gone, in
//! another process too. How it looks is the business of `render`.

use crate::location::Location;
use crate::quoting::{printable, shortened};
use serde::{Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// How many errors, and how many warnings, are shown of one load. The others are counted.
const SHOWN: usize = 100;

/// The code of what is said of a file that somebody is writing.
pub(crate) const BEING_WRITTEN: &str = "being-written";

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is no policy.
    Error,
    /// There is one, but probably not the one meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A line of a file, or the part of a long one around what is underlined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// How many characters of the line stand before `text`.
    pub skipped: usize,
    /// The line or its part.
    pub text: String,
    /// The bytes of `text` to underline, on character borders.
    pub underline: Range<usize>,
}

impl Excerpt {
    /// Bytes kept on each side of what is underlined, of which the renderer shows what fits on a line
    /// of a screen. A list on one line can be megabytes long.
    const REACH: usize = 200;
    /// Bytes kept of what is underlined: the renderer shows all of it.
    const LONGEST: usize = 100;

    /// `underline` is cut to the line.
    pub(crate) fn new(line: &str, underline: Range<usize>) -> Self {
        let border = |at: usize| {
            let at = at.min(line.len());
            (0..=at).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0)
        };
        let start = border(underline.start);
        let end = border(underline.end.min(start + Self::LONGEST)).max(start);
        let (first, last) = (border(start.saturating_sub(Self::REACH)), border(end + Self::REACH));
        Self {
            skipped: line[..first].chars().count(),
            // The renderer makes other control characters visible; these it lets through. What
            // stands for them is as long as they are.
            text: line[first..last].replace(|c| ('\u{80}'..'\u{a0}').contains(&c), "·"),
            underline: start - first..end - first,
        }
    }
}

/// A place in a file, and what to say there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// The file.
    pub file: Arc<PathBuf>,
    /// Line and column, both counted from 1, the column in characters; none for the whole file.
    pub position: Option<(usize, usize)>,
    /// The line, where its text is at hand.
    pub excerpt: Option<Excerpt>,
    /// What to say there; often empty.
    pub text: String,
}

impl Label {
    /// The file as a whole.
    pub(crate) fn file(file: Arc<PathBuf>, text: impl Into<String>) -> Self {
        Self { file, position: None, excerpt: None, text: text.into() }
    }

    /// A place in a file.
    pub(crate) fn at(location: Location, text: impl Into<String>) -> Self {
        let position = Some((location.line, location.column));
        Self { file: location.file, position, excerpt: None, text: text.into() }
    }

    pub(crate) fn with_excerpt(mut self, excerpt: Excerpt) -> Self {
        self.excerpt = Some(excerpt);
        self
    }

    /// The place, unless this is about the whole file.
    pub fn location(&self) -> Option<Location> {
        let (line, column) = self.position?;
        Some(Location { file: self.file.clone(), line, column })
    }
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is, for programs: lower case, words joined by `-`. Never renamed.
    pub code: &'static str,
    /// What is wrong, in one line.
    pub message: String,
    /// Where.
    pub place: Option<Label>,
    /// Other places that have to do with it.
    pub related: Vec<Label>,
    /// The way out, in one line.
    pub hint: Option<String>,
}

impl Diagnostic {
    pub(crate) fn error(
        code: &'static str,
        place: impl Into<Option<Label>>,
        message: impl Into<String>,
    ) -> Self {
        let (severity, place) = (Severity::Error, place.into());
        let message = shortened(&message.into());
        Self { severity, code, message, place, related: Vec::new(), hint: None }
    }

    pub(crate) fn warning(
        code: &'static str,
        place: impl Into<Option<Label>>,
        message: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, place, message) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().map(|hint| shortened(&hint));
        self
    }

    pub(crate) fn related(mut self, label: Label) -> Self {
        self.related.push(label);
        self
    }

    /// Whether it may be over later although nobody edits the policy: a file that is away or being
    /// written, a user that isn't known.
    pub fn may_pass(&self) -> bool {
        let codes =
            ["missing-file", "unreadable-file", "unsafe-file", "unknown-user", BEING_WRITTEN];
        codes.contains(&self.code)
    }

    /// Whether it says that somebody is writing a file.
    pub fn is_of_a_writer(&self) -> bool {
        self.code == BEING_WRITTEN
    }

    /// Whether there is no policy because of it.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl Diagnostic {
    /// Where and of which kind it is, without a word of any file.
    fn place_and_kind(&self) -> String {
        let place = self.place.as_ref().map(place).unwrap_or_default();
        format!("{place}{}: {}", self.severity, self.code)
    }

    /// On one line without its severity, where that is said beside it: `file:line:column: message`.
    pub fn place_and_message(&self) -> String {
        let place = self.place.as_ref().map(place).unwrap_or_default();
        format!("{place}{}", self.message)
    }

    /// Takes out what it quotes of these files.
    fn conceal(&mut self, files: &BTreeSet<Arc<PathBuf>>) {
        let labels = self.place.iter_mut().chain(&mut self.related);
        labels.filter(|label| files.contains(&label.file)).for_each(|label| label.excerpt = None);
        if self.place.as_ref().is_some_and(|label| files.contains(&label.file)) {
            self.message = format!("there is an error here ({})", self.code);
            self.hint =
                Some("only some users may read this file, so no line of it is shown".into());
        }
    }
}

/// `file:line:column: `
fn place(label: &Label) -> String {
    let file = printable(&label.file.to_string_lossy());
    match label.position {
        Some((line, column)) => format!("{file}:{line}:{column}: "),
        None => format!("{file}: "),
    }
}

/// On one line, as compilers do and editors understand: `file:line:column: error: message`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref().map(place).unwrap_or_default();
        write!(f, "{place}{}: {}", self.severity, self.message)
    }
}

/// For programs: `severity`, `code`, `message`, `file`, `line`, `column`, `hint` and `related`.
impl Serialize for Diagnostic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Place<'a> {
            file: Option<std::borrow::Cow<'a, str>>,
            line: Option<usize>,
            column: Option<usize>,
        }
        #[derive(Serialize)]
        struct Related<'a> {
            message: &'a str,
            #[serde(flatten)]
            place: Place<'a>,
        }
        #[derive(Serialize)]
        struct Whole<'a> {
            severity: Severity,
            code: &'a str,
            message: &'a str,
            #[serde(flatten)]
            place: Place<'a>,
            hint: Option<&'a str>,
            related: Vec<Related<'a>>,
        }
        fn place(label: Option<&Label>) -> Place<'_> {
            let position = label.and_then(|label| label.position);
            Place {
                file: label.map(|label| label.file.to_string_lossy()),
                line: position.map(|(line, _)| line),
                column: position.map(|(_, column)| column),
            }
        }
        Whole {
            severity: self.severity,
            code: self.code,
            message: &self.message,
            place: place(self.place.as_ref()),
            hint: self.hint.as_deref(),
            related: self
                .related
                .iter()
                .map(|label| Related { message: &label.text, place: place(Some(label)) })
                .collect(),
        }
        .serialize(serializer)
    }
}

/// All that is wrong, in the order of the files and of their lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        self.0.push(diagnostic);
    }

    /// Adds those of another step, such as the ones about this server's role.
    pub fn extend(&mut self, others: impl IntoIterator<Item = Diagnostic>) {
        self.0.extend(others);
    }

    /// Whether there are as many as are shown, and a further one needs no hint that costs time.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= SHOWN
    }

    /// Leaves the first errors and the first warnings, and says how many more there are.
    pub(crate) fn cut(&mut self) {
        for severity in [Severity::Error, Severity::Warning] {
            let (mut count, mut next) = (0, None);
            self.0.retain(|diagnostic| {
                let is_counted = diagnostic.severity == severity;
                count += usize::from(is_counted);
                let is_shown = !is_counted || count <= SHOWN;
                if !is_shown && next.is_none() {
                    next = Some(diagnostic.place.clone());
                }
                is_shown
            });
            let Some(place) = next else { continue };
            let more = count - SHOWN;
            let message = format!("and {more} more {severity}{}", if more == 1 { "" } else { "s" });
            let hint = Some("the next is here; they are shown when the others are mended".into());
            let related = Vec::new();
            self.push(Diagnostic { severity, code: "more", message, place, related, hint });
        }
    }

    /// Takes out what is quoted of files that not everybody may read.
    pub(crate) fn conceal(&mut self, files: &BTreeSet<Arc<PathBuf>>) {
        self.0.iter_mut().for_each(|diagnostic| diagnostic.conceal(files));
    }

    /// Where and of which kind each is, a line each, without a word of any file: for who may know
    /// that a policy is bad, but not what it says.
    pub fn places(&self) -> String {
        let lines: Vec<String> = self.0.iter().map(Diagnostic::place_and_kind).collect();
        lines.join("\n")
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.0.retain(keep);
    }

    /// Puts them in the order of `files`, then of lines; files not named there come last.
    pub(crate) fn sort(&mut self, files: &BTreeMap<Arc<PathBuf>, usize>) {
        self.0.sort_by_cached_key(|diagnostic| {
            let place = diagnostic.place.as_ref();
            let file = place.map(|label| label.file.clone());
            let rank = file.as_ref().map(|file| files.get(file).copied().unwrap_or(usize::MAX));
            (rank, file, place.and_then(|label| label.position))
        });
    }

    /// One after another.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Diagnostic> {
        self.0.iter_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is no policy because of one of them.
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(Diagnostic::is_error)
    }

    /// Turns warnings into errors: what `--strict` means.
    pub fn deny_warnings(&mut self) {
        for diagnostic in &mut self.0 {
            diagnostic.severity = Severity::Error;
        }
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Each on one line.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.0 {
            writeln!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_of_any_length_is_said_in_full() {
        let long = format!("é\u{1b}{}", "x".repeat(200_000));
        let diagnostic = Diagnostic::error("x", None, long.clone()).hint(long);
        for told in [&diagnostic.message, diagnostic.hint.as_ref().expect("a hint")] {
            assert!(told.starts_with("é\\u{1b}xxx") && told.ends_with("x…"), "{}", told.len());
            assert!(told.chars().count() < 1100, "{}", told.len());
        }
    }

    proptest! {
        #[test]
        fn excerpts_of_any_line_hold_what_is_underlined(line in ".{0,900}", at in 0usize..1000, len in 0usize..1000) {
            let excerpt = Excerpt::new(&line, at..at + len);
            prop_assert!(excerpt.text.get(excerpt.underline.clone()).is_some());
            prop_assert!(excerpt.text.len() <= 3 * Excerpt::REACH + 12);
            let rest = line.chars().skip(excerpt.skipped);
            prop_assert!(excerpt.text.chars().zip(rest).all(|(shown, is)| shown == is || shown == '·'));
        }
    }
}
