//! What happened since the daemon began, as numbers that only grow.
//!
//! They go where the engine goes, which is what they count; the event loop keeps a copy of how they
//! were after the last step.

use super::text::{Kind, Number, Text};
use crate::kernel::KernelError;
use crate::step::{Step, StepError};
use std::collections::BTreeMap;
use std::time::Duration;

/// Upper bounds of the buckets of commits, in seconds: from one member to a million.
pub(crate) const BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Counters. Those whose labels are known begin with 0, so that a first increase is one.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    /// Batches that the kernel acknowledged, by the reason for them.
    pub(crate) commits: BTreeMap<&'static str, u64>,
    pub(crate) durations: Durations,
    /// Reloads that were asked for, by what became of them.
    pub(crate) reloads: BTreeMap<&'static str, u64>,
    /// Steps of all kinds that changed nothing, by why.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// What the kernel failed.
    pub(crate) kernel_errors: BTreeMap<&'static str, u64>,
    /// What others changed in the table, by what became of it.
    pub(crate) foreign: BTreeMap<&'static str, u64>,
}

/// What became of a change by another process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    PutBack,
    Reported,
    /// The table was as it should be when it was looked at.
    Harmless,
}

/// How long commits took.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations {
    /// Commits in each bucket, not in those before; the last is for those beyond all bounds.
    pub(crate) buckets: [u64; BOUNDS.len() + 1],
    pub(crate) sum: Duration,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = |names: &[&'static str]| names.iter().map(|name| (*name, 0)).collect();
        Self {
            commits: zero(&["start", "reload", "files changed", "members changed", "repair"]),
            durations: Durations::default(),
            reloads: zero(&[DONE, "bad-policy", "lockout", "pending", "kernel"]),
            failures: zero(&["bad-policy", "lockout", "pending", "kernel"]),
            kernel_errors: zero(&["refused", "contended", "foreign", "owned", "read"]),
            foreign: zero(&["put-back", "reported", "harmless"]),
        }
    }
}

/// A reload after which the policy of the files holds.
const DONE: &str = "done";

impl Counters {
    /// A batch was acknowledged.
    pub(crate) fn committed(&mut self, reason: &'static str, duration: Duration) {
        count(&mut self.commits, reason);
        self.durations.count(duration);
    }

    /// A step ended.
    pub(crate) fn stepped(&mut self, work: Asked, step: &Result<Step, StepError>) {
        let result = step.as_ref().map_or_else(reason, |_| DONE);
        if work == Asked::Reload {
            count(&mut self.reloads, result);
        }
        let Err(error) = step else { return };
        count(&mut self.failures, result);
        if let StepError::Kernel(error) = error {
            count(&mut self.kernel_errors, kind(error));
        }
    }

    /// Another process changed the table.
    pub(crate) fn foreign(&mut self, outcome: Foreign) {
        let name = match outcome {
            Foreign::PutBack => "put-back",
            Foreign::Reported => "reported",
            Foreign::Harmless => "harmless",
        };
        count(&mut self.foreign, name);
    }

    pub(super) fn write(&self, text: &mut Text) {
        for (name, help, label, counts) in [
            (
                "tierwall_commits_total",
                "Batches that the kernel acknowledged, by why they were sent.",
                "reason",
                &self.commits,
            ),
            (
                "tierwall_reloads_total",
                "Reloads that were asked for, by what became of them.",
                "result",
                &self.reloads,
            ),
            (
                "tierwall_failed_steps_total",
                "Changes of any kind that were tried and changed nothing, by why.",
                "reason",
                &self.failures,
            ),
            (
                "tierwall_kernel_errors_total",
                "Steps that the kernel failed, by how.",
                "kind",
                &self.kernel_errors,
            ),
            (
                "tierwall_foreign_changes_total",
                "Changes of the table by other processes, by what became of them.",
                "outcome",
                &self.foreign,
            ),
        ] {
            let mut family = text.counter(name, help);
            for (value, number) in counts {
                family.with(&[(label, value)], *number);
            }
        }
        let mut durations = text.family(
            "tierwall_commit_duration_seconds",
            Kind::Histogram,
            "From handing a batch to the kernel to its acknowledgement.",
        );
        let mut so_far = 0;
        let bounds = BOUNDS.iter().copied().chain([f64::INFINITY]);
        for (bound, commits) in bounds.zip(self.durations.buckets) {
            so_far += commits;
            let bound = Number::Real(bound).to_string();
            durations.suffixed("_bucket", &[("le", &bound)], so_far);
        }
        durations.suffixed("_sum", &[], self.durations.sum.as_secs_f64());
        durations.suffixed("_count", &[], so_far);
    }
}

/// What a step was asked for as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Reload,
    Else,
}

impl Durations {
    fn count(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.buckets[BOUNDS.partition_point(|bound| *bound < seconds)] += 1;
        self.sum += duration;
    }
}

fn count(counts: &mut BTreeMap<&'static str, u64>, name: &'static str) {
    *counts.entry(name).or_default() += 1;
}

fn reason(error: &StepError) -> &'static str {
    match error {
        StepError::BadPolicy(_) => "bad-policy",
        StepError::Kernel(_) => "kernel",
        StepError::Member(_) => "member",
        StepError::Lockout(_) => "lockout",
        StepError::Pending(_) => "pending",
        StepError::NotRecorded(_) | StepError::NotConfirmed(_) => "not-recorded",
        StepError::Unproven(_) => "unproven",
        StepError::NothingPending => "nothing-pending",
        StepError::NoGeneration(_) => "no-generation",
    }
}

fn kind(error: &KernelError) -> &'static str {
    match error {
        KernelError::Foreign => "foreign",
        KernelError::NotSaved(_) => "not-saved",
        KernelError::NotPermitted => "not-permitted",
        KernelError::Owned(_) => "owned",
        KernelError::Contended => "contended",
        KernelError::Refused(_) => "refused",
        KernelError::Read(_) => "read",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let mut durations = Durations::default();
        for micros in [0, 500, 501, 5_000_000, 5_000_001, 60_000_000] {
            durations.count(Duration::from_micros(micros));
        }
        assert_eq!(durations.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(durations.sum, Duration::from_micros(70_001_002));
    }

    #[test]
    fn a_failed_reload_counts_as_such_and_by_its_kind() {
        let mut counters = Counters::default();
        let refused = || Err(KernelError::Refused("no".into()).into());
        counters.stepped(Asked::Reload, &refused());
        counters.stepped(Asked::Else, &refused());
        counters.stepped(Asked::Reload, &Ok(Step::default()));
        counters.stepped(Asked::Else, &Ok(Step::default()));
        assert_eq!((counters.reloads["kernel"], counters.reloads[DONE]), (1, 1));
        assert_eq!((counters.failures["kernel"], counters.kernel_errors["refused"]), (2, 2));
    }
}
