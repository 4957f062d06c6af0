//! TCP connections that others opened to this host.

use crate::error::Error;
use crate::tcp::{TcpSocket, TcpState, tcp_listeners, tcp_sockets, tcp_sockets_on};
use std::collections::BTreeSet;
use std::num::NonZeroU16;

/// The established connections that others than this host opened to it, on these ports or, where
/// none are named, on any: in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel can't be asked. It needs no rights.
pub fn tcp_accepted(ports: Option<&BTreeSet<NonZeroU16>>) -> Result<Vec<TcpSocket>, Error> {
    let mut sockets = match ports {
        Some(ports) => {
            let each = ports.iter().copied().map(tcp_sockets_on);
            each.collect::<Result<Vec<_>, _>>()?.concat()
        }
        None => tcp_sockets()?,
    };
    sockets.retain(|socket| socket.state == TcpState::Established);
    if sockets.is_empty() {
        return Ok(sockets);
    }
    let (listeners, own) = (tcp_listeners()?, crate::addresses()?);
    sockets.retain(|socket| {
        let peer = socket.remote.ip();
        listeners.accept(socket.local) && !peer.is_loopback() && !own.contains(&peer)
    });
    Ok(sockets)
}
