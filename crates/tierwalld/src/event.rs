//! All that can happen to the daemon.

use crate::kernel::{Commit, Kernel, KernelError};
use control::{Request, Response};
use tokio::sync::oneshot;

/// What the event loop waits for.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client asks.
    Request {
        /// What for.
        request: Request,
        /// Where its answer goes.
        reply: oneshot::Sender<Response>,
    },
    /// The table was taken away, or couldn't be.
    TornDown {
        /// Given back by the thread that worked with it.
        kernel: Kernel,
        /// The batch that did it; none where there was no table.
        result: Result<Option<Commit>, KernelError>,
        /// The client that asked for it.
        reply: oneshot::Sender<Response>,
    },
    /// SIGTERM or SIGINT.
    Terminate,
}
