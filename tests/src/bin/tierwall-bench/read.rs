//! Reading a table back: what the daemon does where it can't know what the kernel holds, and what
//! every `nft` command does before it changes an interval set.

use crate::Bench;
use crate::floor::Prebuilt;
use crate::generate::{List, Shape};
use crate::peers;
use crate::report::{Group, Kind, Unit};
use crate::site;
use crate::turns::{Way, interleave};
use anyhow::{Result, ensure};
use netlink::Connection;
use ruleset::{Family, Ruleset};
use std::time::Instant;

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
const ROUNDS: usize = 10;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (shape, plot) in [(Shape::Addresses, "read-addresses"), (Shape::Ranges, "read-ranges")] {
        for count in bench.sizes(&SIZES) {
            let list = List::generate(Family::V4, shape, count);
            groups.push(group(bench, &list)?.at(plot, "members", count));
        }
    }
    Ok(groups)
}

fn group(bench: &Bench, list: &List) -> Result<Group> {
    let wanted = site::compiled(&site::server(&list.text())?)?;
    let host = site::host()?;
    Prebuilt::between(&Ruleset::default(), &wanted)?.commit(&host.namespace)?;
    let ways = vec![
        Way::new(Kind::Tierwall, "dump (crates/netlink)", || {
            host.namespace.run(|| {
                let mut connection = Connection::open()?;
                let begun = Instant::now();
                let found = connection.dump()?;
                let took = begun.elapsed();
                ensure!(found.ruleset == wanted, "the kernel holds another table");
                Ok(took.as_secs_f64() * 1e3)
            })
        }),
        Way::new(Kind::Other, "nft list table", || {
            let arguments = ["list", "table", "inet", "filter"];
            Ok(peers::run(&host, "nft", &arguments)?.milliseconds)
        }),
    ];
    let title = format!("reading back {list}");
    let rows = interleave(&title, bench.rounds(ROUNDS), ways)?;
    Ok(Group::new(title, Unit::Milliseconds, rows))
}
