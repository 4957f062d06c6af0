//! Notice of changes of this host's addresses, by rtnetlink.
//!
//! It says that they changed and not how: whoever acts on it reads [`addresses()`](crate::addresses)
//! then, so that an event that came twice, late or not at all leads to nothing wrong.

use crate::address::Found;
use crate::error::Error;
use crate::message::{Message, Messages};
use crate::socket::Socket;
use crate::uapi::*;
use nix::errno::Errno;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

const WHAT: &str = "changes of this host's addresses";

/// Tells of changes of the addresses in the network namespace in which it was opened. It never
/// blocks: its file descriptor says when there is something to [`read`](Self::read).
pub struct AddressEvents {
    socket: Socket,
}

impl fmt::Debug for AddressEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressEvents")
    }
}

impl AsFd for AddressEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AddressEvents {
    /// Listens from now on. List the addresses after that, and no change is missed.
    ///
    /// # Errors
    /// When there is no netlink socket to be had. It needs no rights.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(mnl::Bus::Route)?;
        for group in [RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR] {
            socket.join(group).map_err(Error::Socket)?;
        }
        Ok(Self { socket })
    }

    /// Reads all that is queued. Returns whether what [`addresses()`](crate::addresses) lists may
    /// have changed; it also may have where events were lost.
    ///
    /// # Errors
    /// When the socket fails for good.
    pub fn read(&mut self) -> Result<bool, Error> {
        let mut changed = false;
        loop {
            match self.socket.receive() {
                Ok(None) => return Ok(changed),
                Ok(Some(datagram)) => {
                    changed |= Messages::new(datagram).any(|message| {
                        // What can't be read may be anything.
                        message.is_err() || message.is_ok_and(concerns)
                    })
                }
                // Reported once; what is queued can still be read.
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => changed = true,
                Err(source) => return Err(Error::Transport { what: WHAT, source }),
            }
        }
    }
}

/// Whether a message is about an address that others may reach this host by. One that turned out to
/// be taken is among them: it no longer counts.
fn concerns(message: Message<'_>) -> bool {
    let kind = message.kind == RTM_NEWADDR || message.kind == RTM_DELADDR;
    kind && !matches!(Found::read(message), Ok(None))
}
