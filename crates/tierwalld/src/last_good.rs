//! The last good policy, kept for a start that finds bad files, or files that mustn't be applied.

use crate::errors::in_full;
use crate::journal::kind;
use crate::policy_file::{self, Kept};
use crate::state::StateDirectory;
use policy::Policy;
use std::io;

/// The file in the state directory.
const FILE: &str = "last-good";

/// Keeps `policy`, which was enforced at `time`, in seconds since the epoch.
pub(crate) fn save(state: &StateDirectory, policy: &Policy, time: u64) -> io::Result<()> {
    policy_file::save(state, FILE, policy, time)
}

/// Whether one is kept, of whatever use.
pub(crate) fn exists(state: &StateDirectory) -> bool {
    state.size(FILE).is_some()
}

/// The policy kept last. None where there is none, or what is there isn't what was written.
pub(crate) fn load(state: &StateDirectory) -> Option<Kept> {
    policy_file::load(state, FILE)
        .inspect_err(|error| {
            let error = in_full(error);
            tracing::warn!(target: kind::STATE_DAMAGED,
                error,
                "the last good policy in the state directory can't be used; going on without"
            );
        })
        .ok()
        .flatten()
}
