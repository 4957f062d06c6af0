//! How many TCP connections a second one client opens through the firewall, with nothing else to
//! do and under a storm of edits of a tier.

use crate::Bench;
use crate::change::until_committed;
use crate::generate::{List, Shape, another};
use crate::peers;
use crate::report::{Group, Kind, Row, Unit};
use crate::site::{self, LIST, Size};
use crate::statistics::progress;
use anyhow::{Context, Result, ensure};
use ruleset::Family;
use socket2::SockRef;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 443);
const MEMBERS: usize = 1_000;
const ROUNDS: usize = 10;
/// From one edit to the next: a hundred a second, where that is possible.
const EDITS: Duration = Duration::from_millis(10);

/// Who filters.
enum Filter {
    Nobody,
    Tierwall(Server, Daemon),
    ByHand,
}

/// A way to filter, and whether members are edited meanwhile.
struct Case {
    row: Row,
    network: Network,
    filter: Filter,
    storm: bool,
    edits: Vec<f64>,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let mut list = List::generate(Family::V4, Shape::Addresses, MEMBERS);
    // The last one: it is the first that is exchanged for another.
    list.members.push(CLIENT.to_string());
    let mut cases = Vec::new();
    for (way, kind, by, storm) in [
        ("no firewall", Kind::Other, "nobody", false),
        ("tierwall", Kind::Tierwall, "tierwall", false),
        ("tierwall, list file edited", Kind::Other, "tierwall", true),
        ("rules by hand", Kind::Other, "nft", false),
        ("rules by hand, nft add and delete element", Kind::Other, "nft", true),
    ] {
        cases.push(Case::new(Row::new(kind, way), by, storm, &list)?);
    }
    let rounds = bench.rounds(ROUNDS).most;
    let duration = Duration::from_millis(if bench.quick { 300 } else { 1000 });
    for round in 0..rounds {
        progress("connections", round, rounds);
        for case in &mut cases {
            case.measure(&list, duration)?;
        }
    }
    progress("connections", rounds, rounds);
    let rows = cases.into_iter().map(|case| {
        let edits = crate::statistics::median(&case.edits).filter(|_| case.storm);
        Row { remark: edits.map(|edits| format!("{edits:.0} edits a second")), ..case.row }
    });
    let title = "TCP connections of one client, one after the other";
    Ok(vec![Group::new(title, Unit::PerSecond, rows.collect())])
}

impl Case {
    fn new(row: Row, by: &str, storm: bool, list: &List) -> Result<Self> {
        let hosts = [("client", vec![IpAddr::V4(CLIENT)]), ("server", vec![SERVER.ip()])];
        let network = Network::new(hosts)?;
        let host = network.host("server");
        let filter = match by {
            "nobody" => Filter::Nobody,
            "nft" => {
                let table = site::by_hand(list, Size::Declared);
                host.namespace.command_with_input("nft", &["-f", "-"], &table)?;
                Filter::ByHand
            }
            _ => {
                let server = Server::new(host, site::POLICY)?;
                server.write(LIST, list.text())?;
                let daemon = server.start(&[])?;
                Filter::Tierwall(server, daemon)
            }
        };
        Ok(Self { row, network, filter, storm, edits: Vec::new() })
    }

    fn measure(&mut self, list: &List, duration: Duration) -> Result<()> {
        let (client, server) = (self.network.host("client"), self.network.host("server"));
        let listener = server.namespace.run(|| TcpListener::bind(SERVER))?;
        let stop = Arc::<AtomicBool>::default();
        let (rate, edits) = thread::scope(|scope| -> Result<(f64, f64)> {
            scope.spawn(|| accept(&listener, &stop));
            let editor = self.storm.then(|| scope.spawn(|| self.edit(list, &stop)));
            let rate = client.namespace.run(|| connect(duration));
            stop.store(true, Ordering::Relaxed);
            // The thread that accepts sees it with one connection more.
            client.namespace.run(|| TcpStream::connect_timeout(&SERVER, duration))?;
            let edits = editor.map(|editor| editor.join());
            let edits = edits.transpose().ok().context("the editor doesn't panic")?;
            Ok((rate?, edits.transpose()?.unwrap_or(0.0)))
        })?;
        self.row.samples.push(rate);
        self.edits.push(edits);
        Ok(())
    }

    /// Adds a member and removes it, again and again; edits a second.
    fn edit(&self, list: &List, stop: &AtomicBool) -> Result<f64> {
        let member = another(Shape::Addresses);
        let text = list.text();
        let other = list.changed(1).text();
        let element = format!("{{ {member} }}");
        let begun = Instant::now();
        let mut edits = 0;
        // An even number, so that it ends as it began.
        while !stop.load(Ordering::Relaxed) || edits % 2 == 1 {
            let due = begun + EDITS * edits;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let odd = edits % 2 == 1;
            match &self.filter {
                Filter::Nobody => {}
                Filter::Tierwall(server, daemon) => {
                    let text = if odd { &text } else { &other };
                    until_committed(server, daemon, text, 1)?;
                }
                Filter::ByHand => {
                    let verb = if odd { "delete" } else { "add" };
                    let arguments = [verb, "element", "inet", "filter", "peers", &element];
                    peers::run(self.network.host("server"), "nft", &arguments)?;
                }
            }
            edits += 1;
        }
        Ok(f64::from(edits) / begun.elapsed().as_secs_f64())
    }
}

/// Accepts and closes at once.
fn accept(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        drop(listener.accept());
    }
}

/// Opens connections for that long; how many a second. Each is closed by the server first, so that
/// none waits to be accepted when the next one is opened, and then reset, so that no port is kept
/// in TIME_WAIT.
fn connect(duration: Duration) -> Result<f64> {
    let begun = Instant::now();
    let mut made = 0u32;
    while begun.elapsed() < duration {
        let mut stream = TcpStream::connect(SERVER).context("a connection wasn't made")?;
        let closed = stream.read(&mut [0])?;
        ensure!(closed == 0, "a connection wasn't closed");
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        made += 1;
    }
    Ok(f64::from(made) / begun.elapsed().as_secs_f64())
}
