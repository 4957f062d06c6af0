//! `tierwall status`: what the daemon does and holds.

use crate::change::reconnecting;
use crate::confirm;
use crate::error::Error;
use crate::options::{self, Common};
use crate::output::{
    BAD, BEYOND_COUNTING, FAINT, GOOD, HEADING, WARNING, clean_line, columns, counted, print,
    print_json, styled, tell,
};
use crate::time::{ago, left};
use control::{
    Client, ClientError, DenialSummary, Differs, Ending, Enforcement, Observing, Request, Response,
    SideMode, Status, TableState, TierSummary, Unrecorded, socket_path,
};
use serde_json::json;

pub(crate) fn run(common: &Common, options: &options::Status) -> Result<u8, Error> {
    let client = match Client::connect(&socket_path(&common.runtime_directory)) {
        Err(error @ ClientError::NotRunning { .. }) if options.exit_code => {
            tell(&Error::Client(error).told());
            return Ok(control::exit::NOT_RUNNING);
        }
        client => client.map_err(Error::Client)?,
    };
    let status = match client.ask(&Request::Status).map_err(Error::Client)? {
        Response::Status(status) => status,
        other => return Err(crate::unexpected(other)),
    };
    match common.json {
        true => print_json(&json!(status))?,
        false => print(&as_text(&status))?,
    }
    Ok(if options.exit_code { status.standing().exit_code() } else { control::exit::OK })
}

fn as_text(status: &Status) -> String {
    let mode = modes(status);
    let held = match (status.enforcement, status.table) {
        (Enforcement::TornDown, _) => styled(BAD, "torn down: nothing is filtered"),
        (Enforcement::Committed, TableState::Ours) if status.first_refused => {
            styled(BAD, &format!("not enforced yet, {mode} only: that would lock out a session"))
        }
        (Enforcement::Committed, TableState::Ours) => styled(GOOD, &mode),
        (Enforcement::Committed, TableState::Gone) => {
            styled(BAD, "not enforced: the table is gone")
        }
        (Enforcement::Committed, TableState::Foreign) => {
            styled(BAD, "not enforced: a table that tierwall did not make is in its place")
        }
    };
    let role: Vec<&str> = status.role.iter().map(String::as_str).collect();
    let role = if role.is_empty() { "no tier".to_owned() } else { role.join(", ") };
    let how = if status.role_auto { " (by this server's addresses)" } else { "" };
    let mut text = String::new();
    if let Some(pending) = &status.pending {
        text += &format!("{}\n", confirm::as_text(pending));
    }
    if let Some(refused) = &status.refused {
        text += &format!("{}\n{}\n\n", styled(BAD, "a change was refused:"), refused.trim_end());
    }
    if let Some(problem) = &status.kernel_problem {
        let heading = "the kernel doesn't hold what was wanted; it is tried again:";
        text += &format!("{}\n{}\n\n", styled(BAD, heading), problem.trim_end());
    }
    text += &format!(
        "{held}, generation {}\nrole    {}{how}\npolicy  {}, {}\ndaemon  {}, pid {}, up {}\n",
        status.generation,
        styled(HEADING, &role),
        status.policy_file,
        counted(status.allows, "allow"),
        status.version,
        status.pid,
        ago(status.since),
    );
    match &status.last_commit {
        None => text += "last    nothing was sent: the kernel held this policy already\n",
        Some(commit) => {
            text += &format!(
                "last    {}, {} ago: {} added, {} deleted, {} bytes in {:.1} ms\n",
                commit.reason,
                ago(commit.time),
                counted(commit.rules_added, "rule"),
                commit.rules_deleted,
                commit.bytes,
                commit.duration_us as f64 / 1000.0,
            );
        }
    }
    if let Some(Differs { why, since, .. }) = status.held_back() {
        let heading = "the policy files are held back:";
        let (why, since) = (clean_line(why.lines().next().unwrap_or_default()), ago(*since));
        text += &format!(
            "{} {why}, {since} ago; `tierwall reload` applies them\n",
            styled(WARNING, heading)
        );
    }
    if status.enforcement == Enforcement::Committed {
        text += &observing(status);
        text += &denied(status);
        text += &after_change(status);
    }
    text += &reconnecting(&status.cannot_reconnect);
    for line in &status.waiting {
        text += &format!("{} {line}\n", styled(WARNING, "waits for a reload:"));
    }
    if let Some(unrecorded) = &status.unrecorded {
        text += &unwritable(unrecorded);
    }
    for line in &status.held_lists {
        text += &format!("{} {}\n", styled(WARNING, "held:"), clean_line(line));
    }
    for Ending { tier, member, until, from, port } in &status.ending {
        text += &format!(
            "{} {member} in {tier}, in {}; the session from {from} to port {port} could not \
             reconnect then\n",
            styled(WARNING, "a member ends:"),
            left(*until)
        );
    }
    for line in &status.unwatched {
        text += &format!("{}\n", styled(BAD, &clean_line(line)));
    }
    if let Some(drift) = &status.drift {
        let drift = clean_line(drift);
        text += &format!("{} {drift}\n", styled(WARNING, "changed by another process:"));
    }
    if let Some(problem) = &status.problem {
        let heading = "the policy files can't be applied; what was enforced stays:";
        text += &format!("\n{}\n{}\n", styled(BAD, heading), problem.trim_end());
    }
    if status.enforcement == Enforcement::TornDown {
        return text + "\n`tierwall reload` enforces the policy again\n";
    }
    if !status.tiers.is_empty() {
        text += &format!("\n{}\n", styled(HEADING, "tiers"));
        let rows = status.tiers.iter().map(|tier| {
            vec![
                tier.name.clone(),
                format!("{} IPv4", tier.v4),
                match tier.v6 {
                    Some(count) => format!("{count} IPv6"),
                    None => format!("{BEYOND_COUNTING} IPv6"),
                },
                match tier.by_command {
                    0 => String::new(),
                    count => format!("{count} by command"),
                },
                tier_note(status, tier).to_owned(),
            ]
        });
        text += &columns(&rows.collect::<Vec<_>>());
    }
    if !status.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &status.warnings {
        text += &format!("{} {warning}\n", styled(WARNING, "warning:"));
    }
    text += &styled(
        FAINT,
        &format!("\nnft list table inet {} shows what the kernel holds\n", ruleset::TABLE),
    );
    text
}

/// That the state directory can't be written, and what a reboot would do for want of what isn't.
fn unwritable(unrecorded: &Unrecorded) -> String {
    let Unrecorded { since, why, files, at_start } = unrecorded;
    let heading = format!("the state directory can't be written for {}:", ago(*since));
    let files = if files.is_empty() {
        String::new()
    } else {
        format!("; not written: {}", files.join(", "))
    };
    let mut text = format!("{} {}{files}\n", styled(BAD, &heading), clean_line(why));
    for line in at_start {
        text += &format!("{} {line}\n", styled(BAD, "a restart or reboot"));
    }
    text
}

/// What was denied in the last hour, if anything was.
fn denied(status: &Status) -> String {
    let DenialSummary { denied, lost, .. } = status.denials;
    let mut text = String::new();
    if denied > 0 {
        let connections = counted(denied as usize, "connection");
        text = format!("denied  {connections} in the last hour: see `tierwall denied`\n");
    }
    if lost > 0 {
        let packets = counted(lost as usize, "packet");
        text += &format!("{}\n", styled(WARNING, &format!("came too fast to be told: {packets}")));
    }
    text
}

/// What the last change made denied, if anything, or that denials multiplied since.
fn after_change(status: &Status) -> String {
    let Some(change) = &status.after_change else { return String::new() };
    match (change.alarm, change.newly()) {
        (true, _) => {
            let last = change.last.map(|last| format!(" (the last {} ago)", ago(last)));
            let last = last.unwrap_or_default();
            format!("{}\n", styled(WARNING, &clean_line(&change.advised(&last))))
        }
        (false, 1..) => format!("after   {}\n", clean_line(&change.sentence())),
        (false, 0) => String::new(),
    }
}

/// Since when the sides observe that do, and what that came to in the last hour.
fn observing(status: &Status) -> String {
    let Observing { input, output } = status.observing;
    let begun = match (input, output) {
        (None, None) => return String::new(),
        (Some(input), Some(output)) if input == output => format!("begun {} ago", ago(input)),
        (Some(input), Some(output)) => {
            format!("input begun {} ago, output {} ago", ago(input), ago(output))
        }
        (Some(input), None) => format!("input begun {} ago", ago(input)),
        (None, Some(output)) => format!("output begun {} ago", ago(output)),
    };
    let DenialSummary { would_deny_flows, at_least, .. } = status.denials;
    let at_least = if at_least { "at least " } else { "" };
    let flows = counted(would_deny_flows as usize, "different flow");
    format!(
        "observe {begun}; in the last hour {at_least}{flows} would have been denied: see \
         `tierwall denied`\n"
    )
}

/// What a tier is to this server, where that isn't seen from its place in the list.
fn tier_note(status: &Status, tier: &TierSummary) -> &'static str {
    match (status.role.contains(&tier.name), tier.in_use) {
        (true, _) => "this server's",
        (false, true) => "",
        (false, false) => "not needed here",
    }
}

/// The modes of both sides: `enforce`, `input enforce, output observe`.
pub(crate) fn modes(status: &Status) -> String {
    match (status.input, status.output) {
        (input, output) if input == output => mode_name(input).to_owned(),
        (input, output) => format!("input {}, output {}", mode_name(input), mode_name(output)),
    }
}

fn mode_name(mode: SideMode) -> &'static str {
    match mode {
        SideMode::Enforce => "enforce",
        SideMode::Observe => "observe",
        SideMode::Off => "off",
    }
}
