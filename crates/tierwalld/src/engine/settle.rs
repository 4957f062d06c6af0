//! The one way to the kernel: a policy is judged by who would be locked out, then committed.

use super::{Engine, Step, StepError};
use crate::guard;
use crate::host::Server;
use crate::kernel::{Kernel, KernelError, Settled};
use crate::proof::Proof;
use crate::refusal::Refusal;
use crate::report;
use crate::state::StateDirectory;
use control::Enforcement;
use netlink::Adopted;
use policy::model::{Mode, Modes};
use policy::{Host, Policy, compile};

/// Steps that bring the kernel to what the files say.
const FILES: [&str; 4] = ["start", "reload", "files changed", "members changed"];

impl Engine {
    /// Brings the kernel to what is applied.
    ///
    /// What others changed is put back whoever is in by it: by `force`, too.
    /// A first enforcement that would be a lockout is held back: the table observes until a change
    /// of the policy or of the sessions makes it none. Any other step of that kind is refused.
    pub(super) fn settle(&mut self, reason: &'static str, force: bool) -> Result<Step, StepError> {
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
    pub(super) fn hold(&mut self, reason: &'static str, why: String) -> Result<Step, StepError> {
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
    pub(super) fn refused_before(&self) -> Option<String> {
        let refusal = self.refusal.as_ref().filter(|refusal| refusal.is_of(&self.read));
        refusal.map(|refusal| refusal.why.clone())
    }

    pub(super) fn record_refusal(&self) {
        let Some(recorder) = self.memory.recorder() else { return };
        let refusal = self.refusal.clone();
        recorder.record("refusal", move |state| match &refusal {
            Some(refusal) => refusal.save(state),
            None => Refusal::forget(state),
        });
    }

    /// The lockout that bringing the kernel to `policy` would be, if it is one.
    pub(super) fn lockout(&mut self, policy: &Policy) -> Result<Option<String>, KernelError> {
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

    /// Where a side begins to drop, the connections that are open have to be known as such, or
    /// their next packet would be a new one. A namespace without rules tracks none: first comes a
    /// table that only observes, which starts the tracking. One that observes already may have
    /// seen no packet yet of a connection that is older and idle, also where it was left by a
    /// start that was killed at this point.
    pub(super) fn prepare_enforcement(&mut self, policy: &Policy) -> Result<(), KernelError> {
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

    pub(super) fn settled(&mut self, reason: &'static str, settled: Settled) -> Step {
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
