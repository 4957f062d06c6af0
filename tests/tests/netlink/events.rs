//! Who listens to nftables hears of commits and of nothing else.

use crate::fixture::*;
use netlink::{Connection, Handles, Hold};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};
use tierwall_tests::namespace::Namespace;

/// `NFNLGRP_NFTABLES` is group 7: bit 6 of the mask.
const NFTABLES: u32 = 1 << 6;

/// A socket that hears of every change of the ruleset in the namespace.
pub(crate) struct Listener(OwnedFd);

impl Listener {
    pub(crate) fn open() -> Self {
        let kind = SockType::Raw;
        let protocol = SockProtocol::NetlinkNetFilter;
        let listener =
            socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        bind(listener.as_raw_fd(), &NetlinkAddr::new(0, NFTABLES)).unwrap();
        Self(listener)
    }

    /// Whether anything was announced since the last time.
    pub(crate) fn heard(&self) -> bool {
        let mut buffer = vec![0; 1 << 16];
        let mut heard = false;
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => heard = true,
                Err(Errno::EAGAIN) => return heard,
                Err(errno) => panic!("{errno}"),
            }
        }
    }
}

#[test]
fn a_commit_is_announced_and_probing_is_not() {
    let namespace = Namespace::new().unwrap();
    namespace.run(|| {
        let listener = Listener::open();
        let mut connection = Connection::open().unwrap();
        let before = connection.generation().unwrap();
        let features = connection.probe().unwrap();
        assert_eq!(connection.generation().unwrap(), before);
        assert!(!listener.heard());
        assert_eq!(connection.dump().unwrap().ruleset, Default::default());
        // Each needs the one before.
        assert!(features.owner || !features.persistent_owner);

        connection.commit(&creation(&small()), &Handles::default(), None, Hold::Plain).unwrap();
        assert!(listener.heard());
    });
}
