//! From the watcher of the policy files to events.

use crate::engine::Inputs;
use crate::errors::in_full;
use crate::event::Event;
use crate::unwatched::Watched;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::sync::watch::Receiver;
use watch::{WatchError, Watcher};

/// How long after a failure it is watched again.
const AGAIN: Duration = Duration::from_secs(10);

/// Watches what the last load depends on, and says when something changed.
///
/// Where it can't watch, that is told, and it is tried again: meanwhile `reload` works as before.
pub(crate) async fn watch(mut loads: Receiver<Inputs>, events: mpsc::Sender<Event>) {
    while let Err(error) = follow(&mut loads, &events).await {
        let problem = Event::Watching(Watched::Files, Some(in_full(&error)));
        if events.send(problem).await.is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
        // What was missed.
        if events.send(Event::FilesChanged).await.is_err() {
            return;
        }
    }
}

/// Ends without an error when the daemon ends.
async fn follow(
    loads: &mut Receiver<Inputs>,
    events: &mpsc::Sender<Event>,
) -> Result<(), WatchError> {
    let Inputs { inputs, start } = loads.borrow_and_update().clone();
    let mut watcher = Watcher::new(&inputs, start)?;
    if events.send(Event::Watching(Watched::Files, None)).await.is_err() {
        return Ok(());
    }
    loop {
        tokio::select! {
            changed = watcher.changed() => {
                changed?;
                if events.send(Event::FilesChanged).await.is_err() {
                    return Ok(());
                }
            }
            load = loads.changed() => {
                if load.is_err() {
                    return Ok(());
                }
                let Inputs { inputs, start } = loads.borrow_and_update().clone();
                watcher.update(&inputs, start)?;
            }
        }
    }
}
