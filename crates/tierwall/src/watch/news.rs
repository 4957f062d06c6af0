//! What was denied since the answer before.

use control::{DenialCount, DenialFate, DenialGroup, Denials, Direction};
use std::collections::HashMap;
use std::net::IpAddr;

/// What tells a flow from another.
type Key = (
    Direction,
    DenialFate,
    Option<IpAddr>,
    Option<IpAddr>,
    Option<String>,
    Option<u32>,
    Option<String>,
);

/// As many flows as the daemon can tell apart, at least: more are forgotten, those that were quiet
/// for the longest time first.
const MOST: usize = 16_384;

/// How often each flow was denied, as far as it was told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The daemon that counts: its process, and when it began.
    began: Option<u64>,
    flows: HashMap<Key, (DenialCount, u64)>,
    total: DenialCount,
}

/// The news of an answer.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    /// Flows, with what was new of each; the oldest first.
    pub(super) flows: Vec<(DenialGroup, DenialCount)>,
    /// What was new of flows that the daemon couldn't tell apart.
    pub(super) others: DenialCount,
}

impl News {
    /// What of an answer is new. It has every flow that was seen since the answer before.
    pub(super) fn of(&mut self, answer: &Denials) -> Told {
        let counts = answer.totals.iter().map(|total| total.count);
        let total = counts.fold(DenialCount::default(), plus);
        // A daemon that began later, or counts less, begins anew.
        if self.began.is_some_and(|began| began != answer.since)
            || packets(total) < packets(self.total)
        {
            *self = Self::default();
        }
        self.began = Some(answer.since);
        let mut told = Told { flows: Vec::new(), others: minus(total, self.total) };
        self.total = total;
        for group in answer.groups.iter().rev() {
            let known = self.flows.insert(key(group), (group.count, group.last));
            let before = known.map_or_else(DenialCount::default, |(count, _)| count);
            // One that lost its place among the heaviest and got it again was counted anew.
            let new = match packets(group.count) < packets(before) {
                true => group.count,
                false => minus(group.count, before),
            };
            if new != DenialCount::default() {
                told.others = minus(told.others, new);
                told.flows.push((group.clone(), new));
            }
        }
        self.forget();
        told
    }

    fn forget(&mut self) {
        if self.flows.len() > MOST {
            let mut times: Vec<u64> = self.flows.values().map(|(_, last)| *last).collect();
            let (_, middle, _) = times.select_nth_unstable(MOST / 2);
            let middle = *middle;
            self.flows.retain(|_, (_, last)| *last > middle);
        }
    }
}

fn key(group: &DenialGroup) -> Key {
    let DenialGroup { direction, fate, source, destination, service, user, interface, .. } = group;
    (*direction, *fate, *source, *destination, service.clone(), *user, interface.clone())
}

fn packets(count: DenialCount) -> u64 {
    count.connections + count.retries
}

fn plus(a: DenialCount, b: DenialCount) -> DenialCount {
    DenialCount { connections: a.connections + b.connections, retries: a.retries + b.retries }
}

fn minus(a: DenialCount, b: DenialCount) -> DenialCount {
    DenialCount {
        connections: a.connections.saturating_sub(b.connections),
        retries: a.retries.saturating_sub(b.retries),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    /// An answer of flows that differ in their service, and of as much more.
    fn answer(flows: &[(&str, u64)], more: u64) -> Denials {
        let mut answer = testing::answers().latest;
        let group = answer.groups[0].clone();
        let flow = |(service, connections): &(&str, u64)| DenialGroup {
            service: Some((*service).to_owned()),
            count: DenialCount { connections: *connections, retries: 0 },
            ..group.clone()
        };
        answer.groups = flows.iter().map(flow).collect();
        let sum: u64 = flows.iter().map(|(_, connections)| connections).sum();
        answer.totals[0].count = DenialCount { connections: sum + more, retries: 0 };
        answer
    }

    fn told(news: &mut News, answer: &Denials) -> (Vec<(String, u64)>, u64) {
        let told = news.of(answer);
        let service = |group: DenialGroup| group.service.unwrap_or_default();
        let flows = told.flows.into_iter().map(|(group, new)| (service(group), new.connections));
        (flows.collect(), told.others.connections)
    }

    #[test]
    fn only_what_is_new_is_told_the_oldest_first() {
        let mut news = News::default();
        let one = |service: &str, new| (service.to_owned(), new);
        let first = answer(&[("tcp/22", 3), ("tcp/23", 1)], 0);
        assert_eq!(told(&mut news, &first), (vec![one("tcp/23", 1), one("tcp/22", 3)], 0));
        assert_eq!(told(&mut news, &first), (vec![], 0));
        let second = answer(&[("tcp/24", 2), ("tcp/22", 5)], 1 + 10);
        assert_eq!(told(&mut news, &second), (vec![one("tcp/22", 2), one("tcp/24", 2)], 10));
    }

    #[test]
    fn another_daemon_begins_anew() {
        let mut news = News::default();
        told(&mut news, &answer(&[("tcp/22", 30)], 0));
        let mut other = answer(&[("tcp/22", 31)], 0);
        other.since += 100;
        assert_eq!(told(&mut news, &other), (vec![("tcp/22".into(), 31)], 0));
    }

    #[test]
    fn a_flow_that_got_its_place_again_counts_from_then() {
        let mut news = News::default();
        told(&mut news, &answer(&[("tcp/22", 30)], 0));
        assert_eq!(told(&mut news, &answer(&[("tcp/22", 2)], 30)), (vec![("tcp/22".into(), 2)], 0));
    }

    #[test]
    fn memory_is_bounded() {
        let mut news = News::default();
        for round in 0..5u64 {
            let names: Vec<String> =
                (0..8192).map(|number| format!("udp/{round}{number}")).collect();
            let flows: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
            let mut answer = answer(&flows, round * 8192);
            answer.groups.iter_mut().for_each(|group| group.last += round);
            news.of(&answer);
        }
        assert!(news.flows.len() <= MOST, "{}", news.flows.len());
    }
}
