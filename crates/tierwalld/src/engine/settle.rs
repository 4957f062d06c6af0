//! The one way to the kernel: a policy is judged by who would be locked out, then committed, and
//! counted where it is another than before.

use super::Engine;
use super::changed::Next;
use super::confirm::Proposal;
use crate::before::Part;
use crate::clock;
use crate::host::Server;
use crate::journal::kind;
use crate::kernel::{Kernel, KernelError, Settled};
use crate::last_good;
use crate::members::CommandMember;
use crate::observing;
use crate::proof::Proof;
use crate::reconnect;
use crate::recorder::StateFile;
use crate::refusal::Refusal;
use crate::report;
use crate::state::StateDirectory;
use crate::step::{Step, StepError};
use control::{ChangeLine, Confirmation, Enforcement, Generation, HeldBack};
use netlink::Adopted;
use policy::guard::{Asker, Verdict, judge};
use policy::model::{Mode, Modes};
use policy::{Host, Policy, Sign, UserNames, compile};
use ruleset::Ruleset;
use std::io;

/// Steps that bring the kernel to what the files say.
pub(super) const FILES: [&str; 4] = ["start", "reload", "files changed", "members changed"];

/// The step that takes back a change that wasn't confirmed: nobody has to insist on it.
pub(super) const WENT_BACK: &str = "went back";

/// Lines of the log for what can't reconnect.
const SHOWN: usize = 20;

/// On what terms a step is made.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// Whether also where that is a lockout.
    pub(super) force: bool,
    /// How it is gone back from, where it has to be confirmed.
    pub(super) proposal: Option<Proposal>,
    /// The generation that it goes back to.
    pub(super) back_to: Option<u64>,
    /// Whether the files stay held back.
    pub(super) holds_back: bool,
    /// Whether somebody insists on it: it is a generation, so that there is a way back from it.
    pub(super) is_insisted: bool,
    /// A runtime member that it takes out by that.
    pub(super) removed: Option<CommandMember>,
    /// Whether this server's addresses are the reason, so that who is in by one that is gone isn't
    /// guarded.
    pub(super) is_of_addresses: bool,
    /// That it takes the last way in, where a text does.
    pub(super) lost_way_in: Option<String>,
}

impl Terms {
    pub(super) fn force(force: bool) -> Self {
        Self { force, ..Self::default() }
    }
}

impl Engine {
    /// Brings the kernel to what is applied.
    ///
    /// What others changed is put back whoever is in by it: by `force`, too.
    /// A first enforcement that would be a lockout is held back: the table observes until a change
    /// of the policy or of the sessions makes it none. Any other step of that kind is refused.
    ///
    /// Where it has to be confirmed, that is on the disk before the kernel is asked. On an error
    /// the record stays for the caller to [withdraw](Engine::withdraw).
    pub(super) fn settle(&mut self, reason: &'static str, terms: Terms) -> Result<Step, StepError> {
        let Terms {
            force,
            proposal,
            back_to,
            holds_back,
            is_insisted,
            removed,
            is_of_addresses,
            lost_way_in,
        } = terms;
        self.expire_members();
        let policy = self.members.added_to(&self.applied);
        let verdict = match force {
            true => Verdict::Apply(Vec::new()),
            false => self.guard(&policy, reason, is_of_addresses)?,
        };
        let lockout = verdict.refusal().or(lost_way_in.filter(|_| !force));
        if let Some(why) = lockout {
            // A text that is held back already stays so for what it was held back for.
            if FILES.contains(&reason) && !(holds_back && self.refusal.is_some()) {
                let refusal = Refusal::of(&self.read, HeldBack::Refused, &why);
                self.refusal = Some(refusal);
                let kept = self.keep_refused();
                return self.hold(reason, why).map_err(|error| not_kept(error, kept));
            }
            return self.hold(reason, why);
        }
        let wait = match proposal {
            Some(proposal) => Some(self.propose(reason, proposal)?),
            None => None,
        };
        let is_own = wait.is_some() || back_to.is_some() || is_insisted;
        let is_new = self.is_new(&self.applied);
        let number = self.history.current() + u64::from(is_own || is_new);
        let is_first = self.prepare_enforcement(&policy, number)?;
        let settled = commit(&mut self.kernel, &policy, &self.server, self.state.as_ref())?;
        (self.held, self.refused) = (false, None);
        self.shut_out = verdict.warnings();
        for line in &self.shut_out {
            tracing::warn!(target: kind::SHUT_OUT, reason, "{line}");
        }
        if FILES.contains(&reason) && !holds_back && self.refusal.take().is_some() {
            self.record_refusal();
        }
        let was_torn_down = self.enforcement == Enforcement::TornDown;
        let is_protected_otherwise = is_protected_otherwise(&self.enforced, &policy);
        let was = self.enforces(policy);
        let mut step = self.settled(reason, number, settled);
        if is_first {
            self.denied = self.cannot_reconnect();
            step.denied.clone_from(&self.denied);
        } else if is_new {
            // Another policy, which they may or may not be allowed by.
            self.denied.clear();
        }
        let happened = is_new || (is_own && step.commit.is_some());
        // What others changed and was put back is no change.
        if happened || (step.commit.is_some() && reason != "repair") {
            if reason == "start" || was_torn_down {
                // There is nothing that it could be compared with.
                self.before = None;
            } else {
                let next = match (happened, wait.is_some()) {
                    (false, _) => Next::Members,
                    (true, false) => Next::Generation,
                    (true, true) => Next::Waiting,
                };
                self.changed(reason, next, was);
            }
        }
        // If the kernel holds the same as before and nothing of what protects from a lockout is given
        // up, there is nothing to confirm.
        let is_felt = step.commit.is_some() || self.pending.is_some() || is_protected_otherwise;
        let waits = happened && is_felt && wait.is_some();
        let confirmation = waits.then_some(Confirmation::Waiting);
        self.count(
            happened,
            &step,
            Generation { forced: is_insisted, confirmation, back_to, ..self.generation(reason) },
            removed,
        );
        match wait {
            Some(pending) if waits => self.wait(pending),
            Some(_) => self.withdraw(),
            None => {}
        }
        Ok(step)
    }

    /// Refuses a step, or holds a first enforcement back.
    pub(super) fn hold(&mut self, reason: &'static str, why: String) -> Result<Step, StepError> {
        if self.refused.as_ref() != Some(&why) {
            tracing::error!(target: kind::REFUSED, reason, "refused: {why}");
        }
        self.refused = Some(why.clone());
        // A table of others goes on filtering: one that only observes would open what it closes.
        let is_closed = self.kernel.standing()?.input_drops || self.kernel.has_foreign()?;
        if !self.held || reason == "reload" || is_closed {
            return Err(StepError::Lockout(why));
        }
        let mut policy = self.members.added_to(&self.applied);
        policy.mode = observed(policy.mode);
        let is_new = self.is_new(&self.effective());
        let number = self.history.current() + u64::from(is_new);
        let settled = commit(&mut self.kernel, &policy, &self.server, self.state.as_ref())?;
        self.enforces(policy);
        let step = self.settled(reason, number, settled);
        self.count(is_new, &step, self.generation(reason), None);
        Ok(step)
    }

    /// Keeps for a restart what was refused. Who asked has to hear it if that fails; what nobody asked
    /// for is retried until it is kept.
    fn keep_refused(&self) -> io::Result<()> {
        match (&self.asked.by, &self.state) {
            (Some(_), Some(_)) => self.keep_refusal(),
            _ => {
                self.record_refusal();
                Ok(())
            }
        }
    }

    /// Why the files as they were last read were refused before, if they were.
    pub(super) fn refused_before(&self) -> Option<String> {
        self.held_back().map(|refusal| refusal.why.clone())
    }

    /// What the lockout guard says of bringing the kernel to `policy`.
    pub(super) fn guard(
        &mut self,
        policy: &Policy,
        reason: &str,
        is_of_addresses: bool,
    ) -> Result<Verdict, KernelError> {
        let mut present = match self.present(policy, reason, is_of_addresses) {
            Ok(present) => present,
            Err(error) => {
                tracing::warn!(target: kind::GUARD_BLIND, %error, "can't tell who has a session here; nobody is guarded");
                return Ok(Verdict::Apply(Vec::new()));
            }
        };
        if present.with_say().is_empty() && present.open.is_empty() || self.kernel.is_foreign()? {
            return Ok(Verdict::Apply(Vec::new()));
        }
        if reason == "start" && self.kernel.standing()?.input_drops {
            present.asker = Asker::Nobody;
        }
        // Who gets in by a table of others isn't known: whoever is in counts.
        let (none, is_foreign) = (Ruleset::default(), self.kernel.has_foreign()?);
        let previous = if is_foreign { &none } else { self.kernel.mirror()? };
        let (role, users) = (&self.server.role, &self.server.users);
        let after = compile(policy, Host { role, users, previous: Some(previous) });
        let host = Host { role, users, previous: None };
        Ok(judge(&present, previous, &after, policy, host))
    }

    /// The open connections that the table in the kernel would deny as new ones.
    fn cannot_reconnect(&self) -> Vec<String> {
        let denied = self.kernel.ruleset().map(reconnect::denied).transpose();
        let denied = denied.unwrap_or_else(|error| {
            tracing::warn!(target: kind::GUARD_BLIND, %error, "can't list the open connections");
            None
        });
        let denied = denied.unwrap_or_default();
        if !denied.is_empty() {
            let shown = denied[..denied.len().min(SHOWN)].join("; ");
            let more = denied.len().saturating_sub(SHOWN);
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            tracing::warn!(
                target: kind::CANNOT_RECONNECT,
                "open connections stay, but the policy wouldn't let them be opened again: {shown}{more}"
            );
        }
        denied
    }

    /// Where a side begins to drop, the connections that are open have to be known as such, or
    /// their next packet would be a new one. A namespace without rules tracks none: first comes a
    /// table that only observes, which starts the tracking. One that observes already may have
    /// seen no packet yet of a connection that is older and idle, also where it was left by a
    /// start that was killed at this point.
    ///
    /// Returns whether a side begins to drop.
    fn prepare_enforcement(&mut self, policy: &Policy, number: u64) -> Result<bool, KernelError> {
        if self.kernel.is_foreign()? {
            // Nothing is touched, connections neither.
            return Err(KernelError::Foreign);
        }
        let standing = self.kernel.standing()?;
        let begins = |wanted: Mode, drops: bool| wanted == Mode::Enforce && !drops;
        let Modes { input, output } = policy.mode;
        if !begins(input, standing.input_drops) && !begins(output, standing.output_drops) {
            return Ok(false);
        }
        if !standing.tracks {
            let observing = Policy { mode: observed(policy.mode), ..policy.clone() };
            let settled = commit(&mut self.kernel, &observing, &self.server, self.state.as_ref())?;
            self.settled("before the first enforcement", number, settled);
        }
        match netlink::adopt_connections() {
            Ok(Adopted { found, inserted, existed, failed }) => {
                tracing::info!(target: kind::CONNECTIONS_KEPT, found, inserted, existed, "open connections are tracked now");
                for (error, count) in failed {
                    tracing::warn!(target: kind::CONNECTIONS_LOST, connections = count, %error, "open connections can't be tracked and will end");
                }
            }
            Err(error) => {
                tracing::error!(target: kind::CONNECTIONS_LOST, %error, "open connections can't be tracked and may end");
            }
        }
        Ok(true)
    }

    /// Takes note of which sides only observe from now on.
    fn observe(&mut self) {
        let observing = observing::from_now(self.observing, self.mode(), clock::now());
        if std::mem::replace(&mut self.observing, observing) == observing {
            return;
        }
        if let Some(recorder) = self.memory.recorder() {
            recorder.record(StateFile::Observing, move |state| observing::save(observing, state));
        }
    }

    /// What users are called, also those that only an earlier policy names.
    pub(crate) fn user_names(&self) -> UserNames {
        let mut names = self.named_users.clone();
        names.learn(&self.server.users);
        names
    }

    /// The kernel holds `policy` now. Returns what it held, and as what.
    fn enforces(&mut self, policy: Policy) -> (Policy, Part) {
        self.named_users = self.user_names();
        (
            std::mem::replace(&mut self.enforced, policy),
            std::mem::replace(&mut self.enforced_as, Part::of(&self.server)),
        )
    }

    fn settled(&mut self, reason: &'static str, generation: u64, settled: Settled) -> Step {
        self.kernel_generation = settled.generation;
        self.enforcement = Enforcement::Committed;
        self.trouble.settled();
        self.observe();
        if let Some(done) = &settled.commit {
            self.counters.committed(reason, done.duration);
        }
        let commit = report::committed(reason, generation, &settled);
        let proof = settled.commit.as_ref().and_then(|_| Proof::of(settled.generation));
        if let (Some(recorder), Some(proof)) = (self.memory.recorder(), proof) {
            recorder.record(StateFile::Proof, move |state| proof.save(state));
        }
        if commit.is_some() {
            self.last_commit.clone_from(&commit);
            self.drift = None;
        }
        Step { commit, change: settled.change, saved: settled.saved, denied: Vec::new() }
    }

    /// The policy of the files as it is in the kernel: one that is held back observes.
    pub(super) fn effective(&self) -> Policy {
        Policy { mode: self.mode(), ..self.applied.clone() }
    }

    /// Whether enforcing `policy` begins a generation.
    fn is_new(&self, policy: &Policy) -> bool {
        let is_alike = |counted: &Policy| counted.is_alike_but_for_members(policy);
        // The usual case costs a comparison.
        !self.counted.as_ref().is_some_and(is_alike) && self.history.is_new(policy)
    }

    fn generation(&self, reason: &str) -> Generation {
        Generation {
            number: 0,
            time: clock::now(),
            reason: reason.to_owned(),
            by: self.asked.by.clone(),
            changes: Vec::new(),
            edits: Vec::new(),
            more: 0,
            forced: false,
            confirmation: None,
            back_to: None,
            rolled_back: false,
        }
    }

    /// Takes note of what is enforced: as the next generation, where one `happened`.
    fn count(
        &mut self,
        happened: bool,
        step: &Step,
        mut generation: Generation,
        removed: Option<CommandMember>,
    ) {
        let policy = self.effective();
        if !happened {
            self.counted = Some(policy);
            return;
        }
        let previous = self.counted.replace(policy.clone());
        let previous = previous.or_else(|| {
            // A start: the one before ended with what was kept for this.
            let last = last_good::load(self.state.as_ref()?)?.policy;
            self.history.lacks(&last).then_some(last)
        });
        let users = self.user_names();
        let lines = step.change.words(&self.applied, &self.server.role, &users).lines();
        let line =
            |line: policy::Line| ChangeLine { more: line.sign == Sign::More, text: line.text };
        generation.changes = lines.into_iter().map(line).collect();
        generation.edits = previous.iter().flat_map(|before| before.waiting(&policy)).collect();
        self.history.begin(generation, &policy, previous, removed);
        self.history.record(self.memory.recorder());
    }
}

/// What the refusal says where it couldn't be kept.
fn not_kept(error: StepError, kept: io::Result<()>) -> StepError {
    match (error, kept) {
        (StepError::Lockout(why), Err(error)) => StepError::Lockout(format!(
            "{why}\n  note: the refusal can't be written to the state directory ({error}), which \
             is retried: until `tierwall status` no longer says so, a restart may apply the files"
        )),
        (error, _) => error,
    }
}

/// Whether what protects from a lockout differs.
fn is_protected_otherwise(before: &Policy, after: &Policy) -> bool {
    let of = |policy: &Policy| (policy.confirm, policy.rollback_on_denials, policy.guarded.clone());
    of(before) != of(after)
}

/// The same without denying anything.
pub(super) fn observed(modes: Modes) -> Modes {
    let observed = |mode| if mode == Mode::Enforce { Mode::Observe } else { mode };
    Modes { input: observed(modes.input), output: observed(modes.output) }
}

pub(super) fn commit(
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
