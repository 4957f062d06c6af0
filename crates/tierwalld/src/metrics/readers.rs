//! Who is served at once. Anybody who reaches the port may open connections and say nothing, so a
//! newcomer takes the place of whoever holds one for nothing: first of the oldest that hasn't asked
//! yet, then of the oldest that has its answer, then of the oldest that is slow to take it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Clients served at once.
const CLIENTS: usize = 8;

/// How long nobody takes the place of a client that is being answered.
const IN_PEACE: Duration = Duration::from_secs(1);

/// All places.
#[derive(Debug, Clone, Default)]
pub(super) struct Readers(Arc<Mutex<Served>>);

#[derive(Debug, Default)]
struct Served {
    /// By number: the oldest first.
    clients: BTreeMap<u64, Client>,
    next: u64,
}

#[derive(Debug)]
struct Client {
    stage: Stage,
    /// Since when it is at that.
    since: Instant,
    /// Dropped when somebody else takes the place.
    _stays: oneshot::Sender<()>,
}

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No whole request came yet.
    Asking,
    /// The answer is made, and written.
    Answering,
    /// The kernel has all of the answer; the client has yet to close.
    Answered,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    readers: Readers,
    number: u64,
}

impl Readers {
    /// A place, if there is one or somebody can be made to go, and what ends when that becomes true
    /// of whoever has it.
    pub(super) fn admit(&self, now: Instant) -> Option<(Place, oneshot::Receiver<()>)> {
        let mut served = self.served();
        if served.clients.len() >= CLIENTS {
            let idle = served.idle(now)?;
            served.clients.remove(&idle);
        }
        let (stays, gone) = oneshot::channel();
        let number = served.next;
        served.next += 1;
        let client = Client { stage: Stage::Asking, since: now, _stays: stays };
        served.clients.insert(number, client);
        Some((Place { readers: self.clone(), number }, gone))
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Served {
    /// Who holds a place for nothing.
    fn idle(&self, now: Instant) -> Option<u64> {
        let oldest = |stage: Stage, patience: Duration| {
            let is_idle = |client: &Client| {
                client.stage == stage && now.saturating_duration_since(client.since) >= patience
            };
            self.clients.iter().find(|(_, client)| is_idle(client)).map(|(number, _)| *number)
        };
        oldest(Stage::Asking, Duration::ZERO)
            .or_else(|| oldest(Stage::Answered, Duration::ZERO))
            .or_else(|| oldest(Stage::Answering, IN_PEACE))
    }
}

impl Place {
    /// Takes note of how far the client is.
    pub(super) fn reaches(&self, stage: Stage, now: Instant) {
        if let Some(client) = self.readers.served().clients.get_mut(&self.number) {
            (client.stage, client.since) = (stage, now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.readers.served().clients.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::error::TryRecvError;

    type Admitted = (Place, oneshot::Receiver<()>);

    fn is_there((_, gone): &mut Admitted) -> bool {
        gone.try_recv() == Err(TryRecvError::Empty)
    }

    #[test]
    fn whoever_holds_a_place_for_nothing_goes_first() {
        let readers = Readers::default();
        let start = Instant::now();
        let mut all: Vec<Admitted> =
            (0..CLIENTS).map(|_| readers.admit(start).expect("a place")).collect();
        for (index, (place, _)) in all.iter().enumerate() {
            let stage = match index {
                3 => Stage::Asking,
                5 => Stage::Answered,
                _ => Stage::Answering,
            };
            place.reaches(stage, start);
        }
        let newcomer = readers.admit(start).expect("the place of the one who says nothing");
        assert!(!is_there(&mut all[3]) && is_there(&mut all[5]));
        newcomer.0.reaches(Stage::Answering, start);
        let second = readers.admit(start).expect("the place of the one who has all");
        assert!(!is_there(&mut all[5]) && is_there(&mut all[0]));
        second.0.reaches(Stage::Answering, start);
        assert!(readers.admit(start).is_none(), "all are being answered");
        let third = readers.admit(start + IN_PEACE).expect("the place of the slowest");
        assert!(!is_there(&mut all[0]) && is_there(&mut all[1]));
        drop((all, newcomer, second, third));
        assert!(readers.served().clients.is_empty());
    }

    #[test]
    fn a_place_is_free_again_when_its_client_is_gone() {
        let readers = Readers::default();
        let start = Instant::now();
        for _ in 0..10 * CLIENTS {
            let (place, mut gone) = readers.admit(start).expect("a place");
            place.reaches(Stage::Answering, start);
            assert_eq!(gone.try_recv(), Err(TryRecvError::Empty));
        }
    }
}
