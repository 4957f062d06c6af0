//! What the kernel tells everybody about a commit: the types of its messages.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt,
    socket, sockopt,
};
use rustables::sys;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};

/// `NFNLGRP_NFTABLES` as a bit.
const GROUP: u32 = 1 << (7 - 1);

/// In bytes.
const BUFFER: usize = 16 << 20;

/// A listener in a namespace.
#[derive(Debug)]
pub(crate) struct Events {
    socket: OwnedFd,
}

impl Events {
    /// Listens in the namespace of this thread.
    pub(crate) fn listen() -> Self {
        let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkNetFilter);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Raw, flags, protocol).expect("a socket");
        // Large tables are told of in more than the default holds.
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("who made it may");
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUP)).expect("who made it may listen");
        Self { socket }
    }

    /// How many messages of each type came since the last time. The kernel tells before it
    /// acknowledges.
    pub(crate) fn take(&self) -> BTreeMap<u32, usize> {
        let mut types = BTreeMap::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => return types,
                Err(error) => panic!("no events: {error}"),
            };
            let mut datagram = &buffer[..length];
            while let [l0, l1, l2, l3, kind, _, ..] = *datagram {
                // The low byte of the type: the high one is the subsystem.
                let kind = if cfg!(target_endian = "little") { kind } else { datagram[5] };
                *types.entry(kind.into()).or_default() += 1;
                let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
                datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

/// Whether only elements changed.
pub(crate) fn is_elements_only(events: &BTreeMap<u32, usize>) -> bool {
    let allowed = [sys::NFT_MSG_NEWSETELEM, sys::NFT_MSG_DELSETELEM, sys::NFT_MSG_NEWGEN];
    events.keys().all(|kind| allowed.contains(kind))
}
