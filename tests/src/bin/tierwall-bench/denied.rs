//! What denied packets cost: the packet path, by rules that log below a limit, beside rules that only
//! count and drop; the daemon that reads them; and whoever asks it meanwhile.

use crate::Bench;
use crate::flood::stay_on_one_cpu;
use crate::report::{Group, Kind, Row, Unit};
use crate::rules::{RECEIVER, SENDER};
use crate::statistics::progress;
use anyhow::{Context, Result, ensure};
use netlink::PacketLog;
use std::fs;
use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::flood::Flood;
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

const PORT: u16 = 3000;
const ROUNDS: usize = 15;
/// Packets a round, in the packet path, and without limits.
const PACKETS: usize = 100_000;
const UNLIMITED: usize = 1_000_000;
/// What the daemon has to read without loss.
const PER_SECOND: u32 = 500_000;
/// How long it is asked in the flood.
const ASKED: Duration = Duration::from_secs(10);

/// The group that the rules by hand log to.
const GROUP: u16 = 77;

/// Nothing is allowed but what every server needs.
const POLICY: &str = "\
role = \"server\"
[tiers]
server = \"10.0.0.2\"
peers = \"10.0.0.1\"
[[allow]]
from = \"peers\"
to = \"server\"
service = \"tcp/443\"
";

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (title, sources) in [
        ("a denied packet, all from one address", 1),
        ("a denied packet, from a million addresses", 1_000_000),
    ] {
        groups.push(packet_path(bench, title, sources)?);
    }
    groups.extend(asked(bench)?);
    groups.extend(unlimited(bench)?);
    Ok(groups)
}

fn network() -> Result<Network> {
    Network::new([("sender", vec![IpAddr::V4(SENDER)]), ("receiver", vec![IpAddr::V4(RECEIVER)])])
}

fn flood(sources: u32, ports: u16) -> Flood {
    Flood { to: SocketAddrV4::new(RECEIVER, PORT), sources, ports, per_second: None }
}

/// The same filter by hand, with these rules at its end.
fn by_hand(closing: &str) -> String {
    format!(
        "table inet filter {{\n chain input {{\n  type filter hook input priority 0; policy drop;\n  \
         ct state established,related accept\n  ct state invalid counter drop\n  iif lo accept\n  \
         meta l4proto {{ icmp, ipv6-icmp }} accept\n  ip saddr {SENDER} tcp dport 443 accept\n  \
         {closing}\n }}\n}}\n"
    )
}

/// Who filters.
enum Filter {
    Nobody,
    ByHand,
    /// And a thread that reads what is logged.
    Logged(Reader),
    Tierwall {
        _daemon: Daemon,
        _server: Server,
    },
}

struct Case {
    row: Row,
    network: Network,
    filter: Filter,
}

impl Case {
    fn new(kind: Kind, way: &str, table: Option<&str>, reads: bool) -> Result<Self> {
        let network = network()?;
        let receiver = network.host("receiver");
        let filter = match (table, reads) {
            (None, _) => Filter::Nobody,
            (Some(table), reads) => {
                receiver.namespace.command_with_input("nft", &["-f", "-"], table)?;
                match reads {
                    true => Filter::Logged(Reader::start(&network)?),
                    false => Filter::ByHand,
                }
            }
        };
        Ok(Self { row: Row::new(kind, way), network, filter })
    }

    fn tierwall(way: &str) -> Result<Self> {
        let network = network()?;
        let server = Server::new(network.host("receiver"), POLICY)?;
        let daemon = server.start(&[])?;
        let filter = Filter::Tierwall { _daemon: daemon, _server: server };
        Ok(Self { row: Row::new(Kind::Tierwall, way), network, filter })
    }
}

/// Nanoseconds that a packet takes from its sender until it is dropped.
fn packet_path(bench: &Bench, title: &str, sources: u32) -> Result<Group> {
    let logged = format!("log group {GROUP} queue-threshold 100 counter drop");
    let mut cases = [
        Case::new(Kind::Other, "no firewall", None, false)?,
        Case::new(
            Kind::Floor,
            "floor: rules by hand, counter and drop",
            Some(&by_hand("counter drop")),
            false,
        )?,
        Case::tierwall("tierwall, its daemon reads")?,
        Case::new(
            Kind::Other,
            "rules by hand, log group and drop, a program reads",
            Some(&by_hand(&logged)),
            true,
        )?,
    ];
    let rounds = bench.rounds(ROUNDS).most;
    let flood = flood(sources, 1);
    for round in 0..rounds {
        progress(title, round, rounds);
        for case in &mut cases {
            let took = case.network.host("sender").namespace.run(|| {
                stay_on_one_cpu()?;
                flood.send(PACKETS)
            })?;
            case.row.samples.push(took.as_nanos() as f64 / PACKETS as f64);
        }
    }
    progress(title, rounds, rounds);
    let rows = cases.into_iter().map(|case| {
        let remark = match case.filter {
            Filter::Logged(reader) => Some(reader.end()?),
            _ => None,
        };
        Ok(Row { remark, ..case.row })
    });
    Ok(Group::new(title, Unit::Nanoseconds, rows.collect::<Result<_>>()?))
}

/// Reads a group and does nothing with it.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(u64, u64)>>,
}

impl Reader {
    fn start(network: &Network) -> Result<Self> {
        let receiver = network.host("receiver");
        let mut log = receiver.namespace.run(|| PacketLog::open(GROUP))?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut read = 0;
            while !stopped.load(Ordering::Relaxed) {
                log.wait(Some(Duration::from_millis(100)))?;
                while !log.read(|_| read += 1)? {}
            }
            Ok((read, log.lost()))
        });
        Ok(Self { stop, thread })
    }

    fn end(self) -> Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().ok().context("the reader panicked")?;
        let (read, lost) = ended?;
        Ok(format!("{:.0} % read", 100.0 * read as f64 / (read + lost).max(1) as f64))
    }
}

/// How long an answer takes while nothing comes, and in a flood; what memory that takes.
fn asked(bench: &Bench) -> Result<Vec<Group>> {
    let network = network()?;
    let server = Server::new(network.host("receiver"), POLICY)?;
    let daemon = server.start(&[])?;
    let mebibytes = || Ok::<_, anyhow::Error>(daemon.memory()? as f64 / 1024.0);
    let before = mebibytes()?;
    let commands: [(&str, &[&str]); 4] = [
        ("status", &["status"]),
        ("denied", &["denied"]),
        ("denied --by source", &["denied", "--by", "source"]),
        ("member add", &["member", "add", "peers"]),
    ];
    let mut rows: Vec<Row> = Vec::new();
    let mut members = 0u32;
    let mut ask = |when: &str, kind: Kind, rounds: &mut dyn FnMut() -> bool| -> Result<()> {
        let first = rows.len();
        rows.extend(commands.map(|(name, _)| Row::new(kind, format!("{name}, {when}"))));
        while rounds() {
            for (index, (_, arguments)) in commands.iter().enumerate() {
                let member = std::net::Ipv4Addr::from_bits(0x0a01_0000 + members).to_string();
                let mut arguments = arguments.to_vec();
                if arguments[0] == "member" {
                    members += 1;
                    arguments.push(&member);
                }
                let begun = Instant::now();
                let output = server.tierwall(&arguments)?;
                let took = begun.elapsed().as_secs_f64() * 1e3;
                ensure!(
                    output.status.success(),
                    String::from_utf8_lossy(&output.stderr).into_owned()
                );
                rows[first + index].samples.push(took);
            }
        }
        Ok(())
    };
    let mut left = bench.rounds(50).most;
    ask("nothing comes", Kind::Other, &mut || {
        left = left.saturating_sub(1);
        left > 0
    })?;
    let quiet = mebibytes()?;
    let asked = if bench.quick { Duration::from_secs(1) } else { ASKED };
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let sender = scope.spawn(|| -> Result<()> {
            network.host("sender").namespace.run(|| {
                while !is_over.load(Ordering::Relaxed) {
                    flood(1_000_000, 1000).send(PACKETS)?;
                }
                Ok(())
            })
        });
        let begun = Instant::now();
        let done = ask("in a flood from a million addresses", Kind::Other, &mut || {
            begun.elapsed() < asked
        });
        is_over.store(true, Ordering::Relaxed);
        sender.join().ok().context("the flood panicked")??;
        done
    })?;
    let memory =
        |kind, way: &str, sample: f64| Row { samples: vec![sample], ..Row::new(kind, way) };
    Ok(vec![
        Group::new("an answer, process start included", Unit::Milliseconds, rows),
        Group::new(
            "resident memory of the daemon",
            Unit::Mebibytes,
            vec![
                memory(Kind::Other, "ready", before),
                memory(Kind::Other, "asked some, nothing came", quiet),
                memory(Kind::Tierwall, "after a flood from a million addresses", mebibytes()?),
            ],
        ),
    ])
}

/// What the daemon reads where no rule limits it: by the processor time that it takes, and how much
/// it loses of so many packets a second.
fn unlimited(bench: &Bench) -> Result<Vec<Group>> {
    let packets = if bench.quick { UNLIMITED / 10 } else { UNLIMITED };
    let rounds = bench.rounds(5).most;
    let (mut speed, mut loss) = (Vec::new(), Vec::new());
    let flows = [
        ("one flow", 1),
        ("1,000 flows", 1000),
        ("60,000 flows", 60_000),
        ("a million flows", 1_000_000),
    ];
    for (index, (way, sources)) in flows.into_iter().enumerate() {
        let kind = if sources == 1 { Kind::Tierwall } else { Kind::Other };
        let (mut fast, mut paced) = (Row::new(kind, way), Row::new(kind, way));
        let (mut read, mut lost, mut slowest) = (0, 0, f64::MAX);
        for _ in 0..rounds {
            let most = flood(sources, 1);
            let done = Unlimited::send(most, packets)?;
            fast.samples.push(done.read as f64 / done.used.as_secs_f64());
            (read, lost) = (read + done.read, lost + done.lost);
            let done = Unlimited::send(Flood { per_second: Some(PER_SECOND), ..most }, packets)?;
            paced.samples.push(100.0 * done.lost as f64 / (done.read + done.lost) as f64);
            slowest = slowest.min(packets as f64 / done.took.as_secs_f64());
        }
        fast.remark = Some(format!("{:.1} % lost", 100.0 * lost as f64 / (read + lost) as f64));
        if slowest < 0.95 * f64::from(PER_SECOND) {
            paced.remark = Some(format!("came at {:.0},000 a second", slowest / 1e3));
        }
        speed.push(fast);
        loss.push(paced);
        progress("without limits", index + 1, flows.len());
    }
    Ok(vec![
        Group::new(
            "packets that a second of processor time reads, as many as come, without limits",
            Unit::PerSecond,
            speed,
        ),
        Group::new("packets lost at 500,000 a second, without limits", Unit::Percent, loss),
    ])
}

/// What became of a flood that no rule limited: a table of our own logs to the daemon's group.
struct Unlimited {
    read: u64,
    lost: u64,
    /// The processor time of the daemon.
    used: Duration,
    /// How long the flood lasted.
    took: Duration,
}

impl Unlimited {
    fn send(flood: Flood, packets: usize) -> Result<Self> {
        let network = network()?;
        let host = network.host("receiver");
        let server = Server::new(host, POLICY)?;
        let daemon = server.start(&[])?;
        let table = format!(
            "table inet unlimited {{\n chain early {{ type filter hook input priority -300;\n \
             meta l4proto udp log prefix \"tierwall input denied\" group {} drop\n }}\n}}\n",
            policy::LOG_GROUP
        );
        host.namespace.command_with_input("nft", &["-f", "-"], &table)?;
        let before = processor_time(&daemon)?;
        let took = network.host("sender").namespace.run(|| flood.send(packets))?;
        thread::sleep(Duration::from_millis(500));
        let used = processor_time(&daemon)? - before;
        let output = server.tierwall(&["denied", "--json"])?;
        let answer: control::Denials = serde_json::from_slice(&output.stdout)?;
        let control::Losses { read, lost, .. } = answer.losses;
        Ok(Self { read, lost, used, took })
    }
}

/// Processor time that the daemon has used. `/proc/PID/stat` counts in hundredths of a second.
fn processor_time(daemon: &Daemon) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id()))?;
    // Behind the name, which is in parentheses: state is the third field.
    let (_, fields) = stat.rsplit_once(')').context("no process")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}
