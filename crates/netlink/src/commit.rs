//! Committing a batch: one datagram, and what the kernel says to it.
//!
//! The kernel goes on after an error, reports every message that fails and still acknowledges the
//! others, then aborts. So an acknowledgement of a message means nothing by itself. Only the end of
//! the batch is asked to be acknowledged, which the kernel does once the commit is done (since
//! 6.10); before that, the last message is, and any error means that nothing was committed.

use crate::batch::{BEGIN, Batch, Terms};
use crate::connection::{Connection, Generation};
use crate::dump::Handles;
use crate::error::{CommitError, Error};
use crate::message::{KernelError, Messages};
use crate::ownership::Hold;
use crate::refusal::Refusal;
use crate::uapi::NLMSG_ERROR;
use nix::errno::Errno;
use ruleset::Plan;
use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A batch that the kernel committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The size of the batch; 0 if there was nothing to send.
    pub bytes: usize,
    /// The number of messages that changed something.
    pub messages: usize,
    /// The generation that the commit made. Where it was given which one to build on, others can't
    /// have come in between; else this was read after the commit, and they can.
    pub generation: Generation,
    /// How long the kernel took.
    pub duration: Duration,
}

/// What the kernel answered to a batch.
#[derive(Debug, Default)]
struct Answer {
    acknowledged: bool,
    /// The first error, by place in the batch.
    first: Option<(u32, KernelError)>,
    /// How many errors there were.
    errors: usize,
    /// Why some of the answer is missing.
    lost: Option<io::Error>,
}

impl Connection {
    /// Commits a plan as one atomic batch. `handles` are of the table that the plan was made from;
    /// with a `generation`, only if the ruleset is still of that one.
    ///
    /// Without anything to send, nothing is asked of the kernel.
    ///
    /// Where the plan deletes an element of a timed set that has expired meanwhile, the kernel
    /// refuses the batch (ENOENT): read the timed sets again and plan anew.
    ///
    /// # Errors
    /// With any but [`CommitError::Unknown`] and [`CommitError::Read`] nothing was changed.
    pub fn commit(
        &mut self,
        plan: &Plan,
        handles: &Handles,
        generation: Option<Generation>,
        hold: Hold,
    ) -> Result<Committed, CommitError> {
        let terms =
            Terms { hold, now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() };
        let mut batch = Batch::encode(plan, handles, generation, &terms)?;
        if batch.messages() == 0 {
            let generation = generation.map_or_else(|| self.generation(), Ok)?;
            return Ok(Committed { bytes: 0, messages: 0, generation, duration: Duration::ZERO });
        }
        let acknowledges_end = self.acknowledges_end().map_err(asking)?;
        let awaited = batch.acknowledge(acknowledges_end);
        let bytes = batch.bytes().len();
        self.socket
            .make_room(bytes, batch.messages())
            .map_err(|limit| CommitError::TooLarge { bytes, limit })?;
        self.socket.drain();
        let start = Instant::now();
        self.socket.send(batch.bytes()).map_err(|error| match error.raw_os_error() {
            Some(code) if Errno::from_raw(code) == Errno::EMSGSIZE => {
                CommitError::TooLarge { bytes, limit: self.socket.room() }
            }
            _ => CommitError::Send(error),
        })?;
        let answer = self.answer(awaited);
        let duration = start.elapsed();
        judge(plan, &batch, answer)?;
        let generation = match generation {
            Some(generation) => generation.next(),
            None => self.generation()?,
        };
        Ok(Committed { bytes, messages: batch.messages(), generation, duration })
    }

    /// Collects all that the kernel has to say about a batch.
    fn answer(&mut self, awaited: u32) -> Answer {
        let mut answer = Answer::default();
        loop {
            match self.socket.receive() {
                Ok(None) => return answer,
                Ok(Some(datagram)) => answer.take(datagram, awaited),
                // Reported once; what is queued can still be read.
                Err(error) => {
                    let overrun = error.raw_os_error() == Some(Errno::ENOBUFS as i32);
                    answer.lost = Some(error);
                    if !overrun {
                        return answer;
                    }
                }
            }
        }
    }
}

/// An error in asking what the kernel can do, before anything was sent.
fn asking(error: Error) -> CommitError {
    match error {
        Error::NotPermitted => CommitError::NotPermitted,
        error => error.into(),
    }
}

impl Answer {
    fn take(&mut self, datagram: &[u8], awaited: u32) {
        for message in Messages::new(datagram) {
            let Ok(message) = message else {
                self.lost = Some(io::ErrorKind::InvalidData.into());
                return;
            };
            if message.kind != NLMSG_ERROR {
                continue;
            }
            match message.error() {
                Ok(error) if error.errno == 0 => self.acknowledged |= message.sequence == awaited,
                Ok(error) => {
                    self.errors += 1;
                    if self.first.as_ref().is_none_or(|(first, _)| message.sequence < *first) {
                        self.first = Some((message.sequence, error));
                    }
                }
                Err(_) => self.lost = Some(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Any error means that the batch was aborted, whatever else was answered or lost.
fn judge(plan: &Plan, batch: &Batch, answer: Answer) -> Result<(), CommitError> {
    let Some((sequence, error)) = answer.first else {
        return match answer {
            Answer { acknowledged: true, .. } => Ok(()),
            Answer { lost: Some(lost), .. } => Err(CommitError::Unknown(lost)),
            Answer { .. } => Err(CommitError::Unknown(io::ErrorKind::UnexpectedEof.into())),
        };
    };
    match Errno::from_raw(error.errno) {
        Errno::EPERM if sequence == BEGIN => Err(CommitError::NotPermitted),
        Errno::ERESTART if sequence == BEGIN => Err(CommitError::Stale),
        errno => {
            let more = answer.errors - 1;
            let refusal = Box::new(Refusal::new(plan, batch, sequence, error, more));
            // The right to change anything is asked for at the beginning; behind it only a table's
            // owner makes a difference (`nft_table_lookup`).
            match errno {
                Errno::EPERM => Err(CommitError::OwnedByOther(refusal)),
                _ => Err(CommitError::Refused(refusal)),
            }
        }
    }
}
