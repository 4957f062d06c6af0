//! The thread that reads what log rules hand over, and keeps the book.
//!
//! It shares with the event loop only the book and what came of the last change, which it holds for
//! the time of a few thousand packets: a flood keeps nobody waiting for an answer.

use super::aftermath::Outcome;
use super::attested::Peers;
use super::book::Book;
use super::compare::Comparer;
use super::flow::Denial;
use super::journal::{self, Journal};
use super::{KEPT_EVERY, Shared};
use crate::clock;
use crate::errors::in_full;
use crate::event::Event;
use crate::unwatched::Watched;
use netlink::{PacketLog, PacketLogError};
use policy::Fate;
use std::cell::OnceCell;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long after a failure the group is asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long nothing may come before what is due by the clock is looked at: what the log waits for,
/// and what takes some minutes anyway.
const PATIENCE: Duration = Duration::from_secs(1);
const LONG_PATIENCE: Duration = Duration::from_secs(30);

/// The group of denied packets. Opened before the first rule logs anything, it misses nothing.
pub(crate) fn open() -> Result<PacketLog, PacketLogError> {
    PacketLog::open(policy::LOG_GROUP)
}

/// Starts the thread, which goes on with what was opened. It ends when the event loop does.
pub(crate) fn start(
    opened: Result<PacketLog, PacketLogError>,
    shared: Shared,
    events: mpsc::Sender<Event>,
) -> std::io::Result<()> {
    let (journal, comparer) = (Journal::new(), Comparer::default());
    let peers = Peers::default();
    let reader = Reader { shared, events, journal, comparer, peers, changed: None };
    thread::Builder::new().name("denials".into()).spawn(move || reader.run(opened)).map(drop)
}

struct Reader {
    shared: Shared,
    events: mpsc::Sender<Event>,
    journal: Journal,
    comparer: Comparer,
    peers: Peers,
    /// Since when something was counted that isn't kept.
    changed: Option<u32>,
}

impl Reader {
    fn run(mut self, mut opened: Result<PacketLog, PacketLogError>) {
        loop {
            let problem = self.read_guarded(opened);
            self.shared.book().reading.since = None;
            self.shared.aftermath().reads(None);
            if !self.tell(Some(problem)) {
                return;
            }
            thread::sleep(AGAIN);
            opened = open();
        }
    }

    /// Reads until that fails, and says why. What is enforced doesn't depend on what is read, and
    /// anybody may send what is: a fault costs what was counted, not the daemon.
    fn read_guarded(&mut self, opened: Result<PacketLog, PacketLogError>) -> String {
        let read = AssertUnwindSafe(|| {
            let Err(error) = opened.and_then(|log| self.read_all(log));
            error
        });
        match catch_unwind(read) {
            Ok(error) => in_full(&error),
            Err(_) => {
                *self.shared.book() = Book::new(clock::now());
                (self.journal, self.comparer) = (Journal::new(), Comparer::default());
                "a fault in tierwalld; counting begins anew".into()
            }
        }
    }

    /// Whether anybody still listens.
    fn tell(&self, problem: Option<String>) -> bool {
        self.events.blocking_send(Event::Watching(Watched::Denials, problem)).is_ok()
    }

    /// Reads until that fails.
    fn read_all(&mut self, mut log: PacketLog) -> Result<Infallible, PacketLogError> {
        self.tell(None);
        let lost_before = {
            let reading = &mut self.shared.book().reading;
            reading.since = Some(clock::now());
            reading.lost
        };
        self.shared.aftermath().reads(Some(self.shared.seconds()));
        let mut denials = Vec::new();
        loop {
            log.wait(self.patience(self.shared.seconds()))?;
            let (mut read, mut is_all) = (0, false);
            while !is_all {
                is_all = log.read(|packet| {
                    read += 1;
                    denials.extend(Denial::of(packet));
                })?;
                self.count(&denials, read, lost_before + log.lost());
                denials.clear();
                read = 0;
            }
        }
    }

    /// How long to wait for another packet before what is due by the clock is looked at; none where
    /// nothing is. Who isn't needed sleeps.
    fn patience(&mut self, seconds: u32) -> Option<Duration> {
        let has_table = !self.comparer.rest_after(seconds);
        if !self.journal.is_at_rest() {
            return Some(PATIENCE);
        }
        (has_table || self.changed.is_some()).then_some(LONG_PATIENCE)
    }

    fn count(&mut self, denials: &[Denial], read: u64, lost: u64) {
        let seconds = self.shared.seconds();
        if read > 0 {
            self.changed.get_or_insert(seconds);
            let (now, generation) = (clock::now(), self.shared.generation.load(Ordering::Relaxed));
            let labels = self.shared.labels();
            let mut book = self.shared.book();
            book.reading.read += read;
            book.reading.unknown += read - denials.len() as u64;
            book.reading.lost = lost;
            let (mut lines, mut begun) = (Vec::new(), Vec::new());
            for denial in denials {
                let is_member = book.tally.is_member(&denial.flow, &labels);
                let is_new = book.count(denial, is_member, seconds, now, generation);
                book.tally.count(denial, is_new, &labels);
                if !is_new {
                    continue;
                }
                if self.journal.may(is_member, seconds) {
                    lines.push(&denial.flow);
                }
                if matches!(denial.flow.mark.fate, Fate::Denied | Fate::WouldDeny) {
                    begun.push(denial);
                }
            }
            // Whoever reads the log may be slow.
            drop(book);
            lines.into_iter().for_each(journal::write);
            if !begun.is_empty() {
                self.compare(begun, seconds, now);
            }
        }
        self.journal.sum_up(seconds);
        self.journal.tell_lost(seconds, lost);
        let is_due = |since: &mut u32| u64::from(seconds - *since) >= KEPT_EVERY.as_secs();
        if self.changed.take_if(is_due).is_some() {
            // Who no longer listens keeps it at its end.
            let _ = self.events.blocking_send(Event::KeepDenials);
        }
    }

    /// Compares new connections with what held before the last change.
    fn compare(&mut self, begun: Vec<&Denial>, seconds: u32, now: u64) {
        let (before, tiers, may_go_back) = {
            let aftermath = self.shared.aftermath();
            (aftermath.before(), Arc::clone(&aftermath.tiers), aftermath.may_go_back())
        };
        // It may have to compile a policy first: nobody waits for that.
        let own = OnceCell::new();
        let is_own = |address| {
            let own = own.get_or_init(|| netlink::addresses().unwrap_or_default());
            own.contains(&address)
        };
        let (mut compared, too_many) =
            self.comparer.compare(begun, before.as_ref(), &tiers, is_own, seconds);
        if may_go_back {
            self.peers.attest(&mut compared, seconds, netlink::tcp_sockets);
        }
        let outcome = self.shared.aftermath().count(&compared, too_many, seconds, now);
        let Outcome { alarm, goes_back } = outcome;
        if let Some(change) = alarm {
            journal::warn(&change);
            // Who no longer listens needs no news.
            let _ = self.events.blocking_send(Event::Denials);
        }
        if let Some(change) = goes_back {
            let (generation, evidence) = (change.generation, change.sentence());
            let _ = self.events.blocking_send(Event::GoBackOnDenials { generation, evidence });
        }
    }
}
