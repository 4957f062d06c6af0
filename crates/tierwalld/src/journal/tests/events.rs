//! The events of the daemon, out of its source: `tracing::info!(target: kind::READY, field, …)`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use std::fs;
use std::path::Path;

const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// One place where something is logged.
#[derive(Debug)]
pub(super) struct LogEvent {
    pub(super) place: String,
    pub(super) level: String,
    /// The constant that its target is.
    pub(super) kind: Option<String>,
    pub(super) fields: Vec<String>,
}

/// All of them, but for those of tests.
pub(super) fn all() -> Vec<LogEvent> {
    let mut events = Vec::new();
    of_directory(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut events);
    events
}

fn of_directory(directory: &Path, events: &mut Vec<LogEvent>) {
    for entry in fs::read_dir(directory).expect("a directory of the source") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "tests" {
                of_directory(&path, events);
            }
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = fs::read_to_string(&path).expect("UTF-8");
            of_tokens(text.parse().expect("Rust"), &name, events);
        }
    }
}

fn of_tokens(tokens: TokenStream, file: &str, events: &mut Vec<LogEvent>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut is_of_tests = false;
    for (index, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else {
            is_of_tests |=
                token.to_string() == "tests" && index > 0 && tokens[index - 1].to_string() == "mod";
            continue;
        };
        if std::mem::take(&mut is_of_tests) {
            continue;
        }
        match macro_before(&tokens[..index]) {
            Some(level) => {
                let place = format!("{file}: {group}");
                events.push(LogEvent::of(place, level, group.stream()));
            }
            None => of_tokens(group.stream(), file, events),
        }
    }
}

/// The level, where `tracing::LEVEL!` stands at the end.
fn macro_before(tokens: &[TokenTree]) -> Option<String> {
    let words: Vec<String> = tokens.iter().rev().take(5).map(ToString::to_string).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["!", level, ":", ":", "tracing"] if LEVELS.contains(&level) => Some(level.to_owned()),
        _ => None,
    }
}

impl LogEvent {
    /// The arguments are `target: kind::WORD`, fields as `name`, `%name` or `name = value`,
    /// and a format string with its own arguments.
    fn of(place: String, level: String, arguments: TokenStream) -> Self {
        let mut event = Self { place, level, kind: None, fields: Vec::new() };
        for argument in split(arguments) {
            let words: Vec<String> = argument.iter().map(ToString::to_string).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            match words[..] {
                ["target", ":", "kind", ":", ":", word] => event.kind = Some(word.to_owned()),
                ["?", name] | [name, "=", "?", ..] => {
                    panic!(
                        "{name} would be in the journal with its quotation marks: {}",
                        event.place
                    )
                }
                [name] | ["%", name] | [name, "=", ..] if is_name(name) => {
                    event.fields.push(name.to_owned());
                }
                _ => return event,
            }
        }
        event
    }
}

fn is_name(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn split(tokens: TokenStream) -> Vec<Vec<TokenTree>> {
    let mut parts = vec![Vec::new()];
    for token in tokens {
        match &token {
            TokenTree::Punct(comma) if comma.as_char() == ',' => parts.push(Vec::new()),
            TokenTree::Group(group) if group.delimiter() == Delimiter::None => {}
            _ => parts.last_mut().expect("one at least").push(token),
        }
    }
    parts
}

#[test]
fn the_source_is_understood() {
    let source = "fn f() { g(|e| tracing::warn!(target: kind::X, %a, b = c.d(), e, \"{f}\", g)); }
                  mod tests { fn f() { tracing::info!(h, \"\"); } }";
    let mut events = Vec::new();
    of_tokens(source.parse().expect("Rust"), "x.rs", &mut events);
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!((event.level.as_str(), event.kind.as_deref()), ("warn", Some("X")));
    assert_eq!(event.fields, ["a", "b", "e"]);
}
