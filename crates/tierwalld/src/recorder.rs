//! Records in the state directory that nobody waits for.
//!
//! The disk of a busy server can take seconds over one small file: to sync it, and also to rename
//! it to a place whose old file is still being written back. An edit must not wait for that. So
//! one thread writes, and of several records that are due under one name only the newest.
//!
//! What a crash may lose here costs the next start a look at the kernel, or the last good policy
//! but one. What was promised to somebody isn't recorded this way.

use crate::state::StateDirectory;
use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

/// Writes one record.
type Job = Box<dyn FnOnce(&StateDirectory) -> io::Result<()> + Send>;

/// The way to the thread that writes. When it is dropped, all has been written.
pub(crate) struct Recorder {
    /// None only while it is dropped: its end is what ends the thread.
    jobs: Option<Sender<(&'static str, Job)>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the thread.
    pub(crate) fn start(state: StateDirectory) -> io::Result<Self> {
        let (jobs, inbox) = channel();
        let thread = thread::Builder::new().name("recorder".into());
        let thread = thread.spawn(move || write_all(&inbox, &state))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has a record written soon, in place of one of that name that isn't yet.
    pub(crate) fn record(
        &self,
        name: &'static str,
        job: impl FnOnce(&StateDirectory) -> io::Result<()> + Send + 'static,
    ) {
        if let Some(jobs) = &self.jobs {
            // The thread ends only after this end of the channel.
            let _ = jobs.send((name, Box::new(job)));
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(inbox: &Receiver<(&'static str, Job)>, state: &StateDirectory) {
    while let Ok(first) = inbox.recv() {
        let due: BTreeMap<&'static str, Job> =
            std::iter::once(first).chain(inbox.try_iter()).collect();
        for (name, job) in due {
            if let Err(error) = job(state) {
                tracing::warn!(%error, "can't keep the {name} in the state directory");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_newest_of_each_before_it_is_gone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let recorder = Recorder::start(state.clone()).expect("started");
        let (hold, held) = channel::<()>();
        recorder.record("obstacle", move |_| {
            let _ = held.recv();
            Ok(())
        });
        for number in 0..100u8 {
            recorder.record("number", move |state| state.write("number", &[number]));
            recorder.record("other", move |state| state.write("other", &[7]));
        }
        drop(hold);
        drop(recorder);
        assert_eq!(state.read("number"), Some(vec![99]));
        assert_eq!(state.read("other"), Some(vec![7]));
    }
}
