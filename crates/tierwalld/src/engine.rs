//! The engine: what is enforced, and the steps that change it.
//!
//! It does what blocks (files, users, the kernel), so it runs off the event loop, one piece of
//! work at a time: the loop hands it to a thread and gets it back. Each step ends with the kernel
//! in a state that was acknowledged, or unchanged.

mod changed;
mod confirm;
mod expiring;
mod files;
mod members;
mod past;
mod present;
mod remember;
mod settle;
mod start;
mod upkeep;
mod way_in;

use crate::before::{Before, Part};
use crate::drift::Shared;
use crate::foreign::Foreign;
use crate::history::History;
use crate::host::Server;
use crate::journal::kind;
use crate::kernel::Kernel;
use crate::members::CommandMembers;
use crate::memory::Memory;
use crate::metrics::{self, Counters};
use crate::options::Options;
use crate::pending::Pending;
use crate::problem::Problem;
use crate::refusal::{Refusal, digest};
use crate::report;
use crate::session_ages::Ages;
use crate::state::StateDirectory;
use crate::step::{Asked, Step, StepError};
use crate::trouble::Trouble;
use confirm::Why;
use control::{CommitSummary, Ending, Enforcement, Observing, TableState};
use files::lines;
use policy::model::Modes;
use policy::{Diagnostics, HeldList, Input, KnownLists, ListCache, Policy, UserNames, check_added};
use settle::observed;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use watch::LoadStart;

/// All that is known and held.
pub(crate) struct Engine {
    options: Options,
    state: Option<StateDirectory>,
    kernel: Kernel,
    /// Large lists, as the last load read them.
    lists: ListCache,
    /// The policy of the files that is enforced.
    pub(crate) applied: Policy,
    pub(crate) server: Server,
    pub(crate) members: CommandMembers,
    /// What the files depend on, for the watcher.
    pub(crate) inputs: Inputs,
    /// What an edit would change that waits for a reload.
    pub(crate) waiting: Vec<String>,
    /// Whether an edit has to be confirmed and couldn't be recorded as that.
    unrecorded: bool,
    /// Why the files as they are now can't be applied.
    pub(crate) problem: Option<Problem>,
    /// Lists that aren't taken as their files are.
    pub(crate) held_lists: Vec<HeldList>,
    /// What there is to warn of in the files.
    warnings: Vec<String>,
    /// What was said last of this server's role and runtime members, a line each.
    told: Vec<String>,
    pub(crate) enforcement: Enforcement,
    /// The kernel's generation after our last commit.
    pub(crate) kernel_generation: u32,
    pub(crate) last_commit: Option<CommitSummary>,
    /// The policy that the kernel was brought to last, with the members by command.
    enforced: Policy,
    /// As what it was.
    enforced_as: Part,
    /// The users that policies named, of this run and the last.
    named_users: UserNames,
    /// What held before that, once something was changed in this run.
    pub(crate) before: Option<Arc<Before>>,
    /// Whether the first enforcement is held back, the table only observing, since it would be a
    /// lockout.
    pub(crate) held: bool,
    /// The policies that were committed here.
    pub(crate) history: History,
    /// The policy of the last generation as it is now, without members by command.
    counted: Option<Policy>,
    /// The change that waits to be confirmed.
    pub(crate) pending: Option<Pending>,
    /// By when the kernel should have forgotten the members by command that ended.
    forgotten_by: Option<Instant>,
    /// When going back is tried again, and why it was begun.
    go_back_again: Option<(Instant, Why)>,
    /// Whether the files may say something that had to wait until now.
    recheck: bool,
    /// Who asks for the step that is under way.
    pub(crate) asked: Asked,
    /// How old the open sessions are.
    ages: Ages,
    /// Members that end soon while somebody is in by them.
    pub(crate) ending: Vec<Ending>,
    /// Who the last step shut out, a line each.
    pub(crate) shut_out: Vec<String>,
    /// The policy that the files were last read to be.
    read: Policy,
    read_digest: OnceCell<u64>,
    /// One of the files that isn't applied by itself.
    pub(crate) refusal: Option<Refusal>,
    /// The lockout for which a change was refused.
    pub(crate) refused: Option<String>,
    /// The same while that policy is enforced, as they were then.
    pub(crate) denied: Vec<String>,
    /// What another process changed that stays, under `ownership = "report"`.
    pub(crate) drift: Option<Foreign>,
    /// What the kernel failed, so that what was wanted isn't there.
    pub(crate) trouble: Trouble,
    /// Whose table was last seen to be there.
    pub(crate) table: TableState,
    /// What [`Engine::remember`] has to keep.
    pub(crate) memory: Memory,
    /// The sides that only observe, and since when.
    pub(crate) observing: Observing,
    /// What happened since the start, for metrics.
    pub(crate) counters: Counters,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// What a load depends on, and when it began.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    pub(crate) inputs: BTreeSet<Input>,
    pub(crate) start: LoadStart,
}

/// A policy read from its files, with what it depends on beside them.
struct Candidate {
    policy: Policy,
    server: Server,
    warnings: Vec<String>,
    /// Lists whose content from before stays.
    held: Vec<HeldList>,
}

impl Engine {
    /// Takes note of how a step ended.
    pub(crate) fn note(&mut self, asked: metrics::Asked, step: &Result<Step, StepError>) {
        self.counters.stepped(asked, step);
        self.table = self.kernel.table().unwrap_or(self.table);
        self.trouble.note(step);
        self.tell_warnings();
    }

    /// What there is to warn of: in the files, and of this server as it is now.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.iter().cloned().chain(lines(&self.warnings_now())).collect()
    }

    /// What there is to warn of this server's role and of runtime members.
    fn warnings_now(&self) -> Diagnostics {
        let mut warnings = self.server.role_warnings(&self.applied);
        warnings.extend(check_added(&self.applied, &self.enforced));
        warnings
    }

    /// What each list held when it was taken last.
    pub(crate) fn known_lists(&self) -> &KnownLists {
        self.lists.known()
    }

    /// Warns of what is new about this server's role and runtime members.
    fn tell_warnings(&mut self) {
        let warnings = self.warnings_now();
        let lines = lines(&warnings);
        let told = std::mem::replace(&mut self.told, lines.clone());
        for (warning, line) in warnings.iter().zip(lines).filter(|(_, line)| !told.contains(line)) {
            match warning.code {
                "no-role" => tracing::error!(target: kind::IN_NO_TIER, "{}", warning.message),
                _ => tracing::warn!(target: kind::POLICY_WARNING, "{line}"),
            }
        }
    }

    /// Whether somebody has to listen to nftables, and from which port our own commits come.
    pub(crate) fn exposed_port(&self) -> Option<u32> {
        self.kernel.is_exposed().then(|| self.kernel.port())
    }

    /// Whether others may have changed the table while nobody listened, since this was asked last.
    pub(crate) fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.kernel.missed)
    }

    /// Who listens.
    pub(crate) fn set_listener(&mut self, listener: Option<Shared>) {
        self.kernel.listener = listener;
    }

    /// Takes the table away. Returns whether there was one. A change that waits is over.
    pub(crate) fn teardown(&mut self) -> Result<bool, StepError> {
        let done = self.kernel.teardown()?;
        self.enforcement = Enforcement::TornDown;
        self.table = TableState::Gone;
        self.trouble.is_over();
        self.drop_pending();
        let Some((kernel_generation, commit)) = done else { return Ok(false) };
        self.kernel_generation = kernel_generation;
        self.counters.committed("teardown", commit.duration);
        let generation = self.history.current();
        self.last_commit = Some(report::commit("teardown", generation, kernel_generation, &commit));
        tracing::warn!(target: kind::TORN_DOWN, "the table was taken away on request; nothing is filtered now");
        Ok(true)
    }

    /// Whether the files have to be looked at again, since this was asked last.
    pub(crate) fn take_recheck(&mut self) -> bool {
        std::mem::take(&mut self.recheck)
    }

    /// The policy of the files that stays, whatever becomes of a change that waits.
    pub(crate) fn lasting(&self) -> &Policy {
        self.pending.as_ref().map_or(&self.applied, |pending| &pending.back)
    }

    /// What holds back the files as they were last read, if anything does.
    pub(crate) fn held_back(&self) -> Option<&Refusal> {
        self.refusal.as_ref().filter(|refusal| refusal.is_of(self.read_digest()))
    }

    fn read_digest(&self) -> u64 {
        *self.read_digest.get_or_init(|| digest(&self.read))
    }

    /// Whether the kernel holds sets of this tier.
    pub(crate) fn uses_tier(&self, tier: &str) -> bool {
        let table = self.kernel.ruleset().and_then(|ruleset| ruleset.table.as_ref());
        self.enforcement == Enforcement::Committed
            && table.is_some_and(|table| table.sets.contains_key(&format!("{tier}_v4")))
    }

    /// Whether a step may leave much memory to give back.
    pub(crate) fn is_large(&self) -> bool {
        const MEMBERS: usize = 10_000;
        let tiers = self.applied.tiers.values();
        tiers.map(|tier| tier.v4.len() + tier.v6.len()).sum::<usize>() > MEMBERS
    }

    /// The policy that the kernel was brought to last, with the members by command.
    pub(crate) fn enforced(&self) -> &Policy {
        &self.enforced
    }

    /// What each side does with what no allow lets through, as it is in the kernel.
    pub(crate) fn mode(&self) -> Modes {
        if self.held { observed(self.applied.mode) } else { self.applied.mode }
    }
}
