//! All that can happen to the daemon.

use crate::foreign::Foreign;
use crate::reply::Reply;
use crate::unwatched::Watched;
use control::{Origin, Request, Requester};

/// What the event loop waits for, beside the engine that comes back and those who read metrics.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client asks.
    Request {
        /// What for.
        request: Request,
        /// Who.
        by: Requester,
        /// Where they ask from, by their own word.
        origin: Origin,
        /// Where its answer goes.
        reply: Reply,
    },
    /// The policy files changed, or may have.
    FilesChanged,
    /// Another process changed our table, or may have.
    Foreign(Foreign),
    /// Nobody listens to nftables any more.
    Deaf,
    /// The server's addresses changed, or may have.
    AddressesChanged,
    /// Something can't be watched, for this reason; or can again.
    Watching(Watched, Option<String>),
    /// What was denied is due to be kept for a restart.
    KeepDenials,
    /// Denials since the last change became many.
    Denials,
    /// A change that waits made denied what was let through before, so often that it is gone back.
    GoBackOnDenials { generation: u64, evidence: String },
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Terminate,
}
