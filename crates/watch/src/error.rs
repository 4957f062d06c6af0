//! Why files can't be watched.

use nix::errno::Errno;
use std::io;
use std::path::{Path, PathBuf};

/// Why files can't be watched. The watcher is of no more use then.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// EMFILE of inotify_init1(2).
    #[error(
        "this user has no inotify instance left to watch files with: raise \
         fs.inotify.max_user_instances, or the limit of open files"
    )]
    Instances,
    /// ENOSPC of inotify_add_watch(2).
    #[error("no inotify watch is left for {}: raise fs.inotify.max_user_watches", .0.display())]
    Watches(PathBuf),
    /// Anything else.
    #[error("can't watch files")]
    System(#[from] io::Error),
}

impl WatchError {
    pub(crate) fn of_instance(errno: Errno) -> Self {
        match errno {
            Errno::EMFILE => Self::Instances,
            errno => Self::System(errno.into()),
        }
    }

    pub(crate) fn of_watch(directory: &Path, errno: Errno) -> Self {
        match errno {
            Errno::ENOSPC => Self::Watches(directory.into()),
            errno => Self::System(errno.into()),
        }
    }
}
