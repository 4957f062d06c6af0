//! Records in the state directory that nobody waits for.
//!
//! The disk of a busy server can take seconds over one small file: to sync it, and also to rename
//! it to a place whose old file is still being written back. An edit must not wait for that. So
//! one thread writes, and of several records that are due under one name only the newest: a disk
//! that hangs holds back one of each and no more. Whoever needs to know that a record is there
//! waits for it, a bounded time.
//!
//! What a crash may lose here costs the next start a look at the kernel, or the last good policy
//! but one. What was promised to somebody isn't recorded this way.

use crate::journal::kind;
use crate::state::StateDirectory;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

/// How long somebody waits for a record that was asked for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the end of the daemon waits for what is still to be written.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Writes one record.
type Job = Box<dyn FnOnce(&StateDirectory) -> io::Result<()> + Send>;

/// The way to the thread that writes. When it is dropped, all has been written, unless the disk
/// takes longer than anybody should wait for.
pub(crate) struct Recorder {
    desk: Arc<Desk>,
    /// How long its end waits.
    patience: Duration,
}

/// Where the records lie that are due.
#[derive(Default)]
struct Desk {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    /// At most one of a name.
    due: BTreeMap<&'static str, Job>,
    /// No more will come.
    is_last: bool,
    /// The thread has ended.
    is_done: bool,
}

impl Recorder {
    /// Starts the thread.
    pub(crate) fn start(state: StateDirectory) -> io::Result<Self> {
        let desk = Arc::<Desk>::default();
        let own = Arc::clone(&desk);
        let thread = thread::Builder::new().name("recorder".into());
        thread.spawn(move || own.write_all(&state))?;
        Ok(Self { desk, patience: LAST_PATIENCE })
    }

    /// Has a record written soon, in place of one of that name that isn't yet.
    pub(crate) fn record(
        &self,
        name: &'static str,
        job: impl FnOnce(&StateDirectory) -> io::Result<()> + Send + 'static,
    ) {
        self.desk.work().due.insert(name, Box::new(job));
        self.desk.changed.notify_all();
    }

    /// Has a record written and waits until it is. Blocks.
    pub(crate) fn record_now(
        &self,
        name: &'static str,
        job: impl FnOnce(&StateDirectory) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let (done, outcome) = mpsc::sync_channel(1);
        self.record(name, move |state| {
            // Who no longer waits has said so.
            let _ = done.send(job(state));
            Ok(())
        });
        outcome.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            Err(io::Error::new(io::ErrorKind::TimedOut, "the disk doesn't answer"))
        })
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let mut work = self.desk.work();
        work.is_last = true;
        self.desk.changed.notify_all();
        let waited =
            self.desk.changed.wait_timeout_while(work, self.patience, |work| !work.is_done);
        let (work, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !work.is_done {
            tracing::warn!(target: kind::NOT_RECORDED, "the disk doesn't answer; some of what a restart needs isn't kept");
        }
    }
}

impl Desk {
    fn work(&self) -> MutexGuard<'_, Work> {
        // No job runs while it is locked, so nobody who panics leaves it in between.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next record; none after the last.
    fn next(&self) -> Option<(&'static str, Job)> {
        let idle = |work: &mut Work| work.due.is_empty() && !work.is_last;
        let waited = self.changed.wait_while(self.work(), idle);
        waited.unwrap_or_else(PoisonError::into_inner).due.pop_first()
    }

    fn write_all(&self, state: &StateDirectory) {
        while let Some((name, job)) = self.next() {
            if let Err(error) = job(state) {
                tracing::warn!(target: kind::NOT_RECORDED, %error, "can't keep the {name} in the state directory");
            }
        }
        self.work().is_done = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};
    use std::time::Instant;

    /// A recorder whose disk hangs until what is returned beside it is dropped.
    fn held(state: &StateDirectory) -> (Recorder, Sender<()>) {
        let recorder = Recorder::start(state.clone()).expect("started");
        let (hold, held) = channel::<()>();
        let (begun, begins) = channel::<()>();
        recorder.record("obstacle", move |_| {
            drop(begun);
            let _ = held.recv();
            Ok(())
        });
        let _ = begins.recv();
        (recorder, hold)
    }

    #[test]
    fn writes_the_newest_of_each_before_it_is_gone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let (recorder, hold) = held(&state);
        for number in 0..100u8 {
            recorder.record("number", move |state| state.write("number", &[number]));
            recorder.record("other", move |state| state.write("other", &[7]));
        }
        assert_eq!(recorder.desk.work().due.len(), 2, "one of each name waits");
        drop(hold);
        drop(recorder);
        assert_eq!(state.read("number"), Some(vec![99]));
        assert_eq!(state.read("other"), Some(vec![7]));
    }

    #[test]
    fn a_disk_that_hangs_does_not_hold_up_the_end() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let (mut recorder, hold) = held(&state);
        recorder.patience = Duration::from_millis(50);
        let start = Instant::now();
        drop(recorder);
        assert!(start.elapsed() < Duration::from_secs(5));
        drop(hold);
    }

    #[test]
    fn who_waits_for_a_record_hears_what_became_of_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let recorder = Recorder::start(state.clone()).expect("started");
        recorder.record_now("number", |state| state.write("number", &[1])).expect("written");
        assert_eq!(state.read("number"), Some(vec![1]));
        let error = recorder.record_now("number", |_| Err(io::Error::other("full")));
        assert_eq!(error.expect_err("told").to_string(), "full");
    }
}
