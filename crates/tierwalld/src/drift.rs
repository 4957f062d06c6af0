//! Changes behind our back: who else commits to nftables, as it happens.
//!
//! Where the table is owned nobody can change it, and nobody listens: a listener makes large
//! commits many times slower. Elsewhere every foreign transaction that touches our table becomes
//! an event; those that wait for the engine become one. Before a large commit of our own the
//! listener steps back (`quietly`).

use crate::event::Event;
use crate::foreign::Foreign;
use crate::journal::kind;
use netlink::{Error, Events, EventsError, Readiness, Transaction};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

/// How long after a failure it is listened again: what failed may do so at once the next time.
const AGAIN: Duration = Duration::from_secs(1);

/// Transactions that are read at once at most, so that somebody who commits without end doesn't
/// keep the event loop from others.
const AT_ONCE: usize = 256;

/// Listens as long as it lives.
#[derive(Debug)]
pub(crate) struct Listener {
    events: Shared,
    task: JoinHandle<()>,
}

/// The way to quiet the listener from the thread that commits.
pub(crate) type Shared = Arc<Mutex<Events>>;

impl Listener {
    /// Begins to listen. Transactions committed through `own_port` are our own.
    pub(crate) fn start(own_port: u32, inbox: mpsc::Sender<Event>) -> Result<Self, Error> {
        let events = Events::open()?;
        let readiness = Readiness::of(&events).map_err(Error::Socket)?;
        let events = Arc::new(Mutex::new(events));
        let task = tokio::spawn(listen(readiness, Arc::clone(&events), own_port, inbox));
        Ok(Self { events, task })
    }

    /// For the thread that commits.
    pub(crate) fn shared(&self) -> Shared {
        Arc::clone(&self.events)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Does `work` while the listener has left the group. Blocks.
pub(crate) fn quietly<T>(events: &Shared, work: impl FnOnce() -> T) -> T {
    let mut events = events.blocking_lock();
    if let Err(error) = events.pause() {
        tracing::debug!(target: kind::NOT_WATCHING, %error, "can't stop listening for a large commit");
    }
    let result = work();
    if let Err(error) = events.resume() {
        tracing::error!(target: kind::NOT_WATCHING, %error, "can't listen to changes of nftables any more");
    }
    result
}

async fn listen(readiness: Readiness, events: Shared, own_port: u32, inbox: mpsc::Sender<Event>) {
    let mut is_left = false;
    loop {
        if is_left {
            // Others first; the socket doesn't become readable again for what is there already.
            tokio::task::yield_now().await;
        } else if readiness.wait().await.is_err() {
            break;
        }
        let Read { foreign, is_over, is_more } = read(&mut *events.lock().await, own_port);
        is_left = is_more;
        if let Some(foreign) = foreign
            && inbox.send(Event::Foreign(foreign)).await.is_err()
        {
            return;
        }
        if is_over {
            break;
        }
    }
    tokio::time::sleep(AGAIN).await;
    // Without its receiver the daemon has ended.
    let _ = inbox.send(Event::Deaf).await;
}

/// What was read at once.
struct Read {
    /// Of others.
    foreign: Option<Foreign>,
    /// Whether nothing more can be read, ever.
    is_over: bool,
    /// Whether there may be more already.
    is_more: bool,
}

/// What is there to read.
fn read(events: &mut Events, own_port: u32) -> Read {
    let mut foreign: Option<Foreign> = None;
    let mut add = |next| {
        foreign = Some(match foreign.take() {
            Some(before) => Foreign::and(before, next),
            None => next,
        });
    };
    for _ in 0..AT_ONCE {
        match events.read() {
            Ok(Some(transaction)) if transaction.ours && transaction.port != own_port => {
                let what = words(&transaction);
                let (process, pid) = (transaction.process, transaction.pid);
                add(Foreign { process, pid, what, more: 0 });
            }
            Ok(Some(_)) => {}
            Ok(None) => return Read { foreign, is_over: false, is_more: false },
            Err(error @ (EventsError::Lost | EventsError::Malformed)) => {
                add(Foreign::unseen(&error.to_string()));
            }
            Err(error) => {
                tracing::error!(target: kind::NOT_WATCHING, %error, "can't listen to changes of nftables; trying again");
                return Read { foreign, is_over: true, is_more: false };
            }
        }
    }
    Read { foreign, is_over: false, is_more: true }
}

/// The first few changes; a flush has hundreds.
fn words(transaction: &Transaction) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> =
        transaction.changes.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = transaction.more + transaction.changes.len() - shown.len();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_was_found_first_is_named_once_when_its_event_comes() {
        let unseen = Foreign::unseen("unknown: while tierwalld didn't listen");
        let nft = Foreign { process: "nft".into(), pid: 7, what: "add a rule".into(), more: 0 };
        assert!(nft.names(Some(&unseen)));
        assert!(!nft.names(None) && !nft.names(Some(&nft)));
        assert!(!unseen.names(Some(&unseen)) && !unseen.names(Some(&nft)));
        // Where both wait to be looked at, they are one.
        assert_eq!(unseen.clone().and(nft.clone()), nft);
        assert_eq!(nft.told(), "nft (pid 7): add a rule");
    }
}
