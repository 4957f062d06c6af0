//! The socket that owns the table, kept by the service manager while no daemon runs
//! (sd_pid_notify_with_fds(3), `FileDescriptorStoreMax=`).
//!
//! With it the table stays owned over a restart, an upgrade and a crash: at no moment can anybody
//! else change it, and the daemon that comes knows what the kernel holds. Where there is no such
//! store, the table is nobody's in between, and adopted again.

use crate::journal::kind;
use netlink::{Connection, Inherited};
use sd_notify::NotifyState;
use std::os::fd::AsFd;

/// What the socket is called in the store.
const NAME: &str = "nftables";

/// The connection of the daemon before this one, if its socket was kept and still works.
pub(crate) fn take() -> Option<Connection> {
    let Inherited { socket, others } = netlink::inherited(NAME)
        .inspect_err(
            |error| tracing::warn!(target: kind::SOCKET_NOT_KEPT, %error, "can't take over what the service manager kept"),
        )
        .unwrap_or_default();
    let socket = socket?;
    let error = match others {
        0 => match Connection::from_socket(socket) {
            Ok(connection) => return Some(connection),
            Err(error) => crate::kernel::in_full(&error),
        },
        more => format!("the service manager kept {} of them", more + 1),
    };
    tracing::warn!(target: kind::SOCKET_NOT_KEPT, error, "can't go on with the socket of the daemon before; opening another");
    // A socket that nobody works with would own its table for ever.
    let forget = [NotifyState::FdStoreRemove, NotifyState::FdName(NAME)];
    told(sd_notify::notify(&forget));
    None
}

/// Has the service manager keep the socket of `connection`, also when it reports an error: an
/// answer that doesn't fit in its buffer is one.
pub(crate) fn keep(connection: &Connection) {
    let no_poll = NotifyState::Custom("FDPOLL=0");
    let store = [NotifyState::FdStore, NotifyState::FdName(NAME), no_poll];
    told(sd_notify::notify_with_fds(&store, &[connection.as_fd()]));
}

fn told(outcome: std::io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(target: kind::SERVICE_MANAGER, %error, "can't reach the store of the service manager");
    }
}
