//! Changes behind our back: who else commits to nftables, as it happens.
//!
//! Where the table is owned nobody can change it, and nobody listens: a listener makes large
//! commits many times slower. Elsewhere every foreign transaction that touches our table becomes
//! an event. Before a large commit of our own the listener steps back (`quietly`).

use crate::event::Event;
use netlink::{Error, Events, EventsError, Readiness, Transaction};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Listens as long as it lives.
#[derive(Debug)]
pub(crate) struct Listener {
    events: Shared,
    task: JoinHandle<()>,
}

/// The way to quiet the listener from the thread that commits.
pub(crate) type Shared = Arc<Mutex<Events>>;

/// What a foreign transaction did, in words for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) process: String,
    pub(crate) pid: u32,
    pub(crate) what: String,
}

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

/// Does `work` while the listener has left the group.
pub(crate) fn quietly<T>(events: &Shared, work: impl FnOnce() -> T) -> T {
    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = events.pause() {
        tracing::debug!(%error, "can't stop listening for a large commit");
    }
    let result = work();
    if let Err(error) = events.resume() {
        tracing::error!(%error, "can't listen to changes of nftables any more");
    }
    result
}

async fn listen(readiness: Readiness, events: Shared, own_port: u32, inbox: mpsc::Sender<Event>) {
    while readiness.wait().await.is_ok() {
        for foreign in read(&events, own_port) {
            if inbox.send(Event::Foreign(foreign)).await.is_err() {
                return;
            }
        }
    }
}

/// All that is there to read of others.
fn read(events: &Shared, own_port: u32) -> Vec<Foreign> {
    let mut events = events.lock().unwrap_or_else(PoisonError::into_inner);
    let mut foreign = Vec::new();
    loop {
        match events.read() {
            Ok(Some(transaction)) if transaction.ours && transaction.port != own_port => {
                let what = words(&transaction);
                let (process, pid) = (transaction.process, transaction.pid);
                foreign.push(Foreign { process, pid, what });
            }
            Ok(Some(_)) => {}
            Ok(None) => return foreign,
            Err(error @ (EventsError::Lost | EventsError::Malformed)) => {
                let process = "unknown".to_owned();
                foreign.push(Foreign { process, pid: 0, what: error.to_string() });
            }
            Err(error) => {
                tracing::error!(%error, "can't listen to changes of nftables");
                return foreign;
            }
        }
    }
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
