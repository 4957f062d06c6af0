//! The book of denials: what was denied, counted by everything that people ask for.
//!
//! Each way to ask has a table of its own, bounded by itself. So where an attack from a million
//! addresses fills the table of sources, the tables of destinations and services are still exact.

use super::apart::Apart;
use super::flow::{Denial, Flow, Service};
use super::history::History;
use super::retries::Retries;
use super::tally::Tally;
use policy::Mark;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// How many different ones each table tells apart of members of tiers, and as many of all others.
/// An entry takes about 900 bytes.
const FLOWS: usize = 4096;
const ADDRESSES: usize = 1024;
const SERVICES: usize = 1024;
const USERS: usize = 256;
const GENERATIONS: usize = 256;

/// How far back the clock is set, in seconds, before what was counted is moved with it.
const SET_BACK: u64 = 60;

/// What was denied since the daemon began to read.
#[derive(Debug)]
pub(crate) struct Book {
    retries: Retries,
    retries_of_members: Retries,
    /// Complete.
    pub(crate) totals: BTreeMap<Mark, History>,
    pub(crate) flows: Apart<Flow>,
    pub(crate) sources: Apart<(Mark, IpAddr)>,
    pub(crate) destinations: Apart<(Mark, IpAddr)>,
    pub(crate) services: Apart<(Mark, Service)>,
    pub(crate) users: Apart<(Mark, Option<u32>)>,
    pub(crate) generations: Apart<(Mark, u64)>,
    /// The generation in which a flow was seen last is that of its last packet: by time.
    pub(super) changes: Vec<(u64, u64)>,
    pub(crate) reading: Reading,
    /// By label, for metrics.
    pub(crate) tally: Tally,
    /// When it was begun, in seconds since 1970.
    pub(crate) began: u64,
    /// The latest time at which something was counted, by the same clock.
    latest: u64,
}

/// How the reading goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    /// Since when; none while nobody reads.
    pub(crate) since: Option<u64>,
    /// Packets read.
    pub(crate) read: u64,
    /// Packets that came too fast, in earlier readings and in this one.
    pub(crate) lost: u64,
    /// Packets that no rule of ours logged, or without headers.
    pub(crate) unknown: u64,
}

impl Book {
    /// An empty one, at this time.
    pub(crate) fn new(now: u64) -> Self {
        Self {
            retries: Retries::new(),
            retries_of_members: Retries::new(),
            totals: BTreeMap::new(),
            flows: Apart::new(FLOWS, now),
            sources: Apart::new(ADDRESSES, now),
            destinations: Apart::new(ADDRESSES, now),
            services: Apart::new(SERVICES, now),
            users: Apart::new(USERS, now),
            generations: Apart::new(GENERATIONS, now),
            changes: Vec::new(),
            reading: Reading::default(),
            tally: Tally::default(),
            began: now,
            latest: now,
        }
    }

    /// Counts a packet, of a member of a tier or to one. `seconds` is of a clock that goes forward
    /// only, `now` since 1970. Returns whether it begins a connection.
    pub(crate) fn count(
        &mut self,
        denial: &Denial,
        is_member: bool,
        seconds: u32,
        now: u64,
        generation: u64,
    ) -> bool {
        if now.saturating_add(SET_BACK) < self.latest {
            self.set_back(now);
        }
        self.latest = self.latest.max(now);
        let Denial { flow, port } = *denial;
        let retries = match is_member {
            true => &mut self.retries_of_members,
            false => &mut self.retries,
        };
        let is_new = retries.begins((flow, port), seconds);
        let Flow { mark, source, destination, service, user, .. } = flow;
        self.totals.entry(mark).or_insert_with(|| History::new(now)).count(now, is_new);
        self.flows.count(flow, is_member, now, is_new);
        self.sources.count((mark, source), is_member, now, is_new);
        self.destinations.count((mark, destination), is_member, now, is_new);
        self.services.count((mark, service), is_member, now, is_new);
        self.users.count((mark, user), is_member, now, is_new);
        self.generations.count((mark, generation), is_member, now, is_new);
        if self.changes.last().is_none_or(|(_, last)| *last != generation) {
            self.changes.push((now, generation));
            // A flow that is older than all of them has none.
            if self.changes.len() > GENERATIONS {
                self.changes.remove(0);
            }
        }
        is_new
    }

    /// The clock was set back to this time. Else what comes now would be in no last hour until the
    /// clock is where it was.
    fn set_back(&mut self, now: u64) {
        self.totals.values_mut().for_each(|history| history.set_back(now));
        self.flows.set_back(now);
        self.sources.set_back(now);
        self.destinations.set_back(now);
        self.services.set_back(now);
        self.users.set_back(now);
        self.generations.set_back(now);
        self.changes.iter_mut().for_each(|(time, _)| *time = now.min(*time));
        (self.began, self.latest) = (self.began.min(now), now);
    }

    /// The generation that held when something was denied at that time.
    pub(crate) fn generation_at(&self, time: u64) -> Option<u64> {
        let until = self.changes.partition_point(|(since, _)| *since <= time);
        Some(self.changes.get(until.checked_sub(1)?)?.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::Fate;
    use ruleset::Hook;
    use std::net::Ipv4Addr;

    const NOW: u64 = 1_700_000_000;

    fn denial(source: u32, port: u16) -> Denial {
        let mark = Mark { hook: Hook::Input, fate: Fate::Denied };
        let flow = Flow {
            mark,
            source: Ipv4Addr::from_bits(source).into(),
            destination: Ipv4Addr::new(192, 0, 2, 1).into(),
            service: Service { protocol: 6, detail: Some(22) },
            user: None,
            interface: 2,
        };
        Denial { flow, port }
    }

    #[test]
    fn retries_are_beside_the_connection() {
        let mut book = Book::new(NOW);
        for (second, port) in [(0, 4000), (1, 4000), (1, 4001), (3, 4000)] {
            book.count(&denial(1, port), false, second, NOW + u64::from(second), 7);
        }
        let [entry] = book.flows.entries().collect::<Vec<_>>()[..] else { panic!("one flow") };
        let count = entry.history.all();
        assert_eq!((count.connections, count.packets), (2, 4));
        assert_eq!((entry.first, entry.last), (NOW, NOW + 3));
        assert_eq!(book.generation_at(NOW + 3), Some(7));
    }

    #[test]
    fn a_clock_that_is_set_back_hides_nothing() {
        let mut book = Book::new(NOW);
        book.count(&denial(1, 4000), false, 0, NOW, 7);
        let earlier = NOW - 7 * 24 * 3600;
        for (second, source) in [(1, 2), (2, 3), (3, 1)] {
            book.count(&denial(source, 5000), false, second, earlier + u64::from(second), 8);
        }
        let now = earlier + 30;
        let lately = |history: &History| history.last(now, Some(3600)).connections;
        assert_eq!(book.totals.values().map(lately).sum::<u64>(), 4);
        let flows = || book.flows.entries();
        assert_eq!(flows().map(|entry| lately(&entry.history)).sum::<u64>(), 4);
        assert!(flows().all(|entry| entry.first <= entry.last && entry.last <= now));
        assert_eq!(book.generation_at(now), Some(8));
        // And what goes away later is of its time.
        book.count(&denial(9, 4000), false, 9, now + 26 * 3600, 8);
        assert_eq!(book.flows.rest(now + 26 * 3600, Some(3600)).packets, 0);
        assert_eq!(book.flows.rest(now + 26 * 3600, None).packets, 4);
    }

    /// A million sources: bounded memory, the heavy one still right, every sum exact.
    #[test]
    fn a_million_sources_fit_and_the_sums_are_exact() {
        const SOURCES: u32 = 1_000_000;
        let mut book = Book::new(NOW);
        for source in 0..SOURCES {
            let now = NOW + u64::from(source / 10_000);
            book.count(&denial(source, 4000), false, source / 10_000, now, 3);
            if source % 100 == 0 {
                book.count(&denial(u32::MAX, 5000), false, source / 10_000, now, 3);
            }
        }
        let packets = u64::from(SOURCES + SOURCES / 100);
        assert_eq!(
            (book.flows.entries().count(), book.sources.entries().count()),
            (FLOWS, ADDRESSES)
        );
        let totals = book.totals.values().map(|history| history.all().packets).sum::<u64>();
        assert_eq!(totals, packets);
        let flows = book.flows.entries().map(|entry| entry.history.all().packets);
        assert_eq!(flows.sum::<u64>() + book.flows.rest(NOW + 100, None).packets, packets);
        let heavy = denial(u32::MAX, 5000).flow.source;
        let source = book.sources.entries().find(|entry| entry.key.1 == heavy);
        let source = source.expect("1 % of all, where 0.1 % are enough");
        let counted = source.history.all().packets;
        let exact = u64::from(SOURCES / 100);
        assert!(counted <= exact && exact <= counted + source.uncertain, "{counted}");
        let [service] = book.services.entries().collect::<Vec<_>>()[..] else {
            panic!("one service")
        };
        assert_eq!(service.history.all().packets, packets);
    }
}
