//! A list file that is written anew and renamed to its place, with some members exchanged for
//! others: from the rename until the daemon says in its log that the change is committed.
//!
//! The log is polled: a listener to nftables would disturb what is measured, and the generation
//! moves on before an interval set is rebuilt.

use crate::Bench;
use crate::floor::Prebuilt;
use crate::generate::{List, Shape};
use crate::peers;
use crate::report::{Group, Kind, Unit, short};
use crate::site::{self, LIST, Size};
use crate::turns::{Way, interleave};
use anyhow::{Context, Result, ensure};
use ruleset::{Family, Ruleset};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::server::Server;

/// Members, and how many of them are exchanged.
const CHANGES: [(usize, usize); 6] = [
    (10_000, 1),
    (100_000, 1),
    (1_000_000, 1),
    (1_000_000, 1_000),
    (1_000_000, 10_000),
    (1_000_000, 100_000),
];
const ROUNDS: usize = 20;
/// Above that many ranges they aren't exchanged by hand. Each is two elements, and each element is
/// deleted and added: while anybody on the machine listens to nftables, the kernel allocates a
/// message of a page or two for each (`nf_tables_setelem_notify`) before it sends the first, which
/// for a million ranges takes more memory than most machines have.
const BY_HAND: usize = 100_000;
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_micros(200);

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (shape, changes) in [
        (Shape::Addresses, &CHANGES[..]),
        (Shape::Ranges, &[(100_000, 1), (1_000_000, 1), (1_000_000, 1_000)][..]),
    ] {
        for &(count, changed) in changes {
            if bench.quick && count > 10_000 {
                continue;
            }
            let list = List::generate(Family::V4, shape, count);
            let group = group(bench, &list, changed)?;
            groups.push(match (shape, changed, count) {
                (Shape::Addresses, 1, _) => group.at("list-change", "members in the file", count),
                (Shape::Addresses, ..) => group.at("members-changed", "members changed", changed),
                _ => group,
            });
        }
    }
    Ok(groups)
}

/// Two lists, put in place in turns.
struct Lists {
    texts: [String; 2],
    next: usize,
}

impl Lists {
    fn next(&mut self) -> &str {
        self.next = 1 - self.next;
        &self.texts[self.next]
    }
}

fn group(bench: &Bench, list: &List, changed: usize) -> Result<Group> {
    let other = list.changed(changed);
    let mut lists = Lists { texts: [list.text(), other.text()], next: 0 };
    let server = site::server(&lists.texts[0])?;
    let daemon = server.start(&[])?;

    // The floor, in a namespace of its own.
    let floor = site::host()?;
    let (first, second) = {
        let at_first = site::compiled(&server)?;
        let changed = site::compiled(&site::server(&lists.texts[1])?)?;
        Prebuilt::between(&Ruleset::default(), &at_first)?.commit(&floor.namespace)?;
        (Prebuilt::between(&at_first, &changed)?, Prebuilt::between(&changed, &at_first)?)
    };
    let mut batches = [&first, &second].into_iter().cycle();

    let read_alone = site::server(&lists.texts[0])?;
    let mut ways = vec![
        Way::new(Kind::Floor, "floor: the same batch, prebuilt", || {
            batches.next().context("it cycles")?.commit(&floor.namespace)
        }),
        Way::new(Kind::Tierwall, "tierwalld, rename to committed", || {
            until_committed(&server, &daemon, lists.next(), changed)
        }),
        Way::new(Kind::Other, "reading the files alone (crates/policy)", || {
            milliseconds_to_read(&read_alone)
        }),
    ];
    if list.shape == Shape::Addresses || list.members.len() <= BY_HAND {
        ways.push(by_hand(list, &other)?);
    }
    let title = format!("{} of {list} changed in the file", short(changed));
    let rows = interleave(&title, bench.rounds(ROUNDS), ways)?;
    Ok(Group::new(title, Unit::Milliseconds, rows))
}

/// The best that can be done with a whole list by hand, in a namespace of its own.
fn by_hand(list: &List, other: &List) -> Result<Way<'static>> {
    let host = site::host()?;
    let directory = tempfile::tempdir()?;
    let file = |name: &str, text: String| -> Result<String> {
        let path = directory.path().join(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    };
    let whole = file("whole", site::by_hand(list, Size::Declared))?;
    peers::run(&host, "nft", &["-f", &whole])?;
    let mut scripts = [
        file("other", site::exchanged_by_hand(other))?,
        file("list", site::exchanged_by_hand(list))?,
    ];
    Ok(Way::new(Kind::Other, "nft -f, flush and add all, size declared", move || {
        // The files live as long as the way does.
        let _ = &directory;
        let ran = peers::run(&host, "nft", &["-f", &scripts[0]])?;
        scripts.reverse();
        Ok(ran.milliseconds)
    }))
}

/// What just reading the files of a server takes, by the same code.
pub(crate) fn milliseconds_to_read(server: &Server) -> Result<f64> {
    let begun = Instant::now();
    let loaded = policy::load(&server.config(), &policy::Options::default());
    let took = begun.elapsed();
    ensure!(loaded.policy.is_some(), "the policy of the benchmark has errors");
    Ok(took.as_secs_f64() * 1e3)
}

/// Puts a list in place; milliseconds from its rename until that many members are exchanged.
pub(crate) fn until_committed(
    server: &Server,
    daemon: &Daemon,
    text: &str,
    changed: usize,
) -> Result<f64> {
    let mut offset = 0;
    daemon.log_behind(&mut offset)?;
    server.write(".new", text)?;
    let beside = server.path("etc").join(".new");
    let begun = Instant::now();
    fs::rename(&beside, server.path("etc").join(LIST))?;
    let mut log = String::new();
    loop {
        log += &daemon.log_behind(&mut offset)?;
        if log.contains(" committed ") && log.ends_with('\n') {
            let took = begun.elapsed();
            let elements = format!(" +{changed} -{changed}");
            ensure!(log.contains(&elements), "another change than {elements} was made: {log}");
            return Ok(took.as_secs_f64() * 1e3);
        }
        ensure!(begun.elapsed() < LIMIT, "a list wasn't committed within {LIMIT:?}:\n{log}");
        thread::sleep(POLL);
    }
}
