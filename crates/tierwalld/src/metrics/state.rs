//! Numbers of what holds: the policy, its tiers, what waits and what is wrong.

use super::Snapshot;
use super::text::Text;
use crate::clock;
use control::{Enforcement, SideMode, Status, TableState};
use policy::model::Tier;
use ruleset::{Address, TimedSet};

const MODES: [(SideMode, &str); 3] =
    [(SideMode::Enforce, "enforce"), (SideMode::Observe, "observe"), (SideMode::Off, "off")];

const TABLES: [(TableState, &str); 3] =
    [(TableState::Ours, "ours"), (TableState::Gone, "gone"), (TableState::Foreign, "foreign")];

pub(super) fn write(text: &mut Text, snapshot: &Snapshot) {
    let status = &snapshot.status;
    text.gauge("tierwall_build_info", "The version of tierwalld; always 1.")
        .with(&[("version", &status.version)], true);
    policy(text, snapshot);
    table(text, status);
    tiers(text, snapshot);
    waiting(text, status);
    problems(text, status);
}

fn policy(text: &mut Text, snapshot: &Snapshot) {
    let status = &snapshot.status;
    text.gauge("tierwall_policy_generation", "How many policies were committed on this server.")
        .is(status.generation);
    let mut since = text.gauge(
        "tierwall_policy_generation_timestamp_seconds",
        "When the policy that is enforced was committed, members aside.",
    );
    if let Some(time) = snapshot.generation_since {
        since.is(time);
    }
    text.gauge(
        "tierwall_kernel_generation",
        "The kernel's nftables generation after the last commit.",
    )
    .is(status.kernel_generation);
    text.gauge("tierwall_allows", "Allows of the policy.").is(status.allows);
    text.gauge("tierwall_policy_warnings", "Warnings of the policy.").is(status.warnings.len());
    let mut role = text.gauge("tierwall_role", "The tiers that this server is in; always 1.");
    for tier in &status.role {
        role.with(&[("tier", tier)], true);
    }
    let mut modes = text.gauge("tierwall_mode", "1 for the mode that a side is in.");
    for (side, mode) in [("input", status.input), ("output", status.output)] {
        for (known, name) in MODES {
            modes.with(&[("direction", side), ("mode", name)], known == mode);
        }
    }
}

fn table(text: &mut Text, status: &Status) {
    let mut table = text.gauge("tierwall_table", "1 for whose table `inet filter` the kernel has.");
    for (known, name) in TABLES {
        table.with(&[("state", name)], known == status.table);
    }
    let enforced = status.enforcement == Enforcement::Committed && status.table == TableState::Ours;
    text.gauge("tierwall_enforced", "1 while the kernel holds the policy.").is(enforced);
    let commit = status.last_commit.as_ref();
    let mut time = text.gauge(
        "tierwall_last_commit_timestamp_seconds",
        "When the last batch of this daemon was acknowledged; none before the first.",
    );
    if let Some(commit) = commit {
        time.is(commit.time);
    }
    let mut duration = text.gauge(
        "tierwall_last_commit_duration_seconds",
        "How long the kernel took for the last batch of this daemon.",
    );
    if let Some(commit) = commit {
        duration.is(commit.duration_us as f64 / 1e6);
    }
}

fn tiers(text: &mut Text, snapshot: &Snapshot) {
    let mut members = text.gauge(
        "tierwall_tier_members",
        "Members of a tier, merged: an address, prefix or range counts as one, for each family.",
    );
    let now = clock::now();
    for (name, tier) in snapshot.denials.tiers() {
        let Tier { v4, v6, timed, .. } = tier;
        let sizes = [
            ("ipv4", v4.len() + living(&timed.v4, now)),
            ("ipv6", v6.len() + living(&timed.v6, now)),
        ];
        for (family, size) in sizes {
            members.with(&[("tier", name), ("family", family)], size);
        }
    }
    let mut by_command = text.gauge(
        "tierwall_tier_members_by_command",
        "Members that were added by `tierwall member add`; other members may cover them.",
    );
    for tier in &snapshot.status.tiers {
        by_command.with(&[("tier", &tier.name)], tier.by_command);
    }
    let mut in_use = text.gauge("tierwall_tier_in_use", "1 where the kernel here has its sets.");
    for tier in &snapshot.status.tiers {
        in_use.with(&[("tier", &tier.name)], tier.in_use);
    }
}

/// The kernel forgets by the clock, without a step of ours.
fn living<A: Address>(set: &TimedSet<A>, now: u64) -> usize {
    let lives = |until: Option<u64>| until.is_none_or(|until| until > now);
    set.elements().filter(|(_, lifetime)| lives(lifetime.map(|lifetime| lifetime.until))).count()
}

fn waiting(text: &mut Text, status: &Status) {
    let pending = status.pending.as_ref();
    text.gauge("tierwall_confirmation_pending", "1 while a change waits for `tierwall confirm`.")
        .is(pending.is_some());
    let left = pending.map_or(0, |pending| pending.until.saturating_sub(clock::now()));
    text.gauge(
        "tierwall_confirmation_left_seconds",
        "How long until a change that waits is taken back; 0 while none waits.",
    )
    .is(left);
    text.gauge("tierwall_edit_waiting", "1 while an edit of the files waits for a reload.")
        .is(!status.waiting.is_empty());
    text.gauge("tierwall_lists_held", "Lists whose last content stays, whatever their files say.")
        .is(status.held_lists.len());
}

fn problems(text: &mut Text, status: &Status) {
    for (name, help, is_so) in [
        (
            "tierwall_policy_files_bad",
            "1 while the policy files have errors, so that what was enforced stays.",
            status.problem.is_some(),
        ),
        (
            "tierwall_policy_files_held_back",
            "1 while the policy files aren't what is enforced and aren't applied by themselves.",
            status.differs.is_some(),
        ),
        (
            "tierwall_change_refused",
            "1 while a change is refused since it would lock out a session.",
            status.refused.is_some(),
        ),
        (
            "tierwall_kernel_behind",
            "1 while the kernel doesn't hold what was wanted last; it is tried again.",
            status.kernel_problem.is_some(),
        ),
        (
            "tierwall_drift",
            "1 while something stays that another process changed in the table.",
            status.drift.is_some(),
        ),
    ] {
        text.gauge(name, help).is(is_so);
    }
    let unrecorded = status.unrecorded.as_ref();
    text.gauge("tierwall_state_unwritable", "1 while the state directory can't be written.")
        .is(unrecorded.is_some());
    let mut since = text.gauge(
        "tierwall_state_unwritable_since_timestamp_seconds",
        "Since when the state directory can't be written; none while it can.",
    );
    if let Some(unrecorded) = unrecorded {
        since.is(unrecorded.since);
    }
    text.gauge(
        "tierwall_reboot_differs",
        "1 while a reboot would enforce something else, since that can't be recorded.",
    )
    .is(unrecorded.is_some_and(|unrecorded| !unrecorded.at_start.is_empty()));
    text.gauge("tierwall_unwatched", "How many things can't be watched: see `tierwall status`.")
        .is(status.unwatched.len());
}
