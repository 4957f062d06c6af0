//! The engine: what is enforced, and the steps that change it.
//!
//! It does what blocks (files, users, the kernel), so it runs off the event loop, one piece of
//! work at a time: the loop hands it to a thread and gets it back. Each step ends with the kernel
//! in a state that was acknowledged, or unchanged.

use crate::drift::{Foreign, Shared};
use crate::guard;
use crate::host::Server;
use crate::kernel::{Kernel, KernelError, Settled};
use crate::last_good;
use crate::member_file;

use crate::members::{self, CommandMember, CommandMembers, MemberFailure};
use crate::memory::{Changed, Memory};
use crate::options::Options;
use crate::proof::Proof;
use crate::refusal::Refusal;
use crate::report;
use crate::state::StateDirectory;
use crate::trouble::Trouble;
use control::{CommitSummary, Enforcement, TableState};
use netlink::Adopted;
use policy::model::{Mode, Modes, Ownership, Watch};
use policy::{Change, Diagnostics, Host, Input, ListCache, Loaded, Policy, Style, compile};
use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};
use watch::LoadStart;

/// Why a step changed nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    /// The policy files have errors; they are told in full.
    #[error("{}", .0.trim_end())]
    BadPolicy(String),
    /// The kernel doesn't hold what was wanted.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A member can't be added or removed.
    #[error(transparent)]
    Member(#[from] MemberFailure),
    /// Somebody who administers this server would be shut out.
    #[error("{0}")]
    Lockout(String),
}

/// What a step did.
#[derive(Debug, Default)]
pub(crate) struct Step {
    /// The last batch; none where the kernel held the wanted state already.
    pub(crate) commit: Option<CommitSummary>,
    /// What it means.
    pub(crate) change: Change,
}

/// Steps that bring the kernel to what the files say.
const FILES: [&str; 4] = ["start", "reload", "files changed", "members changed"];

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
    /// Why the files as they are now can't be applied.
    pub(crate) problem: Option<String>,
    pub(crate) warnings: Vec<String>,
    pub(crate) enforcement: Enforcement,
    pub(crate) generation: u32,
    pub(crate) last_commit: Option<CommitSummary>,
    /// The policy that the kernel was brought to last, with the members by command.
    enforced: Policy,
    /// Whether the first enforcement is held back, the table only observing, since it would be a
    /// lockout.
    pub(crate) held: bool,
    /// The policy that the files were last read to be.
    read: Policy,
    /// One of the files that was refused.
    refusal: Option<Refusal>,
    /// The lockout for which a change was refused.
    pub(crate) refused: Option<String>,
    /// What another process changed that stays, under `ownership = "report"`.
    pub(crate) drift: Option<String>,
    /// What the kernel failed, so that what was wanted isn't there.
    pub(crate) trouble: Trouble,
    /// Whose table was last seen to be there.
    pub(crate) table: TableState,
    /// What [`Engine::remember`] has to keep.
    pub(crate) memory: Memory,
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
}

impl Engine {
    /// Reads the policy and brings the kernel there. Where the files are bad, the last good policy
    /// is enforced in their place.
    ///
    /// # Errors
    /// When the files are bad and there is no last good policy, or the kernel refuses. Nothing was
    /// changed then.
    pub(crate) fn start(options: Options, kernel: Kernel) -> Result<Self, StepError> {
        let state = StateDirectory::open(&options.state_directory)
            .inspect_err(|error| {
                let directory = options.state_directory.display();
                tracing::warn!(%directory, %error, "can't use the state directory; going on without");
            })
            .ok();
        let mut lists = ListCache::default();
        let (inputs, candidate) = load(&options, &mut lists, None, state.as_ref());
        let (candidate, problem) = match candidate {
            Ok(candidate) => (candidate, None),
            Err(problem) => match state.as_ref().and_then(last_good::load) {
                Some(last) => {
                    let since = last.time;
                    tracing::error!(
                        since,
                        "the policy has errors; the last good one is enforced\n{problem}"
                    );
                    let (server, found) = Server::resolve(&last.policy, None, state.as_ref());
                    let warnings = lines(&found);
                    (Candidate { policy: last.policy, server, warnings }, Some(problem))
                }
                None => return Err(StepError::BadPolicy(problem)),
            },
        };
        let Candidate { policy, server, warnings } = candidate;
        warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        let mut engine = Self {
            kernel,
            members: state.as_ref().map(member_file::load).unwrap_or_default(),
            enforced: policy.clone(),
            held: true,
            read: policy.clone(),
            refusal: state.as_ref().and_then(Refusal::load),
            refused: None,
            applied: policy,
            waiting: Vec::new(),
            enforcement: Enforcement::Committed,
            generation: 0,
            last_commit: None,
            drift: None,
            trouble: Trouble::default(),
            table: TableState::Ours,
            memory: Memory::of(state.clone()),
            lists,
            options,
            state,
            server,
            inputs,
            problem,
            warnings,
        };
        let policy = engine.members.added_to(&engine.applied);
        let (role, users) = (&engine.server.role, &engine.server.users);
        let compile =
            |previous: Option<&ruleset::Ruleset>| compile(&policy, Host { role, users, previous });
        engine.kernel.recognise(compile, engine.state.as_ref())?;
        let again = engine.refused_before();
        let first = match again {
            Some(why) => engine.hold("start", why),
            None => engine.settle("start", false),
        };
        match first {
            Err(StepError::Lockout(why)) => engine.start_with_the_last(why)?,
            step => drop(step?),
        }
        if !engine.held {
            engine.memory.policy_is_old(&engine.applied, Changed::Rules);
        }
        Ok(engine)
    }

    /// The kernel enforces an earlier policy, and that of the files would be a lockout.
    fn start_with_the_last(&mut self, why: String) -> Result<(), StepError> {
        let refusal = self.refusal.take();
        let Some(last) = self.state.as_ref().and_then(last_good::load) else {
            return Err(StepError::Lockout(why));
        };
        let (server, found) = Server::resolve(&last.policy, None, self.state.as_ref());
        (self.applied, self.server, self.warnings) = (last.policy, server, lines(&found));
        self.settle("start", true)?;
        (self.refused, self.refusal) = (Some(why), refusal);
        Ok(())
    }

    /// Reads the files again and applies all of them.
    /// Refused where it would be a lockout, unless by `force`.
    pub(crate) fn reload(&mut self, force: bool) -> Result<Step, StepError> {
        let candidate = self.read_files()?;
        self.apply(candidate, "reload", force)
    }

    /// Reads the files again, and applies what applies by itself.
    pub(crate) fn files_changed(&mut self) -> Result<Step, StepError> {
        let candidate = self.read_files()?;
        if let Some(why) = self.refused_before() {
            return Err(StepError::Lockout(why));
        }
        self.take_members(candidate)
    }

    /// Applies what of an edit applies by itself.
    fn take_members(&mut self, mut candidate: Candidate) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            return Ok(Step::default());
        }
        if self.applied.watch == Watch::All {
            return self.apply(candidate, "files changed", false);
        }
        let edited = candidate.policy;
        candidate.policy = self.applied.with_members_of(&edited);
        let waiting = candidate.policy.waiting(&edited);
        if !waiting.is_empty() && waiting != self.waiting {
            let what = waiting.join("; ");
            tracing::info!(waiting = what, "an edit waits for `tierwall reload`");
        }
        let (server, _) = Server::resolve(&candidate.policy, self.so_far(), self.state.as_ref());
        candidate.server = server;
        let step = self.apply(candidate, "members changed", false)?;
        self.waiting = waiting;
        Ok(step)
    }

    /// Adds a member by command, to hold until it is removed.
    pub(crate) fn add_member(&mut self, member: CommandMember) -> Result<Step, StepError> {
        let members = self.members.with(&self.applied, member)?;
        // More pass than before: nobody is locked out.
        self.change_members(members, "member added", !self.held)
    }

    /// Removes a member that was added by command.
    pub(crate) fn remove_member(
        &mut self,
        tier: &str,
        member: &str,
        force: bool,
    ) -> Result<Step, StepError> {
        let members = self.members.without(&self.applied, tier, member)?;
        if members::is_of_files(&self.applied, tier, member) {
            // Typed into the files since: from now on it is in the tier by these alone.
            self.keep_policy().map_err(MemberFailure::NotRecorded)?;
        }
        self.change_members(members, "member removed", force)
    }

    /// Takes over from the files a member that was added by command: one step, so that it never
    /// leaves the tier.
    pub(crate) fn promoted(&mut self, tier: &str, member: &str) -> Result<Step, StepError> {
        let candidate = self.read_files()?;
        self.members.check_promoted(&candidate.policy, tier, member)?;
        let members = self.members.without(&self.applied, tier, member)?;
        let before = std::mem::replace(&mut self.members, members);
        let step = self.take_members(candidate);
        if step.is_err() {
            self.members = before;
            return step;
        }
        // First the policy that it is in: a start that finds bad files must know it from one of
        // the two.
        let kept = self.keep_policy().map_err(MemberFailure::StillRecorded);
        let saved = kept.and_then(|()| {
            self.members.save(self.state.as_ref()).map_err(|error| match error {
                MemberFailure::NotRecorded(error) => MemberFailure::StillRecorded(error),
                error => error,
            })
        });
        if let Err(error) = saved {
            self.members = before;
            return Err(error.into());
        }
        step
    }

    /// Recorded before it is committed: what was told to hold must survive a crash.
    fn change_members(
        &mut self,
        members: CommandMembers,
        reason: &'static str,
        force: bool,
    ) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            return Err(MemberFailure::TornDown.into());
        }
        members.save(self.state.as_ref())?;
        let before = std::mem::replace(&mut self.members, members);
        self.memory.is_old();
        let step = self.settle(reason, force);
        if step.is_err() {
            self.members = before;
            if let Err(error) = self.members.save(self.state.as_ref()) {
                tracing::error!(%error, "a member that was refused is still recorded");
            }
        }
        step
    }

    /// Another process changed the table: puts it back, or reports it, as the policy says.
    pub(crate) fn repair(&mut self, foreign: &Foreign) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            return Ok(Step::default());
        }
        if self.members.expire(report::now()) {
            self.memory.is_old();
        }
        // What is only reported has to be known; what is put back needn't be.
        let wholly = self.applied.ownership == Ownership::Report;
        let differs = self.kernel.read_again(wholly)?;
        let (process, pid, what) = (&foreign.process, &foreign.pid, foreign.to_string());
        let is_wanted = self.is_as_wanted()?;
        if is_wanted {
            // By a commit of ours that met the change before this, or by whoever made it.
            self.drift = None;
            if *pid != 0 {
                tracing::warn!(
                    process,
                    pid,
                    what,
                    "another process changed the table; it is as it should be"
                );
            }
            return Ok(Step::default());
        }
        if self.applied.ownership == Ownership::Report {
            if differs {
                tracing::warn!(process, pid, what, "another process changed the table");
                self.drift = Some(format!("{process} (pid {pid}): {what}"));
            }
            return Ok(Step::default());
        }
        tracing::warn!(process, pid, what, "another process changed the table; putting it back");
        self.settle("repair", !self.held)
    }

    /// Tries again what the kernel failed.
    pub(crate) fn retry(&mut self) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            self.trouble.is_over();
            return Ok(Step::default());
        }
        match self.files_changed() {
            // They are no reason to leave the kernel as it is.
            Err(StepError::BadPolicy(_)) => {
                let step = self.settle("repair", !self.held)?;
                self.look_again()?;
                Ok(step)
            }
            step => step,
        }
    }

    /// Takes note of how a step ended.
    pub(crate) fn note(&mut self, step: &Result<Step, StepError>) {
        self.table = self.kernel.table().unwrap_or(self.table);
        self.trouble.note(step);
    }

    /// Whether the kernel holds what is applied.
    fn is_as_wanted(&mut self) -> Result<bool, KernelError> {
        let mut policy = self.members.added_to(&self.applied);
        policy.mode = self.mode();
        let server = &self.server;
        self.kernel.holds(|previous| {
            compile(&policy, Host { role: &server.role, users: &server.users, previous })
        })
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

    /// This server's addresses may have changed, or time has passed: brings the role and the users
    /// up to date.
    pub(crate) fn look_again(&mut self) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            return Ok(Step::default());
        }
        let server = self.server.look_again(&self.applied);
        let is_same = server == self.server;
        let before = std::mem::replace(&mut self.server, server);
        if is_same {
            return Ok(Step::default());
        }
        match self.settle("addresses or users changed", false) {
            Ok(step) => {
                let (old, new) = (before.role.to_string(), self.server.role.to_string());
                if old != new {
                    tracing::info!(old, new, "this server's role changed with its addresses");
                }
                self.memory.is_old();
                Ok(step)
            }
            Err(error) => {
                self.server = before;
                Err(error)
            }
        }
    }

    /// When [`Engine::look_again`] is due although nothing was heard. What the kernel failed is
    /// tried again with everything else.
    pub(crate) fn look_due(&self) -> Option<Instant> {
        let holds = self.enforcement == Enforcement::Committed && !self.trouble.is_some();
        if holds { self.server.due() } else { None }
    }

    /// Takes the table away. Returns whether there was one.
    pub(crate) fn teardown(&mut self) -> Result<bool, StepError> {
        let done = self.kernel.teardown()?;
        self.enforcement = Enforcement::TornDown;
        self.table = TableState::Gone;
        self.trouble.is_over();
        let Some((generation, commit)) = done else { return Ok(false) };
        self.generation = generation;
        self.last_commit = Some(report::commit("teardown", generation, &commit));
        tracing::warn!("the table was taken away on request; nothing is filtered now");
        Ok(true)
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

    /// What holds of this server, and under which policy.
    fn so_far(&self) -> Option<(&Server, &Policy)> {
        Some((&self.server, &self.applied))
    }

    fn read_files(&mut self) -> Result<Candidate, StepError> {
        let so_far = Some((&self.server, &self.applied));
        let (inputs, candidate) = load(&self.options, &mut self.lists, so_far, self.state.as_ref());
        self.inputs = inputs;
        let candidate = candidate.map_err(|problem| self.refuse(problem))?;
        self.read = candidate.policy.clone();
        Ok(candidate)
    }

    /// Notes why the files can't be applied. The old policy stays.
    fn refuse(&mut self, problem: String) -> StepError {
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!("the policy files have errors; what was enforced stays\n{problem}");
        }
        self.problem = Some(problem.clone());
        self.trouble.is_of_edit = false;
        StepError::BadPolicy(problem)
    }

    fn apply(
        &mut self,
        candidate: Candidate,
        reason: &'static str,
        force: bool,
    ) -> Result<Step, StepError> {
        let Candidate { policy, server, warnings } = candidate;
        let differs = policy != self.applied;
        let rules_changed = differs && !self.applied.waiting(&policy).is_empty();
        let before = (
            std::mem::replace(&mut self.applied, policy),
            std::mem::replace(&mut self.server, server),
        );
        self.problem = None;
        match self.settle(reason, force) {
            Ok(step) => {
                for warning in warnings.iter().filter(|warning| !self.warnings.contains(warning)) {
                    tracing::warn!("{warning}");
                }
                self.warnings = warnings;
                self.trouble.is_over();
                self.waiting.clear();
                if rules_changed {
                    self.memory.policy_is_old(&self.applied, Changed::Rules);
                } else if step.commit.is_some() || differs {
                    self.memory.policy_is_old(&self.applied, Changed::MembersOnly);
                }
                Ok(step)
            }
            Err(error) => {
                (self.applied, self.server) = before;
                self.trouble.is_of_edit = differs;
                Err(error)
            }
        }
    }

    /// Brings the kernel to what is applied.
    ///
    /// What others changed is put back whoever is in by it: by `force`, too.
    /// A first enforcement that would be a lockout is held back: the table observes until a change
    /// of the policy or of the sessions makes it none. Any other step of that kind is refused.
    fn settle(&mut self, reason: &'static str, force: bool) -> Result<Step, StepError> {
        if self.members.expire(report::now()) {
            self.memory.is_old();
        }
        let policy = self.members.added_to(&self.applied);
        let lockout = if force { None } else { self.lockout(&policy)? };
        if let Some(why) = lockout {
            if FILES.contains(&reason) {
                self.refusal = Some(Refusal::of(&self.read, &why));
                self.record_refusal();
            }
            return self.hold(reason, why);
        }
        self.prepare_enforcement(&policy)?;
        (self.held, self.refused) = (false, None);
        if FILES.contains(&reason) && self.refusal.take().is_some() {
            self.record_refusal();
        }
        let settled = commit(&mut self.kernel, &policy, &self.server, self.state.as_ref())?;
        self.enforced = policy;
        Ok(self.settled(reason, settled))
    }

    /// Refuses a step, or holds a first enforcement back.
    fn hold(&mut self, reason: &'static str, why: String) -> Result<Step, StepError> {
        if self.refused.as_ref() != Some(&why) {
            tracing::error!(reason, "refused: {why}");
        }
        self.refused = Some(why.clone());
        if !self.held || reason == "reload" || self.kernel.standing()?.input_drops {
            return Err(StepError::Lockout(why));
        }
        let mut policy = self.members.added_to(&self.applied);
        policy.mode = observed(policy.mode);
        let settled = commit(&mut self.kernel, &policy, &self.server, self.state.as_ref())?;
        self.enforced = policy;
        Ok(self.settled(reason, settled))
    }

    /// Why the files as they were last read were refused before, if they were.
    fn refused_before(&self) -> Option<String> {
        let refusal = self.refusal.as_ref().filter(|refusal| refusal.is_of(&self.read));
        refusal.map(|refusal| refusal.why.clone())
    }

    fn record_refusal(&self) {
        let Some(recorder) = self.memory.recorder() else { return };
        let refusal = self.refusal.clone();
        recorder.record("refusal", move |state| match &refusal {
            Some(refusal) => refusal.save(state),
            None => Refusal::forget(state),
        });
    }

    /// The lockout that bringing the kernel to `policy` would be, if it is one.
    fn lockout(&mut self, policy: &Policy) -> Result<Option<String>, KernelError> {
        let sessions = match guard::sessions(&policy.guarded) {
            Ok(sessions) => sessions,
            Err(error) => {
                tracing::warn!(%error, "can't tell who has a session here; nobody is guarded");
                return Ok(None);
            }
        };
        if sessions.is_empty() || self.kernel.is_foreign()? {
            return Ok(None);
        }
        let previous = self.kernel.mirror()?;
        let (role, users) = (&self.server.role, &self.server.users);
        let after = compile(policy, Host { role, users, previous: Some(previous) });
        let lockout = guard::lockout(&sessions, (&self.enforced, previous), &after);
        Ok(lockout.map(|lockout| lockout.to_string()))
    }

    /// What each side does with what no allow lets through, as it is in the kernel.
    pub(crate) fn mode(&self) -> Modes {
        if self.held { observed(self.applied.mode) } else { self.applied.mode }
    }

    /// Where a side begins to drop, the connections that are open have to be known as such, or
    /// their next packet would be a new one. A namespace without rules tracks none: first comes a
    /// table that only observes, which starts the tracking. One that observes already may have
    /// seen no packet yet of a connection that is older and idle, also where it was left by a
    /// start that was killed at this point.
    fn prepare_enforcement(&mut self, policy: &Policy) -> Result<(), KernelError> {
        if self.kernel.is_foreign()? {
            // Nothing is touched, connections neither.
            return Err(KernelError::Foreign);
        }
        let standing = self.kernel.standing()?;
        let begins = |wanted: Mode, drops: bool| wanted == Mode::Enforce && !drops;
        let Modes { input, output } = policy.mode;
        if !begins(input, standing.input_drops) && !begins(output, standing.output_drops) {
            return Ok(());
        }
        if !standing.tracks {
            let observing = Policy { mode: observed(policy.mode), ..policy.clone() };
            let settled = commit(&mut self.kernel, &observing, &self.server, self.state.as_ref())?;
            self.settled("before the first enforcement", settled);
        }
        match netlink::adopt_connections() {
            Ok(Adopted { found, inserted, existed, failed }) => {
                tracing::info!(found, inserted, existed, "open connections are tracked now");
                for (error, count) in failed {
                    tracing::warn!(count, %error, "open connections can't be tracked and will end");
                }
            }
            Err(error) => {
                tracing::error!(%error, "open connections can't be tracked and may end");
            }
        }
        Ok(())
    }

    fn settled(&mut self, reason: &'static str, settled: Settled) -> Step {
        self.generation = settled.generation;
        self.enforcement = Enforcement::Committed;
        self.trouble.settled();
        let commit = report::committed(reason, &settled);
        let proof = settled.commit.as_ref().and_then(|_| Proof::of(settled.generation));
        if let (Some(recorder), Some(proof)) = (self.memory.recorder(), proof) {
            recorder.record("generation", move |state| proof.save(state));
        }
        if commit.is_some() {
            self.last_commit.clone_from(&commit);
            self.drift = None;
        }
        Step { commit, change: settled.change }
    }
}

/// The same without denying anything.
fn observed(modes: Modes) -> Modes {
    let observed = |mode| if mode == Mode::Enforce { Mode::Observe } else { mode };
    Modes { input: observed(modes.input), output: observed(modes.output) }
}

fn commit(
    kernel: &mut Kernel,
    policy: &Policy,
    server: &Server,
    state: Option<&StateDirectory>,
) -> Result<Settled, KernelError> {
    let compile = |previous: Option<&ruleset::Ruleset>| {
        compile(policy, Host { role: &server.role, users: &server.users, previous })
    };
    kernel.settle(policy, compile, state)
}

/// The policy of the files, or all that is wrong with them; and what they are, either way.
fn load(
    options: &Options,
    lists: &mut ListCache,
    so_far: Option<(&Server, &Policy)>,
    state: Option<&StateDirectory>,
) -> (Inputs, Result<Candidate, String>) {
    let (now, start) = (SystemTime::now(), LoadStart::now());
    let load_options = policy::Options {
        check_permissions: !options.insecure_permissions,
        strict: options.strict,
    };
    let Loaded { policy, mut diagnostics, inputs, sources } =
        policy::load_again(&options.config, &load_options, lists, now);
    let inputs = Inputs { inputs, start };
    let Some(policy) = policy else {
        return (inputs, Err(diagnostics.render(Style::Plain)));
    };
    let (server, mut found) = Server::resolve(&policy, so_far, state);
    sources.illustrate(&mut found);
    diagnostics.extend(found);
    if options.strict {
        diagnostics.deny_warnings();
    }
    if diagnostics.has_errors() {
        return (inputs, Err(diagnostics.render(Style::Plain)));
    }
    let warnings = lines(&diagnostics);
    (inputs, Ok(Candidate { policy, server, warnings }))
}

fn lines(diagnostics: &Diagnostics) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}
