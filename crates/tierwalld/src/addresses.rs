//! From this server's addresses to events, for `role = "auto"`.

use crate::event::Event;
use netlink::{AddressEvents, Readiness};
use tokio::sync::mpsc;

/// Says when an address came or went. Ends when it can't listen, which is told.
pub(crate) async fn watch(events: mpsc::Sender<Event>) {
    let opened = AddressEvents::open();
    let readiness = opened.as_ref().ok().map(Readiness::of);
    let (Ok(mut changes), Some(Ok(readiness))) = (opened, readiness) else {
        return tracing::error!("can't hear of address changes; the role follows at a reload");
    };
    // What changed between the start and now.
    if events.send(Event::AddressesChanged).await.is_err() {
        return;
    }
    while readiness.wait().await.is_ok() {
        match changes.read() {
            Ok(false) => {}
            Ok(true) => {
                if events.send(Event::AddressesChanged).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                return tracing::error!(%error, "can't hear of address changes any more");
            }
        }
    }
}
