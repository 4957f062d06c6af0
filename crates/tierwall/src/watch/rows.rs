//! Denials as the rows of a table, and one of them in full.

use super::ask::Answers;
use super::table::{Cell, Column};
use crate::denied::{place, retried};
use crate::output::counted;
use crate::time::in_words;
use control::{DenialCount, DenialFate, DenialGroup, DenialsBy, Direction};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The columns of the heaviest.
pub(super) fn heaviest(answers: &Answers, now: u64) -> Vec<Column> {
    let by = answers.heaviest.by;
    let table = Table { groups: &answers.heaviest.groups, users: &answers.users, by, now };
    let mut columns = vec![table.times(None), table.retries(5)];
    columns.extend(table.what());
    columns.extend(table.key());
    columns.push(table.last("last", Some(4)));
    columns
}

/// The columns of what was denied last.
pub(super) fn latest(answers: &Answers, now: u64) -> Vec<Column> {
    let by = DenialsBy::Flow;
    let table = Table { groups: &answers.latest.groups, users: &answers.users, by, now };
    let mut columns = vec![table.last("ago", None)];
    columns.extend(table.what());
    columns.extend(table.key());
    columns.push(table.times(Some(4)));
    columns
}

struct Table<'a> {
    groups: &'a [DenialGroup],
    users: &'a BTreeMap<u32, String>,
    by: DenialsBy,
    now: u64,
}

impl Table<'_> {
    fn column(
        &self,
        heading: &'static str,
        spare: Option<u8>,
        cell: impl Fn(&DenialGroup) -> Cell,
    ) -> Column {
        Column { heading, cells: self.groups.iter().map(cell).collect(), spare }
    }

    fn times(&self, spare: Option<u8>) -> Column {
        self.column("times", spare, |group| Cell::Number(group.count.connections))
    }

    fn retries(&self, spare: u8) -> Column {
        self.column("retries", Some(spare), |group| Cell::Number(group.count.retries))
    }

    fn last(&self, heading: &'static str, spare: Option<u8>) -> Column {
        self.column(heading, spare, |group| Cell::Text(ago(self.now, group.last)))
    }

    /// The side, and what became of it.
    fn what(&self) -> [Column; 2] {
        let side = |group: &DenialGroup| match group.direction {
            Direction::Input => "in",
            Direction::Output => "out",
            Direction::Forward => "fwd",
        };
        let what = |group: &DenialGroup| match group.fate {
            DenialFate::Denied => "denied",
            DenialFate::WouldDeny => "would be",
            DenialFate::Invalid => "invalid",
            DenialFate::WouldDropInvalid => "would inv",
        };
        [
            self.column("side", Some(2), |group| Cell::Text(side(group).into())),
            self.column("what", Some(1), |group| Cell::Text(what(group).into())),
        ]
    }

    /// What tells one from another.
    fn key(&self) -> Vec<Column> {
        let from = || {
            self.column("from", None, |group| {
                Cell::Place(address(group.source), group.source_tiers.join(","))
            })
        };
        let to = |spare| {
            self.column("to", spare, |group| {
                Cell::Place(address(group.destination), group.destination_tiers.join(","))
            })
        };
        let service = || {
            let service = |group: &DenialGroup| group.service.clone().unwrap_or_default();
            self.column("service", None, |group| Cell::Text(service(group)))
        };
        let user = |spare| self.column("user", spare, |group| Cell::Text(user(group, self.users)));
        let interface = || {
            let interface = |group: &DenialGroup| group.interface.clone().unwrap_or_default();
            self.column("if", Some(6), |group| Cell::Text(interface(group)))
        };
        match self.by {
            DenialsBy::Flow => vec![from(), to(Some(0)), service(), user(Some(3)), interface()],
            DenialsBy::Source => vec![from()],
            DenialsBy::Destination => vec![to(None)],
            DenialsBy::Service => vec![service()],
            DenialsBy::User => {
                let name = |group: &DenialGroup| match user_of(group, self.users) {
                    Some(name) => name,
                    None => "none known".into(),
                };
                vec![self.column("user", None, |group| Cell::Text(name(group)))]
            }
            DenialsBy::Tier => vec![from(), to(None)],
            DenialsBy::Generation => {
                let number = |group: &DenialGroup| group.generation.unwrap_or_default();
                vec![self.column("generation", None, |group| Cell::Number(number(group)))]
            }
        }
    }
}

/// How long ago. From ten seconds on by tens: a whole column that changes every second is more than
/// a slow line should carry.
fn ago(now: u64, time: u64) -> String {
    match now.saturating_sub(time) {
        seconds @ 10..120 => in_words(seconds / 10 * 10),
        seconds => in_words(seconds),
    }
}

fn address(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn user(group: &DenialGroup, users: &BTreeMap<u32, String>) -> String {
    user_of(group, users).unwrap_or_default()
}

pub(super) fn user_of(group: &DenialGroup, users: &BTreeMap<u32, String>) -> Option<String> {
    let user = group.user?;
    Some(users.get(&user).cloned().unwrap_or_else(|| user.to_string()))
}

/// One of them in full, in three lines at most.
pub(super) fn in_full(group: &DenialGroup, users: &BTreeMap<u32, String>, now: u64) -> Vec<String> {
    let DenialGroup { direction, fate, count, first, last, .. } = group;
    let side = |what: &str, at: Option<IpAddr>, tiers: &[String]| {
        let place = place(&address(at), &tiers.join(", "));
        (at.is_some() || !tiers.is_empty()).then(|| format!("{what} {place}"))
    };
    let mut lines: Vec<String> = [
        side("from", group.source, &group.source_tiers),
        side("to  ", group.destination, &group.destination_tiers),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut words = format!("{} {}", direction.name(), fate.words());
    if let Some(service) = &group.service {
        words += &format!(", {service}");
    }
    if let Some(user) = user_of(group, users) {
        words += &format!(", user {user}");
    }
    if let Some(interface) = &group.interface {
        words += &format!(", {interface}");
    }
    let DenialCount { connections, retries } = *count;
    let (connections, retries) = (counted(connections as usize, "connection"), retried(retries));
    words +=
        &format!(": {connections}, {retries}, {} to {} ago", ago(now, *first), ago(now, *last));
    lines.push(words);
    lines
}
