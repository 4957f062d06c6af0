//! Which changes wait, and for what. A value without a clock of its own.
//!
//! A change is told at once. But editors and tools change a file in two steps: the old one is
//! deleted or renamed away, then the new one is created and written. A load between the steps
//! would find the file missing, and where a wildcard includes it, that is a good policy with its
//! tiers and allows gone. So a name that was only taken away, or only created, is unsettled for a
//! time, and changes elsewhere wait for it too, but never longer than [`SETTLE`].

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;
use tokio::time::Instant;

/// How long a name stays unsettled that was taken away, and how long other changes wait for it.
pub(crate) const SETTLE: Duration = Duration::from_millis(100);

/// How long a new file must lie still that nobody was seen to close. Who creates a file by
/// open(2) closes it, which is told; one made by O_TMPFILE and linkat(2) looks the same from here
/// and nothing more is told of it. Long enough for a download that stalls.
pub(crate) const UNCLOSED: Duration = Duration::from_secs(5);

/// The changes that were seen and not yet told.
#[derive(Debug)]
pub(crate) struct Settling<N> {
    /// When the first one came.
    due: Option<Instant>,
    /// Unsettled names, and until when.
    unsettled: HashMap<N, Instant>,
}

/// What there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Tell of a change.
    Tell,
    /// Wait until something happens, or this time.
    WaitUntil(Instant),
    /// Wait until something happens.
    Wait,
}

impl<N: Eq + Hash + Clone> Settling<N> {
    pub(crate) fn new() -> Self {
        Self { due: None, unsettled: HashMap::new() }
    }

    /// A change of anything.
    pub(crate) fn change(&mut self, now: Instant) {
        self.due.get_or_insert(now);
    }

    /// A name is what it was to become.
    pub(crate) fn settle(&mut self, name: &N, now: Instant) {
        self.unsettled.remove(name);
        self.change(now);
    }

    /// A name may become something else until then.
    pub(crate) fn unsettle(&mut self, name: N, until: Instant) {
        self.unsettled.insert(name, until);
    }

    pub(crate) fn is_unsettled(&self, name: &N) -> bool {
        self.unsettled.contains_key(name)
    }

    /// Forgets names that matter no more.
    pub(crate) fn retain(&mut self, matters: impl Fn(&N) -> bool) {
        self.unsettled.retain(|name, _| matters(name));
    }

    /// Takes the names whose time is up.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<N> {
        let is_up = |(name, until): (&N, &Instant)| (*until <= now).then(|| name.clone());
        let names: Vec<N> = self.unsettled.iter().filter_map(is_up).collect();
        self.unsettled.retain(|_, until| *until > now);
        names
    }

    /// What there is to do. A change is told only once.
    pub(crate) fn next(&mut self, now: Instant) -> Next {
        let told = self.due.map(|due| due + SETTLE);
        if told.is_some_and(|told| self.unsettled.is_empty() || told <= now) {
            self.due = None;
            return Next::Tell;
        }
        let times = self.unsettled.values().copied().chain(told);
        times.min().map_or(Next::Wait, Next::WaitUntil)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_at_once_and_once() {
        let now = Instant::now();
        let mut settling = Settling::<&str>::new();
        assert_eq!(settling.next(now), Next::Wait);
        settling.change(now);
        settling.change(now);
        assert_eq!(settling.next(now), Next::Tell);
        assert_eq!(settling.next(now), Next::Wait);
    }

    #[test]
    fn a_change_waits_for_unsettled_names_but_not_for_long() {
        let now = Instant::now();
        let mut settling = Settling::new();
        settling.unsettle("a", now + UNCLOSED);
        settling.change(now);
        assert_eq!(settling.next(now), Next::WaitUntil(now + SETTLE));
        assert_eq!(settling.next(now + SETTLE), Next::Tell);
        assert_eq!(settling.next(now + SETTLE), Next::WaitUntil(now + UNCLOSED));
        settling.change(now + SETTLE);
        settling.settle(&"a", now + SETTLE);
        assert_eq!(settling.next(now + SETTLE), Next::Tell);
    }

    #[test]
    fn a_name_taken_away_and_back_is_one_change() {
        let now = Instant::now();
        let mut settling = Settling::new();
        settling.unsettle("a", now + SETTLE);
        assert_eq!(settling.next(now), Next::WaitUntil(now + SETTLE));
        settling.settle(&"a", now);
        assert_eq!(settling.next(now), Next::Tell);
        assert!(settling.expired(now + SETTLE).is_empty());
    }

    #[test]
    fn a_name_expires_once() {
        let now = Instant::now();
        let mut settling = Settling::new();
        settling.unsettle("a", now + SETTLE);
        settling.unsettle("b", now + UNCLOSED);
        assert!(settling.expired(now).is_empty());
        assert_eq!(settling.expired(now + SETTLE), ["a"]);
        assert!(settling.expired(now + SETTLE).is_empty());
        settling.retain(|name| *name != "b");
        assert_eq!(settling.next(now), Next::Wait);
    }
}
