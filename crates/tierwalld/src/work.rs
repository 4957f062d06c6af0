//! Work for the engine, and the queue of it.
//!
//! Work that would do the same twice is done once: fifty clients who ask for a reload while one
//! is under way get the result of the next one.

use crate::drift::Foreign;
use crate::engine::{Engine, Step, StepError};
use crate::event::Reply;
use crate::kernel::{KernelError, in_full};
use crate::members::CommandMember;
use control::{ChangeLine, Done, Failure, FailureKind, Response};
use policy::Sign;
use std::collections::VecDeque;

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    Reload {
        force: bool,
    },
    FilesChanged,
    AddMember(CommandMember),
    RemoveMember {
        tier: String,
        member: String,
        force: bool,
    },
    Teardown,
    Promoted {
        tier: String,
        member: String,
    },
    /// Another process changed the table.
    Repair(Foreign),
    /// Addresses changed, or something is due.
    LookAgain,
    /// The kernel failed what nobody waits for.
    Retry,
    Remember,
}

/// Work that waits, each with those who want to know how it went.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<(Work, Vec<Reply>)>,
}

impl Queue {
    /// Adds work, or a listener to the same work that waits already.
    pub(crate) fn push(&mut self, work: Work, reply: Option<Reply>) {
        if let Work::Repair(foreign) = &work {
            let repairs = self.waiting.iter_mut().find_map(|(waiting, _)| match waiting {
                Work::Repair(earlier) => Some(earlier),
                _ => None,
            });
            if let Some(earlier) = repairs {
                *earlier = earlier.clone().and(foreign.clone());
                return;
            }
        }
        let same = self.waiting.iter_mut().find(|(waiting, _)| {
            *waiting == work
                && matches!(
                    work,
                    Work::Reload { .. }
                        | Work::FilesChanged
                        | Work::LookAgain
                        | Work::Retry
                        | Work::Remember
                )
        });
        match same {
            Some((_, replies)) => replies.extend(reply),
            None => self.waiting.push_back((work, reply.into_iter().collect())),
        }
    }

    /// The next piece.
    pub(crate) fn pop(&mut self) -> Option<(Work, Vec<Reply>)> {
        self.waiting.pop_front()
    }
}

impl Work {
    /// Does it. Blocks.
    pub(crate) fn perform(self, engine: &mut Engine) -> Response {
        let step = match self {
            Self::Reload { force } => engine.reload(force),
            Self::FilesChanged => engine.files_changed(),
            Self::AddMember(member) => engine.add_member(member),
            Self::RemoveMember { tier, member, force } => {
                engine.remove_member(&tier, &member, force)
            }
            Self::Promoted { tier, member } => engine.promoted(&tier, &member),
            Self::Teardown => {
                return engine.teardown().map_or_else(not_torn_down, Response::TornDown);
            }
            Self::Repair(foreign) => engine.repair(&foreign),
            Self::LookAgain => engine.look_again(),
            Self::Retry => engine.retry(),
            Self::Remember => {
                engine.remember();
                Ok(Step::default())
            }
        };
        engine.note(&step);
        match step {
            Err(error) => failed(error),
            Ok(Step { commit, change }) => {
                let lines = change.lines(&engine.applied, &engine.server.role);
                let lines = lines
                    .into_iter()
                    .map(|line| ChangeLine { more: line.sign == Sign::More, text: line.text });
                let warnings = engine.warnings.clone();
                Response::Done(Box::new(Done { commit, changes: lines.collect(), warnings }))
            }
        }
    }
}

/// At a start `--takeover` would help against a foreign table; not here.
fn not_torn_down(error: StepError) -> Response {
    match error {
        StepError::Kernel(KernelError::Foreign) => Response::Failed(Failure {
            kind: FailureKind::ForeignTable,
            message: "the table was replaced by one that tierwall did not make; it stays".into(),
        }),
        error => failed(error),
    }
}

fn failed(error: StepError) -> Response {
    let kind = match &error {
        StepError::BadPolicy(_) => FailureKind::BadPolicy,
        StepError::Lockout(_) => FailureKind::Lockout,
        StepError::Kernel(KernelError::Foreign) => FailureKind::ForeignTable,
        StepError::Kernel(_) | StepError::Member(_) => FailureKind::Failed,
    };
    Response::Failed(Failure { kind, message: in_full(&error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_done_twice_is_done_once() {
        let mut queue = Queue::default();
        let foreign = |pid: u32| {
            let (process, what) = ("nft".to_owned(), format!("change {pid}"));
            Work::Repair(Foreign { process, pid, what, more: 0 })
        };
        queue.push(Work::Repair(Foreign::unseen("unknown")), None);
        for pid in 7..10 {
            queue.push(foreign(pid), None);
            queue.push(Work::FilesChanged, None);
        }
        queue.push(Work::Repair(Foreign::unseen("unknown")), None);
        let Some((Work::Repair(all), _)) = queue.pop() else { panic!("no repair") };
        assert_eq!((all.pid, all.to_string()), (7, "change 7; and 2 more transactions".into()));
        assert_eq!(queue.pop().map(|(work, _)| work), Some(Work::FilesChanged));
        assert!(queue.pop().is_none());
        // Nothing waits any more that it could be one with.
        queue.push(foreign(4), None);
        assert_eq!(queue.pop().map(|(work, _)| work), Some(foreign(4)));
    }
}
