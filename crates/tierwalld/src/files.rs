//! From the watcher of the policy files to events.

use crate::engine::Inputs;
use crate::event::Event;
use tokio::sync::mpsc;
use tokio::sync::watch::Receiver;
use watch::{WatchError, Watcher};

/// Watches what the last load depends on, and says when something changed.
///
/// Ends when it can't watch, which is told: the daemon goes on, and `reload` works as before.
pub(crate) async fn watch(loads: Receiver<Inputs>, events: mpsc::Sender<Event>) {
    if let Err(error) = follow(loads, events).await {
        tracing::error!(%error, "can't watch the policy files; every edit waits for a reload");
    }
}

async fn follow(
    mut loads: Receiver<Inputs>,
    events: mpsc::Sender<Event>,
) -> Result<(), WatchError> {
    let Inputs { inputs, start } = loads.borrow_and_update().clone();
    let mut watcher = Watcher::new(&inputs, start)?;
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
