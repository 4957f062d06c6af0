//! The way to every file, name by name and through every symbolic link, with a watch on each
//! directory before a name is looked up in it. So what is found may be outdated at once, but then
//! an event says so: no change falls between.
//!
//! A watch on a file would stay with the old inode when the file is replaced, so it is the
//! directories that tell nearly everything. But a directory is told only of what happens by the
//! names in it. A file that has another name as well, by a hard link or since it is mounted here
//! alone, may be written by that one, and then only a watch of its own tells.

use crate::error::WatchError;
use crate::load_start::{LoadStart, change_time};
use glob::{MatchOptions, Pattern};
use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, Inotify, WatchDescriptor};
use policy::{Input, InputKind};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// As many symbolic links as the kernel follows (MAXSYMLINKS).
const MOST_LINKS: usize = 40;

/// What is told of a directory and of names in it. Not IN_MODIFY: a file is read when its writer
/// closes it. IN_CREATE is for links and directories, which nobody closes.
fn events() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        // Another thing of this name is not what was looked up.
        | AddWatchFlags::IN_ONLYDIR
        | AddWatchFlags::IN_DONT_FOLLOW
}

/// What is told of a file, by whichever name it is written.
fn events_of_file() -> AddWatchFlags {
    AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_DONT_FOLLOW
}

/// What matters in one directory.
#[derive(Debug)]
pub(crate) struct Directory {
    /// Without symbolic links.
    pub(crate) path: PathBuf,
    /// When it was last changed.
    changed: SystemTime,
    /// Names that are gone through or looked for, and when each was last changed.
    names: HashMap<OsString, SystemTime>,
    /// Patterns that names may match.
    patterns: Vec<Pattern>,
}

impl Directory {
    /// Whether a name in it matters.
    pub(crate) fn matters(&self, name: &OsStr) -> bool {
        self.names.contains_key(name) || self.patterns.iter().any(|pattern| includes(pattern, name))
    }

    /// Whether something in it matters that didn't in `old`.
    fn exceeds(&self, old: &Self) -> bool {
        self.names.keys().any(|name| !old.names.contains_key(name))
            || self.patterns.iter().any(|pattern| !old.patterns.contains(pattern))
    }
}

/// As an include understands its pattern: hidden files are what editors leave behind.
fn includes(pattern: &Pattern, name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        !name.starts_with('.') && pattern.matches_with(name, MatchOptions::new())
    })
}

/// The directories that are watched and what matters in each.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) directories: HashMap<WatchDescriptor, Directory>,
    /// The files themselves.
    pub(crate) files: HashSet<WatchDescriptor>,
    /// Directories that can't be watched, and why.
    pub(crate) unwatched: BTreeMap<PathBuf, Errno>,
}

impl Tree {
    /// Walks to all inputs. A watch that exists stays as it is.
    pub(crate) fn walk<'a>(
        inotify: &Inotify,
        inputs: impl IntoIterator<Item = &'a Input>,
    ) -> Result<Self, WatchError> {
        let mut walk =
            Walk { inotify, entered: HashMap::new(), ends: HashMap::new(), tree: Self::default() };
        for input in inputs {
            walk.input(input)?;
        }
        Ok(walk.tree)
    }

    /// Whether a name in a directory matters.
    pub(crate) fn matters(&self, watch: WatchDescriptor, name: &OsStr) -> bool {
        self.directories.get(&watch).is_some_and(|directory| directory.matters(name))
    }

    /// All watches.
    pub(crate) fn watches(&self) -> impl Iterator<Item = WatchDescriptor> {
        self.directories.keys().chain(&self.files).copied()
    }

    /// Whether there is such a watch.
    pub(crate) fn contains(&self, watch: WatchDescriptor) -> bool {
        self.directories.contains_key(&watch) || self.files.contains(&watch)
    }

    /// Whether something that `old` didn't watch may have changed since the load began.
    pub(crate) fn may_have_missed(&self, old: &Self, start: LoadStart) -> bool {
        let is_new = |(watch, directory): &(&WatchDescriptor, &Directory)| {
            old.directories.get(watch).is_none_or(|old| directory.exceeds(old))
        };
        let mut new = self.directories.iter().filter(is_new).peekable();
        new.peek().is_some() && start.clock_was_set()
            || new.any(|(_, directory)| {
                start.may_precede(directory.changed)
                    || directory.names.values().any(|changed| start.may_precede(*changed))
            })
    }
}

struct Walk<'a> {
    inotify: &'a Inotify,
    /// Directories that were come to, with their watches.
    entered: HashMap<PathBuf, Option<WatchDescriptor>>,
    /// Paths that were gone along, and where they lead.
    ends: HashMap<PathBuf, Option<PathBuf>>,
    tree: Tree,
}

impl Walk<'_> {
    fn input(&mut self, input: &Input) -> Result<(), WatchError> {
        let end = self.path(&input.path)?;
        let (InputKind::Directory { entries }, Some(path)) = (&input.kind, end) else {
            return Ok(());
        };
        let Some(directory) = self.enter(&path)? else { return Ok(()) };
        match Pattern::new(entries) {
            Ok(pattern) if entries.contains(['*', '?', '[']) => {
                if !directory.patterns.contains(&pattern) {
                    directory.patterns.push(pattern);
                }
            }
            _ => {
                directory.names.entry(entries.into()).or_insert(UNIX_EPOCH);
            }
        }
        Ok(())
    }

    /// Goes along a path as far as it leads. Where to, if to a directory.
    fn path(&mut self, path: &Path) -> Result<Option<PathBuf>, WatchError> {
        if let Some(end) = self.ends.get(path) {
            return Ok(end.clone());
        }
        let end = match (path.parent(), path.file_name()) {
            // Most paths have their directory in common with others.
            (Some(parent), Some(name)) => match self.path(parent)? {
                Some(directory) => self.go(directory, Path::new(name))?,
                None => None,
            },
            _ => self.go(std::env::current_dir()?, path)?,
        };
        self.ends.insert(path.into(), end.clone());
        Ok(end)
    }

    /// Goes along a path from a directory, which is a path without links.
    fn go(&mut self, mut at: PathBuf, path: &Path) -> Result<Option<PathBuf>, WatchError> {
        // The next name is the last one.
        let mut rest = Vec::new();
        push(&mut rest, path);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match Path::new(&name).components().next() {
                Some(Component::RootDir) => at = "/".into(),
                // `at` is free of links, so that this is the parent.
                Some(Component::ParentDir) => drop(at.pop()),
                Some(Component::Normal(_)) => {
                    // Before the name is looked up.
                    self.enter(&at)?;
                    let next = at.join(&name);
                    let found = self.look_up(&next)?;
                    if let Some(directory) = self.enter(&at)? {
                        let changed = found.as_ref().map_or(UNIX_EPOCH, change_time);
                        directory.names.insert(name, changed);
                    }
                    match found {
                        Some(found) if found.is_dir() => at = next,
                        Some(found) if found.is_symlink() && links < MOST_LINKS => {
                            links += 1;
                            let Ok(target) = fs::read_link(&next) else { return Ok(None) };
                            push(&mut rest, &target);
                        }
                        _ => return Ok(None),
                    }
                }
                _ => {}
            }
        }
        Ok(Some(at))
    }

    /// What is there, with a watch on it if it is a file. None if nothing is.
    fn look_up(&mut self, path: &Path) -> Result<Option<Metadata>, WatchError> {
        let Ok(found) = fs::symlink_metadata(path) else { return Ok(None) };
        if !found.is_file() {
            return Ok(Some(found));
        }
        match self.inotify.add_watch(path, events_of_file()) {
            Ok(watch) => drop(self.tree.files.insert(watch)),
            Err(errno @ (Errno::ENOSPC | Errno::ENOMEM)) => {
                return Err(WatchError::of_watch(path, errno));
            }
            // It is gone, or this process may not read it.
            Err(_) => {}
        }
        // Again: it may have been changed before it was watched.
        Ok(fs::symlink_metadata(path).ok())
    }

    /// Watches a directory. None if that can't be, or it is gone.
    fn enter(&mut self, path: &Path) -> Result<Option<&mut Directory>, WatchError> {
        let watch = match self.entered.get(path) {
            Some(watch) => *watch,
            None => {
                let watch = self.watch(path)?;
                self.entered.insert(path.into(), watch);
                watch
            }
        };
        Ok(watch.and_then(|watch| self.tree.directories.get_mut(&watch)))
    }

    fn watch(&mut self, path: &Path) -> Result<Option<WatchDescriptor>, WatchError> {
        let watch = match self.inotify.add_watch(path, events()) {
            Ok(watch) => watch,
            // Its parent's watch tells when it is there again.
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno @ (Errno::ENOSPC | Errno::ENOMEM)) => {
                return Err(WatchError::of_watch(path, errno));
            }
            Err(errno) => {
                self.tree.unwatched.insert(path.into(), errno);
                return Ok(None);
            }
        };
        let changed = fs::metadata(path).map_or(UNIX_EPOCH, |found| change_time(&found));
        // Two paths lead to the same directory if it is mounted twice.
        self.tree.directories.entry(watch).or_insert_with(|| Directory {
            path: path.into(),
            changed,
            names: HashMap::new(),
            patterns: Vec::new(),
        });
        Ok(Some(watch))
    }
}

/// Puts the names of a path before those that are still to be gone along.
fn push(rest: &mut Vec<OsString>, path: &Path) {
    rest.extend(path.components().rev().map(|component| component.as_os_str().to_owned()));
}
