//! `tierwall reload` and `tierwall rollback`, and how every change through the daemon is told.

use crate::confirm;
use crate::error::Error;
use crate::options::{Common, Reload, Rollback};
use crate::output::{
    BAD, FAINT, GOOD, WARNING, clean_line, counted, print, print_json, styled, tell,
};
use control::{Client, Done, Request, Response, socket_path};
use policy::ConfirmTime;
use serde_json::json;

pub(crate) fn reload(common: &Common, reload: &Reload) -> Result<u8, Error> {
    let request = Request::Reload(control::Reload {
        force: reload.force,
        confirm: reload.confirming.confirm.map(ConfirmTime::seconds),
        replace: reload.replace,
    });
    change(common, &request, "nothing changed: the kernel holds this policy")
}

pub(crate) fn rollback(common: &Common, rollback: &Rollback) -> Result<u8, Error> {
    let request = Request::Rollback(control::Rollback {
        generation: rollback.generation,
        force: rollback.force,
        confirm: rollback.confirm.map(ConfirmTime::seconds),
    });
    change(common, &request, "nothing changed: the kernel holds that policy")
}

/// Asks for a change and tells what it came to; `nothing` where that is nothing.
pub(crate) fn change(common: &Common, request: &Request, nothing: &str) -> Result<u8, Error> {
    let client = Client::connect(&socket_path(&common.runtime_directory)).map_err(Error::Client)?;
    match client.ask(request).map_err(Error::Client)? {
        Response::Done(done) if common.json => print_json(&json!(done))?,
        Response::Done(done) => print(&as_text(&done, nothing))?,
        other => return Err(crate::unexpected(other)),
    }
    Ok(control::exit::OK)
}

/// Open connections that can't be opened again.
pub(crate) fn reconnecting(lines: &[String]) -> String {
    const SHOWN: usize = 10;
    if lines.is_empty() {
        return String::new();
    }
    let heading = "open connections stay, but this policy wouldn't let them be opened again:";
    let mut text = format!("{}\n", styled(WARNING, heading));
    for line in lines.iter().take(SHOWN) {
        text += &format!("  {}\n", clean_line(line));
    }
    if lines.len() > SHOWN {
        text += &format!("  and {} more\n", lines.len() - SHOWN);
    }
    text
}

fn as_text(done: &Done, nothing: &str) -> String {
    for warning in &done.warnings {
        tell(&format!("{} {warning}\n", styled(WARNING, "warning:")));
    }
    let mut text = String::new();
    let waits = done.pending.as_ref().map(confirm::as_text).unwrap_or_default();
    let Some(commit) = &done.commit else { return format!("{nothing}\n{waits}") };
    for line in &done.changes {
        text += &match line.more {
            true => styled(GOOD, &format!("+ {}", line.text)),
            false => styled(BAD, &format!("- {}", line.text)),
        };
        text.push('\n');
    }
    text += &reconnecting(&done.cannot_reconnect);
    if done.changes.is_empty() {
        text += "the same traffic passes\n";
    }
    let elements: usize = commit.sets.values().map(|set| set.added + set.deleted).sum();
    let summary = format!(
        "generation {}: {}, {} added, {} deleted, {} bytes in {:.1} ms",
        commit.generation,
        counted(elements, "element"),
        counted(commit.rules_added, "rule"),
        commit.rules_deleted,
        commit.bytes,
        commit.duration_us as f64 / 1000.0,
    );
    text += &styled(FAINT, &summary);
    text.push('\n');
    text + &waits
}
