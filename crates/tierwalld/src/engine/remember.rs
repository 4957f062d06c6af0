//! What is kept for a restart, and when.

use super::Engine;
use crate::clock;
use crate::members::CommandMembers;
use crate::recorder::StateFile;
use crate::refusal::Refusal;
use crate::state::StateDirectory;
use crate::{known_lists, last_good, member_file};
use std::io;
use std::time::Instant;

impl Engine {
    /// Keeps what a restart needs and is due. It takes as long as the disk, so nobody waits for
    /// it; that it can't is no reason not to enforce.
    pub(crate) fn remember(&mut self) {
        self.remember_due_by(Instant::now());
    }

    /// Keeps all of it, at the end.
    pub(crate) fn remember_all(&mut self) {
        self.remember_due_by(self.memory.last_due().unwrap_or_else(Instant::now));
    }

    /// Keeps the policy of the files that stays, and returns when a start that finds bad files would
    /// find it. Where it can't be kept in time it is a debt.
    pub(crate) fn keep_policy(&self) -> io::Result<()> {
        let (policy, now) = (self.lasting().clone(), clock::now());
        let save = move |state: &StateDirectory| last_good::save(state, &policy, now);
        self.memory.recorder_or()?.record_after(StateFile::Policy, &[], save)
    }

    /// Records the runtime members as they are now, soon.
    pub(crate) fn record_members(&self) {
        let Some(recorder) = self.memory.recorder() else { return };
        let members = self.members.clone();
        recorder.record(StateFile::Members, move |state| member_file::save(&members, state));
    }

    /// The same, and returns when a start would know. Where they can't be recorded in time, that is
    /// a debt.
    pub(crate) fn keep_members(&self) -> io::Result<()> {
        let members = self.members.clone();
        let save = move |state: &StateDirectory| member_file::save(&members, state);
        self.memory.recorder_or()?.record_after(StateFile::Members, &[], save)
    }

    /// Records what the runtime members are to be, now or not at all.
    pub(crate) fn propose_members(&self, members: &CommandMembers) -> io::Result<()> {
        let next = members.clone();
        let save = move |state: &StateDirectory| member_file::save(&next, state);
        let saved = self.memory.recorder_or()?.record_now(StateFile::Members, &[], save);
        if saved.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            // It may be under way.
            self.record_members();
        }
        saved
    }

    /// Keeps what of the files is held back, soon.
    pub(crate) fn record_refusal(&self) {
        let Some(recorder) = self.memory.recorder() else { return };
        let refusal = self.refusal.clone();
        recorder.record(StateFile::Refusal, move |state| Refusal::record(refusal.as_ref(), state));
    }

    /// The same, and returns when a start would know. Where it can't be kept in time it is a debt.
    pub(crate) fn keep_refusal(&self) -> io::Result<()> {
        let refusal = self.refusal.clone();
        let save = move |state: &StateDirectory| Refusal::record(refusal.as_ref(), state);
        self.memory.recorder_or()?.record_after(StateFile::Refusal, &[], save)
    }

    /// Keeps the policy of the files that stays, and doesn't wait for it.
    pub(crate) fn remember_policy(&mut self) {
        self.memory.policy_is_written();
        let Some(recorder) = self.memory.recorder() else { return };
        // One that is held back was never enforced.
        if !self.held {
            let (policy, now) = (self.lasting().clone(), clock::now());
            recorder.record(StateFile::Policy, move |state| last_good::save(state, &policy, now));
            let lists = self.known_lists().clone();
            recorder.record(StateFile::Lists, move |state| known_lists::save(state, &lists, now));
        }
    }

    fn remember_due_by(&mut self, now: Instant) {
        let (small, policy) = self.memory.take_due(now);
        if policy {
            self.remember_policy();
        }
        let Some(recorder) = self.memory.recorder() else { return };
        if !small {
            return;
        }
        if !self.server.role_is_old {
            let role = self.server.last_role();
            recorder.record(StateFile::Role, move |state| role.save(state));
        }
        let users = self.server.users.clone();
        recorder.record(StateFile::Users, move |state| state.record_users(&users));
        let members = self.members.clone();
        recorder.record(StateFile::MembersCopy, move |state| member_file::sync(&members, state));
    }
}
