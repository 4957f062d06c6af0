//! Denials: from the packets that log rules hand over to the answer to `tierwall denied`.
//!
//! ```text
//! kernel ─ PacketLog ─► reader (a thread) ─► Book ─► report ─► control
//!                            ├─► journal
//!                            └─► Comparer ─► Aftermath ─► status, history, going back
//! ```
//!
//! docs/denials.md says what is counted how. Memory is bounded whatever comes, and every sum is
//! exact whatever was left out of the tables.

mod aftermath;
mod apart;
mod attested;
mod book;
mod compare;
mod flow;
mod heavy;
mod history;
mod journal;
mod kept;
mod labels;
mod reader;
mod recent;
mod report;
mod retries;
mod tally;

use crate::boot;
use crate::errors::in_full;
use crate::journal::kind;
use crate::recorder::{Recorder, StateFile};
use crate::state::StateDirectory;
use aftermath::Aftermath;
use book::{Book, Reading};
use control::{AfterChange, Past};
use labels::Services;
use policy::Policy;
use policy::model::Tier;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) use aftermath::Present;
pub(crate) use labels::Labels;
pub(crate) use reader::{open, start};
pub(crate) use report::{Asked, DIRECTIONS, answer, limit, summary};
pub(crate) use tally::{Counted, Series};

/// How often what was counted is kept for a restart, if anything was.
pub(crate) const KEPT_EVERY: Duration = Duration::from_secs(300);

/// The book, and what the reader has to know beside packets.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    book: Arc<Mutex<Book>>,
    aftermath: Arc<Mutex<Aftermath>>,
    /// When the clock of the packets began, which nobody sets.
    began: Instant,
    /// The generation of the policy that is enforced.
    generation: Arc<AtomicU64>,
    /// The members of each tier, for the one who asks.
    tiers: Arc<BTreeMap<String, Tier>>,
    /// What denials are called in metrics from now on.
    labels: Arc<Mutex<Arc<Labels>>>,
    /// The generation that the services of those are of.
    labelled: Option<u64>,
}

impl Shared {
    /// An empty book, at this time.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            book: Arc::new(Mutex::new(Book::new(now))),
            aftermath: Arc::new(Mutex::new(Aftermath::new())),
            began: Instant::now(),
            generation: Arc::default(),
            tiers: Arc::default(),
            labels: Arc::default(),
            labelled: None,
        }
    }

    /// Goes on with what an earlier daemon counted, if that was kept.
    pub(crate) fn go_on(&self, state: &StateDirectory, now: u64) {
        match kept::load(state, now) {
            Ok(Some(book)) => *self.book() = book,
            Ok(None) => {}
            Err(error) => {
                let error = in_full(&error);
                tracing::warn!(target: kind::STATE_DAMAGED, error, "the denials that were kept can't be used; they begin anew");
            }
        }
    }

    /// Has what was counted kept for a restart, soon.
    pub(crate) fn keep(&self, recorder: &Recorder) {
        let book = Arc::clone(&self.book);
        recorder.record(StateFile::Denials, move |state| {
            let boot = boot::id();
            let kept = kept::of(&book.lock().unwrap_or_else(PoisonError::into_inner), boot);
            // What takes longer needs the book no more.
            kept::save(state, &kept::encode(&kept)?)
        });
    }

    /// Takes note of what holds from now on: which policy a packet was denied by.
    pub(crate) fn note(&mut self, present: Present) {
        self.generation.store(present.generation, Ordering::Relaxed);
        self.tiers = Arc::clone(&present.tiers);
        self.aftermath().note(present, self.seconds());
    }

    /// Denials since the last change.
    pub(crate) fn after_change(&self) -> Option<AfterChange> {
        self.aftermath().told(self.seconds())
    }

    /// Fills in how many denials there were before and in each generation.
    pub(crate) fn rates(&self, past: &mut [Past]) {
        let (aftermath, seconds) = (self.aftermath(), self.seconds());
        for Past { generation, denials, .. } in past {
            *denials = aftermath.rates(generation.number, seconds);
        }
    }

    /// By the clock of the packets: of a day in which the other clock is set, retries still are
    /// what they are.
    fn seconds(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX)
    }

    fn aftermath(&self) -> MutexGuard<'_, Aftermath> {
        self.aftermath.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of the words of a policy, after [`Shared::note`] of the same. Its services change
    /// with its generation only.
    pub(crate) fn label(&mut self, policy: &Policy, users: &BTreeMap<String, u32>) {
        let generation = self.generation.load(Ordering::Relaxed);
        let is_same = self.labelled.replace(generation) == Some(generation);
        let before = self.labels();
        let services = match is_same {
            true => Arc::clone(&before.services),
            false => Arc::new(Services::of(policy)),
        };
        let (tiers, users) = (Arc::clone(&self.tiers), Arc::new(labels::users(users)));
        *self.labels.lock().unwrap_or_else(PoisonError::into_inner) =
            Arc::new(Labels { tiers, services, users });
    }

    /// The words of the policy.
    pub(crate) fn labels(&self) -> Arc<Labels> {
        Arc::clone(&self.labels.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The members of each tier that the kernel was brought to last.
    pub(crate) fn tiers(&self) -> &BTreeMap<String, Tier> {
        &self.tiers
    }

    /// What was counted by label.
    pub(crate) fn series(&self) -> Vec<Series> {
        let labels = self.labels();
        self.book().tally.series(&labels)
    }

    /// What the limits of a side held back, by the kernel's counters.
    pub(crate) fn held_back(&self, side: &'static str, packets: u64, logged: u64) -> u64 {
        self.book().tally.held_back(side, packets, logged)
    }

    /// How the reading goes.
    pub(crate) fn reading(&self) -> Reading {
        self.book().reading
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // After a fault the reader begins anew.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
