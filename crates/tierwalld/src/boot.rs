//! Which boot of the machine this is, and how long ago it was: a clock that nobody sets.

use nix::time::{ClockId, clock_gettime};
use std::fs;
use std::time::Duration;

/// What names this boot. None where the kernel doesn't say.
pub(crate) fn id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned())
}

/// The time since the boot, with that in which the machine slept (`CLOCK_BOOTTIME`). None where the
/// kernel doesn't say.
pub(crate) fn time() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_BOOTTIME).ok().map(Duration::from)
}
