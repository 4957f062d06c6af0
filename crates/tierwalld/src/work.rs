//! Work for the engine, and the queue of it.
//!
//! Work that would do the same twice is done once: fifty clients who ask for a reload while one
//! is under way get the result of the next one.

use crate::engine::Engine;
use crate::errors::in_full;
use crate::foreign::Foreign;
use crate::guard;
use crate::kernel::KernelError;
use crate::members::CommandMember;
use crate::metrics;
use crate::pending::Pending;
use crate::reply::Reply;
use crate::step::{Asked, Step, StepError};
use control::{ChangeLine, Done, Failure, FailureKind, Response};
use policy::{ConfirmTime, Sign};
use std::collections::VecDeque;

/// The engine on its way back from the thread that worked.
pub(crate) struct Worked {
    pub(crate) engine: Box<Engine>,
    /// The answer to those who asked for it.
    pub(crate) response: Response,
    /// Who they are.
    pub(crate) replies: Vec<Reply>,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    Reload {
        force: bool,
        time: Option<ConfirmTime>,
        replace: bool,
    },
    Confirm {
        force: bool,
    },
    Rollback {
        generation: Option<u64>,
        force: bool,
        time: Option<ConfirmTime>,
    },
    /// The time of the change that waits may be over.
    GoBack,
    /// The change that waits made denied what was let through before.
    GoBackOnDenials {
        generation: u64,
        evidence: String,
    },
    /// What the lockout guard would say of a reload.
    Guard,
    History,
    Difference {
        from: u64,
        to: Option<u64>,
    },
    FilesChanged,
    AddMember(CommandMember),
    RemoveMember {
        tier: String,
        member: String,
        force: bool,
    },
    Teardown,
    Takeover {
        force: bool,
    },
    Promoted {
        tier: String,
        member: String,
    },
    /// Another process changed the table.
    Repair(Foreign),
    /// Addresses changed, or something is due.
    LookAgain,
    /// The time of members by command may be over.
    Expire,
    /// The kernel or the disk failed what nobody waits for.
    Retry,
    /// Who is in has to be known, to know later since when.
    LookAtSessions,
    Remember,
    /// Nothing: that it comes back shows the service manager that work gets done.
    Prove,
}

/// Work that waits, each with who asked for it first and those who want to know how it went.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Task>,
}

/// Work that somebody asked for, or nobody.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) work: Work,
    pub(crate) asked: Asked,
    pub(crate) replies: Vec<Reply>,
}

impl Queue {
    /// Adds work that nobody asked for.
    pub(crate) fn push(&mut self, work: Work) {
        self.push_asked(work, Asked::default(), None);
    }

    /// Adds work, or a listener to the same work that waits already.
    pub(crate) fn push_asked(&mut self, work: Work, asked: Asked, reply: Option<Reply>) {
        if let Work::Repair(foreign) = &work {
            let repairs = self.waiting.iter_mut().find_map(|task| match &mut task.work {
                Work::Repair(earlier) => Some(earlier),
                _ => None,
            });
            if let Some(earlier) = repairs {
                *earlier = earlier.clone().and(foreign.clone());
                return;
            }
        }
        // Another connection is another session that is guarded.
        let same = self.waiting.iter_mut().find(|task| {
            task.work == work && task.work.is_done_once() && task.asked.origin == asked.origin
        });
        match same {
            Some(task) => task.replies.extend(reply),
            None => {
                let index = self.place(&work);
                let replies = reply.into_iter().collect();
                self.waiting.insert(index, Task { work, asked, replies });
            }
        }
    }

    /// Where it belongs. What rolls back by itself goes first, so that nobody's requests make it late,
    /// but for confirmations that came before it was due.
    fn place(&self, work: &Work) -> usize {
        let is_confirmation = |task: &Task| matches!(task.work, Work::Confirm { .. });
        match work {
            Work::GoBack | Work::GoBackOnDenials { .. } => {
                self.waiting.iter().rposition(is_confirmation).map_or(0, |last| last + 1)
            }
            _ => self.waiting.len(),
        }
    }

    /// The next piece.
    pub(crate) fn pop(&mut self) -> Option<Task> {
        self.waiting.pop_front()
    }
}

impl Work {
    /// Whether doing it twice in a row comes to the same.
    fn is_done_once(&self) -> bool {
        match self {
            Self::Reload { .. }
            | Self::GoBack
            | Self::GoBackOnDenials { .. }
            | Self::Guard
            | Self::History
            | Self::FilesChanged
            | Self::LookAgain
            | Self::Expire
            | Self::Retry
            | Self::LookAtSessions
            | Self::Remember
            | Self::Prove => true,
            Self::Confirm { .. }
            | Self::Rollback { .. }
            | Self::Difference { .. }
            | Self::AddMember(_)
            | Self::RemoveMember { .. }
            | Self::Teardown
            | Self::Takeover { .. }
            | Self::Promoted { .. }
            | Self::Repair(_) => false,
        }
    }

    /// Does it, as it was asked for. Blocks.
    pub(crate) fn perform(self, mut asked: Asked, engine: &mut Engine) -> Response {
        asked.over = guard::open_one(&asked.origin.connections);
        engine.asked = asked;
        engine.shut_out.clear();
        let response = self.performed(engine);
        engine.asked = Asked::default();
        response
    }

    fn performed(self, engine: &mut Engine) -> Response {
        let is_reload = matches!(self, Self::Reload { .. });
        let asked = if is_reload { metrics::Asked::Reload } else { metrics::Asked::Else };
        let step = match self {
            Self::Reload { force, time, replace } => engine.reload(force, time, replace),
            Self::Confirm { force } => {
                return engine.confirm(force).map_or_else(failed, Response::Confirmed);
            }
            Self::Rollback { generation, force, time } => engine.rollback(generation, force, time),
            Self::GoBack => engine.go_back_if_due(),
            Self::GoBackOnDenials { generation, evidence } => {
                engine.go_back_on_denials(generation, evidence)
            }
            Self::Guard => return engine.would_reload().map_or_else(failed, Response::Guard),
            Self::History => return Response::History(engine.history.past()),
            Self::Difference { from, to } => {
                let difference = engine.difference(from, to).map(Box::new);
                return difference.map_or_else(failed, Response::Difference);
            }
            Self::FilesChanged => engine.files_changed(),
            Self::AddMember(member) => engine.add_member(member),
            Self::RemoveMember { tier, member, force } => {
                engine.remove_member(&tier, &member, force)
            }
            Self::Promoted { tier, member } => engine.promoted(&tier, &member),
            Self::Teardown => {
                return engine.teardown().map_or_else(not_torn_down, Response::TornDown);
            }
            Self::Takeover { force } => engine.take_over(force),
            Self::Repair(foreign) => engine.repair(&foreign),
            Self::LookAgain => engine.look_again(),
            Self::Expire => engine.end_members(),
            Self::Retry => engine.retry(),
            Self::LookAtSessions => {
                engine.look_at_sessions();
                Ok(Step::default())
            }
            Self::Remember => {
                engine.remember();
                Ok(Step::default())
            }
            Self::Prove => Ok(Step::default()),
        };
        engine.note(asked, &step);
        match step {
            Err(error) => failed(error),
            Ok(Step { commit, change, saved, denied: cannot_reconnect }) => {
                let users = engine.user_names();
                let words = change.words(&engine.applied, &engine.server.role, &users);
                let lines = words.lines();
                let lines = lines
                    .into_iter()
                    .map(|line| ChangeLine { more: line.sign == Sign::More, text: line.text });
                let shut_out = std::mem::take(&mut engine.shut_out);
                let held = engine.held_lists.iter().map(ToString::to_string);
                let warnings = shut_out.into_iter().chain(engine.warnings()).chain(held).collect();
                let pending = engine.pending.as_ref().map(Pending::told);
                let changes = lines.collect();
                let done = Done { commit, pending, changes, warnings, saved, cannot_reconnect };
                Response::Done(Box::new(done))
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
        StepError::Pending(_) => FailureKind::Pending,
        StepError::Unproven(_) => FailureKind::Unproven,
        StepError::NothingPending => FailureKind::NothingPending,
        StepError::NoGeneration(_) => FailureKind::NoGeneration,
        StepError::Kernel(KernelError::Foreign) => FailureKind::ForeignTable,
        StepError::Kernel(_)
        | StepError::Member(_)
        | StepError::NotRecorded(_)
        | StepError::NotConfirmed(_) => FailureKind::Failed,
    };
    Response::Failed(Failure { kind, message: in_full(&error) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_do_not_make_a_rollback_late_and_a_confirmation_in_time_counts() {
        let mut queue = Queue::default();
        queue.push(Work::FilesChanged);
        queue.push(Work::GoBack);
        queue.push(Work::Confirm { force: false });
        assert_eq!(queue.pop().map(|task| task.work), Some(Work::GoBack));
        queue.push(Work::Teardown);
        queue.push(Work::GoBack);
        let rest: Vec<Work> = std::iter::from_fn(|| queue.pop()).map(|task| task.work).collect();
        let confirm = Work::Confirm { force: false };
        assert_eq!(rest, [Work::FilesChanged, confirm, Work::GoBack, Work::Teardown]);
    }

    #[test]
    fn what_would_be_done_twice_is_done_once() {
        let mut queue = Queue::default();
        let foreign = |pid: u32| {
            let (process, what) = ("nft".to_owned(), format!("change {pid}"));
            Work::Repair(Foreign { process, pid, what, more: 0 })
        };
        queue.push(Work::Repair(Foreign::unseen("unknown")));
        for pid in 7..10 {
            queue.push(foreign(pid));
            queue.push(Work::FilesChanged);
        }
        queue.push(Work::Repair(Foreign::unseen("unknown")));
        let Some(Task { work: Work::Repair(all), .. }) = queue.pop() else { panic!("no repair") };
        assert_eq!((all.pid, all.to_string()), (7, "change 7; and 2 more transactions".into()));
        assert_eq!(queue.pop().map(|task| task.work), Some(Work::FilesChanged));
        assert!(queue.pop().is_none());
        // Nothing waits any more that it could be one with.
        queue.push(foreign(4));
        assert_eq!(queue.pop().map(|task| task.work), Some(foreign(4)));
    }
}
