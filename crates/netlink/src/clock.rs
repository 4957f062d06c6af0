//! Whether the kernel takes its clock for right.

use nix::libc::{STA_UNSYNC, TIME_ERROR, adjtimex, timex};
use std::io;
use std::mem::MaybeUninit;

/// Whether somebody keeps the system's clock in step with others: what `timedatectl` and `chronyc`
/// tell too. It needs no rights.
///
/// # Errors
/// When the system call is forbidden.
pub fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: a timex is numbers only, for which zeros are values; with `modes` 0 nothing is set.
    let mut clock: timex = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the kernel writes into the one timex that it is given.
    let state = unsafe { adjtimex(&raw mut clock) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(state != TIME_ERROR && clock.status & STA_UNSYNC == 0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers() {
        assert!(super::clock_is_synchronised().is_ok());
    }
}
