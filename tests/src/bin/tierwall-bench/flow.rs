//! What a new flow costs: no firewall, rules as people write them one after the other, rules as an
//! expert would write them, and tierwall, with the flow matching the last allow.

use crate::Bench;
use crate::flood::nanoseconds_a_packet;
use crate::report::{Group, Kind, Row, Unit, short};
use crate::rules::{self, Peers};
use crate::statistics::progress;
use anyhow::{Context, Result};
use std::net::{IpAddr, SocketAddrV4};
use std::process::Command;
use tierwall_tests::binaries;
use tierwall_tests::network::{Host, Network};

/// Packets a round and case: some 50 ms.
const PACKETS: usize = 30_000;
const ROUNDS: usize = 25;

/// Allows, and who the peers of each are.
const CASES: [Peers; 6] = [
    Peers::OneTier { allows: 1 },
    Peers::OneTier { allows: 20 },
    Peers::OneTier { allows: 200 },
    Peers::OneTier { allows: 2000 },
    Peers::Literals { allows: 2000 },
    Peers::Tiers { allows: 50 },
];

/// A way to filter the receiver.
struct Case {
    row: Row,
    network: Network,
    target: SocketAddrV4,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let rounds = bench.rounds(ROUNDS).most;
    let mut all: Vec<Vec<Case>> = CASES.into_iter().map(cases).collect::<Result<_>>()?;
    for round in 0..rounds {
        progress("new flow", round, rounds);
        for case in all.iter_mut().flatten() {
            let sender = &case.network.host("sender").namespace;
            let cost = sender.run(|| nanoseconds_a_packet(case.target, PACKETS))?;
            case.row.samples.push(cost);
        }
    }
    progress("new flow", rounds, rounds);
    let mut groups = Vec::new();
    let mut by_allows = Vec::new();
    for (peers, cases) in CASES.into_iter().zip(all) {
        cases.iter().try_for_each(Case::check_counted)?;
        let rows: Vec<Row> = cases.into_iter().map(|case| case.row).collect();
        let group = Group::new(format!("new flow, {peers}"), Unit::Nanoseconds, rows);
        if let Peers::OneTier { allows } = peers {
            let own = group.rows.iter().filter(|row| row.kind == Kind::Tierwall);
            by_allows.extend(own.map(|row| Row {
                kind: if allows == 1 { Kind::Tierwall } else { Kind::Other },
                way: format!("tierwall, {} allows", short(allows)),
                ..row.clone()
            }));
            groups.push(group.at("new-flow", "allows", allows));
        } else {
            groups.push(group);
        }
    }
    groups.push(Group::new("new flow, by the number of allows", Unit::Nanoseconds, by_allows));
    Ok(groups)
}

fn cases(peers: Peers) -> Result<Vec<Case>> {
    Ok(vec![
        case(Kind::Other, "no firewall", peers, None)?,
        case(Kind::Floor, "floor: hand-tuned rules", peers, Some(rules::tuned(peers)))?,
        case(Kind::Tierwall, "tierwall", peers, Some(compile(&rules::policy(peers))?))?,
        case(Kind::Other, "linear rules", peers, Some(rules::linear(peers)))?,
    ])
}

fn case(kind: Kind, way: &str, peers: Peers, table: Option<String>) -> Result<Case> {
    let hosts = [
        ("sender", vec![IpAddr::V4(rules::SENDER)]),
        ("receiver", vec![IpAddr::V4(rules::RECEIVER)]),
    ];
    let network = Network::new(hosts)?;
    let receiver: &Host = network.host("receiver");
    if let Some(table) = &table {
        receiver.namespace.command_with_input("nft", &["-f", "-"], table)?;
    }
    let target = SocketAddrV4::new(rules::RECEIVER, peers.last_port());
    Ok(Case { row: Row::new(kind, way), network, target })
}

impl Case {
    /// The packets must have been accepted by the last rule: otherwise the wrong thing was
    /// measured.
    fn check_counted(&self) -> Result<()> {
        let receiver = &self.network.host("receiver").namespace;
        let listing = receiver.command("nft", &["list", "ruleset"])?;
        if listing.is_empty() {
            return Ok(());
        }
        let most = listing
            .split("packets ")
            .skip(1)
            .filter_map(|rest| rest.split_whitespace().next()?.parse::<usize>().ok())
            .max();
        let sent = self.row.samples.len() * PACKETS;
        anyhow::ensure!(
            most.is_some_and(|most| most >= sent * 9 / 10),
            "{}: {sent} packets sent, but no counter has seen them: {most:?}",
            self.row.way
        );
        Ok(())
    }
}

/// The table of a policy, by the command line.
fn compile(policy: &str) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("tierwall.toml");
    std::fs::write(&file, policy)?;
    let output = Command::new(binaries::find("tierwall")?)
        .args(["--insecure-permissions", "--config"])
        .arg(&file)
        .args(["export", "--as", "server"])
        .output()
        .context("can't run tierwall")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
