//! When a load began, to tell what may have changed since.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The kernel stamps inodes with the time of its last tick, at most 10 ms ago (100 Hz). Twice that.
const COARSE: Duration = Duration::from_millis(20);

/// When a load began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadStart {
    wall: SystemTime,
    monotonic: Instant,
}

impl LoadStart {
    /// A load that begins now, before it reads anything.
    pub fn now() -> Self {
        Self { wall: SystemTime::now(), monotonic: Instant::now() }
    }

    /// Whether the clock was set since. Then no stamp of an inode says anything.
    pub(crate) fn clock_was_set(&self) -> bool {
        let expected = self.wall + self.monotonic.elapsed();
        let drift = match SystemTime::now().duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        drift > COARSE
    }

    /// Whether what was last changed at this time may have changed since.
    pub(crate) fn may_precede(&self, change: SystemTime) -> bool {
        change + COARSE >= self.wall
    }
}

/// When an inode was last changed, its content or its attributes.
pub(crate) fn change_time(metadata: &Metadata) -> SystemTime {
    let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
    let nanoseconds = u32::try_from(metadata.ctime_nsec()).unwrap_or_default();
    UNIX_EPOCH + Duration::new(seconds.min(u64::from(u32::MAX)), nanoseconds.min(999_999_999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_just_before_the_load_may_have_come_after() {
        let start = LoadStart::now();
        assert!(start.may_precede(start.wall + Duration::from_secs(1)));
        assert!(start.may_precede(start.wall - Duration::from_millis(10)));
        assert!(!start.may_precede(start.wall - Duration::from_millis(30)));
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_in_both_directions() {
        let start = LoadStart::now();
        assert!(!start.clock_was_set());
        for wall in [start.wall - Duration::from_secs(9), start.wall + Duration::from_secs(9)] {
            assert!(LoadStart { wall, ..start }.clock_was_set());
        }
    }
}
