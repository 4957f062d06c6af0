//! The thread that writes to the state directory.
//!
//! The disk of a busy server can take seconds over one small file: to sync it, and also to rename
//! it to a place whose old file is still being written back. An edit must not wait for that. So
//! one thread writes, and of several versions of a file that are due only the newest: a disk that
//! hangs holds back one of each and no more. A version that can't be written is a debt: it is
//! retried until it is written or a newer one takes its place. Who has to know that a file is there
//! waits for it, a bounded time, and not at all on a disk that hangs already.

mod file;

use crate::clock;
use crate::journal::kind;
use crate::state::StateDirectory;
use control::Unrecorded;
pub(crate) use file::StateFile;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long somebody waits for a file to be written, and how long the thread may take over one
/// before the disk counts as hanging. Shorter than any time in which a change has to be confirmed.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long the end of the daemon waits for what is still to be written.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// How long after a failure it is retried, at first and at most.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

type Write = Box<dyn FnMut(&StateDirectory) -> io::Result<()> + Send>;

/// One version of a file.
struct Job {
    write: Write,
    /// Files that have to be written before, if they are due.
    after: &'static [StateFile],
    /// Whether it is retried.
    is_debt: bool,
    /// Who waits for the outcome.
    waits: Option<mpsc::SyncSender<io::Result<()>>>,
}

/// The way to the thread that writes. When it is dropped, all has been written, unless the disk
/// takes longer than anybody should wait for.
pub(crate) struct Recorder {
    desk: Arc<Desk>,
    /// How long its end waits.
    patience: Duration,
}

/// What isn't in the state directory, for who asks.
#[derive(Clone)]
pub(crate) struct Debts(Option<Arc<Desk>>);

/// Where the files lie that are due.
#[derive(Default)]
struct Desk {
    work: Mutex<Work>,
    changed: Condvar,
}

#[derive(Default)]
struct Work {
    /// At most one version of a file.
    due: BTreeMap<StateFile, Job>,
    /// Those that couldn't be written, and when they are retried.
    owed: BTreeMap<StateFile, Job>,
    retry: Option<Instant>,
    retry_after: Duration,
    /// What is being written, and since when.
    writing: Option<(StateFile, Instant, u64)>,
    /// Why something couldn't be written last, and since when, in seconds since the epoch, something
    /// couldn't.
    failing: Option<(u64, String)>,
    /// What was logged as not written.
    logged: BTreeSet<StateFile>,
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

    /// Has a file written soon, in place of a version of it that isn't yet.
    pub(crate) fn record(
        &self,
        file: StateFile,
        write: impl FnMut(&StateDirectory) -> io::Result<()> + Send + 'static,
    ) {
        self.push(file, Job { write: Box::new(write), after: &[], is_debt: true, waits: None });
    }

    /// The same, after those files of which a version is due. Waits for the first try. Blocks.
    pub(crate) fn record_after(
        &self,
        file: StateFile,
        after: &'static [StateFile],
        write: impl FnMut(&StateDirectory) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let (done, outcome) = mpsc::sync_channel(1);
        let hangs = self.desk.work().hangs();
        self.push(file, Job { write: Box::new(write), after, is_debt: true, waits: Some(done) });
        if hangs { Err(no_answer()) } else { wait(&outcome) }
    }

    /// Has a file written and waits for that. What can't be written in time isn't written later
    /// either, unless it is under way by then. Blocks.
    pub(crate) fn record_now(
        &self,
        file: StateFile,
        after: &'static [StateFile],
        write: impl FnOnce(&StateDirectory) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        if self.desk.work().hangs() {
            return Err(no_answer());
        }
        let (done, outcome) = mpsc::sync_channel(1);
        let is_late = Arc::new(AtomicBool::new(false));
        let (late, mut write) = (Arc::clone(&is_late), Some(write));
        let write = move |state: &StateDirectory| match write.take() {
            Some(write) if !late.load(Ordering::Acquire) => write(state),
            _ => Ok(()),
        };
        self.push(file, Job { write: Box::new(write), after, is_debt: false, waits: Some(done) });
        let written = wait(&outcome);
        is_late.store(true, Ordering::Release);
        written
    }

    fn push(&self, file: StateFile, job: Job) {
        self.desk.work().push(file, job);
        self.desk.changed.notify_all();
    }

    /// What isn't in the state directory, from now on.
    pub(crate) fn debts(&self) -> Debts {
        Debts(Some(Arc::clone(&self.desk)))
    }
}

fn wait(outcome: &mpsc::Receiver<io::Result<()>>) -> io::Result<()> {
    match outcome.recv_timeout(PATIENCE) {
        Ok(written) => written,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(no_answer()),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(io::Error::other("a newer version took its place"))
        }
    }
}

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the disk doesn't answer")
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

impl Debts {
    /// Of no state directory at all.
    pub(crate) fn of_none() -> Self {
        Self(None)
    }

    /// What isn't in the state directory, if it can't be written: since when, and what a start would
    /// do for want of it. `since` is when the daemon started; `is_held_back` says whether the policy
    /// files are.
    pub(crate) fn unrecorded(&self, since: u64, is_held_back: bool) -> Option<Unrecorded> {
        let Some(desk) = &self.0 else {
            let at_start = vec![file::WITHOUT_A_DIRECTORY.to_owned()];
            let why = "the state directory can't be used".to_owned();
            return Some(Unrecorded { since, why, files: Vec::new(), at_start });
        };
        desk.work().unrecorded(is_held_back)
    }
}

impl Work {
    /// Whether the disk has taken too long already over what is being written.
    fn hangs(&self) -> bool {
        self.writing.is_some_and(|(_, begun, _)| begun.elapsed() > PATIENCE)
    }

    fn unrecorded(&self, is_held_back: bool) -> Option<Unrecorded> {
        let hanging = self.writing.filter(|_| self.hangs());
        let files: BTreeSet<StateFile> = match hanging {
            Some((file, ..)) => {
                self.due.keys().chain(self.owed.keys()).copied().chain([file]).collect()
            }
            None => self.owed.keys().copied().collect(),
        };
        let (since, why) = match (hanging, &self.failing) {
            (Some((.., since)), _) => (since, no_answer().to_string()),
            (None, Some(failing)) => failing.clone(),
            (None, None) => return None,
        };
        let at_start = files.iter().filter_map(|file| file.at_start(is_held_back));
        let at_start = at_start.map(str::to_owned).collect();
        let files = files.iter().map(ToString::to_string).collect();
        Some(Unrecorded { since, why, files, at_start })
    }

    /// Takes the place of the version that is due. A debt gives way to what has to be written now or
    /// not at all only when that is written.
    fn push(&mut self, file: StateFile, job: Job) {
        if job.is_debt {
            self.owed.remove(&file);
        }
        let is_debt = job.is_debt;
        if let Some(earlier) = self.due.insert(file, job)
            && earlier.is_debt
            && !is_debt
        {
            self.owe(file, earlier);
        }
    }

    fn owe(&mut self, file: StateFile, job: Job) {
        self.owed.insert(file, job);
        if self.retry.is_none() {
            let after = self.retry_after.max(RETRY_AFTER);
            self.retry = Some(Instant::now() + after);
            self.retry_after = (after * 2).min(RETRY_AFTER_MAX);
        }
    }

    /// The next file to be written, if one is due by `now`.
    fn next(&mut self, now: Instant) -> Option<(StateFile, Job)> {
        if self.retry.is_some_and(|retry| retry <= now) || (self.is_last && self.due.is_empty()) {
            self.retry = None;
            for (file, job) in std::mem::take(&mut self.owed) {
                match self.due.contains_key(&file) {
                    true => self.owe(file, job),
                    false => drop(self.due.insert(file, job)),
                }
            }
        }
        let is_due = |file: &StateFile| self.due.contains_key(file);
        let mut ready = self.due.iter().filter(|(_, job)| !job.after.iter().any(is_due));
        let file = *ready.next()?.0;
        Some((file, self.due.remove(&file)?))
    }

    /// Takes note of what became of a version of a file.
    fn tried(&mut self, file: StateFile, mut job: Job, outcome: io::Result<()>) {
        let Err(error) = outcome else {
            self.logged.remove(&file);
            self.owed.remove(&file);
            if self.owed.is_empty() {
                (self.failing, self.retry_after) = (None, RETRY_AFTER);
            }
            job.tell(Ok(()));
            return;
        };
        let since = self.failing.as_ref().map_or_else(clock::now, |(since, _)| *since);
        let why = error.to_string();
        self.failing = Some((since, why.clone()));
        let has_asker = job.tell(Err(error));
        if !job.is_debt {
            return;
        }
        if self.logged.insert(file) && !has_asker {
            tracing::warn!(target: kind::NOT_RECORDED, error = why, "can't write the {file} to the state directory; it is retried");
        }
        if self.is_last || self.due.contains_key(&file) {
            return;
        }
        self.owe(file, job);
    }
}

impl Job {
    /// Says how it went. Returns whether somebody had asked.
    fn tell(&mut self, outcome: io::Result<()>) -> bool {
        // Who no longer waits has said so.
        self.waits.take().map(|waits| waits.send(outcome)).is_some()
    }
}

impl Desk {
    fn work(&self) -> MutexGuard<'_, Work> {
        // No job runs while it is locked, so nobody who panics leaves it in between.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next version to be written; none after the last.
    fn next(&self) -> Option<(StateFile, Job)> {
        let mut work = self.work();
        loop {
            let now = Instant::now();
            if let Some((file, job)) = work.next(now) {
                work.writing = Some((file, now, clock::now()));
                return Some((file, job));
            }
            if work.is_last {
                return None;
            }
            let limit = work.retry.map_or(RETRY_AFTER_MAX, |retry| retry - now);
            let waited = self.changed.wait_timeout(work, limit);
            work = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write_all(&self, state: &StateDirectory) {
        while let Some((file, mut job)) = self.next() {
            // What it has to come after may have failed.
            let owed = job.after.iter().find(|before| self.work().owed.contains_key(before));
            let outcome = match owed {
                Some(owed) => Err(io::Error::other(format!("the {owed} couldn't be written"))),
                None => (job.write)(state),
            };
            let mut work = self.work();
            work.writing = None;
            work.tried(file, job, outcome);
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
        let mut begun = Some(begun);
        recorder.record(StateFile::Role, move |_| {
            drop(begun.take());
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
            recorder.record(StateFile::Users, move |state| state.write("number", &[number]));
            recorder.record(StateFile::Observing, move |state| state.write("other", &[7]));
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

    /// Whether something holds before long.
    fn comes(holds: impl Fn() -> bool) -> bool {
        let start = Instant::now();
        while !holds() {
            if start.elapsed() > Duration::from_secs(20) {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }

    #[test]
    fn what_cannot_be_written_is_retried_until_it_is_and_shown_meanwhile() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let recorder = Recorder::start(state.clone()).expect("started");
        let debts = recorder.debts();
        // A directory in its place takes no file.
        let full = directory.path().join(".users.new");
        std::fs::create_dir(&full).expect("made");
        recorder.record(StateFile::Refusal, |state| state.write("users", &[7]));
        assert!(comes(|| debts.unrecorded(1, true).is_some()));
        let told = debts.unrecorded(1, true).expect("told");
        assert_eq!(told.at_start, ["applies the policy files, which are held back"]);
        assert_eq!(told.files, ["text that is held back"]);
        std::fs::remove_dir(&full).expect("removed");
        assert!(comes(|| state.read("users") == Some(vec![7])));
        assert!(comes(|| debts.unrecorded(1, true).is_none()));
    }

    #[test]
    fn a_newer_version_takes_the_place_of_one_that_is_owed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let recorder = Recorder::start(state.clone()).expect("started");
        let fails = |_: &StateDirectory| Err(io::Error::other("full"));
        recorder.record_after(StateFile::Users, &[], fails).expect_err("full");
        recorder
            .record_now(StateFile::Users, &[], |state| state.write("users", &[8]))
            .expect("written");
        assert_eq!(recorder.debts().unrecorded(1, false), None);
    }

    #[test]
    fn a_request_that_fails_leaves_the_debt_of_before() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let recorder = Recorder::start(state.clone()).expect("started");
        let full = directory.path().join(".users.new");
        std::fs::create_dir(&full).expect("made");
        let write = |byte: u8| move |state: &StateDirectory| state.write("users", &[byte]);
        recorder.record_after(StateFile::Users, &[], write(7)).expect_err("full");
        recorder.record_now(StateFile::Users, &[], write(8)).expect_err("full");
        std::fs::remove_dir(&full).expect("removed");
        drop(recorder);
        assert_eq!(state.read("users"), Some(vec![7]));
    }

    #[test]
    fn an_end_is_not_written_before_what_it_depends_on() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let recorder = Recorder::start(state.clone()).expect("started");
        let full = directory.path().join(".policy.new");
        std::fs::create_dir(&full).expect("made");
        recorder.record(StateFile::Policy, |state| state.write("policy", &[1]));
        let end = |state: &StateDirectory| state.write("end", &[1]);
        let after = &[StateFile::Policy];
        let error = recorder.record_after(StateFile::Pending, after, end).expect_err("not yet");
        assert_eq!(error.to_string(), "the last good policy couldn't be written");
        assert_eq!(state.read("end"), None);
        std::fs::remove_dir(&full).expect("removed");
        drop(recorder);
        assert_eq!(state.read("policy").and(state.read("end")), Some(vec![1]));
    }

    #[test]
    fn a_disk_that_hangs_holds_up_the_first_who_asks_and_nobody_after() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let (recorder, hold) = held(&state);
        let write = |name: &'static str| move |state: &StateDirectory| state.write(name, &[1]);
        let error = recorder.record_now(StateFile::Users, &[], write("late")).expect_err("hangs");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // The disk has hung for as long as anybody waits.
        let start = Instant::now();
        recorder.record_now(StateFile::Users, &[], write("late")).expect_err("hangs");
        recorder.record_after(StateFile::Observing, &[], write("owed")).expect_err("hangs");
        assert!(start.elapsed() < PATIENCE);
        let told = recorder.debts().unrecorded(1, false).expect("told");
        assert!(told.why.contains("doesn't answer") && told.files.len() == 3, "{told:?}");
        drop(hold);
        drop(recorder);
        assert_eq!((state.read("late"), state.read("owed")), (None, Some(vec![1])));
    }

    #[test]
    fn who_waits_for_a_record_hears_what_became_of_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let recorder = Recorder::start(state.clone()).expect("started");
        recorder
            .record_now(StateFile::Users, &[], |state| state.write("number", &[1]))
            .expect("written");
        assert_eq!(state.read("number"), Some(vec![1]));
        let error = recorder.record_now(StateFile::Users, &[], |_| Err(io::Error::other("full")));
        assert_eq!(error.expect_err("told").to_string(), "full");
    }
}
