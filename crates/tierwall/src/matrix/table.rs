//! The matrix for a terminal: a grid where it fits, else a list.

use super::{View, summary};
use crate::output::{FAINT, HEADING, styled};

/// What a terminal is wide, unless somebody made it wider.
const WIDTH: usize = 80;

/// Between two columns.
const GAP: usize = 2;

pub(super) fn render(view: &View<'_>) -> String {
    let text = grid(view).unwrap_or_else(|| list(view));
    let mut notes = vec!["rows open, columns accept; any: addresses in no tier".to_owned()];
    let is_in_part = |passages| summary(passages, view.on.as_ref()).iter().any(|(_, part)| *part);
    if view.relation.pairs().any(|(_, _, passages)| is_in_part(passages)) {
        notes.push("* some members or users only: `tierwall who-can` says which".into());
    }
    notes.extend(view.mode_notes().into_iter().map(str::to_owned));
    notes.push("ICMP echo and errors, neighbour discovery and DHCP are built in".into());
    notes.extend(view.notes.iter().cloned());
    text + "\n" + &styled(FAINT, &notes.join("\n")) + "\n"
}

fn cell(view: &View<'_>, from: usize, to: usize) -> Vec<String> {
    let parts = view.summary(from, to);
    parts.into_iter().map(|(name, part)| if part { name + "*" } else { name }).collect()
}

/// A row for each sender, a column for each receiver, a line for each service. None where that is
/// wider than a terminal.
fn grid(view: &View<'_>) -> Option<String> {
    let (senders, receivers) = view.shown();
    let relation = &view.relation;
    let width = |texts: &mut dyn Iterator<Item = &str>| texts.map(|t| t.chars().count()).max();
    let names = width(&mut senders.iter().map(|from| relation.senders[*from].name.as_str()))?;
    let names = names.max("from \\ to".len());
    let rows: Vec<Vec<Vec<String>>> = senders
        .iter()
        .map(|from| receivers.iter().map(|to| cell(view, *from, *to)).collect())
        .collect();
    let widths: Vec<usize> = receivers
        .iter()
        .enumerate()
        .map(|(column, to)| {
            let cells = rows.iter().flat_map(|row| &row[column]).map(String::as_str);
            width(&mut cells.chain([relation.receivers[*to].name.as_str()])).unwrap_or(0)
        })
        .collect();
    if names + widths.iter().map(|width| width + GAP).sum::<usize>() > WIDTH {
        return None;
    }
    let mut line = format!("{:names$}", "from \\ to");
    for (to, width) in receivers.iter().zip(&widths) {
        line += &format!("{:GAP$}{:width$}", "", relation.receivers[*to].name);
    }
    let mut text = styled(HEADING, line.trim_end()) + "\n";
    for (from, row) in senders.iter().zip(&rows) {
        let height = row.iter().map(Vec::len).max().unwrap_or(0).max(1);
        for index in 0..height {
            let name = if index == 0 { relation.senders[*from].name.as_str() } else { "" };
            let mut cells = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                let nothing = if index == 0 { "·" } else { "" };
                let part = cell.get(index).map_or(nothing, String::as_str);
                cells += &format!("{:GAP$}{part:width$}", "");
            }
            let name = styled(HEADING, &format!("{name:names$}"));
            text += (name + &cells).trim_end();
            text.push('\n');
        }
    }
    Some(text)
}

/// Each sender with its receivers, wrapped.
fn list(view: &View<'_>) -> String {
    let (senders, receivers) = view.shown();
    let (mut text, mut silent) = (String::new(), Vec::new());
    for from in senders {
        let sender = &view.relation.senders[from];
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        for to in &receivers {
            let services = cell(view, from, *to);
            if !services.is_empty() {
                rows.push((view.relation.receivers[*to].name.clone(), services));
            }
        }
        // Receivers that are reached on the same are one line.
        let mut lines: Vec<(String, Vec<String>)> = Vec::new();
        for (name, services) in rows {
            match lines.iter_mut().find(|(_, same)| *same == services) {
                Some((names, _)) => *names += &format!(", {name}"),
                None => lines.push((name, services)),
            }
        }
        if lines.is_empty() {
            silent.push(sender.name.clone());
            continue;
        }
        text += &format!("{}\n", styled(HEADING, &sender.name));
        for (names, services) in lines {
            text += &wrapped(&format!("{} to {names}", services.join(", ")));
        }
    }
    if !silent.is_empty() {
        text += &format!("{}\n", styled(HEADING, "nothing"));
        text += &wrapped(&format!("from {}", silent.join(", ")));
    }
    text
}

/// Words on lines of the terminal's width, indented by two, further lines by six.
fn wrapped(words: &str) -> String {
    let (mut text, mut line) = (String::new(), String::from(" "));
    for word in words.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.trim() != "" {
            text += &(line + "\n");
            line = String::from("     ");
        }
        line += &format!(" {word}");
    }
    text + &line + "\n"
}
