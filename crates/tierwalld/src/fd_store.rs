//! The socket that owns the table, kept by the service manager while no daemon runs
//! (sd_pid_notify_with_fds(3), `FileDescriptorStoreMax=`), and what else that passes on: sockets on
//! which it listens for those who read metrics (systemd.socket(5)).
//!
//! With the first the table stays owned over a restart, an upgrade and a crash: at no moment can anybody
//! else change it, and the daemon that comes knows what the kernel holds. Where there is no such
//! store, the table is nobody's in between, and adopted again.

use crate::journal::kind;
use netlink::Connection;
use sd_notify::NotifyState;
use std::os::fd::{AsFd, OwnedFd};

/// What the socket is called in the store.
const NAME: &str = "nftables";

/// What sockets for metrics are called (`FileDescriptorName=`).
const METRICS: &str = "metrics";

/// What the service manager passed on.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Sockets of the daemon before this one.
    kept: Vec<OwnedFd>,
    /// Sockets that somebody has it listen on for metrics.
    pub(crate) metrics: Vec<OwnedFd>,
}

/// Takes over what it passed on. Whatever has another name is closed.
pub(crate) fn take() -> Passed {
    let all = netlink::inherited().inspect_err(
        |error| tracing::warn!(target: kind::SOCKET_NOT_KEPT, %error, "can't take over what the service manager passed on"),
    );
    let mut passed = Passed::default();
    for (name, descriptor) in all.unwrap_or_default() {
        match name.as_str() {
            NAME => passed.kept.push(descriptor),
            METRICS => passed.metrics.push(descriptor),
            _ => {}
        }
    }
    passed
}

impl Passed {
    /// The connection of the daemon before this one, if its socket was kept and still works.
    pub(crate) fn connection(&mut self) -> Option<Connection> {
        let error = match &mut self.kept[..] {
            [] => return None,
            [_] => match Connection::from_socket(self.kept.remove(0)) {
                Ok(connection) => return Some(connection),
                Err(error) => crate::errors::in_full(&error),
            },
            more => format!("the service manager kept {} of them", more.len()),
        };
        self.kept.clear();
        tracing::warn!(
            target: kind::SOCKET_NOT_KEPT,
            error,
            "can't go on with the socket of the daemon before; opening another"
        );
        // A socket that nobody works with would own its table for ever.
        let forget = [NotifyState::FdStoreRemove, NotifyState::FdName(NAME)];
        told(sd_notify::notify(&forget));
        None
    }
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
