//! From this server's addresses to events, for `role = "auto"`.

use crate::errors::in_full;
use crate::event::Event;
use crate::unwatched::Watched;
use netlink::{AddressEvents, Error, Readiness};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long after a failure it is listened again.
const AGAIN: Duration = Duration::from_secs(10);

/// Says when an address came or went. Where it can't listen, that is told, and it is tried again.
pub(crate) async fn watch(events: mpsc::Sender<Event>) {
    while let Err(error) = listen(&events).await {
        let problem = Event::Watching(Watched::Addresses, Some(in_full(&error)));
        if events.send(problem).await.is_err() {
            return;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Ends without an error when the daemon ends.
async fn listen(events: &mpsc::Sender<Event>) -> Result<(), Error> {
    let mut changes = AddressEvents::open()?;
    let readiness = Readiness::of(&changes).map_err(Error::Socket)?;
    if events.send(Event::Watching(Watched::Addresses, None)).await.is_err() {
        return Ok(());
    }
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
