//! What the kernel failed and nobody may miss: why it doesn't hold what was wanted.
//!
//! Whoever asked for a step hears of its failure; of those nobody asked for, the log and `status`
//! tell. It is over as soon as the kernel holds what is wanted: for an edit that it refused, that
//! is an edit which it takes.

use crate::errors::in_full;
use crate::journal::kind;
use crate::step::{Step, StepError};

/// The last failure of the kernel, as long as it matters.
#[derive(Debug, Default)]
pub(crate) struct Trouble {
    problem: Option<String>,
    /// Whether it is an edit that failed, so that it isn't over with the policy before it.
    pub(crate) is_of_edit: bool,
    /// What was told last: what fails at every try is told once.
    told: Option<String>,
}

impl Trouble {
    /// What it is.
    pub(crate) fn problem(&self) -> Option<&String> {
        self.problem.as_ref()
    }

    /// Whether there is any.
    pub(crate) fn is_some(&self) -> bool {
        self.problem.is_some()
    }

    /// The kernel holds the policy that is enforced.
    pub(crate) fn settled(&mut self) {
        if !self.is_of_edit {
            self.problem = None;
        }
    }

    /// The kernel holds what is wanted, edits and all.
    pub(crate) fn is_over(&mut self) {
        (self.problem, self.is_of_edit) = (None, false);
    }

    /// Takes note of how a step ended, and tells it.
    pub(crate) fn note(&mut self, step: &Result<Step, StepError>) {
        if let Err(StepError::Kernel(error)) = step {
            let problem = in_full(error);
            if self.told.as_ref() != Some(&problem) {
                tracing::error!(
                    target: kind::KERNEL_FAILED,
                    "the kernel doesn't hold what was wanted; it is tried again: {problem}"
                );
            }
            self.told = Some(problem.clone());
            self.problem = Some(problem);
        } else if self.problem.is_none() {
            self.told = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelError;

    fn refused() -> Result<Step, StepError> {
        Err(KernelError::Refused("no".into()).into())
    }

    #[test]
    fn a_refused_edit_stays_until_another_one_holds() {
        let mut trouble = Trouble { is_of_edit: true, ..Trouble::default() };
        trouble.note(&refused());
        // A member by command, say.
        trouble.settled();
        trouble.note(&Ok(Step::default()));
        assert_eq!(trouble.problem().map(String::as_str), Some("no"));
        trouble.is_over();
        assert!(!trouble.is_some());
    }

    #[test]
    fn what_failed_beside_edits_is_over_when_the_kernel_holds_the_policy() {
        let mut trouble = Trouble::default();
        trouble.note(&refused());
        trouble.note(&Ok(Step::default()));
        assert!(trouble.is_some(), "a step that asks nothing of the kernel");
        assert!(trouble.told.is_some());
        trouble.settled();
        trouble.note(&Ok(Step::default()));
        assert!(!trouble.is_some());
        assert!(trouble.told.is_none());
    }
}
