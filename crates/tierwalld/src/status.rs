//! What the daemon says of itself.
//!
//! The answer to `status` is made after each step and kept, so that asking never waits for work
//! that is under way.

use crate::engine::Engine;
use crate::foreign::Foreign;
use crate::pending::Pending;
use crate::refusal::Refusal;
use crate::unwatched::Unwatched;
use control::{AfterChange, DenialSummary, Enforcement, SideMode, Status, TableState, TierSummary};
use policy::Addresses;
use policy::model::{Mode, Modes};
use std::path::Path;

/// The state after a step.
pub(crate) fn of(engine: &Engine, policy_file: &Path, since: u64, unwatched: &Unwatched) -> Status {
    let policy = &engine.applied;
    let by_command =
        |tier: &str| engine.members.members.iter().filter(|member| member.tier == tier).count();
    let tiers = policy.tiers.iter().map(|(name, tier)| TierSummary {
        name: name.clone(),
        v4: u64::try_from(tier.v4.addresses()).unwrap_or(u64::MAX),
        v6: Addresses { v6: tier.v6.clone(), ..Addresses::default() }.count(),
        by_command: by_command(name),
        in_use: engine.uses_tier(name),
    });
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        since,
        policy_file: policy_file.display().to_string(),
        enforcement: engine.enforcement,
        generation: engine.history.current(),
        kernel_generation: engine.kernel_generation,
        role: engine.server.role.tiers.clone(),
        role_auto: engine.server.role.auto,
        input: side_mode(engine.mode().input),
        output: side_mode(engine.mode().output),
        first_refused: is_first_refused(engine),
        tiers: tiers.collect(),
        allows: policy.allows.len(),
        last_commit: engine.last_commit.clone(),
        warnings: engine.warnings(),
        waiting: engine.waiting.clone(),
        held_lists: engine.held_lists.iter().map(ToString::to_string).collect(),
        problem: engine.problem.as_ref().map(|problem| problem.told.clone()),
        kernel_problem: engine.trouble.problem().cloned(),
        table: engine.table,
        ending: engine.ending.clone(),
        unwatched: unwatched.lines(),
        observing: engine.observing,
        // Filled in for each answer.
        denials: DenialSummary::default(),
        after_change: None,
        unrecorded: None,
        refused: engine.refused.clone(),
        cannot_reconnect: engine.denied.clone(),
        drift: engine.drift.as_ref().map(Foreign::told),
        pending: engine.pending.as_ref().map(Pending::told),
        differs: engine.held_back().map(Refusal::differs),
    }
}

/// Whether the table observes although the policy says otherwise.
fn is_first_refused(engine: &Engine) -> bool {
    engine.enforcement == Enforcement::Committed && engine.mode() != engine.applied.mode
}

/// One line for `systemctl status`, with what the last change came to.
pub(crate) fn line(engine: &Engine, after_change: Option<&AfterChange>) -> String {
    let line = state(engine);
    match after_change.filter(|change| change.alarm) {
        Some(change) => format!("{line}; {}", change.sentence()),
        None => line,
    }
}

fn state(engine: &Engine) -> String {
    if engine.enforcement == Enforcement::TornDown {
        return "torn down: nothing is filtered".into();
    }
    match engine.table {
        TableState::Ours => {}
        TableState::Gone => return "NOT ENFORCED: the table is gone".into(),
        TableState::Foreign => {
            return "NOT ENFORCED: a table that tierwall did not make is in its place".into();
        }
    }
    let policy = &engine.applied;
    let role: Vec<&str> = engine.server.role.tiers.iter().map(String::as_str).collect();
    let role = match (role.is_empty(), policy.tiers.is_empty()) {
        (true, true) => "no tier".to_owned(),
        (true, false) => "IN NO TIER".to_owned(),
        (false, _) => role.join(", "),
    };
    let tiers = policy.tiers.len();
    let members: Option<u64> =
        policy.tiers.values().map(|tier| Addresses::of_tier(tier).count()).sum();
    let members = members.map_or("over 100 million".into(), |members| members.to_string());
    let Modes { input, output } = engine.mode();
    let mode = match input == output {
        true => mode_name(input).to_owned(),
        false => format!("input {}, output {}", mode_name(input), mode_name(output)),
    };
    let mode = match is_first_refused(engine) {
        true => format!("NOT ENFORCED YET ({mode}): it would lock out a session"),
        false => mode,
    };
    let generation = engine.history.current();
    let mut line =
        format!("generation {generation}, {mode}, {role}, {tiers} tiers, {members} members");
    if let Some(pending) = &engine.pending {
        let left = pending.record.deadline.left().as_secs();
        line += &format!("; WAITS for `tierwall confirm`, {left} s left");
    }
    if engine.refused.is_some() && !is_first_refused(engine) {
        line += "; a change was refused, since it would lock out a session";
    }
    if engine.trouble.is_some() {
        line += "; the kernel failed what was wanted last";
    }
    if !engine.held_lists.is_empty() {
        line += "; lists are held";
    }
    if engine.problem.is_some() {
        line += "; the policy files have errors";
    } else if engine.refused.is_none() && engine.held_back().is_some() {
        line += "; the policy files are held back";
    } else if !engine.waiting.is_empty() {
        line += "; an edit waits for a reload";
    }
    line
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Observe => "observe",
        Mode::Off => "off",
    }
}

fn side_mode(mode: Mode) -> SideMode {
    match mode {
        Mode::Enforce => SideMode::Enforce,
        Mode::Observe => SideMode::Observe,
        Mode::Off => SideMode::Off,
    }
}
