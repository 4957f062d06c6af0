//! What is told of a run: a table on the terminal, JSON, and the blocks of docs/performance.md
//! that are between markers. What stands around them is written by hand.

use crate::Measured;
use crate::machine;
use crate::plot;
use crate::report::{self, Group};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

type Machine = [(&'static str, String)];

pub(crate) fn head(machine: &Machine) -> String {
    machine.iter().map(|(what, which)| format!("{what:<12}{which}\n")).collect()
}

pub(crate) fn text(case: &Measured) -> String {
    let warnings = case.warnings.iter().map(|warning| format!("warning: {warning}\n"));
    let warnings: String = warnings.collect();
    format!("\n== {}\n\n{warnings}{}", case.name, report::text(&case.groups))
}

pub(crate) fn json(machine: &Machine, cases: &[Measured]) -> Value {
    let machine: serde_json::Map<String, Value> =
        machine.iter().map(|(what, which)| ((*what).to_owned(), json!(which))).collect();
    let cases: serde_json::Map<String, Value> = cases
        .iter()
        .map(|case| {
            let groups: Vec<Value> = case.groups.iter().map(Group::as_json).collect();
            (case.name.to_owned(), json!({ "warnings": case.warnings, "groups": groups }))
        })
        .collect();
    json!({ "machine": machine, "cases": cases })
}

/// Rewrites the block of what was measured, and the plots beside.
pub(crate) fn write(machine: &Machine, case: &Measured) -> Result<()> {
    if case.groups.is_empty() {
        return Ok(());
    }
    let docs: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let path = docs.join("performance.md");
    let mut text =
        fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))?;
    let block = versions(machine, &text);
    replace(&mut text, "machine", &block)?;
    replace(&mut text, case.name, &markdown(machine, case))?;
    plot::write(&docs, &case.groups)?;
    fs::write(&path, text)?;
    eprintln!("docs/performance.md has it now");
    Ok(())
}

/// The machine and the versions. Each case says itself when it was measured, and of which tierwall;
/// of a peer that isn't here stays what the cases were measured with that had it.
fn versions(machine: &Machine, before: &str) -> String {
    let mut block = String::from("| | |\n| --- | --- |\n");
    let known = machine.iter().filter(|(what, _)| !["date", "tierwall"].contains(what));
    for (what, which) in known {
        let earlier = || before.lines().find(|line| line.starts_with(&format!("| {what} | ")));
        match earlier().filter(|_| which == machine::MISSING) {
            Some(line) => block += &format!("{line}\n"),
            None => block += &format!("| {what} | {which} |\n"),
        }
    }
    block
}

/// Puts `block` between the markers of that name.
fn replace(text: &mut String, name: &str, block: &str) -> Result<()> {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let missing = || format!("docs/performance.md has no block `{name}`");
    let start = text.find(&begin).with_context(missing)? + begin.len();
    let length = text[start..].find(&end).with_context(missing)?;
    text.replace_range(start..start + length, block);
    Ok(())
}

fn markdown(machine: &Machine, case: &Measured) -> String {
    let mut text = String::new();
    for group in &case.groups {
        let mut heads = report::heads(group.unit);
        heads[0] = format!("**{}**", group.title);
        let _ = writeln!(
            text,
            "| {} |\n| --- |{}",
            heads.join(" | "),
            " ---: |".repeat(heads.len() - 1)
        );
        for cells in group.cells() {
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text.push('\n');
    }
    for name in plot::names(&case.groups) {
        let _ = writeln!(text, "![{name}](performance-{name}.svg)\n");
    }
    let told = |what| machine.iter().find(|(own, _)| *own == what).map_or("", |(_, which)| which);
    let _ = writeln!(text, "Measured {}, {}.", told("date"), told("tierwall"));
    for warning in &case.warnings {
        let _ = writeln!(text, "\n**The machine was not quiet:** {warning}.");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_peer_that_is_not_here_stays() {
        let missing = || machine::MISSING.to_owned();
        let machine = [
            ("date", "now".to_owned()),
            ("tierwall", "commit 1".to_owned()),
            ("nft", "v2".to_owned()),
            ("ipset", missing()),
            ("firewalld", missing()),
        ];
        let block = versions(&machine, "x\n| nft | v1 |\n| ipset | v7.17 |\n<!-- end -->\n");
        let wanted = format!("| nft | v2 |\n| ipset | v7.17 |\n| firewalld | {} |\n", missing());
        assert_eq!(block, format!("| | |\n| --- | --- |\n{wanted}"));
    }
}
