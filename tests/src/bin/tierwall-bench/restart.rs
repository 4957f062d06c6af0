//! A restart with nothing changed: until the daemon is ready again, and what it sends. Beside it
//! what reading the same files takes by itself.

use crate::Bench;
use crate::change::milliseconds_to_read;
use crate::command::running;
use crate::generate::{List, Shape};
use crate::report::{Group, Kind, Row, Unit};
use crate::turns::{Way, interleave};
use anyhow::{Context, Result};
use ruleset::Family;
use std::cell::RefCell;
use tierwall_tests::daemon::Daemon;

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const ROUNDS: usize = 20;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for shape in [Shape::Addresses, Shape::Ranges] {
        for count in bench.sizes(&SIZES) {
            groups.extend(restarts(bench, &List::generate(Family::V4, shape, count))?);
        }
    }
    Ok(groups)
}

fn restarts(bench: &Bench, list: &List) -> Result<[Group; 2]> {
    let (server, first) = running(&list.text())?;
    let daemon = RefCell::new(Some(first));
    let mut sent = Row::new(Kind::Tierwall, "tierwalld");
    let ways = vec![
        Way::new(Kind::Floor, "floor: reading the files alone (crates/policy)", || {
            milliseconds_to_read(&server)
        }),
        Way::new(Kind::Tierwall, "tierwalld, start to READY=1", || {
            let mut offset = 0;
            let before = daemon.take().context("one runs")?;
            before.log_behind(&mut offset)?;
            before.stop()?;
            let after = server.start(&[])?;
            let took = after.ready_after.as_secs_f64() * 1e3;
            sent.samples.push(bytes_sent(&after, &mut offset)?);
            daemon.replace(Some(after));
            Ok(took)
        }),
    ];
    let title = format!("restart with {list}, nothing changed");
    let rows = interleave(&title, bench.rounds(ROUNDS), ways)?;
    let bytes = format!("sent to the kernel at a restart with {list}");
    Ok([Group::new(title, Unit::Milliseconds, rows), Group::new(bytes, Unit::Bytes, vec![sent])])
}

/// What the batches behind `offset` in the log were long.
fn bytes_sent(daemon: &Daemon, offset: &mut u64) -> Result<f64> {
    let log = daemon.log_behind(offset)?;
    let lengths = log.lines().filter(|line| line.contains(" committed ")).map(|line| {
        let length = line.split_whitespace().find_map(|word| word.strip_prefix("bytes="));
        Ok(length.context("a commit without its length")?.parse::<f64>()?)
    });
    lengths.sum()
}
