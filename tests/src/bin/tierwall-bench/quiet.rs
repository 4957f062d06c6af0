//! Whether the machine is quiet enough to measure on it.
//!
//! `netlink_has_listeners` asks a mask that all network namespaces share: while anybody in any of
//! them listens to nftables, the kernel writes a message for each element of every commit, and
//! large commits take several times as long. Such a listener is looked for in two ways. Sockets
//! are listed in /proc for each namespace that a process is in; and a listener of our own must
//! make a difference. Such commits also take gigabytes of kernel memory while they are made: a
//! message for each element is allocated before the first is sent.

use crate::floor::Prebuilt;
use crate::generate::{List, Shape};
use anyhow::{Context, Result};
use netlink::Events;
use ruleset::Family;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::namespace::Namespace;

/// `NETLINK_NETFILTER` and the group of `NFNLGRP_NFTABLES` (linux/netlink.h,
/// linux/netfilter/nfnetlink.h).
const NETLINK_NETFILTER: &str = "12";
const NFTABLES: u32 = 1 << (7 - 1);

/// How many elements are committed to see what a listener does.
const ELEMENTS: usize = 50_000;
/// A listener makes that commit several times as long where nobody listens yet.
const DIFFERENCE: f64 = 1.5;
/// More than that many programs that want a processor, for each of them.
const LOAD: f64 = 0.5;

/// How long other work is waited for, such as the kernel's own after a namespace is gone.
const SETTLED: Duration = Duration::from_secs(3);
const WINDOW: Duration = Duration::from_millis(30);
/// As much of all processors may be busy.
const BUSY: f64 = 0.2;

/// What will disturb all measurements, a sentence each. To be asked before the first one: the
/// benchmark is a load itself.
pub(crate) fn load() -> Result<Option<String>> {
    let load: f64 = fs::read_to_string("/proc/loadavg")?
        .split_whitespace()
        .next()
        .and_then(|load| load.parse().ok())
        .context("/proc/loadavg holds no number")?;
    let processors = thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    Ok((load > LOAD * processors).then(|| format!("the load average was {load} at the beginning")))
}

/// What disturbs measurements now, a sentence each; none if nothing does.
pub(crate) fn disturbances() -> Result<Vec<String>> {
    let mut found = Vec::new();
    if !settle(SETTLED) {
        found.push(format!("other programs kept the processors busy for {SETTLED:?}"));
    }
    let listeners = listeners();
    if !listeners.is_empty() {
        let ids: Vec<String> = listeners.iter().map(u32::to_string).collect();
        found.push(format!("netlink ports that listen to nftables: {}", ids.join(", ")));
    }
    let difference = difference_of_a_listener()?;
    if difference < DIFFERENCE {
        found.push(format!(
            "a listener makes a commit take {difference:.1} times as long: on a quiet machine it \
             is several times, so somebody listens to nftables already"
        ));
    }
    Ok(found)
}

/// The ports of sockets that listen to nftables, in every namespace that a thread is in.
fn listeners() -> BTreeSet<u32> {
    let mut seen = BTreeSet::new();
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    let threads =
        entries(Path::new("/proc")).flat_map(|process| entries(&process.path().join("task")));
    let mut ports = BTreeSet::new();
    for thread in threads {
        let new = fs::read_link(thread.path().join("ns/net")).is_ok_and(|it| seen.insert(it));
        // A thread may have ended by now.
        let Ok(sockets) = fs::read_to_string(thread.path().join("net/netlink")) else { continue };
        ports.extend(sockets.lines().filter(|_| new).filter_map(listening_port));
    }
    ports
}

/// The port in a line of /proc/net/netlink (`sk Eth Pid Groups …`), if it listens to nftables.
fn listening_port(line: &str) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let (protocol, port, groups) = (words.next()?, words.next()?, words.next()?);
    let groups = u32::from_str_radix(groups, 16).ok()?;
    (protocol == NETLINK_NETFILTER && groups & NFTABLES != 0).then(|| port.parse().ok())?
}

/// How many times as long a commit takes with a listener of our own.
fn difference_of_a_listener() -> Result<f64> {
    let batch = Prebuilt::set_of(&List::generate(Family::V4, Shape::Addresses, ELEMENTS))?;
    let commit = |listening: bool| -> Result<f64> {
        let namespace = Namespace::new()?;
        let listener = match listening {
            true => Some(namespace.run(Events::open)?),
            false => None,
        };
        let took = batch.commit(&namespace);
        drop(listener);
        took
    };
    let best = |listening: bool| -> Result<f64> {
        Ok(commit(listening)?.min(commit(listening)?).min(commit(listening)?))
    };
    // The first use of a kernel module would count against those who come first.
    commit(false)?;
    Ok(best(true)? / best(false)?)
}

/// Waits until the processors have next to nothing to do, for `limit` at most: what was measured
/// before leaves work behind, such as a namespace to be taken apart. Says whether they came to
/// rest.
pub(crate) fn settle(limit: Duration) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < limit.min(SETTLED) {
        let before = times();
        thread::sleep(WINDOW);
        let Some((before, after)) = before.zip(times()) else { return true };
        let (all, idle) = (after.0 - before.0, after.1 - before.1);
        if all > 0.0 && (all - idle) / all < BUSY {
            return true;
        }
    }
    false
}

/// Clock ticks of all processors, and those of them without work (proc(5)).
fn times() -> Option<(f64, f64)> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<f64> =
        stat.lines().next()?.split_whitespace().skip(1).filter_map(|t| t.parse().ok()).collect();
    Some((ticks.iter().take(8).sum(), ticks.get(3)? + ticks.get(4)?))
}

#[cfg(test)]
mod tests {
    use super::listening_port;

    #[test]
    fn listeners_to_nftables_are_told_from_other_sockets() {
        let line = |protocol, groups| {
            format!("0000000000000000 {protocol}  4711       {groups} 0        0        0     2")
        };
        assert_eq!(listening_port(&line("12", "00000040")), Some(4711));
        assert_eq!(listening_port(&line("12", "000001ff")), Some(4711));
        assert_eq!(listening_port(&line("12", "00000000")), None);
        assert_eq!(listening_port(&line("0", "00000040")), None);
        assert_eq!(listening_port("sk Eth Pid Groups Rmem Wmem Dump Locks"), None);
    }
}
