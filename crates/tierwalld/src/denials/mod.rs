//! Denials: from the packets that log rules hand over to the answer to `tierwall denied`.
//!
//! ```text
//! kernel ─ PacketLog ─► reader (a thread) ─► Book ─► report ─► control
//!                            └─► journal
//! ```
//!
//! docs/denials.md says what is counted how. Memory is bounded whatever comes, and every sum is
//! exact whatever was left out of the tables.

mod book;
mod flow;
mod heavy;
mod history;
mod journal;
mod reader;
mod report;
mod retries;

use book::Book;
use policy::model::Tier;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub(crate) use reader::{open, start};
pub(crate) use report::{answer, summary};

/// The book, and what the reader has to know beside packets.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    book: Arc<Mutex<Book>>,
    /// The generation of the policy that is enforced.
    generation: Arc<AtomicU64>,
    /// The members of each tier, for the one who asks.
    tiers: Arc<BTreeMap<String, Tier>>,
}

impl Shared {
    /// An empty book, at this time.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            book: Arc::new(Mutex::new(Book::new(now))),
            generation: Arc::default(),
            tiers: Arc::default(),
        }
    }

    /// Takes note of what holds from now on: which policy a packet was denied by.
    pub(crate) fn note(&mut self, generation: u64, tiers: &BTreeMap<String, Tier>) {
        self.generation.store(generation, Ordering::Relaxed);
        self.tiers = Arc::new(tiers.clone());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Whoever panicked with it ended the daemon.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
