//! What a process is called, who logged in to start it, and where from.
//!
//! The daemon has the user and the number of who asks from the kernel. What is said here it looks
//! up, or where the sandbox of its service hides processes, takes from the request: for the history
//! and the journal, never for rights.

use crate::origin::Origin;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// `/proc/PID/loginuid` of who didn't log in.
const NOBODY: u32 = u32::MAX;

/// A process that asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    /// Its name (`/proc/PID/comm`), which it chooses.
    pub process: String,
    /// The user who logged in (`/proc/PID/loginuid`), whoever they became since.
    pub login: Option<u32>,
    /// Where it was started from: only ever by its own word.
    pub origin: Origin,
}

impl Caller {
    /// This process.
    pub fn own() -> Option<Self> {
        Some(Self { origin: Origin::own(), ..Self::read(Path::new("/proc/self"))? })
    }

    /// The process whose directory in `/proc` that is, but for its origin; none where it can't be
    /// looked into.
    pub fn read(directory: &Path) -> Option<Self> {
        let process = fs::read(directory.join("comm")).ok()?;
        let login = fs::read_to_string(directory.join("loginuid")).ok();
        let login = login.and_then(|uid| uid.trim().parse().ok()).filter(|uid| *uid != NOBODY);
        let process = String::from_utf8_lossy(&process).trim_end().to_owned();
        Some(Self { process, login, origin: Origin::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_reads_its_own_name_and_no_other_that_is_gone() {
        let own = Caller::read(Path::new("/proc/thread-self"));
        let is_good = |caller: &Caller| {
            let Caller { process, login, origin: _ } = caller;
            !process.is_empty() && !process.ends_with('\n') && *login != Some(NOBODY)
        };
        assert!(own.as_ref().is_some_and(is_good), "{own:?}");
        assert_eq!(Caller::read(Path::new("/proc/4294967295")), None);
    }
}
