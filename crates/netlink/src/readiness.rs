//! Waiting for a socket of this crate on tokio's event loop.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Wakes a task when a descriptor can be read.
#[derive(Debug)]
pub struct Readiness {
    descriptor: AsyncFd<OwnedFd>,
}

impl Readiness {
    /// For a descriptor, of which it keeps a duplicate.
    ///
    /// # Errors
    /// When no descriptor is left, or it can't be polled.
    pub fn of(descriptor: &impl AsFd) -> io::Result<Self> {
        let descriptor = descriptor.as_fd().try_clone_to_owned()?;
        // SAFETY: an `OwnedFd` is a valid descriptor until it is dropped, and `AsyncFd`, which owns
        // it from here on, never gives it away.
        let registered = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
        Ok(Self { descriptor: registered.map_err(io::Error::from)? })
    }

    /// Returns when there may be something to read. The caller then reads until there is nothing:
    /// what arrives meanwhile makes the next call return at once.
    ///
    /// # Errors
    /// When the event loop ends.
    pub async fn wait(&self) -> io::Result<()> {
        self.descriptor.readable().await?.clear_ready();
        Ok(())
    }
}
