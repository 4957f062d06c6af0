//! Every kind of event has an id, an entry in the catalog and a line in `docs/journal.md`; every
//! field is documented; and nothing is documented that isn't there.

use super::events::{self, LogEvent};
use crate::journal::{PREFIX, field, kind};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

const CATALOG: &str = "config/journal/tierwall.catalog";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The word for a kind, out of the name of its constant.
fn word(constant: &str) -> String {
    constant.to_ascii_lowercase().replace('_', "-")
}

/// The events of each kind.
fn by_kind() -> BTreeMap<String, Vec<LogEvent>> {
    let mut kinds: BTreeMap<String, Vec<LogEvent>> = BTreeMap::new();
    for event in events::all() {
        let kind = event.kind.as_deref().unwrap_or_else(|| panic!("no kind: {}", event.place));
        kinds.entry(word(kind)).or_default().push(event);
    }
    kinds
}

/// The entries of the catalog by their ids: the header lines, and the text.
fn catalog() -> BTreeMap<String, (Vec<String>, String)> {
    let text = read(CATALOG);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let mut entries = BTreeMap::new();
    for entry in lines.collect::<Vec<_>>().join("\n").split("\n-- ").map(str::trim) {
        let Some((head, body)) = entry.trim_start_matches("-- ").split_once("\n\n") else {
            continue;
        };
        let mut head = head.lines().map(str::to_owned);
        let id = head.next().expect("an id");
        let before = entries.insert(id.clone(), (head.collect(), body.to_owned()));
        assert!(before.is_none(), "{id} twice");
    }
    entries
}

#[test]
fn each_event_has_a_kind_and_each_kind_an_event() {
    let logged: BTreeSet<String> = by_kind().into_keys().collect();
    let known: BTreeSet<String> = kind::ALL.iter().map(|(word, _)| (*word).to_owned()).collect();
    assert_eq!(logged, known);
    assert_eq!(known.len(), kind::ALL.len(), "a word twice");
}

#[test]
fn ids_are_ids_and_differ() {
    let ids: BTreeSet<&str> = kind::ALL.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), kind::ALL.len());
    for id in ids {
        let is_hex = id.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        assert!(id.len() == 32 && is_hex, "{id}");
    }
}

#[test]
fn the_catalog_has_each_kind_and_no_other() {
    let catalog = catalog();
    let known: BTreeSet<&str> = kind::ALL.iter().map(|(_, id)| *id).collect();
    assert_eq!(catalog.keys().map(String::as_str).collect::<BTreeSet<_>>(), known);
    let events = by_kind();
    for (word, id) in kind::ALL {
        let (head, body) = &catalog[*id];
        for name in ["Subject: ", "Defined-By: tierwall", "Documentation: man:"] {
            assert!(head.iter().any(|line| line.starts_with(name)), "{word}: no {name}");
        }
        assert!(body.len() > 60, "{word}: {body}");
        // What isn't in an entry would be a hole in its text.
        for name in body.split('@').skip(1).step_by(2) {
            let field = name.strip_prefix(PREFIX).unwrap_or_else(|| panic!("{word}: @{name}@"));
            for event in &events[*word] {
                let has = event.fields.iter().any(|own| own.to_ascii_uppercase() == field);
                assert!(has, "the catalog names {name}, which isn't in {}", event.place);
            }
        }
    }
}

/// As systemd takes it.
#[test]
fn the_catalog_is_one() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&directory).expect("made");
    fs::create_dir_all(root.path().join("var/lib/systemd/catalog")).expect("made");
    fs::write(directory.join("tierwall.catalog"), read(CATALOG)).expect("written");
    let journalctl = |argument: &str| {
        let mut command = Command::new("journalctl");
        command.arg("--root").arg(root.path()).arg(argument);
        let output = command.output().expect("journalctl runs (Debian: systemd)");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.is_empty(), "{said}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    journalctl("--update-catalog");
    let listed = journalctl("--list-catalog");
    for (word, id) in kind::ALL {
        assert!(listed.lines().any(|line| line.starts_with(id)), "{word}: {listed}");
    }
    assert_eq!(listed.lines().count(), kind::ALL.len());
}

#[test]
fn each_field_is_documented_and_is_one() {
    let logged: BTreeSet<String> =
        events::all().into_iter().flat_map(|event| event.fields).collect();
    let documented: Vec<&str> = field::ALL.iter().map(|(name, _)| *name).collect();
    let mut expected: BTreeSet<&str> = logged.iter().map(String::as_str).collect();
    // The journal's own.
    expected.extend(["event", "set"]);
    assert_eq!(documented.iter().copied().collect::<BTreeSet<_>>(), expected);
    assert_eq!(documented.len(), expected.len(), "one is documented twice");
}

/// Rows of a table whose first cell is `code`: that, and the other cells.
fn rows<'a>(text: &'a str, begin: &str) -> BTreeMap<&'a str, Vec<&'a str>> {
    let rows = text.lines().filter(|line| line.starts_with(begin)).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        (cells.next().expect("a cell").trim_matches('`'), cells.collect())
    });
    rows.collect()
}

#[test]
fn the_document_says_what_there_is() {
    let text = read("docs/journal.md");
    let (kinds, fields) = text.split_once("## Fields").expect("a chapter on fields");
    let written = rows(fields, "| `TIERWALL_");
    for (name, meaning) in field::ALL {
        let name = format!("{PREFIX}{}", name.to_ascii_uppercase());
        assert_eq!(written.get(name.as_str()), Some(&vec![*meaning]), "docs/journal.md: {name}");
    }
    assert_eq!(written.len(), field::ALL.len());
    let (written, events) = (rows(kinds, "| `"), by_kind());
    for (word, _) in kind::ALL {
        let levels: BTreeSet<&str> =
            events[*word].iter().map(|event| event.level.as_str()).collect();
        let order = ["error", "warn", "info", "debug"];
        let levels: Vec<&str> = order.into_iter().filter(|level| levels.contains(level)).collect();
        let row = written.get(word).unwrap_or_else(|| panic!("docs/journal.md: no {word}"));
        assert_eq!(row[0], levels.join(", "), "docs/journal.md: {word}");
    }
    assert_eq!(written.len(), kind::ALL.len());
}
