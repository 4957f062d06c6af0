//! Steps that bring the kernel to what the files say.

use super::{Candidate, Engine, Inputs, Step, StepError};
use crate::host::Server;
use crate::memory::Changed;
use crate::options::Options;
use crate::state::StateDirectory;
use control::Enforcement;
use policy::model::Watch;
use policy::{Diagnostics, ListCache, Loaded, Policy, Style};
use std::time::SystemTime;
use watch::LoadStart;

impl Engine {
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
    pub(super) fn take_members(&mut self, mut candidate: Candidate) -> Result<Step, StepError> {
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

    /// What holds of this server, and under which policy.
    pub(super) fn so_far(&self) -> Option<(&Server, &Policy)> {
        Some((&self.server, &self.applied))
    }

    pub(super) fn read_files(&mut self) -> Result<Candidate, StepError> {
        let so_far = Some((&self.server, &self.applied));
        let (inputs, candidate) = load(&self.options, &mut self.lists, so_far, self.state.as_ref());
        self.inputs = inputs;
        let candidate = candidate.map_err(|problem| self.refuse(problem))?;
        self.read = candidate.policy.clone();
        Ok(candidate)
    }

    /// Notes why the files can't be applied. The old policy stays.
    pub(super) fn refuse(&mut self, problem: String) -> StepError {
        if self.problem.as_ref() != Some(&problem) {
            tracing::error!("the policy files have errors; what was enforced stays\n{problem}");
        }
        self.problem = Some(problem.clone());
        self.trouble.is_of_edit = false;
        StepError::BadPolicy(problem)
    }

    pub(super) fn apply(
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
}

/// The policy of the files, or all that is wrong with them; and what they are, either way.
pub(super) fn load(
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

pub(super) fn lines(diagnostics: &Diagnostics) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}
