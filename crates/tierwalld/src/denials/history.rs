//! Counts over time: of the last hour by the minute, of the last day by the hour, and in all.

use serde::{Deserialize, Serialize};

/// Minutes and hours that are kept. The present one of each is under way.
const MINUTES: usize = 61;
const HOURS: usize = 25;

/// The longest time that is told apart from all, in seconds.
pub(crate) const LONGEST: u64 = 24 * 3600;

/// The highest count that is kept, a million packets a second for nine years: sums of what a forged
/// or damaged file says overflow nothing.
pub(super) const MOST: u64 = 1 << 48;

/// Two counts together.
pub(super) fn sum(a: u64, b: u64) -> u64 {
    a.saturating_add(b).min(MOST)
}

/// How many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) connections: u64,
    pub(crate) packets: u64,
}

/// A slot of a ring: 32 bits hold an hour of a million packets a second.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    connections: u32,
    packets: u32,
}

/// Counts by when they were.
#[derive(Debug, Clone)]
pub(crate) struct History {
    minutes: [Slot; MINUTES],
    hours: [Slot; HOURS],
    /// The minute that was counted in last, since 1970.
    minute: u64,
    /// The first one.
    began: u64,
    all: Count,
}

/// The same for a file: only slots that aren't empty, by how long they were before the last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeptHistory {
    minute: u64,
    began: u64,
    all: (u64, u64),
    minutes: Vec<(u8, u32, u32)>,
    hours: Vec<(u8, u32, u32)>,
}

impl Slot {
    fn add(&mut self, connections: u32, packets: u32) {
        self.connections = self.connections.saturating_add(connections);
        self.packets = self.packets.saturating_add(packets);
    }
}

impl Count {
    fn add(&mut self, slot: Slot) {
        self.connections = sum(self.connections, slot.connections.into());
        self.packets = sum(self.packets, slot.packets.into());
    }

    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            connections: sum(self.connections, other.connections),
            packets: sum(self.packets, other.packets),
        }
    }
}

impl History {
    /// Nothing yet, at this time.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            minutes: [Slot::default(); MINUTES],
            hours: [Slot::default(); HOURS],
            minute: now / 60,
            began: now / 60,
            all: Count::default(),
        }
    }

    /// Counts a packet, and a connection if it begins one.
    pub(crate) fn count(&mut self, now: u64, is_new: bool) {
        self.advance(now / 60);
        let connections = u32::from(is_new);
        self.minutes[(self.minute % MINUTES as u64) as usize].add(connections, 1);
        self.hours[(self.minute / 60 % HOURS as u64) as usize].add(connections, 1);
        self.all = self.all.and(Count { connections: is_new.into(), packets: 1 });
    }

    /// In all.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Count {
        self.all
    }

    /// In the last `seconds`: by the minute up to an hour, by the hour up to a day, else in all. The
    /// minute or hour that the time begins in counts whole.
    pub(crate) fn last(&self, now: u64, seconds: Option<u64>) -> Count {
        let minute = now / 60;
        let Some(seconds) = seconds.filter(|seconds| *seconds <= LONGEST) else { return self.all };
        let mut count = Count::default();
        if seconds <= 3600 {
            let first = now.saturating_sub(seconds) / 60;
            (first..=minute).for_each(|minute| count.add(self.minute(minute)));
        } else {
            let first = now.saturating_sub(seconds) / 3600;
            (first..=minute / 60).for_each(|hour| count.add(self.hour(hour)));
        }
        count
    }

    /// New connections in each of the last 60 minutes, the present one last.
    pub(crate) fn connections_by_minute(&self, now: u64) -> Vec<u32> {
        let minute = now / 60;
        (minute.saturating_sub(59)..=minute).map(|minute| self.minute(minute).connections).collect()
    }

    /// For a file.
    pub(crate) fn kept(&self) -> KeptHistory {
        let slots = |slots: &[Slot], last: u64| {
            let length = slots.len() as u64;
            let slot = |ago: u64| {
                let Slot { connections, packets } =
                    slots[(last.checked_sub(ago)? % length) as usize];
                (packets > 0).then_some((ago as u8, connections, packets))
            };
            (0..length).filter_map(slot).collect()
        };
        KeptHistory {
            minute: self.minute,
            began: self.began,
            all: (self.all.connections, self.all.packets),
            minutes: slots(&self.minutes, self.minute),
            hours: slots(&self.hours, self.minute / 60),
        }
    }

    /// The clock was set back to this time: all of it was as much earlier.
    pub(crate) fn set_back(&mut self, now: u64) {
        if now / 60 < self.minute {
            *self = self.kept().at(now);
        }
    }

    /// Takes in what another one counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.advance(other.minute);
        self.all = self.all.and(other.all);
        for minute in other.began.max(self.minute.saturating_sub(MINUTES as u64 - 1))..=other.minute
        {
            let Slot { connections, packets } = other.minute(minute);
            self.minutes[(minute % MINUTES as u64) as usize].add(connections, packets);
        }
        let oldest = (self.minute / 60).saturating_sub(HOURS as u64 - 1);
        for hour in (other.began / 60).max(oldest)..=other.minute / 60 {
            let Slot { connections, packets } = other.hour(hour);
            self.hours[(hour % HOURS as u64) as usize].add(connections, packets);
        }
    }

    /// What was counted in a minute; nothing where that isn't kept.
    fn minute(&self, minute: u64) -> Slot {
        let kept = minute <= self.minute && minute + MINUTES as u64 > self.minute;
        let slot = self.minutes[(minute % MINUTES as u64) as usize];
        if kept { slot } else { Slot::default() }
    }

    fn hour(&self, hour: u64) -> Slot {
        let latest = self.minute / 60;
        let kept = hour <= latest && hour + HOURS as u64 > latest;
        let slot = self.hours[(hour % HOURS as u64) as usize];
        if kept { slot } else { Slot::default() }
    }

    /// Clears the slots between. A clock that was set back counts in the minute that was last.
    fn advance(&mut self, minute: u64) {
        if minute <= self.minute {
            return;
        }
        let clear = |slots: &mut [Slot], last: u64, next: u64| {
            let length = slots.len() as u64;
            for at in (last + 1..=next).take(slots.len()) {
                slots[(at % length) as usize] = Slot::default();
            }
        };
        clear(&mut self.minutes, self.minute, minute);
        clear(&mut self.hours, self.minute / 60, minute / 60);
        self.minute = minute;
    }
}

impl KeptHistory {
    /// As it was. Where the clock is behind, all of it was as much earlier.
    pub(crate) fn at(self, now: u64) -> History {
        let minute = self.minute.min(now / 60);
        let mut history = History {
            minute,
            began: self.began.min(minute),
            all: Count { connections: self.all.0.min(MOST), packets: self.all.1.min(MOST) },
            ..History::new(0)
        };
        let fill = |slots: &mut [Slot], last: u64, kept: &[(u8, u32, u32)]| {
            let length = slots.len() as u64;
            for (ago, connections, packets) in kept {
                if let Some(at) = last.checked_sub((*ago).into()) {
                    slots[(at % length) as usize].add(*connections, *packets);
                }
            }
        };
        fill(&mut history.minutes, minute, &self.minutes);
        fill(&mut history.hours, minute / 60, &self.hours);
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 1_700_000_000 / 86_400 * 86_400 + 43_200;

    fn connections(history: &History, now: u64, seconds: u64) -> u64 {
        history.last(now, Some(seconds)).connections
    }

    #[test]
    fn a_time_is_counted_by_the_minute_then_by_the_hour() {
        let mut history = History::new(NOON);
        history.count(NOON, true);
        history.count(NOON + 30, false);
        history.count(NOON + 600, true);
        history.count(NOON + 7200, true);
        let now = NOON + 7200;
        assert_eq!(connections(&history, now, 60), 1);
        assert_eq!(connections(&history, now, 3600), 1);
        assert_eq!(connections(&history, now, 7200), 3);
        assert_eq!(history.last(now, None), Count { connections: 3, packets: 4 });
        assert_eq!(connections(&history, NOON + 2 * LONGEST, LONGEST), 0);
        assert_eq!(history.all().connections, 3);
    }

    #[test]
    fn a_minute_that_comes_again_in_the_ring_begins_anew() {
        let mut history = History::new(NOON);
        history.count(NOON, true);
        history.count(NOON + 60 * MINUTES as u64, true);
        assert_eq!(connections(&history, NOON + 60 * MINUTES as u64, 3600), 1);
        // A clock that was set back loses nothing.
        history.count(NOON, true);
        assert_eq!(history.all().connections, 3);
    }

    #[test]
    fn two_together_are_what_one_would_be() {
        let times = [0, 10, 61, 3599, 3600, 7300, 90_000, 90_030];
        let mut whole = History::new(NOON);
        let (mut one, mut other) = (History::new(NOON), History::new(NOON));
        for (index, time) in times.into_iter().enumerate() {
            whole.count(NOON + time, index % 3 == 0);
            if index % 2 == 0 { &mut one } else { &mut other }.count(NOON + time, index % 3 == 0);
        }
        for (mut into, from) in [(one.clone(), &other), (other.clone(), &one)] {
            into.merge(from);
            for seconds in [30, 60, 3600, 7200, 80_000] {
                let now = NOON + 90_030;
                assert_eq!(into.last(now, Some(seconds)), whole.last(now, Some(seconds)));
            }
            assert_eq!(into.all(), whole.all());
        }
    }
}
