//! Metrics in Prometheus' format: from what the daemon knows to a text, and on to those who read
//! it.
//!
//! ```text
//! event loop ─ Snapshot ─┬─► answer to `tierwall metrics`
//!      ▲                 ├─► http      /metrics
//!      └─ Message::Scrape ─┴─► textfile  for node_exporter
//! ```
//!
//! The loop hands out what it knows, which costs nothing; the text is made on a thread of its own,
//! since the counters of denied packets and of allows are in the kernel. Sets are never read or
//! copied for it. docs/metrics.md says what each number is.

mod counters;
mod export;
mod http;
mod known;
mod process;
mod readers;
mod state;
mod text;
mod textfile;
mod traffic;

use crate::denials;
use crate::unwatched::Watched;
use control::Status;
use std::collections::BTreeMap;
use std::sync::Arc;
use text::Text;
use tokio::sync::{mpsc, oneshot};

pub(crate) use counters::{Asked, Counters, Foreign};
pub(crate) use export::Exporter;
pub(crate) use known::Known;

/// What the event loop knows.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    /// As the last step left it.
    pub(crate) status: Status,
    pub(crate) counters: Counters,
    /// When the generation that is enforced began, in seconds since 1970; none where nobody
    /// remembers.
    pub(crate) generation_since: Option<u64>,
    /// The allows of this server, by the names of their counters in the kernel.
    pub(crate) allows: Arc<BTreeMap<String, String>>,
    pub(crate) denials: denials::Shared,
}

/// What those who hand out metrics ask of the event loop, or tell it.
#[derive(Debug)]
pub(crate) enum Message {
    /// Somebody reads metrics. Who went away needs none.
    Scrape(oneshot::Sender<Snapshot>),
    /// Metrics can't be handed out that way, for this reason; or can again.
    Watching(Watched, Option<String>),
}

/// Who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Prometheus, or a person.
    Scrape,
    /// node_exporter, which has the numbers of its own process beside these.
    Textfile,
}

impl Snapshot {
    /// The text. Asks the kernel, so it blocks.
    pub(crate) fn render(&self, reader: Reader) -> String {
        let mut text = Text::default();
        state::write(&mut text, self);
        self.counters.write(&mut text);
        traffic::write(&mut text, self);
        if reader == Reader::Scrape {
            process::write(&mut text);
        }
        text.into_string()
    }
}

/// Asks the event loop. None where that has ended.
async fn scrape(inbox: &mpsc::Sender<Message>, reader: Reader) -> Option<String> {
    let (reply, snapshot) = oneshot::channel();
    inbox.send(Message::Scrape(reply)).await.ok()?;
    let snapshot = snapshot.await.ok()?;
    tokio::task::spawn_blocking(move || snapshot.render(reader)).await.ok()
}
