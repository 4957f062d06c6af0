//! The end: what is under way finishes, what a restart needs is kept, and the policy stands.

use super::{Daemon, notify};
use crate::event::Event;
use crate::journal::kind;
use crate::work::{Task, Worked};
use control::{Enforcement, Failure, FailureKind, Response, TableState};
use sd_notify::NotifyState;
use tokio::sync::mpsc;

impl Daemon {
    /// Lets work that is under way finish, and leaves the policy standing.
    pub(super) async fn end(
        mut self,
        inbox: mpsc::Receiver<Event>,
        mut back: mpsc::Receiver<Worked>,
    ) {
        notify(&[NotifyState::Stopping]);
        self.exporter.end().await;
        let ending = Response::Failed(Failure {
            kind: FailureKind::Failed,
            message: "tierwalld is ending".into(),
        });
        while let Some(Task { replies, .. }) = self.queue.pop() {
            replies.into_iter().for_each(|reply| {
                let _ = reply.send(ending.clone());
            });
        }
        // Whoever still has something to say isn't heard any more, and waits for nothing.
        drop(inbox);
        if self.engine.is_none()
            && let Some(Worked { engine, response, replies }) = back.recv().await
        {
            for reply in replies {
                let _ = reply.send(response.clone());
            }
            self.engine = Some(engine);
        }
        if let Some(engine) = &mut self.engine {
            engine.remember_all();
        }
        self.denials_are_old = true;
        self.keep_denials();
        if let Some(pending) = &self.status.pending {
            let generation = pending.generation;
            tracing::warn!(target: kind::ENDED,
                generation,
                "ending while a change waits to be confirmed: the next start goes on waiting, or \
                 goes back if the time is over"
            );
        }
        match self.status.enforcement {
            Enforcement::Committed if self.status.table != TableState::Ours => {
                tracing::info!(target: kind::ENDED, "ending; the policy isn't in the kernel");
            }
            Enforcement::Committed => {
                tracing::info!(target: kind::ENDED, "ending; the policy stays in the kernel")
            }
            Enforcement::TornDown => tracing::info!(target: kind::ENDED, "ending"),
        }
    }
}
