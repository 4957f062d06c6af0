//! The record of a change that waits on the disk: written before the way out, removed after the way
//! back.

use crate::engine::Engine;
use crate::journal::kind;
use crate::pending::{self, Pending};
use crate::state::StateDirectory;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

impl Engine {
    /// Writes a change that waits, and what is applied as its policy.
    pub(super) fn save_pending(&self, pending: &Pending) -> io::Result<()> {
        let (pending, new) = (pending.clone(), self.applied.clone());
        self.write_record(move |state| pending.save(&new, state))
    }

    /// Has the record written now. One that comes too late isn't written at all.
    pub(super) fn write_record(
        &self,
        write: impl FnOnce(&StateDirectory) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let Some(recorder) = self.memory.recorder() else {
            return Err(io::Error::other("the state directory can't be used"));
        };
        let is_late = Arc::new(AtomicBool::new(false));
        let late = Arc::clone(&is_late);
        let written = recorder.record_now("a change that waits", move |state| {
            if late.load(Ordering::Acquire) { Ok(()) } else { write(state) }
        });
        is_late.store(true, Ordering::Release);
        written
    }

    /// Has it recorded now that nothing waits.
    pub(in crate::engine) fn forget_record(&self) -> io::Result<()> {
        match self.memory.recorder() {
            Some(recorder) => recorder.record_now("a change that waits", pending::forget),
            None => Err(io::Error::other("the state directory can't be used")),
        }
    }

    /// Has it recorded that nothing waits and what is applied stays. The record goes last: until the
    /// rest is known, a start has to find it.
    pub(in crate::engine) fn record_end(&self) -> io::Result<()> {
        // Where the files are held back, a start goes on with the last good policy. One that is
        // held back itself was never enforced.
        if self.refusal.is_some() && !self.held {
            self.keep_last_good(&self.applied)?;
        }
        self.keep_refusal()?;
        self.forget_record()
    }

    /// What couldn't be recorded of an end now is tried again.
    pub(in crate::engine) fn ended(&mut self, ended: io::Result<()>) -> io::Result<()> {
        self.record_stays = ended.is_err() && self.state.is_some();
        if self.record_stays {
            self.memory.is_stuck();
        }
        ended
    }

    /// Tries again to record the end of a change that waited.
    pub(crate) fn end_record_again(&mut self) {
        if self.record_stays && self.pending.is_none() {
            // It was told that it couldn't be.
            let ended = self.record_end();
            let _ = self.ended(ended);
        }
    }

    /// Takes back what was proposed: nothing waits, or what did before.
    pub(in crate::engine) fn withdraw(&mut self) {
        let outcome = match self.pending.clone() {
            Some(earlier) => self.save_pending(&earlier),
            None => {
                let forgotten = self.forget_record();
                self.ended(forgotten)
            }
        };
        if let Err(error) = outcome {
            tracing::warn!(target: kind::NOT_RECORDED, %error, "can't take back the record of a change that isn't made");
        }
    }

    /// Has the change that waits written anew, and doesn't wait for it.
    pub(super) fn record_pending(&self) {
        let Some(pending) = &self.pending else { return };
        let (pending, new) = (pending.clone(), self.applied.clone());
        if let Some(recorder) = self.memory.recorder() {
            recorder.record("a change that waits", move |state| pending.save(&new, state));
        }
    }
}
