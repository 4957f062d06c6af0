//! TOML: from text to a tree with places, and what to say where it isn't TOML.
//!
//! The parser goes on after an error. What it makes of the rest is trustworthy after a slip inside
//! one line (a missing quote), not after one that changes where things belong (a list without its
//! end): [`Trust`] says what of the tree may be judged.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::quoting::{cut, quote};
use crate::source::Source;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// A value and its span.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

/// Which lines the tree tells the truth about.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Lines from this one on may have been put in the wrong place.
    end: usize,
    /// Lines with a syntax error.
    bad: Vec<usize>,
}

impl Trust {
    /// Whether the text is TOML.
    pub(crate) fn is_whole(&self) -> bool {
        self.bad.is_empty()
    }

    /// Whether what the tree says of a line (from 1) is what somebody wrote there.
    pub(crate) fn covers(&self, line: usize) -> bool {
        line < self.end && !self.bad.contains(&line)
    }
}

/// Parses, and reports every syntax error.
pub(crate) fn parse<'a>(source: &'a Source, diagnostics: &mut Diagnostics) -> (DeTable<'a>, Trust) {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    let table = table.into_inner();
    let mut trust = Trust { end: usize::MAX, bad: Vec::new() };
    let mut problems: Vec<Problem> =
        errors.iter().map(|error| Problem::of(error, source, &table)).collect();
    problems.sort_by_key(|problem| (problem.span.start, !problem.structural));
    for problem in problems {
        // Errors after a list that never ends, and later ones on a line, are echoes of the first.
        let line = source.line_number(problem.span.start);
        if !trust.covers(line) {
            continue;
        }
        trust.bad.push(line);
        if problem.structural {
            trust.end = line;
        }
        diagnostics.push(problem.diagnostic);
    }
    (table, trust)
}

/// One syntax error.
struct Problem {
    span: Range<usize>,
    /// Whether the parser may have put what follows in the wrong place.
    structural: bool,
    diagnostic: Diagnostic,
}

impl Problem {
    fn of(error: &Error, source: &Source, table: &DeTable<'_>) -> Self {
        let text = source.text();
        let span = error.span().unwrap_or(0..0);
        let span = span.start.min(text.len())..span.end.min(text.len());
        let (what, expected) = match error.message().split_once(", expected ") {
            Some((what, expected)) => (what, Some(expected)),
            None => (error.message(), None),
        };
        let word = token(text, span.start);
        let found = &text[word.clone()];
        let (structural, span, message, hint) = match what {
            "duplicate key" => return Self::duplicate(source, span, table),
            "unclosed array" | "unclosed inline table" => {
                let (kind, end) =
                    if what == "unclosed array" { ("list", "]") } else { ("table", "}") };
                let open = opening(table, span.start, text, end).unwrap_or(span);
                (true, open, format!("this {kind} has no end"), format!("close it with `{end}`"))
            }
            "unclosed table" | "unclosed array table" => {
                let end = if what == "unclosed table" { "]" } else { "]]" };
                let start = line_start(text, span.start);
                let hint = format!("close it with `{end}`");
                (true, start..span.end, "this header has no end".into(), hint)
            }
            "key with no value" => {
                let start = line_start(text, span.start);
                let key = text[start..span.end].trim();
                let hint = match key.strip_suffix(':') {
                    Some(key) => format!("write `{} = …`", cut(key)),
                    None => "write `key = value`; a key is letters, digits, `_` and `-`".into(),
                };
                (true, start..span.end, format!("{} has no value", quote(key)), hint)
            }
            "string values must be quoted" if found.is_empty() => {
                (false, span, "a value is missing".into(), "write `key = value`".into())
            }
            // What begins like a number or a date: an address, as a rule.
            _ if what == "string values must be quoted" || is_bare_word(found) => {
                let hint = format!("write \"{}\"", cut(bare(found)));
                (false, word.clone(), format!("{} is not in quotes", quote(bare(found))), hint)
            }
            _ if what.starts_with("missing comma") => {
                let hint = "put `,` between the elements of a list or table";
                (false, span, "a comma is missing".into(), hint.into())
            }
            "unexpected key or value" => {
                let message = "something follows the value".into();
                (
                    false,
                    span,
                    message,
                    "one `key = value` a line; several values make a list: [\"a\", \"b\"]".into(),
                )
            }
            _ => {
                let structural = what.contains("unquoted key") || what.starts_with("unexpected `");
                let hint = expected.filter(|e| *e != "nothing").map(|e| format!("expected {e}"));
                (structural, span, what.to_owned(), hint.unwrap_or_default())
            }
        };
        let hint = Some(hint).filter(|hint| !hint.is_empty());
        let label = source.label(span.clone(), "");
        let diagnostic = Diagnostic::error("syntax", label, message).hint(hint);
        Self { span, structural, diagnostic }
    }

    fn duplicate(source: &Source, span: Range<usize>, table: &DeTable<'_>) -> Self {
        let name = &source.text()[span.clone()];
        let message = format!("{} is defined twice", quote(name));
        let mut diagnostic =
            Diagnostic::error("duplicate-key", source.label(span.clone(), ""), message)
                .hint("join the two, or remove one".to_owned());
        let mut earlier = None;
        visit_keys(table, &mut |key, at| {
            if key == name.trim_matches(['"', '\'']) && at.start < span.start {
                earlier = earlier.take().max(Some((at.start, at.end)));
            }
        });
        let earlier = earlier.map(|(start, end)| start..end);
        if let Some(first) = earlier.or_else(|| earlier_header(source.text(), name, span.start)) {
            diagnostic = diagnostic.related(source.label(first, "first defined here"));
        }
        Self { span, structural: false, diagnostic }
    }
}

/// The word around a byte: up to a blank, comma, bracket or comment on the same line.
fn token(text: &str, at: usize) -> Range<usize> {
    let ends = [' ', '\t', '\n', '\r', ',', '[', ']', '{', '}', '=', '#'];
    let start = text[..at].rfind(ends).map_or(0, |before| before + 1);
    let end = text[at..].find(ends).map_or(text.len(), |length| at + length);
    start..end
}

/// Whether a word that TOML can't read is probably an address, a service or a name.
fn is_bare_word(word: &str) -> bool {
    let starts = word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == ':');
    starts && word.contains(['.', ':', '/']) && !word.contains(['"', '\''])
}

/// A word without the typographic quotes that some editors make.
fn bare(word: &str) -> &str {
    word.trim_matches(['“', '”', '„', '‘', '’', '`', '"', '\''])
}

fn line_start(text: &str, at: usize) -> usize {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    start + text[start..at].len() - text[start..at].trim_start().len()
}

/// The span of the bracket that opens the outermost value that runs to `end` without `closing`.
fn opening(table: &DeTable<'_>, end: usize, text: &str, closing: &str) -> Option<Range<usize>> {
    let mut found: Option<usize> = None;
    visit_values(table, &mut |value| {
        let span = value.span();
        let is_open = span.end == end && !text[span.clone()].ends_with(closing);
        let is_container = value.get_ref().is_array() || value.get_ref().is_table();
        if is_container && is_open && found.is_none_or(|start| span.start < start) {
            found = Some(span.start);
        }
    });
    found.map(|start| start..start + 1)
}

fn visit_values<'t>(table: &'t DeTable<'_>, visit: &mut impl FnMut(&'t Value<'_>)) {
    fn value<'t>(of: &'t Value<'_>, visit: &mut impl FnMut(&'t Value<'_>)) {
        visit(of);
        match of.get_ref() {
            DeValue::Array(array) => array.iter().for_each(|element| value(element, visit)),
            DeValue::Table(table) => table.values().for_each(|element| value(element, visit)),
            _ => {}
        }
    }
    table.values().for_each(|element| value(element, visit));
}

fn visit_keys(table: &DeTable<'_>, visit: &mut impl FnMut(&str, Range<usize>)) {
    let mut keys_of = |table: &DeTable<'_>| {
        table.keys().for_each(|key| visit(key.get_ref(), key.span()));
    };
    keys_of(table);
    visit_values(table, &mut |value| {
        if let DeValue::Table(table) = value.get_ref() {
            keys_of(table);
        }
    });
}

/// The first `[name]` header before a byte. The tree keeps only the last of two.
fn earlier_header(text: &str, name: &str, before: usize) -> Option<Range<usize>> {
    let mut start = 0;
    text[..line_start(text, before)].split_inclusive('\n').find_map(|line| {
        let from = start;
        start += line.len();
        let header = line.trim_start().trim_start_matches('[').trim_start();
        let is_header = line.trim_start().starts_with('[')
            && header.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(']'));
        is_header.then(|| from + line.len() - header.len()).map(|at| at..at + name.len())
    })
}
