//! What a new flow costs: no firewall, rules as people write them one after the other, and
//! tierwall, with the flow matching the last allow.

use crate::flood::nanoseconds_a_packet;
use crate::statistics::{median, progress};
use anyhow::{Context, Result};
use serde_json::json;
use std::fmt;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::process::Command;
use tierwall_tests::binaries;
use tierwall_tests::network::{Host, Network};

const SENDER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const FIRST_PORT: usize = 20_000;
/// Packets a round and case: some 50 ms.
const PACKETS: usize = 30_000;
const ROUNDS: usize = 25;

/// A way to filter the receiver.
struct Case {
    name: String,
    network: Network,
    target: SocketAddrV4,
    samples: Vec<f64>,
}

/// The medians, in nanoseconds a packet.
pub(crate) struct Flow {
    cases: Vec<(String, f64)>,
}

pub(crate) fn measure() -> Result<Flow> {
    let mut cases = vec![case("no firewall", 1, None)?];
    for allows in [1, 20, 200, 2000] {
        cases.push(case(&format!("linear rules, {allows}"), allows, Some(linear(allows)))?);
    }
    for allows in [1, 20, 200, 2000] {
        let table = compile(&policy(allows, Peer::Tier))?;
        cases.push(case(&format!("tierwall, {allows} allows"), allows, Some(table))?);
    }
    let table = compile(&policy(2000, Peer::LiteralOnOneService))?;
    cases.push(case("tierwall, 2000 literal peers on one service", 1, Some(table))?);
    for round in 0..ROUNDS {
        progress("new flow", round, ROUNDS);
        for case in &mut cases {
            let sender = &case.network.host("sender").namespace;
            let cost = sender.run(|| nanoseconds_a_packet(case.target, PACKETS))?;
            case.samples.push(cost);
        }
    }
    progress("new flow", ROUNDS, ROUNDS);
    let cases = cases.into_iter().map(|case| {
        case.check_counted()?;
        Ok((case.name, median(case.samples)))
    });
    Ok(Flow { cases: cases.collect::<Result<_>>()? })
}

fn case(name: &str, ports: usize, table: Option<String>) -> Result<Case> {
    let hosts = [("sender", vec![IpAddr::V4(SENDER)]), ("receiver", vec![IpAddr::V4(RECEIVER)])];
    let network = Network::new(hosts)?;
    let receiver: &Host = network.host("receiver");
    if let Some(table) = &table {
        receiver.namespace.command_with_input("nft", &["-f", "-"], table)?;
    }
    let target = SocketAddrV4::new(RECEIVER, (FIRST_PORT + ports - 1) as u16);
    Ok(Case { name: name.to_owned(), network, target, samples: Vec::new() })
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
        let sent = self.samples.len() * PACKETS;
        anyhow::ensure!(
            most.is_some_and(|most| most >= sent * 9 / 10),
            "{}: {sent} packets sent, but no counter has seen them: {most:?}",
            self.name
        );
        Ok(())
    }
}

/// One rule after the other, as people write them.
fn linear(rules: usize) -> String {
    let mut text = String::from(
        "table inet filter {\n set peers { type ipv4_addr; flags interval; elements = { 10.0.0.0/28 } }\n \
         chain input {\n type filter hook input priority 0; policy drop;\n \
         ct state established,related accept\n ct state invalid drop\n iif lo accept\n",
    );
    for rule in 0..rules {
        let port = FIRST_PORT + rule;
        let _ = writeln!(text, " ip saddr @peers udp dport {port} counter accept");
    }
    text + " }\n}\n"
}

enum Peer {
    Tier,
    LiteralOnOneService,
}

fn policy(allows: usize, peer: Peer) -> String {
    let mut text = String::from(
        "role = \"server\"\nmode = { input = \"enforce\", output = \"off\" }\n[tiers]\n\
         server = \"10.0.0.2\"\npeers = \"10.0.0.0/28\"\n",
    );
    for allow in 0..allows {
        let (from, port) = match peer {
            Peer::Tier => ("peers".to_owned(), FIRST_PORT + allow),
            // The sender is the last of them.
            Peer::LiteralOnOneService => {
                let last = allow + 1 == allows;
                let address = Ipv4Addr::from_bits(0x0a01_0000 + 3 * allow as u32);
                (if last { SENDER } else { address }.to_string(), FIRST_PORT)
            }
        };
        let _ = write!(
            text,
            "[[allow]]\nfrom = \"{from}\"\nto = \"server\"\nservice = \"udp/{port}\"\n"
        );
    }
    text
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

impl Flow {
    fn cost(&self, name: &str) -> f64 {
        self.cases.iter().find(|(own, _)| own == name).map_or(f64::NAN, |(_, cost)| *cost)
    }

    pub(crate) fn as_json(&self) -> serde_json::Value {
        let one = self.cost("tierwall, 1 allows");
        let cases = self.cases.iter().map(|(name, cost)| {
            json!({ "case": name, "nanoseconds": cost, "against_one_allow": cost / one })
        });
        cases.collect()
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = self.cost("tierwall, 1 allows");
        writeln!(
            f,
            "{:<48}{:>12}{:>24}",
            "cost of a new flow", "ns/packet", "against tierwall, 1"
        )?;
        self.cases
            .iter()
            .try_for_each(|(name, cost)| writeln!(f, "{name:<48}{cost:>12.0}{:>23.2}x", cost / one))
    }
}
