//! Answers on their way to clients.

use control::Response;
use tokio::sync::oneshot;

/// Where the answer to a request goes. A client that went away needs none.
pub(crate) type Reply = oneshot::Sender<Response>;
