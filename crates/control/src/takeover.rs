//! Leave for the next start of the daemon to replace a table that tierwall did not make.
//!
//! It is a file in the runtime directory, which root alone writes and no boot keeps. The daemon
//! removes it once it has started.

use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How long leave lasts, in seconds.
pub const LEAVE_LASTS: u64 = 600;

fn path(runtime: &Path) -> PathBuf {
    runtime.join("takeover")
}

/// Leave that was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// When it was given, in seconds since the epoch.
    pub given: u64,
    /// Whether also where that locks out a session that is guarded.
    pub force: bool,
}

/// Gives leave. The directory is made if it is missing.
///
/// # Errors
/// When the file can't be written.
pub fn give_leave(runtime: &Path, leave: Leave) -> io::Result<()> {
    fs::create_dir_all(runtime)?;
    // Nothing is written through a link or into somebody else's file.
    withdraw_leave(runtime)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path(runtime))?;
    Ok(serde_json::to_writer(&mut file, &leave)?)
}

/// The leave that `user` gave, if it lasts at `now`, in seconds since the epoch.
pub fn leave(runtime: &Path, user: u32, now: u64) -> Option<Leave> {
    let path = path(runtime);
    let is_theirs = fs::symlink_metadata(&path).is_ok_and(|it| it.is_file() && it.uid() == user);
    let leave: Leave = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    let lasts = now.checked_sub(leave.given).is_some_and(|age| age < LEAVE_LASTS);
    (is_theirs && lasts).then_some(leave)
}

/// Takes leave back, if it was given.
///
/// # Errors
/// When the file is there and can't be removed.
pub fn withdraw_leave(runtime: &Path) -> io::Result<()> {
    match fs::remove_file(path(runtime)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leave_ends_and_is_its_givers_alone() {
        let directory = tempfile::tempdir().expect("a file");
        let runtime = directory.path().join("run");
        let at = |given: u64| Leave { given, force: false };
        withdraw_leave(&runtime).expect("a file");
        assert_eq!(leave(&runtime, 0, 1_000), None);
        give_leave(&runtime, at(1_000)).expect("a file");
        give_leave(&runtime, at(1_001)).expect("a file");
        let user = fs::metadata(&runtime).expect("a file").uid();
        assert_eq!(leave(&runtime, user, 1_001), Some(at(1_001)));
        assert_eq!(leave(&runtime, user, 1_600), Some(at(1_001)));
        assert_eq!(leave(&runtime, user + 1, 1_001), None);
        // Late, and given after now: the clock was set.
        assert_eq!(leave(&runtime, user, 1_601), None);
        assert_eq!(leave(&runtime, user, 1_000), None);
        withdraw_leave(&runtime).expect("a file");
        assert_eq!(leave(&runtime, user, 1_001), None);
        let elsewhere = directory.path().join("elsewhere");
        give_leave(&elsewhere, at(1_000)).expect("a file");
        std::os::unix::fs::symlink(path(&elsewhere), path(&runtime)).expect("a file");
        assert_eq!(leave(&runtime, user, 1_001), None);
    }
}
