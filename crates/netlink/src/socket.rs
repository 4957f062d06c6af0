//! A netlink socket: one request and its answers at a time.
//!
//! Netlink answers within the system call that sends the request, and continues a dump within the
//! one that receives its last part. So nothing here ever waits: where no answer is queued, there
//! will be none.

use crate::attribute::Malformed;
use crate::error::Error;
use crate::message::{Message, Messages};
use crate::uapi::*;
use mnl::mnl_sys::mnl_socket_setsockopt;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{MsgFlags, NetlinkAddr, getsockname, getsockopt, recv, setsockopt, sockopt};
use nix::unistd::dup3_raw;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

/// The kernel fills at most 32 KiB at a time in a dump (`netlink_recvmsg`), and starts each time
/// from the first element of a set: a smaller buffer would make large dumps slower still.
const RECEIVE_SIZE: usize = 64 * 1024;

/// What the receive buffer is charged for one error message, with room to spare.
const ERROR_SIZE: usize = 2048;
/// The most that the receive buffer is raised to: a batch of which more messages fail than that
/// gives errors enough.
const RECEIVE_LIMIT: usize = 8 << 20;

/// What the kernel keeps for itself of the send buffer (`netlink_sendmsg`).
const SEND_OVERHEAD: usize = 32;

/// A netlink socket.
pub(crate) struct Socket {
    socket: mnl::Socket,
    buffer: Box<[u8]>,
    sequence: u32,
}

// SAFETY: libmnl's socket is a file descriptor and its address in a heap allocation of its own,
// used by nobody else; nothing in it belongs to a thread.
unsafe impl Send for Socket {}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as `self.socket` lives, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}

/// Whether all of a dump came from one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consistency {
    Consistent,
    /// The state changed meanwhile (`NLM_F_DUMP_INTR`).
    Interrupted,
}

impl Socket {
    /// Opens a socket that joins no group and that no program started later inherits. (libmnl could
    /// open it so, but the safe wrapper can't.)
    pub(crate) fn open(bus: mnl::Bus) -> Result<Self, Error> {
        let socket = mnl::Socket::new(bus).map_err(Error::Socket)?;
        let socket = Self { socket, buffer: vec![0; RECEIVE_SIZE].into_boxed_slice(), sequence: 0 };
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(|errno| Error::Socket(errno.into()))?;
        socket.report_details()
    }

    /// Goes on with a socket that was opened before, by this program or an earlier one.
    pub(crate) fn from_fd(fd: &OwnedFd) -> Result<Self, Error> {
        let error = |errno: Errno| Error::Socket(errno.into());
        getsockname::<NetlinkAddr>(fd.as_raw_fd()).map_err(error)?;
        let socket = mnl::Socket::open(mnl::Bus::Netfilter).map_err(Error::Socket)?;
        // SAFETY: the descriptor that is closed and replaced is libmnl's own, which is not bound
        // and knows nothing about its socket but the number of the descriptor, which stays.
        let replaced = unsafe { dup3_raw(fd, socket.as_raw_fd(), OFlag::O_CLOEXEC) };
        // What is open there from now on is closed by libmnl.
        let _ = replaced.map_err(error)?.into_raw_fd();
        let socket = Self { socket, buffer: vec![0; RECEIVE_SIZE].into_boxed_slice(), sequence: 0 };
        let mut socket = socket.report_details()?;
        socket.drain();
        Ok(socket)
    }

    fn report_details(self) -> Result<Self, Error> {
        let socket = self;
        // Errors that say which attribute is at fault, and don't repeat the message.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            socket.enable(option).map_err(Error::Socket)?;
        }
        Ok(socket)
    }

    fn enable(&self, option: libc::c_int) -> io::Result<()> {
        self.set(option, 1)
    }

    /// Begins to receive what is sent to a multicast group, given by its number and not its bit.
    pub(crate) fn join(&self, group: u32) -> io::Result<()> {
        self.set(libc::NETLINK_ADD_MEMBERSHIP, group as libc::c_int)
    }

    /// Receives no more of it.
    pub(crate) fn leave(&self, group: u32) -> io::Result<()> {
        self.set(libc::NETLINK_DROP_MEMBERSHIP, group as libc::c_int)
    }

    fn set(&self, option: libc::c_int, mut number: libc::c_int) -> io::Result<()> {
        let value = (&raw mut number).cast::<libc::c_void>();
        // SAFETY: libmnl's socket is valid, and the value is an int of the length given.
        let result = unsafe {
            let length = size_of::<libc::c_int>() as libc::socklen_t;
            mnl_socket_setsockopt(self.socket.as_raw_socket(), option, value, length)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The port that the kernel knows the socket by.
    pub(crate) fn port(&self) -> u32 {
        // libmnl knows only the port of a socket that it bound itself.
        getsockname::<NetlinkAddr>(self.socket.as_raw_fd()).map_or(0, |address| address.pid())
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends messages as one datagram.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = self.socket.send(bytes)?;
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Makes room for a datagram and the errors it may cause, or says how many bytes there is room
    /// for. Without CAP_NET_ADMIN in the initial user namespace, the limits of the system hold.
    pub(crate) fn make_room(&self, bytes: usize, messages: usize) -> Result<(), usize> {
        // The kernel doubles what it is given.
        if self.room() < bytes && setsockopt(self, sockopt::SndBufForce, &bytes).is_err() {
            // Cut off at net.core.wmem_max without an error.
            let _ = setsockopt(self, sockopt::SndBuf, &bytes);
        }
        self.make_room_to_receive((messages + 1).saturating_mul(ERROR_SIZE).min(RECEIVE_LIMIT));
        let room = self.room();
        if bytes <= room { Ok(()) } else { Err(room) }
    }

    /// Makes the receive buffer this large, or as large as it may be made. Where it is too small, the
    /// loss is noticed.
    pub(crate) fn make_room_to_receive(&self, bytes: usize) {
        if getsockopt(self, sockopt::RcvBuf).unwrap_or(0) < bytes
            && setsockopt(self, sockopt::RcvBufForce, &bytes).is_err()
        {
            let _ = setsockopt(self, sockopt::RcvBuf, &bytes);
        }
    }

    /// The largest datagram that can be sent.
    pub(crate) fn room(&self) -> usize {
        getsockopt(self, sockopt::SndBuf).unwrap_or(0).saturating_sub(SEND_OVERHEAD)
    }

    /// What is queued of one datagram, none if nothing is.
    pub(crate) fn receive(&mut self) -> io::Result<Option<&[u8]>> {
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        };
        // With MSG_TRUNC the length is that of the datagram, however much of it fit.
        self.buffer.get(..length).map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Throws away answers to requests that were given up.
    pub(crate) fn drain(&mut self) {
        // An error is the loss of something nobody waits for, and is reported once.
        while !matches!(self.receive(), Ok(None)) {}
    }

    /// Sends one request and hands every message of its answer to `take`. The request asks for an
    /// acknowledgement or is a dump: both have an end.
    pub(crate) fn ask(
        &mut self,
        what: &'static str,
        request: &[u8],
        mut take: impl FnMut(Message<'_>) -> Result<(), Malformed>,
    ) -> Result<Consistency, Error> {
        let transport = |source| Error::Transport { what, source };
        let malformed = Error::malformed(what);
        let sequence = self.sequence;
        self.drain();
        self.send(request).map_err(transport)?;
        let mut consistency = Consistency::Consistent;
        while let Some(datagram) = self.receive().map_err(transport)? {
            for message in Messages::new(datagram) {
                let message = message.map_err(&malformed)?;
                if message.sequence != sequence {
                    continue;
                }
                if message.flags & NLM_F_DUMP_INTR != 0 && message.kind != NLMSG_ERROR {
                    consistency = Consistency::Interrupted;
                }
                let errno = match message.kind {
                    NLMSG_ERROR => message.error().map_err(&malformed)?.errno,
                    NLMSG_DONE if message.payload.len() < 4 => 0,
                    NLMSG_DONE => message.error().map_err(&malformed)?.errno,
                    _ => {
                        take(message).map_err(&malformed)?;
                        continue;
                    }
                };
                return match Errno::from_raw(errno) {
                    _ if errno == 0 => Ok(consistency),
                    Errno::EPERM => Err(Error::NotPermitted),
                    errno => Err(Error::Refused { what, errno }),
                };
            }
        }
        Err(Error::Malformed { what })
    }
}
