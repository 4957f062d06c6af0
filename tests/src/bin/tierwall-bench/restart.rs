//! A restart with nothing changed: until the daemon is ready again, and what it sends. Beside it
//! what reading the same files takes by itself.

use crate::Bench;
use crate::change::milliseconds_to_read;
use crate::generate::{List, Shape};
use crate::report::{Group, Kind, Row, Unit};
use crate::site;
use crate::turns::{Way, interleave};
use anyhow::{Context, Result};
use ruleset::Family;
use std::cell::RefCell;
use tierwall_tests::daemon::Daemon;
use tierwall_tests::fd_store::FdStore;
use tierwall_tests::server::Server;

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
    let text = list.text();
    let (alone, kept) =
        (Restarting::new(&text, None)?, Restarting::new(&text, Some(FdStore::default()))?);
    let ways = vec![
        Way::new(Kind::Floor, "floor: reading the files alone (crates/policy)", || {
            milliseconds_to_read(&alone.server)
        }),
        Way::new(Kind::Tierwall, "tierwalld, start to READY=1", || alone.turn()),
        Way::new(Kind::Other, "tierwalld, its socket kept, shell included", || kept.turn()),
    ];
    let title = format!("restart with {list}, nothing changed");
    let rows = interleave(&title, bench.rounds(ROUNDS), ways)?;
    let bytes = format!("sent to the kernel at a restart with {list}");
    let sent =
        [(Kind::Tierwall, "tierwalld", &alone), (Kind::Other, "tierwalld, its socket kept", &kept)];
    let sent = sent.map(|(kind, way, restarting)| {
        let mut row = Row::new(kind, way);
        row.samples = restarting.sent.take();
        row
    });
    Ok([Group::new(title, Unit::Milliseconds, rows), Group::new(bytes, Unit::Bytes, sent.to_vec())])
}

/// A server whose daemon is started again and again.
struct Restarting {
    server: Server,
    daemon: RefCell<Option<Daemon>>,
    /// Where its socket is kept meanwhile, if it is.
    store: Option<FdStore>,
    /// Bytes sent at each restart.
    sent: RefCell<Vec<f64>>,
}

impl Restarting {
    fn new(list: &str, store: Option<FdStore>) -> Result<Self> {
        let server = site::server(list)?;
        let new = Self { server, daemon: RefCell::default(), store, sent: RefCell::default() };
        new.daemon.replace(Some(new.start()?));
        Ok(new)
    }

    fn start(&self) -> Result<Daemon> {
        match &self.store {
            Some(store) => self.server.start_with_store(store),
            None => self.server.start(&[]),
        }
    }

    /// Milliseconds of a restart.
    fn turn(&self) -> Result<f64> {
        let mut offset = 0;
        let before = self.daemon.take().context("one runs")?;
        before.log_behind(&mut offset)?;
        before.stop()?;
        let after = self.start()?;
        let took = after.ready_after.as_secs_f64() * 1e3;
        self.sent.borrow_mut().push(bytes_sent(&after, &mut offset)?);
        self.daemon.replace(Some(after));
        Ok(took)
    }
}

/// What the batches behind `offset` in the log were long.
fn bytes_sent(daemon: &Daemon, offset: &mut u64) -> Result<f64> {
    let log = daemon.log_behind(offset)?;
    let lengths = log.lines().filter(|line| line.contains(" committed ")).map(|line| {
        let length = line.split_whitespace().find_map(|word| word.strip_prefix("bytes="));
        Ok(length.context("a commit without its length")?.parse::<f64>()?)
    });
    // The sum of nothing is -0.
    Ok(lengths.sum::<Result<f64>>()?.abs())
}
