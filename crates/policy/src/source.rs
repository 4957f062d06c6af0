//! The text of the policy's files, and the way from a byte in it to a line and column.
//!
//! Texts are kept whole, so that a message may show the line it speaks of, also one that arises
//! long after the load. List files are the exception: they may hold a million lines, and are gone
//! once parsed.

use crate::diagnostic::{Diagnostic, Diagnostics, Excerpt, Label};
use crate::location::Location;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of the policy with its text.
#[derive(Debug)]
pub struct Source {
    name: Arc<PathBuf>,
    text: String,
    /// Byte offsets at which lines start.
    lines: Vec<usize>,
}

impl Source {
    /// A text, and the file name to show with it.
    pub fn new(name: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        let text = text.into();
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { name: Arc::new(name.into()), text, lines }
    }

    /// The name, as the including file or the command line gave it.
    pub fn name(&self) -> &Arc<PathBuf> {
        &self.name
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of a line, counted from 0, without its end.
    fn line(&self, line: usize) -> &str {
        let start = self.lines.get(line).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line + 1).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// The line, counted from 0, and the byte in it at which `offset` lies.
    fn split(&self, offset: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= offset).saturating_sub(1);
        (line, offset - self.lines[line])
    }

    /// The line of a byte, counted from 1.
    pub(crate) fn line_number(&self, offset: usize) -> usize {
        self.split(offset).0 + 1
    }

    /// The place of a byte.
    pub fn location(&self, offset: usize) -> Location {
        let (line, byte) = self.split(offset);
        let before = self.line(line).char_indices().take_while(|(at, _)| *at < byte).count();
        Location { file: self.name.clone(), line: line + 1, column: before + 1 }
    }

    /// Points at a span. Of one that runs over several lines the first is shown.
    pub(crate) fn label(&self, span: Range<usize>, text: impl Into<String>) -> Label {
        let (line, start) = self.split(span.start);
        let end = start + span.len();
        let location = self.location(span.start);
        let excerpt = Excerpt::new(self.line(line), start..end);
        Label::at(location, text).with_excerpt(excerpt)
    }
}

/// A span of a file's text.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) source: Arc<Source>,
    pub(crate) span: Range<usize>,
}

impl Place {
    pub(crate) fn location(&self) -> Location {
        self.source.location(self.span.start)
    }

    /// Points there, saying nothing.
    pub(crate) fn label(&self) -> Label {
        self.source.label(self.span.clone(), "")
    }

    /// Points there.
    pub(crate) fn labelled(&self, text: impl Into<String>) -> Label {
        self.source.label(self.span.clone(), text)
    }
}

/// The policy file and the files it includes, in the order they were read, and the file of the role.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    files: Vec<Arc<Source>>,
    /// The place of each in `files`.
    by_name: HashMap<Arc<PathBuf>, usize>,
    /// Files of which no message quotes a line, lists among them.
    secret: BTreeSet<Arc<PathBuf>>,
}

impl Sources {
    pub(crate) fn push(&mut self, source: Arc<Source>) {
        self.by_name.entry(source.name.clone()).or_insert(self.files.len());
        self.files.push(source);
    }

    /// No message quotes a line of this file from now on.
    pub(crate) fn conceal(&mut self, file: Arc<PathBuf>) {
        self.secret.insert(file);
    }

    /// The files of which no message quotes a line.
    pub(crate) fn secret(&self) -> &BTreeSet<Arc<PathBuf>> {
        &self.secret
    }

    /// The files in the order they were read, the policy file first.
    pub fn files(&self) -> &[Arc<Source>] {
        &self.files
    }

    /// The line that a location names, where its text is kept and may be shown.
    pub fn line(&self, location: &Location) -> Option<&str> {
        if self.secret.contains(&location.file) {
            return None;
        }
        let source = self.files.get(*self.by_name.get(&location.file)?)?;
        let line = location.line.checked_sub(1).filter(|line| *line < source.lines.len())?;
        Some(source.line(line))
    }

    /// Adds the lines that messages speak of, to ones made from a
    /// [`Policy`](crate::model::Policy) alone. One that names no place is about the policy file.
    pub fn illustrate(&self, diagnostics: &mut Diagnostics) {
        diagnostics.iter_mut().for_each(|diagnostic| self.illustrate_one(diagnostic));
    }

    fn illustrate_one(&self, diagnostic: &mut Diagnostic) {
        if let (None, Some(root)) = (&diagnostic.place, self.files.first()) {
            diagnostic.place = Some(Label::file(root.name.clone(), ""));
        }
        for label in diagnostic.place.iter_mut().chain(&mut diagnostic.related) {
            let Some(location) = label.location().filter(|_| label.excerpt.is_none()) else {
                continue;
            };
            let Some(line) = self.line(&location) else { continue };
            let start =
                line.char_indices().nth(location.column - 1).map_or(line.len(), |(at, _)| at);
            label.excerpt = Some(Excerpt::new(line, start..start + word_length(&line[start..])));
        }
    }
}

/// The length in bytes of the string, header or bare word that `text` begins with.
fn word_length(text: &str) -> usize {
    let closing = match text.chars().next() {
        Some('"') => Some('"'),
        Some('\'') => Some('\''),
        Some('[') => return text.rfind(']').map_or(text.len(), |at| at + 1),
        _ => None,
    };
    match closing {
        Some(quote) => text[1..].find(quote).map_or(text.len(), |at| at + 2),
        None => text.find([' ', '\t', ',', ']', '}', '=', '#', '.']).unwrap_or(text.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_columns_in_characters_and_lines_from_one() {
        let source = Source::new("a.toml", "x\r\nöö = \"é\"\n");
        let place = |offset| {
            let location = source.location(offset);
            (location.line, location.column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(3), (2, 1));
        assert_eq!(place(5), (2, 2));
        assert_eq!(place(10), (2, 6));
        assert_eq!(place(source.text().len()), (3, 1));
    }

    #[test]
    fn underlines_the_word_at_a_location() {
        let mut sources = Sources::default();
        let text = "[tiers]\nweb = [\"10.0.0.1\", \"10.0.0.2\"]\n[[allow]] # here\n";
        sources.push(Arc::new(Source::new("a.toml", text)));
        let underlined = |line, column| {
            let location = Location { file: sources.files[0].name.clone(), line, column };
            let mut diagnostic = Diagnostic::error("x", Label::at(location, ""), "x");
            sources.illustrate_one(&mut diagnostic);
            let excerpt = diagnostic.place.expect("a place").excerpt.expect("an excerpt");
            excerpt.text[excerpt.underline].to_owned()
        };
        assert_eq!(underlined(2, 1), "web");
        assert_eq!(underlined(2, 8), "\"10.0.0.1\"");
        assert_eq!(underlined(3, 1), "[[allow]]");
    }
}
