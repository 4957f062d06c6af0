//! Whether every dependency may be part of a GPL-3.0-or-later program.

use crate::run;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;

/// Licences that GPL-3.0-or-later can be combined with (SPDX identifiers).
const COMPATIBLE: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "GPL-2.0-or-later",
    "GPL-3.0-or-later",
    "ISC",
    "LGPL-2.1-or-later",
    "LGPL-3.0-or-later",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Checks every package of the dependency tree, those of tests and build scripts too.
///
/// # Errors
/// Names every package whose licence isn't compatible, or isn't told.
pub(crate) fn check() -> Result<()> {
    let tree = run::output(&mut run::cargo(&[
        "tree",
        "--workspace",
        "--locked",
        "--edges=all",
        "--prefix=none",
        "--format={p}\t{l}",
    ]))?;
    let packages: BTreeMap<&str, &str> = tree
        .lines()
        // A package that was printed before is marked.
        .map(|line| line.trim_end_matches(" (*)"))
        .filter_map(|line| line.split_once('\t'))
        .collect();
    ensure!(!packages.is_empty(), "cargo tree lists no package");
    let mut refused = Vec::new();
    for (package, licence) in &packages {
        match is_compatible(licence) {
            Ok(true) => {}
            Ok(false) => refused.push(format!("  {package}: {licence}")),
            Err(error) => refused.push(format!("  {package}: `{licence}`: {error:#}")),
        }
    }
    if !refused.is_empty() {
        bail!("licences that GPL-3.0-or-later can't be combined with:\n{}", refused.join("\n"));
    }
    println!("{} packages, each with a licence compatible with GPL-3.0-or-later", packages.len());
    Ok(())
}

/// Evaluates an SPDX expression. `/` is the `OR` of older manifests.
fn is_compatible(expression: &str) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let compatible = any_of(&mut rest)?;
    ensure!(rest.is_empty(), "unexpected `{}`", rest[0]);
    Ok(compatible)
}

/// `a OR b`, the weakest operator.
fn any_of(words: &mut &[&str]) -> Result<bool> {
    let mut compatible = all_of(words)?;
    while take(words, "OR") {
        compatible |= all_of(words)?;
    }
    Ok(compatible)
}

/// `a AND b`
fn all_of(words: &mut &[&str]) -> Result<bool> {
    let mut compatible = one(words)?;
    while take(words, "AND") {
        compatible &= one(words)?;
    }
    Ok(compatible)
}

/// A licence, perhaps with an exception, or an expression in parentheses.
fn one(words: &mut &[&str]) -> Result<bool> {
    if take(words, "(") {
        let compatible = any_of(words)?;
        ensure!(take(words, ")"), "missing `)`");
        return Ok(compatible);
    }
    let (licence, rest) = words.split_first().context("missing licence")?;
    *words = rest;
    if take(words, "WITH") {
        let (exception, rest) = words.split_first().context("missing exception")?;
        *words = rest;
        return Ok(COMPATIBLE.contains(&format!("{licence} WITH {exception}").as_str()));
    }
    Ok(COMPATIBLE.contains(licence))
}

fn take(words: &mut &[&str], expected: &str) -> bool {
    match words.split_first() {
        Some((word, rest)) if *word == expected => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-2.0-only", false),
            ("MIT/Apache-2.0", true),
            ("GPL-2.0-only OR MIT", true),
            ("GPL-2.0-only AND MIT", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("MIT OR GPL-2.0-only AND CDDL-1.0", true),
            ("(MIT OR GPL-2.0-only) AND CDDL-1.0", false),
            ("Apache-2.0 WITH LLVM-exception OR CDDL-1.0", true),
            ("CDDL-1.0 WITH LLVM-exception", false),
        ] {
            assert_eq!(is_compatible(expression).expect(expression), expected, "{expression}");
        }
        for wrong in ["", "MIT OR", "(MIT", "MIT Apache-2.0", "MIT)"] {
            assert!(is_compatible(wrong).is_err(), "`{wrong}` is no expression");
        }
    }
}
