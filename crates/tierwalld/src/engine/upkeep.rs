//! Steps that nobody asks for: others changed the table, this server's addresses or users changed,
//! the kernel failed something.

use super::Engine;
use super::settle::Terms;
use crate::foreign::Foreign;
use crate::journal::kind;
use crate::kernel::KernelError;
use crate::metrics::Foreign as Outcome;
use crate::step::{Step, StepError};
use control::Enforcement;
use policy::model::Ownership;
use policy::{Host, compile};
use std::time::Instant;

impl Engine {
    /// Another process changed the table: puts it back, or reports it, as the policy says.
    pub(crate) fn repair(&mut self, foreign: &Foreign) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            return Ok(Step::default());
        }
        self.expire_members();
        // What is only reported has to be known; what is put back needn't be.
        let wholly = self.applied.ownership == Ownership::Report;
        let differs = self.kernel.read_again(wholly)?;
        let (process, pid, change) = (&foreign.process, &foreign.pid, foreign.to_string());
        let is_wanted = self.is_as_wanted()?;
        if is_wanted {
            // By a commit of ours that met the change before this, or by whoever made it.
            self.drift = None;
            if *pid != 0 {
                self.counters.foreign(Outcome::Harmless);
                tracing::warn!(target: kind::FOREIGN_CHANGE,
                    process,
                    pid,
                    change,
                    "another process changed the table; it is as it should be"
                );
            }
            return Ok(Step::default());
        }
        if self.applied.ownership == Ownership::Report {
            if differs {
                self.counters.foreign(Outcome::Reported);
            }
            if differs || foreign.names(self.drift.as_ref()) {
                tracing::warn!(target: kind::FOREIGN_CHANGE, process, pid, change, "another process changed the table");
                self.drift = Some(foreign.clone());
            }
            return Ok(Step::default());
        }
        tracing::warn!(target: kind::PUT_BACK, process, pid, change, "another process changed the table; putting it back");
        let step = self.settle("repair", Terms::force(!self.held))?;
        self.counters.foreign(Outcome::PutBack);
        Ok(step)
    }

    /// Replaces a table that somebody else made by what is applied, since somebody asked for it.
    pub(crate) fn take_over(&mut self, force: bool) -> Result<Step, StepError> {
        self.kernel.allow_takeover(true);
        let step = self.settle("takeover", Terms::force(force));
        self.kernel.allow_takeover(self.options.takeover);
        step
    }

    /// Tries again what the kernel failed, or what couldn't be recorded.
    pub(crate) fn retry(&mut self) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            self.trouble.is_over();
            return Ok(Step::default());
        }
        if !self.trouble.is_some() {
            return self.files_changed();
        }
        // What the files say may have to wait, or can't be applied: no reason to leave the kernel
        // as it is. Only what is to be reported stays, as long as it is an edit that fails.
        let is_reported = self.applied.ownership == Ownership::Report && self.trouble.is_of_edit;
        let repaired = match is_reported {
            true => Ok(Step::default()),
            false => self.settle("repair", Terms::force(!self.held)),
        };
        match self.files_changed() {
            Err(error @ StepError::Kernel(_)) => Err(error),
            Ok(step) if step.commit.is_some() => Ok(step),
            _ => {
                let step = repaired?;
                self.look_again()?;
                Ok(step)
            }
        }
    }

    /// This server's addresses may have changed, or time has passed: brings the role and the users
    /// up to date.
    pub(crate) fn look_again(&mut self) -> Result<Step, StepError> {
        self.expire_members();
        if self.enforcement == Enforcement::TornDown {
            return Ok(Step::default());
        }
        let server = self.server.look_again(&self.applied, self.pending.is_some());
        let is_same = server == self.server;
        let before = std::mem::replace(&mut self.server, server);
        if is_same {
            return Ok(Step::default());
        }
        let terms = Terms { is_of_addresses: true, ..Terms::default() };
        match self.settle("addresses or users changed", terms) {
            Ok(step) => {
                let (role_before, role) = (before.role.to_string(), self.server.role.to_string());
                if role_before != role {
                    tracing::info!(target: kind::ROLE_CHANGED, role_before, role, "this server's role changed with its addresses");
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
        self.server.due().filter(|_| holds)
    }

    /// Whether the kernel holds what is applied.
    pub(super) fn is_as_wanted(&mut self) -> Result<bool, KernelError> {
        let mut policy = self.members.added_to(&self.applied);
        policy.mode = self.mode();
        let server = &self.server;
        self.kernel.holds(|previous| {
            compile(&policy, Host { role: &server.role, users: &server.users, previous })
        })
    }
}
