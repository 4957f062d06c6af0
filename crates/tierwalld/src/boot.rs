//! Which boot of the machine this is, and how long ago it was: a clock that nobody sets.

use netlink::Readiness;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use std::fs;
use std::io;
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

/// A timer by that clock: what came due while the machine slept is due when it wakes. The timers of
/// the event loop stand still in that time.
#[derive(Debug)]
pub(crate) struct Timer {
    timer: TimerFd,
    readiness: Readiness,
}

impl Timer {
    /// One that isn't set.
    ///
    /// # Errors
    /// When the process or the system has no file descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(timerfd::ClockId::CLOCK_BOOTTIME, flags)?;
        Ok(Self { readiness: Readiness::of(&timer)?, timer })
    }

    /// Sets it to be due in so long, or not at all. Returns whether it is set.
    pub(crate) fn set(&self, left: Option<Duration>) -> bool {
        let Some(left) = left else {
            let _ = self.timer.unset();
            return false;
        };
        // Zero would unset it.
        let left = TimeSpec::from(left.max(Duration::from_nanos(1)));
        self.timer.set(Expiration::OneShot(left), TimerSetTimeFlags::empty()).is_ok()
    }

    /// Waits until it is due. Never, while it isn't set.
    pub(crate) async fn due(&self) {
        while self.readiness.wait().await.is_ok() {
            // Where it was set anew meanwhile, there is nothing to read.
            if self.timer.wait().is_ok() {
                return;
            }
        }
        // The event loop ends.
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Instant;

    #[tokio::test]
    async fn it_is_due_when_it_was_set_to_be_by_the_clock_that_counts_sleep() {
        let timer = Timer::new().expect("made");
        let fd = timer.timer.as_fd().as_raw_fd();
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).expect("readable");
        // CLOCK_BOOTTIME of uapi/linux/time.h.
        assert!(info.lines().any(|line| line == "clockid: 7"), "{info}");
        let start = Instant::now();
        assert!(timer.set(Some(Duration::from_secs(3600))));
        assert!(timer.set(Some(Duration::from_millis(30))));
        timer.due().await;
        assert!(start.elapsed() >= Duration::from_millis(30));
        assert!(timer.set(Some(Duration::ZERO)), "what is over is due at once");
        timer.due().await;
        assert!(!timer.set(None));
    }
}
