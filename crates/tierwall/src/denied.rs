//! `tierwall denied`: what was denied here, or would have been.

use crate::error::Error;
use crate::options::{By, Common, Denied};
use crate::output::{
    FAINT, HEADING, WARNING, clean_line, columns, counted, print, print_json, styled,
};
use crate::time::ago;
use control::{
    Client, DenialCount, DenialGroup, Denials, DenialsBy, DenialsOrder, Request, Response,
    socket_path,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) fn run(common: &Common, options: &Denied) -> Result<u8, Error> {
    let client = Client::connect(&socket_path(&common.runtime_directory)).map_err(Error::Client)?;
    let by = options.by.into();
    let seconds = options.since.map(|time| time.as_secs());
    let order = DenialsOrder::Heaviest;
    let request = Request::Denied { by, seconds, limit: options.limit, order, seen_since: None };
    match client.ask(&request).map_err(Error::Client)? {
        Response::Denied(denials) if common.json => print_json(&as_json(&denials))?,
        Response::Denied(denials) => print(&as_text(&denials))?,
        other => return Err(crate::unexpected(other)),
    }
    Ok(control::exit::OK)
}

impl From<By> for DenialsBy {
    fn from(by: By) -> Self {
        match by {
            By::Flow => Self::Flow,
            By::Destination => Self::Destination,
            By::Source => Self::Source,
            By::User => Self::User,
            By::Service => Self::Service,
            By::Tier => Self::Tier,
            By::Generation => Self::Generation,
        }
    }
}

/// The answer, with the names of users beside their numbers.
fn as_json(denials: &Denials) -> Value {
    let mut users = Users::default();
    let mut answer = json!(denials);
    let groups = denials.groups.iter();
    let told = groups.map(|group| {
        let name = group.user.and_then(|user| users.name(user));
        group_json(group, name.as_deref())
    });
    answer["groups"] = told.collect();
    answer
}

/// A group with the name of its user.
pub(crate) fn group_json(group: &DenialGroup, user_name: Option<&str>) -> Value {
    let mut told = json!(group);
    told["user_name"] = json!(user_name);
    told
}

fn as_text(denials: &Denials) -> String {
    let mut text = String::new();
    if denials.totals.is_empty() {
        text += &format!("nothing was denied in the last {}\n", ago(denials.since));
    }
    for total in &denials.totals {
        let DenialCount { connections, retries } = total.count;
        let connections = counted(connections as usize, "connection");
        let what = format!("{} {}", total.direction.name(), total.fate.words());
        let since = ago(denials.since);
        text += &format!(
            "{}: {connections} in the last {since}, {} beside\n",
            styled(HEADING, &what),
            retried(retries)
        );
    }
    if !denials.groups.is_empty() {
        let rows = columns(&rows(denials));
        let (heading, rest) = rows.split_once('\n').unwrap_or((&rows, ""));
        text += &format!("\n{}\n{rest}", styled(HEADING, heading));
    }
    if denials.left_out > 0 {
        let more = format!("and {} more: --limit shows them\n", denials.left_out);
        text += &styled(FAINT, &more);
    }
    text + &losses(denials)
}

pub(crate) fn retried(retries: u64) -> String {
    match retries {
        1 => "1 retry".into(),
        retries => format!("{retries} retries"),
    }
}

/// What isn't in the table.
fn losses(denials: &Denials) -> String {
    let mut lines = Vec::new();
    let (rest, losses) = (denials.rest, &denials.losses);
    if rest != DenialCount::default() {
        lines.push(format!(
            "not told apart, since there were too many different ones: {}",
            counted(rest.connections as usize, "connection")
        ));
    }
    if losses.reading_since.is_none() {
        lines.push("denied packets can't be read at the moment: see `tierwall status`".into());
    }
    if losses.lost > 0 {
        lines.push(format!(
            "too fast to be counted here, but in the kernel's counters: {}",
            counted(losses.lost as usize, "packet")
        ));
    }
    let held_back: u64 = losses.limits.iter().map(|limit| limit.held_back).sum();
    if held_back > 0 {
        lines.push(format!(
            "held back by the rate limits since the kernel's counters began: {}",
            counted(held_back as usize, "packet")
        ));
    }
    let lines = lines.iter().map(|line| format!("{}\n", styled(WARNING, line)));
    let lines: String = lines.collect();
    if lines.is_empty() { lines } else { format!("\n{lines}") }
}

/// The heading and a row for each group.
fn rows(denials: &Denials) -> Vec<Vec<String>> {
    let heading: &[&str] = match denials.by {
        DenialsBy::Flow => &["from", "to", "service", "user", "interface"],
        DenialsBy::Destination => &["to"],
        DenialsBy::Source => &["from"],
        DenialsBy::User => &["user"],
        DenialsBy::Service => &["service"],
        DenialsBy::Tier => &["from", "to"],
        DenialsBy::Generation => &["generation"],
    };
    let mut users = Users::default();
    let mut rows = vec![["times", "retries", "side", "what"].map(String::from).to_vec()];
    rows[0].extend(heading.iter().map(|cell| (*cell).to_owned()));
    rows[0].push("last".into());
    for group in &denials.groups {
        let DenialCount { connections, retries } = group.count;
        let mut row = vec![
            connections.to_string(),
            retries.to_string(),
            group.direction.name().to_owned(),
            group.fate.words().to_owned(),
        ];
        row.extend(heading.iter().map(|column| cell(column, denials.by, group, &mut users)));
        row.push(format!("{} ago", ago(group.last)));
        rows.push(row);
    }
    rows
}

/// An address and its tiers.
pub(crate) fn place(address: &str, tiers: &str) -> String {
    match (address, tiers) {
        ("", "") => "no tier".into(),
        ("", tiers) => tiers.to_owned(),
        (address, "") => address.to_owned(),
        (address, tiers) => format!("{address} ({tiers})"),
    }
}

fn cell(column: &str, by: DenialsBy, group: &DenialGroup, users: &mut Users) -> String {
    let place = |address: Option<IpAddr>, tiers: &[String]| {
        place(&address.map(|address| address.to_string()).unwrap_or_default(), &tiers.join(","))
    };
    let cell = match column {
        "from" => place(group.source, &group.source_tiers),
        "to" => place(group.destination, &group.destination_tiers),
        "service" => group.service.clone().unwrap_or_default(),
        "user" => match group.user {
            Some(user) => users.name(user).unwrap_or_else(|| user.to_string()),
            None if by == DenialsBy::User => "none known".into(),
            None => String::new(),
        },
        "interface" => group.interface.clone().unwrap_or_default(),
        _ => group.generation.map_or_else(String::new, |generation| generation.to_string()),
    };
    clean_line(&cell)
}

/// The names of users, each looked up once.
#[derive(Debug, Default)]
pub(crate) struct Users(BTreeMap<u32, Option<String>>);

impl Users {
    pub(crate) fn name(&mut self, user: u32) -> Option<String> {
        let lookup = || {
            let found = nix::unistd::User::from_uid(user.into()).ok().flatten();
            found.map(|found| found.name)
        };
        self.0.entry(user).or_insert_with(lookup).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{DenialFate, DenialTotal, Direction, Losses};

    fn group(connections: u64, source: &str) -> DenialGroup {
        DenialGroup {
            direction: Direction::Input,
            fate: DenialFate::Denied,
            source: Some(source.parse().expect("an address")),
            source_tiers: vec!["web".into()],
            destination: Some("10.10.1.20".parse().expect("an address")),
            destination_tiers: Vec::new(),
            service: Some("tcp/22".into()),
            user: None,
            interface: Some("eth0".into()),
            generation: Some(3),
            count: DenialCount { connections, retries: 1 },
            first: 0,
            last: 0,
            uncertain: 0,
        }
    }

    #[test]
    fn a_table_says_what_is_missing_from_it() {
        let count = DenialCount { connections: 14, retries: 2 };
        let (direction, fate) = (Direction::Input, DenialFate::Denied);
        let denials = Denials {
            since: 0,
            until: 1,
            totals: vec![DenialTotal { direction, fate, count, minutes: vec![] }],
            by: DenialsBy::Flow,
            groups: vec![group(12, "10.10.1.10"), group(1, "fd00::1")],
            left_out: 3,
            rest: DenialCount { connections: 1, retries: 0 },
            losses: Losses { lost: 7, reading_since: Some(0), ..Losses::default() },
        };
        let text = anstream::adapter::strip_str(&as_text(&denials)).to_string();
        assert!(text.starts_with("input denied: 14 connections in the last "), "{text}");
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert!(rows[0].contains("times  retries  side   what    from"), "{text}");
        assert!(rows[1].contains("12     1        input  denied  10.10.1.10 (web)"), "{text}");
        for told in ["and 3 more", "different ones: 1 connection\n", "counters: 7 packets\n"] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}
