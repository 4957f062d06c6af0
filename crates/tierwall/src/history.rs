//! `tierwall history` and `tierwall diff`: the policies that were committed on this server.

use crate::error::Error;
use crate::options::{Common, Diff};
use crate::output::{
    BAD, BEYOND_COUNTING, GOOD, HEADING, clean_line, columns, print, print_json, styled,
};
use crate::time::ago;
use control::{
    ChangeLine, Client, Confirmation, DenialRate, DenialRates, Difference, Generation,
    MemberDifference, Past, Request, Requester, Response, socket_path,
};
use nix::unistd::{Uid, User};
use serde_json::json;

/// Lines of a generation that the list shows.
const SHOWN: usize = 3;

pub(crate) fn list(common: &Common) -> Result<u8, Error> {
    match ask(common, &Request::History)? {
        Response::History(past) if common.json => print_json(&json!(past))?,
        Response::History(past) if past.is_empty() => print("no policy was committed yet\n")?,
        Response::History(past) => {
            let text: String = past.iter().rev().map(as_text).collect();
            print(&text)?;
        }
        other => return Err(crate::unexpected(other)),
    }
    Ok(control::exit::OK)
}

pub(crate) fn diff(common: &Common, diff: &Diff) -> Result<u8, Error> {
    match ask(common, &Request::Difference { from: diff.from, to: diff.to })? {
        Response::Difference(difference) if common.json => print_json(&json!(difference))?,
        Response::Difference(difference) => print(&difference_as_text(&difference))?,
        other => return Err(crate::unexpected(other)),
    }
    Ok(control::exit::OK)
}

fn ask(common: &Common, request: &Request) -> Result<Response, Error> {
    let client = Client::connect(&socket_path(&common.runtime_directory)).map_err(Error::Client)?;
    client.ask(request).map_err(Error::Client)
}

fn as_text(past: &Past) -> String {
    let Past { generation, current, kept, denials } = past;
    let Generation { number, time, reason, by, changes, edits, more, .. } = generation;
    let reason = match generation.back_to {
        Some(number) => format!("{reason} to {number}"),
        None => reason.clone(),
    };
    let mut notes = Vec::new();
    if *current {
        notes.push(styled(GOOD, "enforced"));
    }
    if generation.forced {
        notes.push(styled(BAD, "by force"));
    }
    match generation.confirmation {
        Some(Confirmation::Waiting) => notes.push(styled(BAD, "waits to be confirmed")),
        Some(Confirmation::Confirmed) => notes.push("confirmed".into()),
        Some(Confirmation::Forced) => notes.push(styled(BAD, "confirmed by force")),
        Some(Confirmation::Reverted) => notes.push(styled(BAD, "gone back from")),
        Some(Confirmation::Replaced) => notes.push("replaced before it was confirmed".into()),
        None => {}
    }
    if generation.rolled_back {
        notes.push("rolled back from".into());
    }
    if !kept {
        notes.push("no longer kept".into());
    }
    let by = by.as_ref().map(|by| format!(", by {}", who(by))).unwrap_or_default();
    let notes = notes.into_iter().map(|note| format!(", {note}")).collect::<String>();
    let head = styled(HEADING, &number.to_string());
    let mut text = format!("{head}  {reason}, {} ago{by}{notes}\n", ago(*time));
    let lines: Vec<String> = match changes.is_empty() {
        false => changes.iter().map(change_as_text).collect(),
        true => edits.clone(),
    };
    lines.iter().take(SHOWN).for_each(|line| text += &format!("    {line}\n"));
    match changes.len() + edits.len() + more - lines.len().min(SHOWN) {
        0 => {}
        // All of them are recorded.
        hidden if *more == 0 => text += &format!("    and {hidden} more: see --json\n"),
        hidden => text += &format!("    and {hidden} more\n"),
    }
    text + &denials.map(denials_as_text).unwrap_or_default()
}

/// Denied connections a minute before a generation and in it, where there were any.
fn denials_as_text(DenialRates { before, after }: DenialRates) -> String {
    let none = |rate: DenialRate| rate.connections + rate.strangers == 0;
    if none(before) && none(after) {
        return String::new();
    }
    // Before packets were read.
    let is_known = before.seconds > 0 || !none(before);
    let earlier = |count: u64| if is_known { count.to_string() } else { "?".to_owned() };
    format!(
        "    denied a minute: {} before, {} after; of strangers: {}, {}\n",
        earlier(before.per_minute()),
        after.per_minute(),
        earlier(before.strangers_per_minute()),
        after.strangers_per_minute()
    )
}

/// Users by their names, as far as they have one.
fn who(by: &Requester) -> String {
    let name = |uid: u32| match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    };
    let process = if by.process.is_empty() { "a process" } else { &clean_line(&by.process) };
    let claimed = if by.claimed { ", as it says" } else { "" };
    match by.login.filter(|login| *login != by.uid) {
        Some(login) => format!("{} as {} ({process}{claimed})", name(login), name(by.uid)),
        None => format!("{} ({process}{claimed})", name(by.uid)),
    }
}

fn difference_as_text(difference: &Difference) -> String {
    let Difference { from, to, changes, edits, members } = difference;
    let mut text = styled(HEADING, &format!("generation {from} to {to}")) + "\n";
    if changes.is_empty() && edits.is_empty() && members.is_empty() {
        return text + "no difference on this server\n";
    }
    changes.iter().for_each(|change| text += &format!("{}\n", change_as_text(change)));
    if !edits.is_empty() {
        text += &format!("\n{}\n", styled(HEADING, "in the policy"));
        edits.iter().for_each(|edit| text += &format!("  {edit}\n"));
    }
    if !members.is_empty() {
        text += &format!("\n{}\n", styled(HEADING, "members"));
        let rows = members.iter().map(|MemberDifference { tier, gained, lost }| {
            let count = |count: &Option<u64>| match count {
                Some(count) => count.to_string(),
                None => BEYOND_COUNTING.into(),
            };
            vec![tier.clone(), format!("+{}", count(gained)), format!("-{}", count(lost))]
        });
        text += &columns(&rows.collect::<Vec<_>>());
    }
    text
}

fn change_as_text(change: &ChangeLine) -> String {
    match change.more {
        true => styled(GOOD, &format!("+ {}", change.text)),
        false => styled(BAD, &format!("- {}", change.text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(changes: usize, edits: usize, more: usize) -> String {
        let generation = Generation {
            number: 7,
            time: 0,
            reason: "reload".into(),
            by: None,
            changes: vec![ChangeLine { more: true, text: "x".into() }; changes],
            edits: vec!["y".into(); edits],
            more,
            forced: false,
            confirmation: None,
            back_to: None,
            rolled_back: false,
        };
        let past = Past { generation, current: false, kept: true, denials: None };
        let text = anstream::adapter::strip_str(&as_text(&past)).to_string();
        text.lines().skip(1).map(|line| format!("{}\n", line.trim())).collect()
    }

    #[test]
    fn what_is_not_shown_is_counted() {
        assert_eq!(told(2, 0, 0), "+ x\n+ x\n");
        assert_eq!(told(4, 2, 0), "+ x\n+ x\n+ x\nand 3 more: see --json\n");
        assert_eq!(told(0, 3, 0), "y\ny\ny\n");
        // Of those that were cut nobody knows more.
        assert_eq!(told(0, 4, 9), "y\ny\ny\nand 10 more\n");
    }
}
