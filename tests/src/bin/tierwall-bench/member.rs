//! One member more: from the rename of a small policy file until packets pass, and by command
//! from the start of the process to its end. Beside both: `nft add element` to a set made by
//! hand.

use crate::knock::Knocks;
use crate::statistics::{median, percentile_99, progress};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::binaries;
use tierwall_tests::daemon::Daemon;
use tierwall_tests::network::{Host, Network};
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

/// What is measured, with its key in JSON.
const CASES: [(&str, &str); 4] = [
    ("rename of the policy file until packets pass", "file_until_packets_pass_ms"),
    ("start of nft add element until packets pass", "nft_until_packets_pass_ms"),
    ("tierwall member add, remove, whole process", "command_ms"),
    ("nft add element, delete element, whole process", "nft_command_ms"),
];

/// Samples in milliseconds, in the order of the cases.
pub(crate) struct Member {
    samples: [Vec<f64>; 4],
}

/// How the sender becomes a member, and no member.
trait Way {
    /// Returns when it was asked for.
    fn add(&self) -> Result<Instant>;
    fn remove(&self) -> Result<()>;
}

pub(crate) fn measure() -> Result<Member> {
    let network = network()?;
    let server = Server::new(network.host("receiver"), &policy(false))?;
    let daemon = server.start(&[])?;
    let by_hand = self::network()?;
    by_hand.host("receiver").namespace.command_with_input("nft", &["-f", "-"], BY_HAND)?;
    let (file, nft) = (ByFile { server: &server, daemon: &daemon }, ByNft { network: &by_hand });
    let mut samples: [Vec<f64>; 4] = Default::default();

    let (knocks, nft_knocks) = (knocks(&network)?, self::knocks(&by_hand)?);
    rounds("member until packets pass", |keep| {
        let costs = [until_packets_pass(&file, &knocks)?, until_packets_pass(&nft, &nft_knocks)?];
        if keep {
            samples.iter_mut().zip(costs).for_each(|(samples, cost)| samples.push(cost));
        }
        Ok(())
    })?;
    // Nobody else is to be busy from here on.
    knocks.wait_until_denied()?;
    drop((knocks, nft_knocks));

    rounds("member by command", |keep| {
        let tierwall = [member(&server, "add")?, member(&server, "remove")?];
        let nft = [nft.run("add")?.milliseconds, nft.run("delete")?.milliseconds];
        if keep {
            samples[2].extend(tierwall);
            samples[3].extend(nft);
        }
        Ok(())
    })?;
    Ok(Member { samples })
}

fn rounds(what: &str, mut round: impl FnMut(bool) -> Result<()>) -> Result<()> {
    for number in 0..WARM_UP + ROUNDS {
        progress(what, number, WARM_UP + ROUNDS);
        round(number >= WARM_UP)?;
    }
    progress(what, WARM_UP + ROUNDS, WARM_UP + ROUNDS);
    Ok(())
}

/// Milliseconds from asking for a member until a packet of it passes.
fn until_packets_pass(way: &impl Way, knocks: &Knocks) -> Result<f64> {
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

impl Way for ByFile<'_> {
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

/// A process that has ended well.
struct Ran {
    begun: Instant,
    milliseconds: f64,
}

impl ByNft<'_> {
    fn run(&self, verb: &str) -> Result<Ran> {
        let mut nft = Command::new("nft");
        nft.args([verb, "element", "inet", "filter", "peers", &format!("{{ {SENDER} }}")]);
        run(self.network.host("receiver"), nft)
    }
}

impl Way for ByNft<'_> {
    fn add(&self) -> Result<Instant> {
        Ok(self.run("add")?.begun)
    }

    fn remove(&self) -> Result<()> {
        self.run("delete").map(drop)
    }
}

/// Milliseconds of `tierwall member`.
fn member(server: &Server, verb: &str) -> Result<f64> {
    let mut tierwall = Command::new(binaries::find("tierwall")?);
    tierwall.arg("--runtime-directory").arg(server.runtime_directory());
    tierwall.args(["member", verb, "peers", &SENDER.to_string()]);
    Ok(run(server.host(), tierwall)?.milliseconds)
}

fn run(host: &Host, mut command: Command) -> Result<Ran> {
    let (begun, output, elapsed) = host.namespace.run(|| {
        let begun = Instant::now();
        let output = command.output();
        (begun, output, begun.elapsed())
    });
    let output = output.with_context(|| format!("can't run {command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {error}");
    Ok(Ran { begun, milliseconds: elapsed.as_secs_f64() * 1e3 })
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

impl Member {
    pub(crate) fn as_json(&self) -> serde_json::Value {
        let cases = CASES.iter().zip(&self.samples).map(|((_, key), samples)| {
            let (middle, most) = (median(samples.clone()), percentile_99(samples.clone()));
            ((*key).to_owned(), json!({ "median": middle, "percentile_99": most }))
        });
        cases.collect::<serde_json::Map<_, _>>().into()
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<48}{:>12}{:>16}", "one member more or less, ms", "median", "99th of 100")?;
        CASES.iter().zip(&self.samples).try_for_each(|((name, _), samples)| {
            let (middle, most) = (median(samples.clone()), percentile_99(samples.clone()));
            writeln!(f, "{name:<48}{middle:>12.2}{most:>16.2}")
        })
    }
}
