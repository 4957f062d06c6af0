//! What is told of a run: a table on the terminal, JSON, and the blocks of docs/performance.md
//! that are between markers. What stands around them is written by hand.

use crate::Measured;
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
    let mut block = String::from("| | |\n| --- | --- |\n");
    for (what, which) in machine {
        let _ = writeln!(block, "| {what} | {which} |");
    }
    replace(&mut text, "machine", &block)?;
    replace(&mut text, case.name, &markdown(machine, case))?;
    plot::write(&docs, &case.groups)?;
    fs::write(&path, text)?;
    eprintln!("docs/performance.md has it now");
    Ok(())
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
