//! The thread that reads what log rules hand over, and keeps the book.
//!
//! It shares with the event loop only the book, which it holds for the time of a few thousand
//! packets: a flood keeps nobody waiting for an answer.

use super::Shared;
use super::flow::Denial;
use super::journal::{self, Journal};
use crate::event::Event;
use crate::kernel::in_full;
use crate::report;
use crate::unwatched::Watched;
use netlink::{PacketLog, PacketLogError};
use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How long after a failure the group is asked for again.
const AGAIN: Duration = Duration::from_secs(5);

/// How long nothing may come before what was held back is looked at.
const PATIENCE: Duration = Duration::from_secs(1);

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
    let reader = Reader { shared, events, began: Instant::now(), journal: Journal::new() };
    thread::Builder::new().name("denials".into()).spawn(move || reader.run(opened)).map(drop)
}

struct Reader {
    shared: Shared,
    events: mpsc::Sender<Event>,
    began: Instant,
    journal: Journal,
}

impl Reader {
    fn run(mut self, mut opened: Result<PacketLog, PacketLogError>) {
        loop {
            let Err(error) = opened.and_then(|log| self.read_all(log));
            self.shared.book().reading.since = None;
            if !self.tell(Some(in_full(&error))) {
                return;
            }
            thread::sleep(AGAIN);
            opened = open();
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
            reading.since = Some(report::now());
            reading.lost
        };
        let mut denials = Vec::new();
        loop {
            log.wait(PATIENCE)?;
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

    fn count(&mut self, denials: &[Denial], read: u64, lost: u64) {
        // Of a day in which the clock is set, retries still are what they are.
        let seconds = u32::try_from(self.began.elapsed().as_secs()).unwrap_or(u32::MAX);
        if read > 0 {
            let (now, generation) = (report::now(), self.shared.generation.load(Ordering::Relaxed));
            let labels = self.shared.labels();
            let mut book = self.shared.book();
            book.reading.read += read;
            book.reading.unknown += read - denials.len() as u64;
            book.reading.lost = lost;
            let mut lines = Vec::new();
            for denial in denials {
                let is_new = book.count(denial, seconds, now, generation);
                book.tally.count(denial, is_new, &labels);
                if is_new && self.journal.may(seconds) {
                    lines.push(&denial.flow);
                }
            }
            // Whoever reads the log may be slow.
            drop(book);
            lines.into_iter().for_each(journal::write);
        }
        self.journal.sum_up(seconds);
        self.journal.tell_lost(seconds, lost);
    }
}
