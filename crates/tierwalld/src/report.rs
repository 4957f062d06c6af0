//! What is told of a commit: one structured line in the log, and a summary for `status`.

use crate::clock::now;
use crate::journal::kind;
use crate::kernel::{Commit, Settled};
use control::{CommitSummary, SetChange};
use ruleset::ElementCount;

/// Tells what was committed.
pub(crate) fn committed(reason: &str, generation: u64, settled: &Settled) -> Option<CommitSummary> {
    if let Some(copy) = &settled.saved {
        let path = copy.display();
        tracing::warn!(target: kind::TABLE_REPLACED, %path, "replaced a table that tierwall did not make; this is its copy");
    }
    let kernel_generation = settled.generation;
    let Some(done) = &settled.commit else {
        let what = "the kernel holds this already; nothing was sent";
        // Said where somebody waits to hear of it.
        match reason {
            "start" | "reload" => {
                tracing::info!(target: kind::UNCHANGED, generation, kernel_generation, reason, "{what}")
            }
            _ => {
                tracing::debug!(target: kind::UNCHANGED, generation, kernel_generation, reason, "{what}")
            }
        }
        return None;
    };
    Some(commit(reason, generation, kernel_generation, done))
}

/// One line for a batch of a policy generation, which made a generation of the kernel's, and its
/// summary.
pub(crate) fn commit(
    reason: &str,
    generation: u64,
    kernel_generation: u32,
    commit: &Commit,
) -> CommitSummary {
    let Commit { summary, bytes, duration } = commit;
    let duration_us = duration.as_micros() as u64;
    tracing::info!(target: kind::COMMITTED,
        generation,
        kernel_generation,
        reason,
        sets = summary.to_string(),
        rules_added = summary.rules_added,
        rules_deleted = summary.rules_deleted,
        bytes,
        duration_us,
        "committed"
    );
    let change = |count: &ElementCount| SetChange { added: count.added, deleted: count.deleted };
    CommitSummary {
        time: now(),
        reason: reason.to_owned(),
        generation,
        kernel_generation,
        sets: summary.sets.iter().map(|(set, count)| (set.clone(), change(count))).collect(),
        rules_added: summary.rules_added,
        rules_deleted: summary.rules_deleted,
        bytes: *bytes,
        duration_us,
    }
}
