//! Whether the kernel takes its clock for right, and what it is here.

use nix::libc::{STA_UNSYNC, TIME_ERROR, adjtimex, localtime_r, time, timex, tm};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;

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

/// The seconds by which the local clock is ahead of UTC now, by `TZ` or /etc/localtime; 0 if nobody
/// knows.
pub(crate) fn local_offset() -> i64 {
    // SAFETY: a tm is numbers and a pointer that nobody reads, for which zeros are values.
    let mut local: tm = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: a null pointer asks for no second copy of the answer.
    let now = unsafe { time(ptr::null_mut()) };
    // SAFETY: both are valid for the call, and localtime_r writes into the one tm that it is given.
    let known = unsafe { localtime_r(&raw const now, &raw mut local) };
    if known.is_null() { 0 } else { local.tm_gmtoff }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_answers() {
        assert!(super::clock_is_synchronised().is_ok());
    }
}
