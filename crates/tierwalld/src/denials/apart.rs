//! Counts of members of tiers apart from those of all others. Whoever forges addresses can fill a
//! table, and takes no place that a member has.

use super::heavy::{Entry, Heavy, KeptEntry};
use super::history::{Count, KeptHistory};
use serde::{Deserialize, Serialize};
use std::hash::Hash;

/// Counts by key. A key has one place: from the first packet of a member on, among theirs.
#[derive(Debug)]
pub(crate) struct Apart<K> {
    of_members: Heavy<K>,
    of_others: Heavy<K>,
}

/// The same for a file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct KeptApart<T> {
    of_members: KeptTable<T>,
    of_others: KeptTable<T>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptTable<T> {
    entries: Vec<KeptEntry<T>>,
    rest: KeptHistory,
    evicted: u64,
}

impl<K: Copy + Eq + Hash> Apart<K> {
    /// Room for so many keys of members and as many of others, at this time.
    pub(crate) fn new(capacity: usize, now: u64) -> Self {
        Self { of_members: Heavy::new(capacity, now), of_others: Heavy::new(capacity, now) }
    }

    /// Counts a packet, and a connection if it begins one.
    pub(crate) fn count(&mut self, key: K, is_member: bool, now: u64, is_new: bool) {
        if !is_member && !self.of_members.has(&key) {
            self.of_others.count(key, now, is_new);
            return;
        }
        if let Some(entry) = self.of_others.take(&key) {
            self.of_members.put(entry);
        }
        self.of_members.count(key, now, is_new);
    }

    /// How many keys of each have a place at most.
    pub(crate) fn capacity(&self) -> usize {
        self.of_members.capacity()
    }

    /// All keys that have a place.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry<K>> {
        self.of_members.entries().iter().chain(self.of_others.entries())
    }

    /// What was counted of keys that have no place in the last `seconds`.
    pub(crate) fn rest(&self, now: u64, seconds: Option<u64>) -> Count {
        self.of_members.rest(now, seconds).and(self.of_others.rest(now, seconds))
    }

    /// The clock was set back to this time.
    pub(crate) fn set_back(&mut self, now: u64) {
        self.of_members.set_back(now);
        self.of_others.set_back(now);
    }

    /// For a file, with what its keys are there.
    pub(crate) fn kept<T>(&self, key: impl Fn(&K) -> T) -> KeptApart<T> {
        let Self { of_members, of_others } = self;
        let table = |heavy: &Heavy<K>| KeptTable {
            entries: heavy.entries().iter().map(|entry| entry.kept(&key)).collect(),
            rest: heavy.kept_rest(),
            evicted: heavy.evicted,
        };
        KeptApart { of_members: table(of_members), of_others: table(of_others) }
    }

    /// Takes the place of all that was counted. Keys that are the same now are counted together;
    /// those that `key` has none for are left out.
    pub(crate) fn restore<T>(
        &mut self,
        kept: KeptApart<T>,
        now: u64,
        key: impl Fn(T) -> Option<K>,
    ) {
        let KeptApart { of_members, of_others } = kept;
        for (heavy, kept) in [(&mut self.of_members, of_members), (&mut self.of_others, of_others)]
        {
            let KeptTable { entries, rest, evicted } = kept;
            let entries = entries.into_iter().filter_map(|entry| entry.with(&key));
            heavy.restore(entries, rest.at(now), evicted, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000;

    fn packets<K: Copy + Eq + Hash>(apart: &Apart<K>) -> u64 {
        let placed = apart.entries().map(|entry| entry.history.all().packets).sum::<u64>();
        placed + apart.rest(NOW, None).packets
    }

    #[test]
    fn others_take_no_place_of_a_member() {
        let mut apart = Apart::new(4, NOW);
        for round in 0..5 {
            apart.count(7, true, NOW, true);
            for key in 0..100 {
                apart.count(1000 + 100 * round + key, false, NOW, true);
            }
        }
        let member = apart.entries().find(|entry| entry.key == 7).expect("a place");
        assert_eq!((member.history.all().packets, member.uncertain), (5, 0));
        assert_eq!((apart.entries().count(), packets(&apart)), (5, 505));
    }

    #[test]
    fn a_key_is_in_one_place_whoever_it_is_of() {
        let mut apart = Apart::new(4, NOW);
        for (key, is_member) in [(7, false), (8, false), (7, true), (7, false), (8, true)] {
            apart.count(key, is_member, NOW, true);
        }
        let mut counted: Vec<_> =
            apart.entries().map(|entry| (entry.key, entry.history.all().packets)).collect();
        counted.sort_unstable();
        assert_eq!(counted, [(7, 3), (8, 2)]);
        assert_eq!(packets(&apart), 5);
    }
}
