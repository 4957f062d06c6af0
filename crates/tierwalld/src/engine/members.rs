//! Steps that change members by command.

use super::settle::Terms;
use super::{Candidate, Engine};
use crate::clock;
use crate::journal::kind;
use crate::members::{self, CommandMember, CommandMembers, MemberFailure};
use crate::requester::in_words;
use crate::step::{Step, StepError};
use control::Enforcement;
use policy::{Policy, Taking};
use std::time::{Duration, Instant};

/// How long after its end a member may still be in the kernel, which counts in milliseconds.
const SLACK: Duration = Duration::from_secs(2);

/// How long to wait for the end of a member at most: the clock may be set meanwhile.
const LOOK: u64 = 60;

impl Engine {
    /// Adds a member by command, to hold until it is removed.
    pub(crate) fn add_member(&mut self, member: CommandMember) -> Result<Step, StepError> {
        let members = self.members.with(&self.applied, member)?;
        let added = members.members.last().cloned();
        let step = self.take_in(members)?;
        if let Some(CommandMember { tier, member, until, reason: comment, .. }) = added {
            let by = in_words(self.asked.by.as_ref());
            tracing::info!(target: kind::MEMBER_ADDED, tier, member, until, by, comment, "member added");
        }
        // One for a short time may end soon.
        self.look_at_sessions();
        Ok(step)
    }

    /// Removes a member that was added by command. Where the policy has changes confirmed, so has
    /// one that a guarded session comes from.
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
        let removed = self.members.members.iter().find(|own| !members.members.contains(own));
        let removed = removed.cloned();
        let proposal = removed.as_ref().and_then(|removed| self.rule_of_removal(removed));
        if proposal.is_some() && self.pending.is_some() {
            return Err(self.is_pending());
        }
        let is_proposed = proposal.is_some();
        let is_insisted = force && removed.is_some();
        let terms = Terms {
            force,
            is_insisted,
            removed: removed.clone().filter(|_| force),
            proposal,
            ..Terms::default()
        };
        let step = self.take_out(members, terms)?;
        if let Some(CommandMember { tier, member, .. }) = removed {
            let by = in_words(self.asked.by.as_ref());
            tracing::info!(target: kind::MEMBER_REMOVED, tier, member, by, "member removed");
        }
        if is_proposed {
            // The record of the change says that it is out.
            self.record_members();
        } else {
            self.keep_members().map_err(|error| {
                tracing::error!(target: kind::NOT_RECORDED, %error, "a member that was removed is still recorded");
                MemberFailure::RemovalNotRecorded(error)
            })?;
        }
        Ok(step)
    }

    /// Commits a removal, to be recorded after that: who has to be out can't wait for a full disk, and
    /// where it has to be confirmed the way back is recorded first.
    fn take_out(&mut self, members: CommandMembers, terms: Terms) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            return Err(MemberFailure::TornDown.into());
        }
        let is_proposed = terms.proposal.is_some();
        let before = std::mem::replace(&mut self.members, members);
        let step = self.settle("member removed", terms);
        if step.is_ok() {
            self.memory.is_old();
        } else {
            self.members = before;
            if is_proposed {
                self.withdraw();
            }
        }
        step
    }

    /// Takes out the members whose time is over, also of the kernel where that hasn't done so by
    /// itself: it counts its own time, and the clock may have been set forward.
    pub(crate) fn end_members(&mut self) -> Result<Step, StepError> {
        self.expire_members();
        let is_due = self.forgotten_by.take_if(|by| *by <= Instant::now()).is_some();
        if is_due && self.enforcement == Enforcement::Committed && self.kernel.holds_ended()? {
            return self.settle("repair", Terms::force(!self.held));
        }
        Ok(Step::default())
    }

    /// Takes note of the members whose time is over.
    pub(super) fn expire_members(&mut self) {
        let now = clock::now();
        // What is denied to one from now on is denied to a stranger.
        self.enforced.tiers.values_mut().for_each(|tier| tier.timed.expire(now));
        for CommandMember { tier, member, until, .. } in self.members.expire(now) {
            tracing::info!(target: kind::MEMBER_EXPIRED, tier, member, until, "member expired");
            self.memory.is_old();
            self.forgotten_by = Some(Instant::now() + SLACK);
        }
    }

    /// When [`Engine::end_members`] is due.
    pub(crate) fn members_due(&self) -> Option<Instant> {
        let next = self.members.next_end().map(|end| {
            let left = end.saturating_sub(clock::now()).min(LOOK);
            Instant::now() + Duration::from_secs(left)
        });
        next.into_iter().chain(self.forgotten_by).min()
    }

    /// Takes over from the files a member that was added by command: one step, so that it never
    /// leaves the tier.
    pub(crate) fn promoted(&mut self, tier: &str, member: &str) -> Result<Step, StepError> {
        let read = self.read.clone();
        let candidate = self.read_files(Taking::Unasked)?;
        let step = self.promote(&read, candidate, tier, member);
        self.taken(read, step)
    }

    fn promote(
        &mut self,
        read: &Policy,
        candidate: Candidate,
        tier: &str,
        member: &str,
    ) -> Result<Step, StepError> {
        self.members.check_promoted(&candidate.policy, tier, member)?;
        let members = self.members.without(&self.applied, tier, member)?;
        let before = std::mem::replace(&mut self.members, members);
        let step = match self.refused_before() {
            // What else the files say is held back; the watcher may have taken the member already.
            Some(_) if members::is_of_files(&self.applied, tier, member) => {
                self.settle("members changed", Terms { holds_back: true, ..Terms::default() })
            }
            _ => self.take_edit(read, candidate),
        };
        if step.is_err() {
            self.members = before;
            return step;
        }
        // First the policy that it is in: a start that finds bad files must know it from one of
        // the two.
        let next = std::mem::replace(&mut self.members, before);
        let kept = self.keep_policy().and_then(|()| self.propose_members(&next));
        kept.map_err(MemberFailure::StillRecorded)?;
        self.members = next;
        let by = in_words(self.asked.by.as_ref());
        tracing::info!(target: kind::MEMBER_PROMOTED, tier, member, by, "the policy files took over a member");
        step
    }

    /// Commits an addition, recorded before it is committed: what was told to hold must survive a
    /// crash.
    fn take_in(&mut self, members: CommandMembers) -> Result<Step, StepError> {
        if self.enforcement == Enforcement::TornDown {
            return Err(MemberFailure::TornDown.into());
        }
        self.propose_members(&members).map_err(MemberFailure::NotRecorded)?;
        let before = std::mem::replace(&mut self.members, members);
        self.memory.is_old();
        // More pass than before: nobody is locked out.
        let step = self.settle("member added", Terms::force(!self.held));
        if step.is_err() {
            self.members = before;
            self.record_members();
        }
        step
    }
}
