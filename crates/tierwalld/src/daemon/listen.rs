//! Listening to what others do to nftables, exactly as long as they can change the table.

use super::{Daemon, RETRY_AFTER, RETRY_AFTER_MAX};
use crate::drift::Listener;
use crate::engine::Engine;
use crate::errors::in_full;
use crate::foreign::Foreign;
use crate::unwatched::Watched;
use crate::work::Work;
use tokio::time::Instant;

impl Daemon {
    /// Listens to nftables exactly as long as others can change the table.
    pub(super) fn listen(&mut self, engine: &mut Engine) {
        match engine.exposed_port() {
            None => {
                self.listener = None;
                self.hears(None);
                engine.take_missed();
            }
            Some(port) if self.listener.is_none() && self.listen_at.is_none() => {
                match Listener::start(port, self.events.clone()) {
                    Ok(listener) => {
                        self.listener = Some(listener);
                        self.hears(None);
                        // What happened between our commit and now.
                        self.repair_unseen();
                    }
                    Err(error) => self.hears(Some(in_full(&error))),
                }
            }
            Some(_) => {}
        }
        // Nobody can say what was missed before somebody listens again.
        if self.listener.is_some() && engine.take_missed() {
            self.repair_unseen();
        }
        engine.set_listener(self.listener.as_ref().map(Listener::shared));
    }

    fn repair_unseen(&mut self) {
        let unseen = Foreign::unseen("unknown: while tierwalld didn't listen");
        self.queue.push(Work::Repair(unseen));
    }

    /// Takes note of whether nftables is listened to as it should be; else it is tried again, less
    /// and less often.
    fn hears(&mut self, problem: Option<String>) {
        if problem.is_some() {
            self.listen_at = Some(Instant::now() + self.listen_after);
            self.listen_after = (self.listen_after * 2).min(RETRY_AFTER_MAX);
        } else {
            (self.listen_at, self.listen_after) = (None, RETRY_AFTER);
        }
        self.unwatched.note(Watched::Nftables, problem);
    }
}
