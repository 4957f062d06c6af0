//! A socket that an earlier process left open for this one, with the service manager
//! (sd_listen_fds(3)).
//!
//! A table that is owned belongs to a socket. Where that outlives the process, nobody else can
//! touch the table in between, whatever became of the process.

use crate::connection::Connection;
use crate::error::Error;
use crate::socket::Socket;
use nix::libc;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the descriptors were taken.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes over the descriptors that were passed to this process, each with its name. A second call
/// returns none.
///
/// # Errors
/// When the environment says that there are some, and they aren't there.
pub fn inherited() -> io::Result<Vec<(String, OwnedFd)>> {
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let passed = sd_notify::listen_fds_with_names()?;
    let own = passed.map(|(descriptor, name)| {
        // SAFETY: the service manager passed it to this very process (LISTEN_PID) to own, it is
        // open (FD_CLOEXEC was set on it just now), and `TAKEN` makes sure that nobody takes it
        // twice.
        (name, unsafe { OwnedFd::from_raw_fd(descriptor) })
    });
    Ok(own.collect())
}

impl Connection {
    /// Goes on with the socket of an earlier connection, which somebody has kept open: a table
    /// that is owned by it stays so. What it still holds, such as the answer to a commit that was
    /// interrupted, is thrown away.
    ///
    /// # Errors
    /// When it isn't a netfilter socket of this network namespace that works.
    pub fn from_socket(kept: OwnedFd) -> Result<Self, Error> {
        let fresh = Socket::open(mnl::Bus::Netfilter)?;
        if identity(&kept).map_err(Error::Socket)? != identity(&fresh).map_err(Error::Socket)? {
            let text = "not a netfilter socket of this network namespace";
            return Err(Error::Socket(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        let mut connection = Self::new(Socket::from_fd(&kept)?);
        connection.generation()?;
        Ok(connection)
    }
}

/// What a socket was made with, and a number of its network namespace that is never used again
/// (5.14).
fn identity(socket: &impl AsFd) -> io::Result<(libc::c_int, libc::c_int, u64)> {
    Ok((
        option(socket, libc::SO_DOMAIN)?,
        option(socket, libc::SO_PROTOCOL)?,
        option(socket, libc::SO_NETNS_COOKIE)?,
    ))
}

/// A number that the kernel knows of a socket.
fn option<T: Number>(socket: &impl AsFd, name: libc::c_int) -> io::Result<T> {
    let mut value = T::default();
    let mut length = size_of::<T>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes, which any
    // integer has room for and any bytes make one.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            name,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Integers: nothing else may be filled with any bytes.
trait Number: Default {}
impl Number for libc::c_int {}
impl Number for u64 {}
