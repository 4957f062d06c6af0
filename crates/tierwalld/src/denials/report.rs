//! The answer to `tierwall denied`, and the numbers for `status`.

use super::Shared;
use super::book::{Book, Reading};
use super::heavy::{Entry, Heavy};
use super::history::{Count, LONGEST};
use super::journal::name_of;
use control::{
    DenialCount, DenialFate, DenialGroup, DenialSummary, DenialTotal, Denials, DenialsBy,
    Direction, LimitCount, Losses,
};
use netlink::Connection;
use policy::model::Tier;
use policy::{Fate, Mark};
use ruleset::Hook;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Groups in an answer at most, however many are asked for.
const MOST_GROUPS: usize = 10_000;

const HOUR: u64 = 3600;

/// Answers. Asks the kernel, so it blocks.
pub(crate) fn answer(
    shared: &Shared,
    by: DenialsBy,
    seconds: Option<u64>,
    limit: usize,
    now: u64,
) -> Denials {
    let window = Window { now, seconds: seconds.filter(|seconds| *seconds <= LONGEST) };
    let book = shared.book();
    let (groups, rest) = match by {
        DenialsBy::Flow | DenialsBy::Tier => window.groups(&book.flows, |group, flow| {
            group.source = Some(flow.source);
            group.destination = Some(flow.destination);
            group.service = Some(flow.service.to_string());
            group.user = flow.user;
            group.interface = Some(flow.interface.to_string());
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
    let mut groups = groups;
    for group in &mut groups {
        (group.source_tiers, group.destination_tiers) =
            (tiers_of(&shared.tiers, group.source), tiers_of(&shared.tiers, group.destination));
    }
    if by == DenialsBy::Tier {
        groups = by_tier(groups);
    }
    let order = |group: &DenialGroup| {
        let DenialCount { connections, retries } = group.count;
        std::cmp::Reverse((connections, retries, group.last))
    };
    groups.sort_by_key(order);
    let left_out = groups.len().saturating_sub(limit.min(MOST_GROUPS));
    groups.truncate(limit.min(MOST_GROUPS));
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

/// The numbers for `status`.
pub(crate) fn summary(shared: &Shared, now: u64) -> DenialSummary {
    let book = shared.book();
    let would = |fate: Fate| matches!(fate, Fate::WouldDeny | Fate::WouldDropInvalid);
    let denied = book.totals.iter().filter(|(mark, _)| mark.fate == Fate::Denied);
    let denied = denied.map(|(_, history)| history.last(now, Some(HOUR)).connections).sum();
    let flows = book.flows.entries().iter();
    let lately =
        flows.filter(|flow| would(flow.key.mark.fate) && flow.last + HOUR >= now).count() as u64;
    DenialSummary {
        denied,
        would_deny_flows: lately,
        at_least: book.flows.rest(now, Some(HOUR)).packets > 0,
        lost: book.reading.lost,
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Window {
    now: u64,
    /// None for all.
    seconds: Option<u64>,
}

impl Window {
    /// What a table holds of this time, and the sum of what it no longer holds. `name` fills in what
    /// the key says.
    fn groups<K: Copy + Eq + std::hash::Hash>(
        self,
        table: &Heavy<K>,
        name: impl Fn(&mut DenialGroup, &K) -> Mark,
    ) -> (Vec<DenialGroup>, Count) {
        let group = |entry: &Entry<K>| {
            let count = entry.history.last(self.now, self.seconds);
            if count.packets == 0 {
                return None;
            }
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
                count: told(count),
                first: entry.first,
                last: entry.last,
                uncertain: entry.uncertain,
            };
            let mark = name(&mut group, &entry.key);
            (group.direction, group.fate) = (direction(mark.hook), fate(mark.fate));
            Some(group)
        };
        let groups = table.entries().iter().filter_map(group).collect();
        (groups, table.rest(self.now, self.seconds))
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

/// Every tier that holds the address.
fn tiers_of(tiers: &BTreeMap<String, Tier>, address: Option<IpAddr>) -> Vec<String> {
    let holds = |tier: &Tier| match address {
        Some(IpAddr::V4(address)) => tier.v4.contains(address) || tier.timed.v4.contains(address),
        Some(IpAddr::V6(address)) => tier.v6.contains(address) || tier.timed.v6.contains(address),
        None => false,
    };
    tiers.iter().filter(|(_, tier)| holds(tier)).map(|(name, _)| name.clone()).collect()
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
    let packets = |name: String| counters.get(&name).map(|(packets, _)| *packets);
    let sides = [Direction::Input, Direction::Output, Direction::Forward];
    let limits = sides.into_iter().filter_map(|direction| {
        let side = direction.name();
        let logged = packets(format!("logged.{side}"))?;
        let closing = ["denied", "would-deny", "invalid"];
        let packets = closing.iter().filter_map(|what| packets(format!("{what}.{side}"))).sum();
        // Read one after the other, while packets come.
        let held_back = u64::saturating_sub(packets, logged);
        Some(LimitCount { direction, packets, logged, held_back })
    });
    Ok(limits.collect())
}

fn direction(hook: Hook) -> Direction {
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
