//! From this server's addresses to events, for `role = "auto"`.

use crate::event::Event;
use netlink::{AddressEvents, Error, Readiness};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long after a failure it is listened again.
const AGAIN: Duration = Duration::from_secs(10);

/// Says when an address came or went. Where it can't listen, that is told, and it is tried again.
pub(crate) async fn watch(events: mpsc::Sender<Event>) {
    let mut told = None;
    while let Err(error) = listen(&events).await {
        let problem = error.to_string();
        if told.as_ref() != Some(&problem) {
            tracing::error!(%error, "can't hear of address changes; until then the role follows at a reload");
        }
        told = Some(problem);
        tokio::time::sleep(AGAIN).await;
    }
}

/// Ends without an error when the daemon ends.
async fn listen(events: &mpsc::Sender<Event>) -> Result<(), Error> {
    let mut changes = AddressEvents::open()?;
    let readiness = Readiness::of(&changes).map_err(Error::Socket)?;
    // What changed while nobody listened.
    if events.send(Event::AddressesChanged).await.is_err() {
        return Ok(());
    }
    loop {
        readiness.wait().await.map_err(Error::Socket)?;
        if changes.read()? && events.send(Event::AddressesChanged).await.is_err() {
            return Ok(());
        }
    }
}
