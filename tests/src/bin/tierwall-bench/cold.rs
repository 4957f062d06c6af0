//! Cold start: from files on disk to a committed policy, with the namespace empty before.
//!
//! tierwalld is ready after two commits: one that observes, in which the elements are, and one
//! that enforces once the connections that were open before are known. Its peers are told the
//! members and one rule.

use crate::Bench;
use crate::firewalld::{Firewalld, LARGEST};
use crate::floor::Prebuilt;
use crate::generate::{List, Shape};
use crate::peers;
use crate::report::{Group, Kind, Unit};
use crate::site::{self, Size};
use crate::turns::{Way, interleave};
use anyhow::{Context, Result};
use ruleset::{Family, Ruleset};
use std::path::Path;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

const ADDRESSES: [usize; 4] = [10, 10_000, 100_000, 1_000_000];
const RANGES: [usize; 3] = [10_000, 100_000, 1_000_000];
const ROUNDS: usize = 15;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let mut groups = vec![three_tiers(bench)?];
    for (family, shape, sizes, plot) in [
        (Family::V4, Shape::Addresses, &ADDRESSES[..], "start-addresses"),
        (Family::V4, Shape::Ranges, &RANGES, "start-ranges"),
        (Family::V6, Shape::Addresses, &ADDRESSES, ""),
        (Family::V6, Shape::Ranges, &RANGES, ""),
    ] {
        for count in bench.sizes(sizes) {
            let list = List::generate(family, shape, count);
            let group = group(bench, &list, list.to_string())?;
            groups.push(match plot {
                "" => group,
                plot => group.at(plot, "members", count),
            });
        }
    }
    for (file, family, shape) in [
        ("addresses-v4.list", Family::V4, Shape::Addresses),
        ("prefixes-v4.list", Family::V4, Shape::Ranges),
        ("prefixes-v6.list", Family::V6, Shape::Ranges),
    ] {
        let list = List::real(file, family, shape)?;
        groups.push(group(bench, &list, format!("{file}, {} lines", list.members.len()))?);
    }
    Ok(groups)
}

/// The smallest policy that is real, beside `nft -f` with the table that tierwall makes of it.
fn three_tiers(bench: &Bench) -> Result<Group> {
    const POLICY: &str = include_str!("../../../scenarios/strict-three-tier/policy.toml");
    let host = || Host::alone("app", [std::net::IpAddr::from([10, 10, 1, 20])]);
    let file = tempfile::NamedTempFile::new()?;
    let export = Server::new(&host()?, POLICY)?.tierwall(&["export"])?;
    std::fs::write(&file, export.stdout)?;
    let title = "cold start, strict three-tier policy";
    let ways = vec![
        Way::new(Kind::Tierwall, "tierwalld, start to READY=1", || {
            until_ready(&Server::new(&host()?, POLICY)?)
        }),
        Way::new(Kind::Other, "nft -f, the same table", || nft(&host()?, file.path())),
    ];
    Ok(Group::new(title, Unit::Milliseconds, interleave(title, bench.rounds(ROUNDS), ways)?))
}

fn group(bench: &Bench, list: &List, name: String) -> Result<Group> {
    let text = list.text();
    let batch = {
        let wanted = site::compiled(&site::server(&text)?)?;
        Prebuilt::between(&Ruleset::default(), &wanted)?
    };
    let directory = tempfile::tempdir()?;
    let file = |name: &str, text: String| -> Result<_> {
        let path = directory.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path)
    };
    let undeclared = file("undeclared.nft", site::by_hand(list, Size::Undeclared))?;
    let mut ways = vec![
        Way::new(Kind::Floor, "floor: the same batch, prebuilt", || {
            batch.commit(&site::host()?.namespace)
        })
        .remark(format!("{} bytes", batch.length())),
        Way::new(Kind::Tierwall, "tierwalld, start to READY=1", || {
            until_ready(&site::server(&text)?)
        }),
        Way::new(Kind::Other, "nft -f", || nft(&site::host()?, &undeclared)),
    ];
    if list.shape == Shape::Addresses {
        let declared = file("declared.nft", site::by_hand(list, Size::Declared))?;
        ways.push(Way::new(Kind::Other, "nft -f, size declared", move || {
            nft(&site::host()?, &declared)
        }));
        if peers::is_here("ipset") {
            let set = file("ipset", site::ipset(list))?;
            ways.push(Way::new(Kind::Other, "ipset restore, the set alone", move || {
                let arguments = ["restore", "-file", set.to_str().context("a path")?];
                Ok(peers::run(&site::host()?, "ipset", &arguments)?.milliseconds)
            }));
        }
        if Firewalld::is_here() && list.members.len() <= LARGEST && list.family == Family::V4 {
            ways.push(Way::new(Kind::Other, "firewall-cmd --reload", || {
                Firewalld::start(list)?.reload()
            }));
        }
    }
    let title = format!("cold start, {name}");
    let rows = interleave(&title, bench.rounds(ROUNDS), ways)?;
    Ok(Group::new(title, Unit::Milliseconds, rows))
}

/// Milliseconds from the start of a daemon until it enforces.
pub(crate) fn until_ready(server: &Server) -> Result<f64> {
    let daemon = server.start(&[])?;
    Ok(daemon.ready_after.as_secs_f64() * 1e3)
}

fn nft(host: &Host, file: &Path) -> Result<f64> {
    Ok(peers::run(host, "nft", &["-f", file.to_str().context("a path")?])?.milliseconds)
}
