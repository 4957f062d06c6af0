//! The record of a change that waits on the disk: written before the way out, removed after the way
//! back.

use crate::clock;
use crate::engine::Engine;
use crate::journal::kind;
use crate::last_good;
use crate::pending::{self, Pending, Record};
use crate::recorder::StateFile;
use crate::state::StateDirectory;
use std::io;

/// What a start has to know before it is told that nothing waits any more.
const BEFORE: &[StateFile] = &[StateFile::Policy, StateFile::Refusal, StateFile::Members];

impl Engine {
    /// Writes a change that waits, and what is applied as its policy. One that comes too late isn't
    /// written at all.
    pub(super) fn save_pending(&self, pending: &Pending) -> io::Result<()> {
        let (pending, new) = (pending.clone(), self.applied.clone());
        let save = move |state: &StateDirectory| pending.save(&new, state);
        self.memory.recorder_or()?.record_now(StateFile::Pending, &[], save)
    }

    /// Records who has a session at the commit of the change that is recorded. Where that can't be in
    /// time, it is a debt.
    pub(super) fn save_sessions(&self, record: Record) -> io::Result<()> {
        let save = move |state: &StateDirectory| record.save(state);
        self.memory.recorder_or()?.record_after(StateFile::Pending, &[], save)
    }

    /// Has it recorded that nothing waits. Where it can't be in time, it is a debt.
    pub(in crate::engine) fn forget_record(&self) -> io::Result<()> {
        self.memory.recorder_or()?.record_after(StateFile::Pending, &[], pending::forget)
    }

    /// Has it recorded that nothing waits and what is applied stays. The record goes last: until the
    /// rest is known, a start has to find it. Where it can't be in time, it is a debt.
    pub(in crate::engine) fn record_end(&self) -> io::Result<()> {
        self.record_rest_of_end();
        self.memory.recorder_or()?.record_after(StateFile::Pending, BEFORE, pending::forget)
    }

    /// The same now or not at all.
    pub(super) fn record_confirmed(&self) -> io::Result<()> {
        self.record_rest_of_end();
        self.memory.recorder_or()?.record_now(StateFile::Pending, BEFORE, pending::forget)
    }

    fn record_rest_of_end(&self) {
        // Where the files are held back, a start goes on with the last good policy. One that is
        // held back itself was never enforced.
        if let Some(recorder) = self.memory.recorder()
            && self.refusal.is_some()
            && !self.held
        {
            let (policy, now) = (self.applied.clone(), clock::now());
            recorder.record(StateFile::Policy, move |state| last_good::save(state, &policy, now));
        }
        self.record_refusal();
    }

    /// Takes back what was proposed: nothing waits, or what did before.
    pub(in crate::engine) fn withdraw(&mut self) {
        match self.pending {
            Some(_) => self.record_pending(),
            None => {
                if let Err(error) = self.forget_record() {
                    tracing::warn!(target: kind::NOT_RECORDED, %error, "can't take back the record of a change that isn't made");
                }
            }
        }
    }

    /// Has the change that waits written anew, and doesn't wait for it.
    pub(super) fn record_pending(&self) {
        let Some(pending) = &self.pending else { return };
        let (pending, new) = (pending.clone(), self.applied.clone());
        if let Some(recorder) = self.memory.recorder() {
            recorder.record(StateFile::Pending, move |state| pending.save(&new, state));
        }
    }
}
