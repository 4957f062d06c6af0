//! How many connections were denied in the last ten minutes, to the tenth second.

use control::DenialRate;

/// The length of a slot, in seconds, and how many there are.
const SLOT: u32 = 10;
const SLOTS: usize = 60;

/// The longest time that is looked back, and forward from a change, in seconds.
pub(super) const WINDOW: u32 = SLOT * SLOTS as u32;

/// Counts of the last ten minutes.
#[derive(Debug)]
pub(super) struct Recent {
    /// Between known addresses, and of strangers.
    slots: [(u32, u32); SLOTS],
    /// The slot that was counted in last, since the clock began.
    latest: u32,
    /// Since when packets are read; none while they aren't.
    since: Option<u32>,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { slots: [(0, 0); SLOTS], latest: 0, since: None }
    }

    /// Packets are read from now on, or no longer.
    pub(super) fn reads(&mut self, seconds: Option<u32>) {
        self.since = seconds;
    }

    /// Counts a connection. `seconds` is of a clock that goes forward only.
    pub(super) fn count(&mut self, seconds: u32, is_known: bool) {
        self.advance(seconds);
        let (known, strangers) = &mut self.slots[(self.latest as usize) % SLOTS];
        let count = if is_known { known } else { strangers };
        *count = count.saturating_add(1);
    }

    /// What was counted until now, in at most [`WINDOW`] seconds.
    pub(super) fn rate(&mut self, seconds: u32) -> DenialRate {
        self.advance(seconds);
        let Some(since) = self.since else { return DenialRate::default() };
        let mut rate = DenialRate::default();
        for (known, strangers) in self.slots {
            rate.connections += u64::from(known);
            rate.strangers += u64::from(strangers);
        }
        rate.seconds = seconds.saturating_sub(since).min(WINDOW).into();
        rate
    }

    /// Clears the slots between.
    fn advance(&mut self, seconds: u32) {
        let slot = (seconds / SLOT).max(self.latest);
        for between in (self.latest + 1..=slot).take(SLOTS) {
            self.slots[between as usize % SLOTS] = (0, 0);
        }
        self.latest = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_are_remembered() {
        let mut recent = Recent::new();
        assert_eq!(recent.rate(5).seconds, 0, "nobody reads");
        recent.reads(Some(10));
        recent.count(10, true);
        recent.count(300, false);
        let rate = recent.rate(310);
        assert_eq!((rate.connections, rate.strangers, rate.seconds), (1, 1, 300));
        let rate = recent.rate(615);
        assert_eq!((rate.connections, rate.strangers, rate.seconds), (0, 1, 600));
        assert_eq!(recent.rate(100_000).strangers, 0);
        // A clock that stood still counts where it was.
        recent.count(99_000, true);
        assert_eq!(recent.rate(100_000).connections, 1);
    }
}
