//! The answer to `tierwall denied`, and the numbers for `status`.

use super::Shared;
use super::apart::Apart;
use super::book::{Book, Reading};
use super::heavy::Entry;
use super::history::{Count, LONGEST};
use super::journal::name_of;
use control::{
    DenialCount, DenialFate, DenialGroup, DenialSummary, DenialTotal, Denials, DenialsBy,
    DenialsOrder, Direction, LimitCount, Losses,
};
use netlink::Connection;
use policy::model::tiers_with;
use policy::{Fate, Mark};
use ruleset::Hook;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Groups in an answer at most, however many are asked for.
const MOST_GROUPS: usize = 10_000;

const HOUR: u64 = 3600;

pub(crate) const DIRECTIONS: [Direction; 3] =
    [Direction::Input, Direction::Output, Direction::Forward];

/// What counters of closing rules are called, before the name of the chain.
const CLOSING: [&str; 3] = ["denied", "would-deny", "invalid"];

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) by: DenialsBy,
    /// None for all that is remembered.
    pub(crate) seconds: Option<u64>,
    pub(crate) limit: usize,
    pub(crate) order: DenialsOrder,
    /// Only what was seen then or later.
    pub(crate) seen_since: Option<u64>,
}

/// Answers. Asks the kernel, so it blocks.
pub(crate) fn answer(shared: &Shared, asked: Asked, now: u64) -> Denials {
    let Asked { by, seconds, limit, order, seen_since } = asked;
    let seconds = seconds.filter(|seconds| *seconds <= LONGEST);
    let limit = limit.min(MOST_GROUPS);
    // Those of tiers are made of all flows.
    let most = if by == DenialsBy::Tier { usize::MAX } else { limit };
    let window = Window { now, seconds, seen_since, order, most };
    let book = shared.book();
    let found = match by {
        DenialsBy::Flow | DenialsBy::Tier => window.groups(&book.flows, |group, flow| {
            group.source = Some(flow.source);
            group.destination = Some(flow.destination);
            group.service = Some(flow.service.to_string());
            group.user = flow.user;
            // Of an earlier boot nobody knows which it was.
            group.interface = (flow.interface > 0).then(|| flow.interface.to_string());
            group.generation = book.generation_at(group.last);
            flow.mark
        }),
        DenialsBy::Source => window.groups(&book.sources, |group, (mark, source)| {
            group.source = Some(*source);
            *mark
        }),
        DenialsBy::Destination => window.groups(&book.destinations, |group, (mark, to)| {
            group.destination = Some(*to);
            *mark
        }),
        DenialsBy::Service => window.groups(&book.services, |group, (mark, service)| {
            group.service = Some(service.to_string());
            *mark
        }),
        DenialsBy::User => window.groups(&book.users, |group, (mark, user)| {
            group.user = *user;
            *mark
        }),
        DenialsBy::Generation => window.groups(&book.generations, |group, (mark, generation)| {
            group.generation = Some(*generation);
            *mark
        }),
    };
    let totals = totals(&book, window);
    let (reading, began) = (book.reading, book.began);
    // What follows takes longer, and needs the book no more.
    drop(book);
    let Found { mut groups, mut left_out, rest } = found;
    let tiers_of = |address: Option<IpAddr>| -> Vec<String> {
        let of = |address| tiers_with(&shared.tiers, address).cloned();
        address.into_iter().flat_map(of).collect()
    };
    for group in &mut groups {
        (group.source_tiers, group.destination_tiers) =
            (tiers_of(group.source), tiers_of(group.destination));
    }
    if by == DenialsBy::Tier {
        groups = by_tier(groups);
        groups.sort_by_key(|group| rank(order, group.count, group.last));
        left_out = groups.len().saturating_sub(limit);
        groups.truncate(limit);
    }
    name_interfaces(&mut groups);
    let since = window.seconds.map_or(0, |seconds| now.saturating_sub(seconds)).max(began);
    Denials {
        since,
        until: now,
        totals,
        by,
        groups,
        left_out,
        rest: told(rest),
        losses: losses(reading),
    }
}

/// What comes first is less.
fn rank(order: DenialsOrder, count: DenialCount, last: u64) -> Reverse<[u64; 3]> {
    let DenialCount { connections, retries } = count;
    Reverse(match order {
        DenialsOrder::Heaviest => [connections, retries, last],
        DenialsOrder::Latest => [last, connections, retries],
    })
}

/// The numbers for `status`.
pub(crate) fn summary(shared: &Shared, now: u64) -> DenialSummary {
    let book = shared.book();
    let would = |fate: Fate| matches!(fate, Fate::WouldDeny | Fate::WouldDropInvalid);
    let denied = book.totals.iter().filter(|(mark, _)| mark.fate == Fate::Denied);
    let denied = denied.map(|(_, history)| history.last(now, Some(HOUR)).connections).sum();
    let flows = book.flows.entries();
    let lately =
        flows.filter(|flow| would(flow.key.mark.fate) && flow.last + HOUR >= now).count() as u64;
    DenialSummary {
        denied,
        would_deny_flows: lately,
        at_least: book.flows.rest(now, Some(HOUR)).packets > 0,
        lost: book.reading.lost,
    }
}

/// The time that is asked for, and which groups of it.
#[derive(Debug, Clone, Copy)]
struct Window {
    now: u64,
    /// None for all.
    seconds: Option<u64>,
    /// None for whenever.
    seen_since: Option<u64>,
    order: DenialsOrder,
    /// How many groups at most.
    most: usize,
}

/// What a table holds of a window.
struct Found {
    groups: Vec<DenialGroup>,
    left_out: usize,
    /// What the table holds no more.
    rest: Count,
}

impl Window {
    /// What a table holds, the first ones in order. `name` fills in what the key says. Whoever watches
    /// asks every second: of those that are left out nothing is made but their rank.
    fn groups<K: Copy + Eq + std::hash::Hash>(
        self,
        table: &Apart<K>,
        name: impl Fn(&mut DenialGroup, &K) -> Mark,
    ) -> Found {
        let seen = |entry: &&Entry<K>| self.seen_since.is_none_or(|since| entry.last >= since);
        let mut ranked: Vec<_> = table
            .entries()
            .filter(seen)
            .filter_map(|entry| {
                let count = entry.history.last(self.now, self.seconds);
                let rank = rank(self.order, told(count), entry.last);
                (count.packets > 0).then_some((rank, told(count), entry))
            })
            .collect();
        let left_out = ranked.len().saturating_sub(self.most);
        if left_out > 0 && self.most > 0 {
            ranked.select_nth_unstable_by_key(self.most - 1, |(rank, ..)| *rank);
        }
        ranked.truncate(self.most);
        ranked.sort_by_key(|(rank, ..)| *rank);
        let group = |(_, count, entry): (_, DenialCount, &Entry<K>)| {
            let mut group = DenialGroup {
                direction: Direction::Input,
                fate: DenialFate::Denied,
                source: None,
                source_tiers: Vec::new(),
                destination: None,
                destination_tiers: Vec::new(),
                service: None,
                user: None,
                interface: None,
                generation: None,
                count,
                first: entry.first,
                last: entry.last,
                uncertain: entry.uncertain,
            };
            let mark = name(&mut group, &entry.key);
            (group.direction, group.fate) = (direction(mark.hook), fate(mark.fate));
            group
        };
        let groups = ranked.into_iter().map(group).collect();
        Found { groups, left_out, rest: table.rest(self.now, self.seconds) }
    }
}

/// By direction and fate.
fn totals(book: &Book, window: Window) -> Vec<DenialTotal> {
    let totals = book.totals.iter().map(|(mark, history)| DenialTotal {
        direction: direction(mark.hook),
        fate: fate(mark.fate),
        count: told(history.last(window.now, window.seconds)),
        minutes: history.connections_by_minute(window.now),
    });
    totals.filter(|total| total.count != DenialCount::default()).collect()
}

fn told(count: Count) -> DenialCount {
    let Count { connections, packets } = count;
    // A connection that began before the time that was asked for has only retries in it.
    DenialCount { connections, retries: packets.saturating_sub(connections) }
}

/// Flows between the same tiers together.
fn by_tier(flows: Vec<DenialGroup>) -> Vec<DenialGroup> {
    let mut groups: BTreeMap<_, DenialGroup> = BTreeMap::new();
    for flow in flows {
        let tiers = (flow.source_tiers.clone(), flow.destination_tiers.clone());
        match groups.get_mut(&(flow.direction, flow.fate, tiers.clone())) {
            Some(group) => {
                group.count.connections += flow.count.connections;
                group.count.retries += flow.count.retries;
                group.first = group.first.min(flow.first);
                group.last = group.last.max(flow.last);
                group.uncertain += flow.uncertain;
            }
            None => {
                let key = (flow.direction, flow.fate, tiers);
                let (source, destination, service, interface) = (None, None, None, None);
                let (user, generation) = (None, None);
                let group = DenialGroup {
                    source,
                    destination,
                    service,
                    user,
                    interface,
                    generation,
                    ..flow
                };
                groups.insert(key, group);
            }
        }
    }
    groups.into_values().collect()
}

/// Names in place of numbers, each asked for once.
fn name_interfaces(groups: &mut [DenialGroup]) {
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for interface in groups.iter_mut().filter_map(|group| group.interface.as_mut()) {
        let name = names.entry(interface.clone());
        let name = name.or_insert_with_key(|index| name_of(index.parse().unwrap_or_default()));
        interface.clone_from(name);
    }
}

fn losses(reading: Reading) -> Losses {
    let Reading { since, read, lost, unknown } = reading;
    let limits = limits().unwrap_or_default();
    Losses { reading_since: since, read, lost, unknown, limits }
}

/// What came to the closing rules of each chain, and what of that was logged.
fn limits() -> Result<Vec<LimitCount>, netlink::Error> {
    let counters = Connection::open()?.counters()?;
    Ok(DIRECTIONS.into_iter().filter_map(|direction| limit(&counters, direction)).collect())
}

/// The same of one of them, by the kernel's counters: packets and bytes by name. None where nothing
/// is logged there.
pub(crate) fn limit(
    counters: &BTreeMap<String, (u64, u64)>,
    direction: Direction,
) -> Option<LimitCount> {
    let side = direction.name();
    let packets = |what: &str| counters.get(&format!("{what}.{side}")).map(|(packets, _)| *packets);
    let logged = packets("logged")?;
    let closing = CLOSING.into_iter().filter_map(packets).sum::<u64>();
    // Read one after the other, while packets come.
    let held_back = closing.saturating_sub(logged);
    Some(LimitCount { direction, packets: closing, logged, held_back })
}

pub(super) fn direction(hook: Hook) -> Direction {
    match hook {
        Hook::Output => Direction::Output,
        Hook::Forward => Direction::Forward,
        Hook::Input | Hook::Other(_) => Direction::Input,
    }
}

fn fate(fate: Fate) -> DenialFate {
    match fate {
        Fate::Denied => DenialFate::Denied,
        Fate::WouldDeny => DenialFate::WouldDeny,
        Fate::Invalid => DenialFate::Invalid,
        Fate::WouldDropInvalid => DenialFate::WouldDropInvalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_groups_are_those_of_the_order() {
        const NOW: u64 = 1_700_000_000;
        let mark = Mark { hook: Hook::Input, fate: Fate::Denied };
        let mut table = Apart::new(100, NOW);
        // The generation g is seen g times, the first ones last.
        for number in 1..=50u64 {
            for _ in 0..number {
                table.count((mark, number), number % 2 == 0, NOW + 50 - number, true);
            }
        }
        let found_since = |order, most, seen_since| {
            let window = Window { now: NOW + 60, seconds: None, seen_since, order, most };
            let found = window.groups(&table, |group, (mark, number)| {
                group.generation = Some(*number);
                *mark
            });
            let numbers = found.groups.iter().filter_map(|group| group.generation);
            (numbers.collect::<Vec<_>>(), found.left_out)
        };
        let found = |order, most| found_since(order, most, None);
        assert_eq!(found(DenialsOrder::Heaviest, 3), (vec![50, 49, 48], 47));
        assert_eq!(found(DenialsOrder::Latest, 3), (vec![1, 2, 3], 47));
        assert_eq!(found(DenialsOrder::Latest, 0), (vec![], 50));
        assert_eq!(found(DenialsOrder::Heaviest, 60).0.len(), 50);
        let late = found_since(DenialsOrder::Heaviest, 60, Some(NOW + 48));
        assert_eq!(late, (vec![2, 1], 0));
    }
}
