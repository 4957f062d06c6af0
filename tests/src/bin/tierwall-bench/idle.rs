//! An idle daemon: processor time and how often it is woken, over a minute.

use crate::Bench;
use crate::command::running;
use crate::generate::{List, Shape};
use crate::report::{Group, Kind, Row, Unit};
use crate::statistics::progress;
use anyhow::{Context, Result};
use ruleset::Family;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Until what follows a start is done.
const REST: Duration = Duration::from_secs(5);

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let (count, minutes) = if bench.quick { (10_000, 1.0 / 6.0) } else { (1_000_000, 1.0) };
    let list = List::generate(Family::V4, Shape::Addresses, count);
    let (_server, daemon) = running(&list.text())?;
    thread::sleep(REST);
    let title = format!("an idle daemon with {list}");
    progress(&title, 0, 1);
    let before = Threads::of(daemon.id())?;
    thread::sleep(Duration::from_secs_f64(60.0 * minutes));
    let after = Threads::of(daemon.id())?;
    progress(&title, 1, 1);
    let spent = after.since(&before);
    let row = |way: &str, spent: f64| {
        let mut row = Row::new(Kind::Tierwall, way);
        row.samples.push(spent / minutes);
        row
    };
    let switches = "context switches that it wanted (wake-ups)";
    Ok(vec![
        Group::new(
            format!("{title}: processor time, ms"),
            Unit::PerMinute,
            vec![row("tierwalld", spent.milliseconds)],
        ),
        Group::new(
            format!("{title}: context switches"),
            Unit::PerMinute,
            vec![row(switches, spent.voluntary), row("others", spent.involuntary)],
        ),
    ])
}

/// What a thread has spent.
#[derive(Debug, Default, Clone, Copy)]
struct Spent {
    milliseconds: f64,
    voluntary: f64,
    involuntary: f64,
}

/// What each thread of a process has spent so far.
struct Threads(BTreeMap<OsString, Spent>);

impl Threads {
    fn of(id: u32) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{id}/task"))? {
            let thread = thread?;
            threads.insert(thread.file_name(), Spent::of(&thread.path())?);
        }
        Ok(Self(threads))
    }

    /// What all threads have spent since then, but those that have ended.
    fn since(&self, before: &Self) -> Spent {
        let mut all = Spent::default();
        for (thread, now) in &self.0 {
            let then = before.0.get(thread).copied().unwrap_or_default();
            all.milliseconds += now.milliseconds - then.milliseconds;
            all.voluntary += now.voluntary - then.voluntary;
            all.involuntary += now.involuntary - then.involuntary;
        }
        all
    }
}

impl Spent {
    /// From `schedstat`, which counts nanoseconds; `stat` counts hundredths of a second, too
    /// coarse for a process that does next to nothing.
    fn of(thread: &Path) -> Result<Self> {
        let read = |name: &str| fs::read_to_string(thread.join(name));
        let (schedstat, status) = (read("schedstat")?, read("status")?);
        let nanoseconds = schedstat.split_whitespace().next().context("schedstat is empty")?;
        let switches = |key: &str| -> Result<f64> {
            let count = status.lines().find_map(|line| line.strip_prefix(key));
            Ok(count.context("status counts no context switches")?.trim().parse()?)
        };
        Ok(Self {
            milliseconds: nanoseconds.parse::<f64>()? / 1e6,
            voluntary: switches("voluntary_ctxt_switches:")?,
            involuntary: switches("nonvoluntary_ctxt_switches:")?,
        })
    }
}
