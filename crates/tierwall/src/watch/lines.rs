//! What is denied as lines, where nobody sits at a terminal or asks for them: one for each flow with
//! something new, or with `--json` an object for each poll.

use super::ask::{Answers, Asker};
use super::news::{News, Told};
use super::rates::{Rate, Rates};
use super::rows;
use super::text::Look;
use super::{Watching, trouble};
use crate::denied::{self, place, retried};
use crate::error::Error;
use crate::options::{Common, Watch};
use crate::output::{counted, tell};
use crate::time::{now, utc};
use control::{DenialCount, DenialGroup};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::thread;
use std::time::Instant;

/// Flows of one answer; the daemon tells no more than half of these apart.
const ALL: usize = 10_000;

/// Flows that are told of before the watch began, and at most of one poll.
const BEFORE: usize = 10;
const MOST: usize = 200;

/// Seconds that a packet may be counted later than its time says.
const LATE: u64 = 2;

pub(super) fn run(common: &Common, options: &Watch) -> Result<u8, Error> {
    let mut lines = Lines {
        asker: Asker::new(&common.runtime_directory),
        watching: Watching::of(options),
        look: Look::of(common),
        news: News::default(),
        rates: Rates::default(),
        until: None,
        is_away: false,
        json: common.json,
    };
    for number in 1u64.. {
        let began = Instant::now();
        let is_last = options.polls == Some(number);
        let text = lines.poll(is_last)?;
        match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
        if is_last && lines.is_away {
            return Ok(control::exit::FAILED);
        }
        if is_last {
            break;
        }
        thread::sleep(options.interval.saturating_sub(began.elapsed()));
    }
    Ok(control::exit::OK)
}

struct Lines {
    asker: Asker,
    watching: Watching,
    look: Look,
    news: News,
    rates: Rates,
    /// When the last answer was; none before the first.
    until: Option<u64>,
    is_away: bool,
    json: bool,
}

impl Lines {
    /// What there is to tell. A daemon that is away is told and, but for the last time, asked again;
    /// who may not ask it never will.
    fn poll(&mut self, is_last: bool) -> Result<String, Error> {
        let was_away = self.is_away;
        let told = if self.json { self.object() } else { self.plain() };
        self.is_away = told.is_err();
        match told {
            Err(error) if error.exit_code() == control::exit::NOT_PERMITTED => Err(error),
            Err(error) => {
                let why = error.message().unwrap_or_default();
                match self.json {
                    true => Ok(format!("{}\n", json!({ "time": now(), "error": why }))),
                    false => {
                        let again = if is_last { "" } else { "; trying again" };
                        if !was_away {
                            tell(&format!("{why}{again}\n"));
                        }
                        Ok(String::new())
                    }
                }
            }
            Ok(text) => {
                if was_away && !self.json {
                    tell("tierwalld answers again\n");
                }
                Ok(text)
            }
        }
    }

    /// The flows with something new, and what that is.
    fn told(&mut self) -> Result<(super::Denials, Told), Error> {
        let seen_since = self.until.map(|until| until.saturating_sub(LATE));
        let mut latest = self.asker.latest(ALL, seen_since)?;
        let is_first = self.until.replace(latest.until).is_none();
        let mut told = self.news.of(&latest);
        if is_first {
            told.others = DenialCount::default();
            let keep = if self.json { 0 } else { BEFORE };
            told.flows.drain(..told.flows.len().saturating_sub(keep));
        }
        latest.groups.clear();
        Ok((latest, told))
    }

    fn plain(&mut self) -> Result<String, Error> {
        let (_, told) = self.told()?;
        let (shown, more) = split(&told);
        let users = self.asker.names(shown.iter().map(|(group, _)| group));
        let mut text = String::new();
        for (group, new) in shown {
            text += &format!("{}\n", self.look.clean(&line(group, *new, &users)));
        }
        if more != DenialCount::default() {
            let connections = counted(more.connections as usize, "connection");
            let retries = retried(more.retries);
            text += &format!("{} and {connections}, {retries} more\n", utc(now()));
        }
        Ok(text)
    }

    fn object(&mut self) -> Result<String, Error> {
        let status = self.asker.status()?;
        let heaviest = self.asker.heaviest(&self.watching.question())?;
        let (latest, told) = self.told()?;
        let (shown, more) = split(&told);
        let users = self.asker.names(heaviest.groups.iter().chain(shown.iter().map(|(g, _)| g)));
        let at = self.asker.elapsed();
        let answers = Answers { at, status, heaviest, latest, users };
        self.rates.note(&answers);
        let Answers { status, heaviest, latest, users, .. } = &answers;
        let problems = trouble::told(status, &latest.losses);
        let new = shown.iter().map(|(group, new)| {
            let mut told = group_json(group, users);
            told["new"] = json!(new);
            told
        });
        let object = json!({
            "time": latest.until,
            "error": null,
            "enforcement": status.enforcement,
            "table": status.table,
            "generation": status.generation,
            "input": status.input,
            "output": status.output,
            "role": status.role,
            "pending": status.pending,
            "problems": problems.into_iter().map(|(_, line)| line).collect::<Vec<_>>(),
            "rates": self.rates.rate().map(rate_json),
            "totals": latest.totals,
            "losses": latest.losses,
            "heaviest": {
                "by": heaviest.by,
                "since": heaviest.since,
                "groups": heaviest.groups.iter().map(|g| group_json(g, users)).collect::<Vec<_>>(),
                "left_out": heaviest.left_out,
            },
            "new": new.collect::<Vec<_>>(),
            "more_new": more,
        });
        Ok(format!("{object}\n"))
    }
}

/// As many flows as are told, the last ones, and the sum of all others.
fn split(told: &Told) -> (&[(DenialGroup, DenialCount)], DenialCount) {
    let (left_out, shown) = told.flows.split_at(told.flows.len().saturating_sub(MOST));
    let more = left_out.iter().fold(told.others, |sum, (_, new)| DenialCount {
        connections: sum.connections + new.connections,
        retries: sum.retries + new.retries,
    });
    (shown, more)
}

/// `2026-01-02T03:04:05Z input denied 10.0.0.2 (web) to 10.0.0.1 tcp/22 eth0: 1 connection, 2 retries`
fn line(group: &DenialGroup, new: DenialCount, users: &BTreeMap<u32, String>) -> String {
    let DenialGroup { direction, fate, service, interface, .. } = group;
    let place = |address: Option<std::net::IpAddr>, tiers: &[String]| {
        place(&address.map(|address| address.to_string()).unwrap_or_default(), &tiers.join(","))
    };
    let mut text = format!(
        "{} {} {} {} to {}",
        utc(group.last),
        direction.name(),
        fate.words(),
        place(group.source, &group.source_tiers),
        place(group.destination, &group.destination_tiers),
    );
    for word in [service, interface].into_iter().flatten() {
        text += &format!(" {word}");
    }
    if let Some(user) = rows::user_of(group, users) {
        text += &format!(" user {user}");
    }
    let connections = counted(new.connections as usize, "connection");
    text + &format!(": {connections}, {}", retried(new.retries))
}

fn group_json(group: &DenialGroup, users: &BTreeMap<u32, String>) -> Value {
    denied::group_json(group, group.user.and_then(|user| users.get(&user)).map(String::as_str))
}

fn rate_json(rate: Rate) -> Value {
    let both = |[connections, packets]: [f64; 2]| json!({ "connections": connections, "packets": packets });
    json!({
        "denied": both(rate.denied),
        "would_be_denied": both(rate.would_be),
        "held_back": rate.held_back,
        "lost": rate.lost,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn a_line_has_all_that_is_known_of_a_flow() {
        let answers = testing::answers();
        let new = DenialCount { connections: 1, retries: 2 };
        let lines: Vec<String> = answers.latest.groups[..4]
            .iter()
            .map(|group| line(group, new, &answers.users))
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn what_is_not_told_is_summed_up() {
        let group = testing::answers().latest.groups.remove(0);
        let one = DenialCount { connections: 1, retries: 3 };
        let others = DenialCount { connections: 7, retries: 0 };
        let told = Told { flows: vec![(group, one); MOST + 5], others };
        let (shown, more) = split(&told);
        assert_eq!((shown.len(), more), (MOST, DenialCount { connections: 12, retries: 15 }));
    }
}
