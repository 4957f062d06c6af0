//! What must go along with programs that hold libraries of others: their licences and notices.

use crate::run;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// How files begin whose text must go along.
const FILES: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicense", "authors"];

const HEAD: &str = "\
tierwall is under GPL-3.0-or-later. Its programs hold the Rust libraries that are listed here, each
under its own licence, and below the list every text that comes with them. They also hold the
standard library of Rust, whose copyright its contributors have: MIT OR Apache-2.0.
";

/// What is said of the libraries.
pub(crate) struct Notices {
    /// The list, and all texts.
    pub(crate) text: String,
    /// The licence of the programs as a whole, as an SPDX expression.
    pub(crate) expression: String,
}

struct Library {
    name: String,
    licence: String,
    authors: String,
    directory: PathBuf,
}

/// Collects them for what these programs of the workspace are linked with.
///
/// # Errors
/// When a library says nothing of its licence, or cargo can't tell what is linked.
pub(crate) fn collect(programs: &[&str]) -> Result<Notices> {
    let libraries = linked(programs)?;
    ensure!(!libraries.is_empty(), "cargo tree lists no library");
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut licences = BTreeSet::from(["GPL-3.0-or-later".to_owned()]);
    let mut list = String::from(HEAD);
    for Library { name, licence, authors, directory } in &libraries {
        ensure!(!licence.is_empty(), "{name} doesn't tell its licence");
        licences.insert(expression(licence));
        let found = texts_in(directory)?;
        let by = match found.is_empty() && !authors.is_empty() {
            true => format!(", by {authors}"),
            false => String::new(),
        };
        let _ = write!(list, "\n  {name}: {licence}{by}");
        for (file, text) in found {
            texts.entry(text).or_default().push(format!("{name}, {file}"));
        }
    }
    list.push('\n');
    // In the order of the list.
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by(|(_, a), (_, b)| a.cmp(b));
    for (text, of) in texts {
        let _ = write!(list, "\n{}\n{}\n\n{text}\n", "=".repeat(72), of.join("\n"));
    }
    let expression = licences.into_iter().collect::<Vec<_>>().join(" AND ");
    Ok(Notices { text: list, expression })
}

/// As a part of an expression with `AND`; `/` is the `OR` of older manifests.
fn expression(licence: &str) -> String {
    let spaced = licence.replace('/', " OR ");
    if spaced.contains(" OR ") { format!("({spaced})") } else { spaced }
}

/// The libraries of others.
fn linked(programs: &[&str]) -> Result<Vec<Library>> {
    let mut tree = run::cargo(&["tree", "--locked", "--edges=normal,no-proc-macro"]);
    tree.args(["--prefix=none", "--format={p}"]);
    for program in programs {
        tree.args(["--package", program]);
    }
    let tree = run::output(&mut tree)?;
    // `name v1.2.3`, with more behind it where it is a local one, or was printed before.
    let names: BTreeSet<String> = tree
        .lines()
        .filter_map(|line| {
            let (name, version) = line.split_once(" v")?;
            Some(format!("{name} {}", version.split(' ').next()?))
        })
        .collect();
    let metadata = run::output(&mut run::cargo(&["metadata", "--locked", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists no package")?;
    let mut libraries = Vec::new();
    for package in packages.iter().filter(|package| !package["source"].is_null()) {
        let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
        let name = format!("{} {}", text("name"), text("version"));
        if !names.contains(&name) {
            continue;
        }
        let authors = package["authors"].as_array().into_iter().flatten();
        let authors: Vec<&str> = authors.filter_map(Value::as_str).collect();
        let manifest = PathBuf::from(text("manifest_path"));
        let directory = manifest.parent().context("a manifest without a directory")?.to_owned();
        let (licence, authors) = (text("license"), authors.join(", "));
        libraries.push(Library { name, licence, authors, directory });
    }
    libraries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(libraries)
}

/// The texts in a directory that must go along, by the names of their files.
fn texts_in(directory: &Path) -> Result<BTreeMap<String, String>> {
    let mut texts = BTreeMap::new();
    let entries =
        fs::read_dir(directory).with_context(|| format!("can't read {}", directory.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_one = FILES.iter().any(|begin| name.to_lowercase().starts_with(begin));
        if is_one && entry.path().is_file() {
            let text = fs::read(entry.path())?;
            let text = String::from_utf8_lossy(&text).replace("\r\n", "\n");
            texts.insert(name, text.trim_matches('\n').to_owned());
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_is_listed_with_its_licence_and_texts() {
        let Notices { text, expression } = collect(&["tierwall", "tierwalld"]).unwrap();
        for library in ["\n  clap ", "\n  toml ", "\n  tracing "] {
            assert!(text.contains(library), "{library}");
        }
        assert!(text.contains("LICENSE-MIT\n") && text.contains("Permission is hereby granted"));
        // Not those of tests, and not our own.
        assert!(!text.contains("\n  proptest ") && !text.contains("\n  tierwall"));
        assert!(expression.starts_with("(Apache-2.0 OR "), "{expression}");
        assert!(expression.contains(" AND GPL-3.0-or-later AND MIT"), "{expression}");
    }
}
