//! Tells when the files that a policy depends on have changed: the policy file, what it includes,
//! its list files, and the directories that an include with wildcards looks in.
//!
//! A path is what all the names along it make it: `/etc/tierwall/web.list` changes when the file
//! is written, and just so when `/etc/tierwall` is a symbolic link and now points elsewhere. So
//! every directory that is gone through on the way to a file is watched, and in each only the
//! names that are gone through (`walk`). What happens to such a name is either a change at once
//! or the beginning of one (`settling`): a file that was just created waits for its writer.
//!
//! The caller loads, watches, and whenever [`Watcher::changed`] resolves loads again:
//!
//! ```no_run
//! # async fn example(path: &std::path::Path, options: &policy::Options)
//! # -> Result<(), tierwall_watch::WatchError> {
//! let start = tierwall_watch::LoadStart::now();
//! let mut loaded = policy::load(path, options);
//! let mut watcher = tierwall_watch::Watcher::new(&loaded.inputs, start)?;
//! loop {
//!     watcher.changed().await?;
//!     let start = tierwall_watch::LoadStart::now();
//!     loaded = policy::load(path, options);
//!     watcher.update(&loaded.inputs, start)?;
//! }
//! # }
//! ```
//!
//! What a load depends on is known only after it, when it may have changed already. So what is
//! watched for the first time counts as changed if it may have been since the load began: then
//! [`Watcher::changed`] resolves once more, and the last edit is never missed.
//!
//! inotify doesn't tell of a file system mounted over a directory, of what other hosts write to a
//! network file system, nor of writes through a memory map: a further load finds it, and what that
//! load depends on is watched from then on. A file that stays open for writing is told of when it is
//! closed.

mod error;
mod load_start;
mod settling;
mod walk;
mod watcher;

pub use error::WatchError;
pub use load_start::LoadStart;
pub use watcher::Watcher;
