//! What each list held when it was taken last, kept for a start that meets one that is being written
//! or looks emptied by accident.

use crate::errors::in_full;
use crate::journal::kind;
use crate::policy_file;
use crate::state::StateDirectory;
use policy::KnownLists;
use std::io;

/// The file in the state directory.
const FILE: &str = "lists";

/// Keeps them; `time` is now, in seconds since the epoch.
pub(crate) fn save(state: &StateDirectory, lists: &KnownLists, time: u64) -> io::Result<()> {
    policy_file::save_value(state, FILE, lists, time)
}

/// Those kept last. None where there are none, or what is there isn't what was written: then a start
/// takes every list as it is.
pub(crate) fn load(state: &StateDirectory) -> Option<KnownLists> {
    let kept = policy_file::load_value(state, FILE).inspect_err(|error| {
        let error = in_full(error);
        tracing::warn!(target: kind::STATE_DAMAGED,
            error,
            "what the lists held last can't be read in the state directory; going on without"
        );
    });
    kept.ok().flatten().map(|(_, lists)| lists)
}
