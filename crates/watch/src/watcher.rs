//! The queue of events, and what each of them means.

use crate::error::WatchError;
use crate::load_start::{LoadStart, change_time};
use crate::settling::{Next, SETTLE, Settling, UNCLOSED};
use crate::walk::Tree;
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use policy::Input;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

/// How often the queue is read, 4 KiB each time, before other tasks have their turn: about as much
/// as fs.inotify.max_queued_events lets it hold.
const MOST_READS: usize = 128;

/// A name in a watched directory.
type Name = (WatchDescriptor, OsString);

/// The kernel's queue, as tokio wants to have it.
#[derive(Debug)]
struct Queue(Inotify);

impl AsRawFd for Queue {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Queue {
    /// tokio's new constructor is unsafe, since nothing keeps a type from closing its descriptor
    /// or answering with another one. This type owns its descriptor and does neither.
    #[allow(deprecated)]
    fn register(self) -> io::Result<AsyncFd<Self>> {
        AsyncFd::with_interest(self, Interest::READABLE)
    }

    fn read(&self) -> io::Result<Vec<InotifyEvent>> {
        self.0.read_events().map_err(io::Error::from)
    }
}

/// Watches what a policy depends on.
#[derive(Debug)]
pub struct Watcher {
    queue: AsyncFd<Queue>,
    inputs: BTreeSet<Input>,
    /// When the load began that they are of.
    start: Option<LoadStart>,
    tree: Tree,
    /// Whether a path may lead elsewhere than it did at the last walk.
    is_outdated: bool,
    settling: Settling<Name>,
}

impl Watcher {
    /// Watches what a load that began at `start` depends on. To be called in a tokio runtime with
    /// I/O and time enabled.
    ///
    /// # Errors
    ///
    /// Where inotify's limits are reached: then nothing is watched.
    pub fn new(inputs: &BTreeSet<Input>, start: LoadStart) -> Result<Self, WatchError> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(WatchError::of_instance)?;
        let mut watcher = Self {
            queue: Queue(inotify).register()?,
            inputs: BTreeSet::new(),
            start: None,
            tree: Tree::default(),
            is_outdated: false,
            settling: Settling::new(),
        };
        watcher.update(inputs, start)?;
        Ok(watcher)
    }

    /// Watches what the last load, which began at `start`, depends on, and nothing else.
    ///
    /// # Errors
    ///
    /// As [`Watcher::new`]; this watcher is of no more use then.
    pub fn update(&mut self, inputs: &BTreeSet<Input>, start: LoadStart) -> Result<(), WatchError> {
        // Another load may have found what was mounted meanwhile, of which nothing is told.
        if self.inputs != *inputs || self.start != Some(start) {
            self.inputs.clone_from(inputs);
            self.start = Some(start);
            let old = self.walk()?;
            if self.tree.may_have_missed(&old, start) {
                self.settling.change(Instant::now());
            }
        }
        Ok(())
    }

    /// Directories that can't be watched, and why: those that this process may not read. What they
    /// hold is noticed when something else changes.
    pub fn unwatched(&self) -> &BTreeMap<PathBuf, Errno> {
        &self.tree.unwatched
    }

    /// Waits for a change of what is watched.
    ///
    /// All that has happened by then is one change. A file is changed when it is renamed into its
    /// place, closed by its writer, or given other permissions; for a file that is taken away 0.1 s
    /// are given to put another one in its place. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// Where inotify's limits are reached; this watcher is of no more use then, and something has
    /// changed.
    pub async fn changed(&mut self) -> Result<(), WatchError> {
        loop {
            let is_empty = self.read_queue()?;
            let next = self.settling.next(Instant::now());
            if next == Next::Tell {
                return Ok(());
            }
            if !is_empty {
                tokio::task::yield_now().await;
                continue;
            }
            let readable = self.queue.readable();
            let mut ready = match next {
                Next::WaitUntil(time) => match timeout_at(time, readable).await {
                    Ok(ready) => ready?,
                    Err(_) => continue,
                },
                Next::Wait | Next::Tell => readable.await?,
            };
            // The next call of `readable` waits only after a read that found nothing.
            if let Ok(events) = ready.try_io(|queue| queue.get_ref().read()) {
                for event in events? {
                    self.judge(event);
                }
            }
        }
    }

    /// Reads what is in the queue and looks at what became of unsettled names. Whether the queue is
    /// empty. What was read is in `self` before anybody can drop the future.
    fn read_queue(&mut self) -> Result<bool, WatchError> {
        let mut is_empty = false;
        for _ in 0..MOST_READS {
            match self.queue.get_ref().read() {
                Ok(events) => events.into_iter().for_each(|event| self.judge(event)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_empty = true;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let now = Instant::now();
        for name in self.settling.expired(now) {
            self.judge_expired(name, now);
        }
        // Before the change is told: what the caller reads then is watched already.
        if self.is_outdated {
            self.walk()?;
        }
        Ok(is_empty)
    }

    /// Walks to all inputs again. Returns the previous tree.
    fn walk(&mut self) -> Result<Tree, WatchError> {
        let inotify = &self.queue.get_ref().0;
        let tree = Tree::walk(inotify, &self.inputs)?;
        let old = std::mem::replace(&mut self.tree, tree);
        for watch in old.watches().filter(|watch| !self.tree.contains(*watch)) {
            // The kernel has removed it if what it watched is gone.
            let _ = inotify.rm_watch(watch);
        }
        self.is_outdated = false;
        let tree = &self.tree;
        self.settling.retain(|(watch, name)| tree.matters(*watch, name));
        Ok(old)
    }

    fn judge(&mut self, event: InotifyEvent) {
        let now = Instant::now();
        let is = |flags| event.mask.intersects(flags);
        if is(AddWatchFlags::IN_Q_OVERFLOW) {
            self.is_outdated = true;
            return self.settling.change(now);
        }
        if self.tree.files.contains(&event.wd) && is(AddWatchFlags::IN_CLOSE_WRITE) {
            return self.settling.change(now);
        }
        // Of a watch that was removed there may still be events in the queue.
        let Some(directory) = self.tree.directories.get(&event.wd) else { return };
        let Some(name) = event.name else {
            // The parent's watch tells of it as well, unless the parent can't be watched.
            // IN_IGNORED also comes when the file system is unmounted.
            let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
            if is(gone | AddWatchFlags::IN_IGNORED) {
                self.is_outdated = true;
                self.settling.change(now);
            }
            return;
        };
        if !directory.matters(&name) {
            return;
        }
        let path = directory.path.join(&name);
        let name = (event.wd, name);
        if is(AddWatchFlags::IN_CLOSE_WRITE) {
            self.settling.settle(&name, now);
        } else if is(AddWatchFlags::IN_ATTRIB) {
            // Many tools set the permissions of a new file before they close it.
            if !self.settling.is_unsettled(&name) {
                self.settling.change(now);
            }
        } else {
            self.is_outdated = true;
            if is(AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE) {
                self.settling.unsettle(name, now + SETTLE);
            } else if is(AddWatchFlags::IN_CREATE) {
                self.judge_created(name, &path, now);
            } else {
                self.settling.settle(&name, now);
            }
        }
    }

    fn judge_created(&mut self, name: Name, path: &Path, now: Instant) {
        match path.symlink_metadata() {
            Ok(found) if is_linked_once(&found) => self.settling.unsettle(name, now + UNCLOSED),
            // A directory is about to be filled; what is gone again will be told.
            Ok(found) if found.is_dir() => self.settling.unsettle(name, now + SETTLE),
            Err(_) => self.settling.unsettle(name, now + SETTLE),
            // Symbolic and hard links are whole from the beginning.
            Ok(_) => self.settling.settle(&name, now),
        }
    }

    fn judge_expired(&mut self, name: Name, now: Instant) {
        let Some(directory) = self.tree.directories.get(&name.0) else { return };
        match directory.path.join(&name.1).symlink_metadata() {
            Ok(found) if is_linked_once(&found) && found.len() == 0 => {}
            Ok(found) if is_linked_once(&found) && is_growing(&found) => {
                self.settling.unsettle(name, now + UNCLOSED);
            }
            _ => self.settling.change(now),
        }
    }
}

/// Whether it is a file that open(2) may have created.
fn is_linked_once(found: &Metadata) -> bool {
    found.is_file() && found.nlink() == 1
}

/// Whether a file was changed of late. A change in the future says only that the clock was set.
fn is_growing(found: &Metadata) -> bool {
    SystemTime::now().duration_since(change_time(found)).is_ok_and(|age| age < UNCLOSED)
}
