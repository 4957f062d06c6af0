//! One member more in a small policy file: from its rename until a packet of the member passes.
//! Beside it: `nft add element` to a set made by hand.

use crate::Bench;
use crate::knock::Knocks;
use crate::peers;
use crate::report::{Group, Kind, Unit};
use crate::turns::{Way, interleave};
use anyhow::{Result, ensure};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

const SENDER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 20_000;
const ROUNDS: usize = 100;
/// Before anything is measured.
const WARM_UP: usize = 3;

/// How long a member may take to be removed.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_micros(200);

/// How the sender becomes a member, and no member.
trait Asked {
    /// Returns when it was asked for.
    fn add(&self) -> Result<Instant>;
    fn remove(&self) -> Result<()>;
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let network = network()?;
    let server = Server::new(network.host("receiver"), &policy(false))?;
    let daemon = server.start(&[])?;
    let by_hand = self::network()?;
    by_hand.host("receiver").namespace.command_with_input("nft", &["-f", "-"], BY_HAND)?;
    let (file, nft) = (ByFile { server: &server, daemon: &daemon }, ByNft { network: &by_hand });
    let (knocks, nft_knocks) = (knocks(&network)?, self::knocks(&by_hand)?);
    for _ in 0..WARM_UP {
        until_packets_pass(&file, &knocks)?;
        until_packets_pass(&nft, &nft_knocks)?;
    }
    let ways = vec![
        Way::new(Kind::Tierwall, "tierwalld, rename of the policy file to first packet", || {
            until_packets_pass(&file, &knocks)
        }),
        Way::new(Kind::Other, "nft add element, start to first packet", || {
            until_packets_pass(&nft, &nft_knocks)
        }),
    ];
    let title = "one member more, until its packets pass";
    let rows = interleave(title, bench.rounds(ROUNDS), ways)?;
    Ok(vec![Group::new(title, Unit::Milliseconds, rows)])
}

/// Milliseconds from asking for a member until a packet of it passes.
fn until_packets_pass(way: &impl Asked, knocks: &Knocks) -> Result<f64> {
    loop {
        let round = knocks.wait_until_denied()?;
        let asked = way.add()?;
        let passed = knocks.first_passed(round)?;
        way.remove()?;
        // Earlier where the thread that listens got no processor when it should have told that
        // packets still passed.
        if passed >= asked {
            return Ok((passed - asked).as_secs_f64() * 1e3);
        }
    }
}

struct ByFile<'a> {
    server: &'a Server,
    daemon: &'a Daemon,
}

impl Asked for ByFile<'_> {
    fn add(&self) -> Result<Instant> {
        self.server.replace_policy(&policy(true))
    }

    fn remove(&self) -> Result<()> {
        let mut offset = 0;
        self.daemon.log_behind(&mut offset)?;
        let removed = self.server.replace_policy(&policy(false))?;
        let mut log = String::new();
        while !log.contains("+0 -1") {
            ensure!(removed.elapsed() < LIMIT, "a member wasn't removed within {LIMIT:?}:\n{log}");
            thread::sleep(POLL);
            log += &self.daemon.log_behind(&mut offset)?;
        }
        Ok(())
    }
}

struct ByNft<'a> {
    network: &'a Network,
}

impl ByNft<'_> {
    fn run(&self, verb: &str) -> Result<Instant> {
        let element = format!("{{ {SENDER} }}");
        let arguments = [verb, "element", "inet", "filter", "peers", &element];
        Ok(peers::run(self.network.host("receiver"), "nft", &arguments)?.begun)
    }
}

impl Asked for ByNft<'_> {
    fn add(&self) -> Result<Instant> {
        self.run("add")
    }

    fn remove(&self) -> Result<()> {
        self.run("delete").map(drop)
    }
}

fn network() -> Result<Network> {
    Network::new([("sender", vec![IpAddr::V4(SENDER)]), ("receiver", vec![IpAddr::V4(RECEIVER)])])
}

fn knocks(network: &Network) -> Result<Knocks> {
    let target = SocketAddrV4::new(RECEIVER, PORT);
    Knocks::start(network.host("sender"), network.host("receiver"), target)
}

fn policy(with_sender: bool) -> String {
    let sender = if with_sender { format!(", \"{SENDER}\"") } else { String::new() };
    format!(
        "role = \"server\"\n[tiers]\nserver = \"{RECEIVER}\"\npeers = [\"10.0.1.0/28\"{sender}]\n\
         [[allow]]\nfrom = \"peers\"\nto = \"server\"\nservice = \"udp/{PORT}\"\n"
    )
}

/// The same as people write it.
const BY_HAND: &str = "table inet filter {
    set peers { type ipv4_addr; flags interval; elements = { 10.0.1.0/28 } }
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        ct state invalid drop
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
        ip saddr @peers udp dport 20000 counter accept
    }
}
";
