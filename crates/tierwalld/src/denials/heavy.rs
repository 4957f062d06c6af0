//! The heaviest of a stream of keys, in bounded memory: *space-saving* (Metwally, Agrawal, El Abbadi,
//! "Efficient computation of frequent and top-k elements in data streams", 2005).
//!
//! As long as there are no more different keys than places, everything is exact. Beyond, a new key
//! takes the place of the lightest one, whose counts go to the rest, and starts with its weight.
//! So: the counts of all keys and of the rest are together those of the stream, always; a key that
//! makes up more than one part in `capacity` of the packets has a place; and what a key may have
//! counted before it got its place is at most the weight it started with.

use super::history::{Count, History, KeptHistory, LONGEST, MOST, sum};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::Hash;

/// Counts by key.
#[derive(Debug)]
pub(crate) struct Heavy<K> {
    capacity: usize,
    places: HashMap<K, u32>,
    entries: Vec<Entry<K>>,
    /// Indexes of entries as a binary heap, the lightest first.
    heap: Vec<u32>,
    /// What was counted of keys that have no place.
    rest: History,
    /// How often a key lost its place.
    pub(crate) evicted: u64,
    /// The hour in which the weights were taken anew.
    hour: u64,
}

/// What is known of a key.
#[derive(Debug, Clone)]
pub(crate) struct Entry<K> {
    pub(crate) key: K,
    pub(crate) history: History,
    /// When it was counted first and last, in seconds since 1970.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// How many packets of it may be in the rest.
    pub(crate) uncertain: u64,
    weight: u64,
    /// Where in the heap it is.
    at: u32,
}

/// The same for a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeptEntry<T> {
    key: T,
    history: KeptHistory,
    first: u64,
    last: u64,
    uncertain: u64,
    weight: u64,
}

impl<K> Entry<K> {
    /// Nothing yet of a key, at this time.
    fn new(key: K, now: u64) -> Self {
        let history = History::new(now);
        Self { key, history, first: now, last: now, uncertain: 0, weight: 0, at: 0 }
    }

    /// For a file, with what its key is there.
    pub(crate) fn kept<T>(&self, key: impl Fn(&K) -> T) -> KeptEntry<T> {
        let Self { first, last, uncertain, weight, .. } = *self;
        let (key, history) = (key(&self.key), self.history.kept());
        KeptEntry { key, history, first, last, uncertain, weight }
    }
}

impl<T> KeptEntry<T> {
    /// With another key, if there is one.
    pub(crate) fn with<K>(self, key: impl Fn(T) -> Option<K>) -> Option<KeptEntry<K>> {
        let Self { key: own, history, first, last, uncertain, weight } = self;
        Some(KeptEntry { key: key(own)?, history, first, last, uncertain, weight })
    }
}

impl<K: Copy + Eq + Hash> Heavy<K> {
    /// Room for so many keys, at this time.
    pub(crate) fn new(capacity: usize, now: u64) -> Self {
        Self {
            capacity,
            places: HashMap::new(),
            entries: Vec::new(),
            heap: Vec::new(),
            rest: History::new(now),
            evicted: 0,
            hour: now / 3600,
        }
    }

    /// Counts a packet, and a connection if it begins one. Returns what is known of its key.
    pub(crate) fn count(&mut self, key: K, now: u64, is_new: bool) -> &Entry<K> {
        if now / 3600 > self.hour {
            self.age(now);
        }
        let index = match self.places.get(&key) {
            Some(index) => *index as usize,
            None => self.put(Entry::new(key, now)),
        };
        let entry = &mut self.entries[index];
        entry.history.count(now, is_new);
        entry.last = entry.last.max(now);
        entry.weight += 1;
        self.sink(self.entries[index].at as usize);
        &self.entries[index]
    }

    /// How many keys have a place at most.
    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Whether a key has a place.
    pub(crate) fn has(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    /// Takes a key out, with what was counted of it.
    pub(crate) fn take(&mut self, key: &K) -> Option<Entry<K>> {
        let index = self.places.remove(key)? as usize;
        let at = self.entries[index].at as usize;
        let last = self.heap.len() - 1;
        self.swap(at, last);
        self.heap.truncate(last);
        if at < last {
            let moved = self.heap[at] as usize;
            self.rise(at);
            self.sink(self.entries[moved].at as usize);
        }
        let entry = self.entries.swap_remove(index);
        if let Some(moved) = self.entries.get(index) {
            self.heap[moved.at as usize] = index as u32;
            self.places.insert(moved.key, index as u32);
        }
        Some(entry)
    }

    /// What was counted of keys that have no place, for a file.
    pub(crate) fn kept_rest(&self) -> KeptHistory {
        self.rest.kept()
    }

    /// Takes the place of all that was counted. Keys that are the same now are counted together.
    pub(crate) fn restore(
        &mut self,
        kept: impl Iterator<Item = KeptEntry<K>>,
        rest: History,
        evicted: u64,
        now: u64,
    ) {
        (self.rest, self.evicted) = (rest, evicted.min(MOST));
        self.entries.clear();
        self.places.clear();
        for KeptEntry { key, history, first, last, uncertain, weight } in kept {
            let (history, first, last) = (history.at(now), first.min(now), last.min(now));
            let (uncertain, weight) = (uncertain.min(MOST), weight.min(MOST));
            if let Some(index) = self.places.get(&key) {
                let entry = &mut self.entries[*index as usize];
                entry.history.merge(&history);
                (entry.first, entry.last) = (entry.first.min(first), entry.last.max(last));
                entry.uncertain = sum(entry.uncertain, uncertain);
                entry.weight = sum(entry.weight, weight);
            } else if self.entries.len() < self.capacity {
                self.places.insert(key, self.entries.len() as u32);
                self.entries.push(Entry { key, history, first, last, uncertain, weight, at: 0 });
            } else {
                self.rest.merge(&history);
            }
        }
        self.arrange();
    }

    /// The clock was set back to this time.
    pub(crate) fn set_back(&mut self, now: u64) {
        for entry in &mut self.entries {
            entry.history.set_back(now);
            (entry.first, entry.last) = (entry.first.min(now), entry.last.min(now));
        }
        self.rest.set_back(now);
        self.hour = self.hour.min(now / 3600);
    }

    /// All keys that have a place.
    pub(crate) fn entries(&self) -> &[Entry<K>] {
        &self.entries
    }

    /// What was counted of the others in the last `seconds`.
    pub(crate) fn rest(&self, now: u64, seconds: Option<u64>) -> Count {
        self.rest.last(now, seconds)
    }

    /// Finds a place for what was counted elsewhere of a key that has none here. Returns its index.
    pub(crate) fn put(&mut self, mut entry: Entry<K>) -> usize {
        if self.entries.len() < self.capacity {
            let (index, at) = (self.entries.len(), self.heap.len());
            entry.at = at as u32;
            self.places.insert(entry.key, index as u32);
            self.entries.push(entry);
            self.heap.push(index as u32);
            self.rise(at);
            return index;
        }
        let index = self.heap[0] as usize;
        let lightest = &self.entries[index];
        entry.uncertain = sum(entry.uncertain, lightest.weight);
        entry.weight = sum(entry.weight, lightest.weight);
        entry.at = 0;
        self.rest.merge(&lightest.history);
        self.places.remove(&lightest.key);
        self.places.insert(entry.key, index as u32);
        self.entries[index] = entry;
        self.evicted += 1;
        self.sink(0);
        index
    }

    /// Once an hour: what was quiet for a day loses its place, and the others weigh what they
    /// weighed in that day. Else what was heavy once would keep its place for ever.
    fn age(&mut self, now: u64) {
        self.hour = now / 3600;
        let oldest = now.saturating_sub(LONGEST);
        let Self { rest, entries, .. } = self;
        entries.retain(|entry| {
            let stays = entry.last >= oldest;
            if !stays {
                rest.merge(&entry.history);
            }
            stays
        });
        for entry in entries.iter_mut() {
            entry.weight = entry.history.last(now, Some(LONGEST)).packets;
        }
        self.arrange();
    }

    /// Makes the heap and the places anew.
    fn arrange(&mut self) {
        self.heap = (0..self.entries.len() as u32).collect();
        self.heap.sort_unstable_by_key(|index| self.entries[*index as usize].weight);
        for (at, index) in self.heap.iter().enumerate() {
            self.entries[*index as usize].at = at as u32;
        }
        self.places.clear();
        let places = self.entries.iter().zip(0..).map(|(entry, index)| (entry.key, index));
        self.places.extend(places);
    }

    fn weight(&self, at: usize) -> u64 {
        self.entries[self.heap[at] as usize].weight
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.entries[self.heap[one] as usize].at = one as u32;
        self.entries[self.heap[other] as usize].at = other as u32;
    }

    /// Moves what became heavier down to where it belongs.
    fn sink(&mut self, mut at: usize) {
        loop {
            let children = 2 * at + 1..(2 * at + 3).min(self.heap.len());
            let Some(lighter) = children.min_by_key(|child| self.weight(*child)) else { return };
            if self.weight(at) <= self.weight(lighter) {
                return;
            }
            self.swap(at, lighter);
            at = lighter;
        }
    }

    /// Moves what is new up to where it belongs.
    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.weight(at) < self.weight((at - 1) / 2) {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const NOW: u64 = 1_700_000_000;

    /// Numbers that look random, the same each time.
    fn numbers() -> impl Iterator<Item = u64> {
        let mut state = 7u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        })
    }

    fn check<K: Copy + Eq + Hash>(heavy: &Heavy<K>) {
        for (at, index) in heavy.heap.iter().enumerate() {
            assert_eq!(heavy.entries[*index as usize].at as usize, at);
            assert!(at == 0 || heavy.weight((at - 1) / 2) <= heavy.weight(at));
        }
        assert_eq!(heavy.places.len(), heavy.entries.len());
        assert_eq!(heavy.heap.len(), heavy.entries.len());
        for (key, index) in &heavy.places {
            assert!(heavy.entries[*index as usize].key == *key);
        }
    }

    #[test]
    fn few_keys_are_counted_exactly() {
        let mut heavy = Heavy::new(64, NOW);
        let mut exact: BTreeMap<u64, u64> = BTreeMap::new();
        for number in numbers().take(10_000) {
            let key = number % 64;
            heavy.count(key, NOW, true);
            *exact.entry(key).or_default() += 1;
        }
        check(&heavy);
        let counted = heavy.entries().iter().map(|entry| (entry.key, entry.history.all().packets));
        assert_eq!(counted.collect::<BTreeMap<_, _>>(), exact);
        assert_eq!((heavy.rest(NOW, None), heavy.evicted), (Count::default(), 0));
        assert!(heavy.entries().iter().all(|entry| entry.uncertain == 0));
    }

    /// A tenth of the packets are of five keys, the others each of one of its own.
    #[test]
    fn the_heavy_keep_their_place_among_very_many() {
        const PACKETS: u64 = 300_000;
        let mut heavy = Heavy::new(256, NOW);
        let mut exact: BTreeMap<u64, u64> = BTreeMap::new();
        for (index, number) in (0..PACKETS).zip(numbers()) {
            let key = if number % 10 == 0 { number / 10 % 5 } else { 1_000 + index };
            // Over two hours.
            heavy.count(key, NOW + index / 40, key >= 1_000);
            *exact.entry(key).or_default() += 1;
        }
        check(&heavy);
        assert_eq!((heavy.entries().len(), heavy.places.capacity() < 1024), (256, true));
        let all = heavy
            .entries()
            .iter()
            .fold(heavy.rest(NOW + 7500, None), |sum, entry| sum.and(entry.history.all()));
        assert_eq!(all.packets, PACKETS, "nothing is lost or counted twice");
        for key in 0..5 {
            let entry = heavy.entries().iter().find(|entry| entry.key == key).expect("a place");
            let counted = entry.history.all().packets;
            assert!(counted <= exact[&key] && exact[&key] <= counted + entry.uncertain);
            assert!(entry.uncertain <= PACKETS / 256);
        }
    }

    #[test]
    fn what_is_taken_out_leaves_the_others_as_they_were() {
        let mut heavy = Heavy::new(64, NOW);
        let mut exact: BTreeMap<u64, u64> = BTreeMap::new();
        for (round, number) in numbers().take(20_000).enumerate() {
            let key = number % 64;
            if round % 7 == 0 {
                let taken = heavy.take(&key).map(|entry| entry.history.all().packets);
                assert_eq!(taken, exact.remove(&key));
                check(&heavy);
            } else {
                heavy.count(key, NOW, true);
                *exact.entry(key).or_default() += 1;
            }
        }
        let counted = heavy.entries().iter().map(|entry| (entry.key, entry.history.all().packets));
        assert_eq!(counted.collect::<BTreeMap<_, _>>(), exact);
    }

    #[test]
    fn what_was_heavy_yesterday_makes_room() {
        let mut heavy = Heavy::new(4, NOW);
        for key in 0..4u64 {
            for _ in 0..100 {
                heavy.count(key, NOW, true);
            }
        }
        let later = NOW + LONGEST + 3600;
        heavy.count(9, later, true);
        check(&heavy);
        assert_eq!((heavy.entries().len(), heavy.evicted), (1, 0));
        assert_eq!(heavy.rest(later, None).packets, 400);
        assert_eq!(heavy.rest(later, Some(3600)).packets, 0);
    }
}
