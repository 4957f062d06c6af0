//! What held before the last change: what is denied since is compared with it.
//!
//! It is a policy as it was enforced, members by command included, and what it depended on. It is
//! compiled only by who has something to compare. Members may change every minute, and one edit is
//! often a change of members and one of rules: what comes soon after a change of members, and members
//! that change soon after anything, are compared with what held before that, so that a mistake isn't
//! forgotten for what came behind it. A change that waits is compared with what is gone back to.

use policy::model::{Mode, Modes};
use policy::{Host, Policy, Role, compile};
use ruleset::Table;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long after a change a change of members isn't compared on its own.
const TOGETHER: Duration = Duration::from_secs(600);

/// What a policy is enforced as: what it depends on beside its files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) role: Role,
    pub(crate) users: BTreeMap<String, u32>,
}

/// What held before a change.
#[derive(Debug, Clone)]
pub(crate) struct Before {
    /// Counts the changes of this run: where it is the same, so is the change.
    pub(crate) change: u64,
    /// The generation since.
    pub(crate) generation: u64,
    /// The generation of what held before; the same one where only members changed.
    pub(crate) before: u64,
    /// Why it was changed.
    pub(crate) reason: String,
    /// When, in seconds since the epoch.
    pub(crate) time: u64,
    pub(crate) at: Instant,
    /// What held.
    pub(crate) policy: Policy,
    pub(crate) part: Part,
    /// Whether a side that was open and unlogged is observed since: what it would deny is new to
    /// whoever reads it, and nothing went wrong.
    pub(crate) is_first_look: bool,
}

impl Before {
    /// Whether only members changed.
    pub(crate) fn is_of_members(&self) -> bool {
        self.generation == self.before
    }

    /// Whether a change of members now belongs to this change.
    pub(crate) fn is_recent(&self) -> bool {
        self.at.elapsed() < TOGETHER
    }

    /// The table that held. It may take as long as compiling a million members does.
    pub(crate) fn table(&self) -> Option<Table> {
        let Part { role, users } = &self.part;
        compile(&self.policy, Host { role, users, previous: None }).table
    }
}

/// Whether a side that was off observes now.
pub(crate) fn is_first_look(before: Modes, now: Modes) -> bool {
    let is = |before: Mode, now: Mode| before == Mode::Off && now == Mode::Observe;
    is(before.input, now.input) || is(before.output, now.output)
}
