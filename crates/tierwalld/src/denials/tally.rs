//! Denials as counters by label, for metrics.
//!
//! A counter must never go down while the daemon lives, and the tables of the book give places away.
//! So these have places of their own, which are never given away: the first [`SERIES`] label sets of
//! members of tiers and of others have one each, and all that come later have one together.

use super::flow::{Denial, Flow};
use super::labels::{Labels, ServiceLabel, in_words};
use policy::Mark;
use ruleset::Hook;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// Label sets that are told apart of members of tiers, and as many of all others.
const SERIES: usize = 1000;

/// Combinations of tiers that are told apart: addresses may be in several.
const TIERS: usize = 1000;

/// The number of no tier at all.
const NONE: u32 = 0;

/// Addresses whose tiers are remembered, to find them faster.
const ADDRESSES: usize = 2048;

/// The label of what has no place of its own. No service is called that.
pub(crate) const OTHER: &str = "other";

/// Of the source, and of the destination.
type Ends<T> = (T, T);

/// Counters by label.
#[derive(Debug)]
pub(crate) struct Tally {
    series: HashMap<Key, Counted>,
    /// How many of these are of members of tiers.
    of_members: usize,
    /// What has no series, by the side and what became of it.
    other: BTreeMap<Mark, Counted>,
    /// Combinations of tiers, by number; that of [`NONE`] is empty.
    tiers: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u32>,
    /// The tiers of addresses seen lately, by number; none where there are too many combinations.
    addresses: HashMap<IpAddr, Option<u32>>,
    /// Those of the last packet: the next one is mostly between the same two.
    last: Option<(Ends<IpAddr>, Ends<Option<u32>>)>,
    /// The words that these are by, which are kept for nobody else's sake here.
    labels: Weak<Labels>,
    /// What the limits held back, by side, so that it doesn't go down.
    held_back: BTreeMap<&'static str, HeldBack>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    mark: Mark,
    source: u32,
    destination: u32,
    service: ServiceLabel,
    user: Option<u32>,
}

/// How often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) connections: u64,
    pub(crate) retries: u64,
}

/// A label set and what was counted under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Series {
    pub(crate) mark: Mark,
    /// Tiers with commas between; empty for an address in none.
    pub(crate) source: Arc<str>,
    pub(crate) destination: Arc<str>,
    pub(crate) service: String,
    /// Empty for none.
    pub(crate) user: String,
    pub(crate) counted: Counted,
}

/// The counters of a side when they were read last, and what followed from them.
#[derive(Debug, Clone, Copy, Default)]
struct HeldBack {
    packets: u64,
    logged: u64,
    held_back: u64,
}

impl Default for Tally {
    fn default() -> Self {
        let none: Arc<str> = "".into();
        Self {
            series: HashMap::new(),
            of_members: 0,
            other: BTreeMap::new(),
            tiers: vec![Arc::clone(&none)],
            numbers: HashMap::from([(none, NONE)]),
            addresses: HashMap::new(),
            last: None,
            labels: Weak::new(),
            held_back: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Whether a tier holds the other end of what was denied, by the tiers of `labels`.
    pub(crate) fn is_member(&mut self, flow: &Flow, labels: &Arc<Labels>) -> bool {
        let (source, destination) = self.tiers_of_ends(flow, labels);
        let peer = if flow.mark.hook == Hook::Output { destination } else { source };
        peer != Some(NONE)
    }

    /// Counts a packet in the words of `labels`, as the beginning of a connection or as a retry.
    pub(crate) fn count(&mut self, denial: &Denial, is_new: bool, labels: &Arc<Labels>) {
        let is_member = self.is_member(&denial.flow, labels);
        let Flow { mark, service, user, .. } = denial.flow;
        let counted = match self.tiers_of_ends(&denial.flow, labels) {
            (Some(source), Some(destination)) => {
                let service = labels.services.label(service);
                let key = Key { mark, source, destination, service, user };
                let of_others = self.series.len() - self.of_members;
                let taken = if is_member { self.of_members } else { of_others };
                match self.series.entry(key) {
                    Occupied(counted) => counted.into_mut(),
                    Vacant(_) if taken >= SERIES => self.other.entry(mark).or_default(),
                    Vacant(place) => {
                        self.of_members += usize::from(is_member);
                        place.insert(Counted::default())
                    }
                }
            }
            _ => self.other.entry(mark).or_default(),
        };
        match is_new {
            true => counted.connections += 1,
            false => counted.retries += 1,
        }
    }

    /// The numbers of the tiers of both ends.
    fn tiers_of_ends(&mut self, flow: &Flow, labels: &Arc<Labels>) -> Ends<Option<u32>> {
        if !std::ptr::eq(self.labels.as_ptr(), Arc::as_ptr(labels)) {
            self.labels = Arc::downgrade(labels);
            self.addresses.clear();
            self.last = None;
        }
        let ends = (flow.source, flow.destination);
        let tiers = match self.last {
            Some((last, tiers)) if last == ends => tiers,
            _ => (self.tiers_of(ends.0, labels), self.tiers_of(ends.1, labels)),
        };
        self.last = Some((ends, tiers));
        tiers
    }

    /// The number of an address's tiers.
    fn tiers_of(&mut self, address: IpAddr, labels: &Labels) -> Option<u32> {
        if let Some(number) = self.addresses.get(&address) {
            return *number;
        }
        let names = in_words(&labels.tiers, address);
        let number = match self.numbers.get(names.as_str()) {
            Some(number) => Some(*number),
            None if self.tiers.len() >= TIERS => None,
            None => {
                let (names, number) = (Arc::<str>::from(names), self.tiers.len() as u32);
                self.tiers.push(Arc::clone(&names));
                self.numbers.insert(names, number);
                Some(number)
            }
        };
        if self.addresses.len() >= ADDRESSES {
            self.addresses.clear();
        }
        self.addresses.insert(address, number);
        number
    }

    /// All that was counted, each label set once, in an order that stays.
    pub(crate) fn series(&self, labels: &Labels) -> Vec<Series> {
        let own = self.series.iter().map(|(key, counted)| Series {
            mark: key.mark,
            source: Arc::clone(&self.tiers[key.source as usize]),
            destination: Arc::clone(&self.tiers[key.destination as usize]),
            service: key.service.to_string(),
            user: labels.user(key.user),
            counted: *counted,
        });
        let other: Arc<str> = OTHER.into();
        let rest = self.other.iter().map(|(mark, counted)| Series {
            mark: *mark,
            source: Arc::clone(&other),
            destination: Arc::clone(&other),
            service: OTHER.into(),
            user: OTHER.into(),
            counted: *counted,
        });
        let mut series: Vec<Series> = own.chain(rest).collect();
        series.sort_by(|a, b| {
            let order = |s: &Series| (s.mark, Arc::clone(&s.source), Arc::clone(&s.destination));
            (order(a), &a.service, &a.user).cmp(&(order(b), &b.service, &b.user))
        });
        // Two numbers may have had one name.
        series.dedup_by(|again, first| {
            let counted = again.counted;
            let is_same = Series { counted: first.counted, ..again.clone() } == *first;
            if is_same {
                first.counted.connections += counted.connections;
                first.counted.retries += counted.retries;
            }
            is_same
        });
        series
    }

    /// What the limits of a side held back, by the kernel's counters. Those are read one after the
    /// other while packets come; what follows from them goes down only where they began anew.
    pub(crate) fn held_back(&mut self, side: &'static str, packets: u64, logged: u64) -> u64 {
        let known = self.held_back.entry(side).or_default();
        let now = packets.saturating_sub(logged);
        let goes_on = packets >= known.packets && logged >= known.logged;
        let held_back = if goes_on { now.max(known.held_back) } else { now };
        *known = HeldBack { packets, logged, held_back };
        held_back
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::Service;
    use super::*;
    use policy::{Fate, Options, load_text};
    use std::net::Ipv4Addr;
    use std::path::Path;

    const MARK: Mark = Mark { hook: Hook::Input, fate: Fate::Denied };

    fn labels(tiers: usize) -> Arc<Labels> {
        let tiers =
            (0..tiers).map(|tier| format!("t{tier} = [\"10.1.{}.{}\"]\n", tier / 256, tier % 256));
        let text = format!("role = \"t0\"\n[tiers]\n{}", tiers.collect::<String>());
        let loaded = load_text(Path::new("t.toml"), text, &Options::default());
        let policy = loaded.policy.expect("a good policy");
        let services = super::super::labels::Services::of(&policy);
        let tiers = Arc::new(policy.tiers);
        let users = Arc::new(BTreeMap::from([(33, "www-data".to_owned())]));
        Arc::new(Labels { tiers, services: Arc::new(services), users })
    }

    fn denial(source: u32, port: u16, user: Option<u32>) -> Denial {
        let source = Ipv4Addr::from_bits(0x0a01_0000 + source).into();
        let destination = Ipv4Addr::new(10, 1, 0, 0).into();
        let service = Service { protocol: 6, detail: Some(port) };
        let flow = Flow { mark: MARK, source, destination, service, user, interface: 2 };
        Denial { flow, port: 7 }
    }

    #[test]
    fn each_label_set_is_counted_for_itself() {
        let (mut tally, labels) = (Tally::default(), labels(2));
        for (source, port, user, is_new) in [
            (1, 22, None, true),
            (1, 22, None, false),
            (9, 22, None, true),
            (9, 23456, Some(33), true),
            (9, 23457, Some(34), true),
        ] {
            tally.count(&denial(source, port, user), is_new, &labels);
        }
        let told = tally.series(&labels).into_iter().map(|s| {
            let Counted { connections, retries } = s.counted;
            format!(
                "{}>{} {} {} {connections}+{retries}",
                s.source, s.destination, s.service, s.user
            )
        });
        let expected = [
            ">t0 tcp/22  1+0",
            ">t0 tcp/other 34 1+0",
            ">t0 tcp/other www-data 1+0",
            "t1>t0 tcp/22  1+1",
        ];
        assert_eq!(told.collect::<Vec<_>>(), expected);
    }

    /// More label sets than have a place: none that was seen goes down or away, and the sum is that
    /// of all.
    #[test]
    fn nothing_goes_down_beyond_the_bound() {
        let (mut tally, labels) = (Tally::default(), labels(900));
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        let mut sent = 0;
        for round in 0..30u32 {
            for number in 0..700 {
                // Other tiers, services and users each round; the words of a policy change too.
                let port = if number % 3 == 0 { 22 } else { 5432 };
                let user = (number % 7 == 0).then_some(round);
                tally.count(&denial((number * 13 + round * 97) % 900, port, user), true, &labels);
                sent += 1;
            }
            let series = tally.series(&labels);
            assert!(series.len() <= 2 * SERIES + 1);
            let now: BTreeMap<String, u64> = series
                .iter()
                .map(|s| {
                    let name = format!("{}>{} {} {}", s.source, s.destination, s.service, s.user);
                    (name, s.counted.connections)
                })
                .collect();
            for (name, count) in &last {
                assert!(now.get(name).is_some_and(|now| now >= count), "{name}");
            }
            assert_eq!(now.values().sum::<u64>(), sent);
            last = now;
        }
        assert!(last["other>other other other"] > 0);
    }

    /// Strangers that ask for every port and protocol.
    #[test]
    fn others_take_no_series_of_a_member() {
        let (mut tally, labels) = (Tally::default(), labels(2));
        for number in 0..10_000u32 {
            let mut denial = denial(9, number as u16, Some(number / 256));
            denial.flow.service.protocol = number as u8;
            tally.count(&denial, true, &labels);
        }
        assert_eq!(tally.series.len(), SERIES);
        tally.count(&denial(1, 22, None), true, &labels);
        assert!(tally.series(&labels).iter().any(|series| &*series.source == "t1"));
    }

    #[test]
    fn a_tier_is_that_of_the_time() {
        let (mut tally, before, after) = (Tally::default(), labels(2), labels(1));
        tally.count(&denial(1, 22, None), true, &before);
        tally.count(&denial(1, 22, None), true, &after);
        let sources = tally.series(&after).into_iter().map(|s| s.source.to_string());
        assert_eq!(sources.collect::<Vec<_>>(), ["", "t1"]);
    }

    #[test]
    fn what_is_held_back_never_goes_down_by_itself() {
        let mut tally = Tally::default();
        let read = [(100, 60, 40), (120, 90, 40), (200, 90, 110), (10, 5, 5), (12, 6, 6)];
        for (packets, logged, expected) in read {
            assert_eq!(tally.held_back("input", packets, logged), expected);
        }
    }
}
