//! Memory: what stays resident once the daemon rests, also after a change of its list, and the
//! peak until then; and that of its peers.

use crate::Bench;
use crate::change::until_committed;
use crate::command::running;
use crate::firewalld::{Firewalld, LARGEST};
use crate::generate::{List, Shape};
use crate::peers::{self, memory};
use crate::report::{Group, Kind, Row, Unit};
use crate::site::{self, Size};
use crate::statistics::progress;
use anyhow::Result;
use ruleset::Family;
use std::fs;
use std::thread;
use std::time::Duration;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

const SIZES: [(Shape, usize); 5] = [
    (Shape::Addresses, 10_000),
    (Shape::Addresses, 100_000),
    (Shape::Addresses, 1_000_000),
    (Shape::Ranges, 100_000),
    (Shape::Ranges, 1_000_000),
];
const ROUNDS: usize = 3;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let mut groups = vec![three_tiers(bench)?];
    for (shape, count) in SIZES {
        if !bench.quick || count <= 10_000 {
            let group = group(bench, &List::generate(Family::V4, shape, count))?;
            groups.push(match shape {
                Shape::Addresses => group.at("memory-addresses", "members", count),
                Shape::Ranges => group,
            });
        }
    }
    Ok(groups)
}

/// Until a daemon has given back what it gives back.
fn rest(bench: &Bench) {
    thread::sleep(Duration::from_secs(if bench.quick { 1 } else { 5 }));
}

fn three_tiers(bench: &Bench) -> Result<Group> {
    const POLICY: &str = include_str!("../../../scenarios/strict-three-tier/policy.toml");
    let mut resident = Row::new(Kind::Tierwall, "tierwalld, resident");
    let mut peak = Row::new(Kind::Other, "tierwalld, peak");
    let title = "memory, strict three-tier policy";
    for round in 0..ROUNDS {
        progress(title, round, ROUNDS);
        let host = Host::alone("app", [std::net::IpAddr::from([10, 10, 1, 20])])?;
        let daemon = Server::new(&host, POLICY)?.start(&[])?;
        rest(bench);
        resident.samples.push(memory(daemon.id(), "VmRSS:")?);
        peak.samples.push(memory(daemon.id(), "VmHWM:")?);
    }
    progress(title, ROUNDS, ROUNDS);
    Ok(Group::new(title, Unit::Mebibytes, vec![resident, peak]))
}

fn group(bench: &Bench, list: &List) -> Result<Group> {
    let (text, changed) = (list.text(), list.changed(1).text());
    let mut resident = Row::new(Kind::Tierwall, "tierwalld, resident");
    let mut later = Row::new(Kind::Other, "tierwalld, resident after a change of the file");
    let mut peak = Row::new(Kind::Other, "tierwalld, peak");
    let mut peak_later = Row::new(Kind::Other, "tierwalld, peak after a change of the file");
    let mut nft = Row::new(Kind::Other, "nft -f, peak");
    let mut firewalld = Row::new(Kind::Other, "firewalld, resident");
    let script = tempfile::NamedTempFile::new()?;
    fs::write(&script, site::by_hand(list, Size::Declared))?;
    let script = script.path().display().to_string();
    let title = format!("memory with {list}");
    for round in 0..ROUNDS {
        progress(&title, round, ROUNDS);
        let (server, daemon) = running(&text)?;
        rest(bench);
        resident.samples.push(memory(daemon.id(), "VmRSS:")?);
        peak.samples.push(memory(daemon.id(), "VmHWM:")?);
        until_committed(&server, &daemon, &changed, 1)?;
        rest(bench);
        later.samples.push(memory(daemon.id(), "VmRSS:")?);
        peak_later.samples.push(memory(daemon.id(), "VmHWM:")?);
        drop(daemon);
        nft.samples.push(peers::peak(&site::host()?, "nft", &["-f", &script])?);
        if list.members.len() <= LARGEST && Firewalld::is_here() {
            let daemon = Firewalld::start(list)?;
            daemon.reload()?;
            firewalld.samples.push(memory(daemon.id(), "VmRSS:")?);
        }
    }
    progress(&title, ROUNDS, ROUNDS);
    let mut rows = vec![resident, later, peak, peak_later, nft];
    rows.extend(Some(firewalld).filter(|row| !row.samples.is_empty()));
    Ok(Group::new(title, Unit::Mebibytes, rows))
}
