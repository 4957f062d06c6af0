//! A server, its peer, and a host behind it; what becomes of packets between them before and
//! after `tierwalld` enforces a policy.
//!
//! The same steps are taken twice. Without a policy every packet must arrive: what doesn't arrive
//! later was then denied by the policy, and not by a mistake in the packet. With the policy each
//! must meet its fate, and nothing but that: the counters are compared exactly, after each step.

use super::packet::{Mark, Packet, Path, V4, V6, icmp, send};
use super::wire::{ARRIVED, Ears, send_from};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;

/// Built-in traffic only.
pub(crate) const CLOSED: &str = r#"
role = "server"
[tiers]
server = ["10.0.0.1", "fd00::1"]
"#;

/// Everything is allowed: what is denied nevertheless is denied before the allows are asked.
pub(crate) const OPEN: &str = r#"
role = "server"
[tiers]
server = ["10.0.0.1", "fd00::1"]
[[allow]]
from = "any"
to = "server"
service = "any"
[[allow]]
from = "server"
to = "any"
service = "any"
"#;

/// The peer may open port 7000 here, and this server port 7001 there, by TCP and UDP, and port 7002 by
/// TCP for [`SOMEBODY`]. Both may ask for files (TFTP).
pub(crate) const ONE_PORT_EACH: &str = r#"
role = "server"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peer = ["10.0.0.2", "fd00::2"]
[[allow]]
from = "peer"
to = "server"
service = ["tcp/7000", "udp/7000", "udp/69"]
[[allow]]
from = "server"
to = "peer"
service = ["tcp/7001", "udp/7001", "udp/69"]
[[allow]]
from = "server"
to = "peer"
service = "tcp/7002"
user = 65534
"#;

/// A user who is not root.
pub(crate) const SOMEBODY: u32 = 65534;

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives, and no counter of denied packets counts it.
    Passes,
    /// It doesn't arrive, and this counter counts it.
    Denied(String),
    /// It arrives, and this counter counts it.
    Noticed(String),
}

/// A packet and what becomes of it.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    packet: Packet,
    fate: Fate,
}

impl Packet {
    pub(crate) fn passes(self) -> Step {
        Step { packet: self, fate: Fate::Passes }
    }

    /// Denied, as `deny` says.
    pub(crate) fn denied(self) -> Step {
        let fate = Fate::Denied(format!("denied.{}", self.path.side()));
        Step { packet: self, fate }
    }

    /// Arrives, and so does a copy at the server itself, which is denied there.
    pub(crate) fn passes_and_comes_back_denied(self) -> Step {
        Step { packet: self, fate: Fate::Noticed("denied.input".into()) }
    }

    /// Dropped since connection tracking calls it invalid.
    pub(crate) fn invalid(self) -> Step {
        let fate = Fate::Denied(format!("invalid.{}", self.path.side()));
        Step { packet: self, fate }
    }

    /// Let through by a side that only observes, and counted there.
    pub(crate) fn would_be_denied(self) -> Step {
        let fate = Fate::Noticed(format!("would-deny.{}", self.path.side()));
        Step { packet: self, fate }
    }

    /// Invalid, and let through by a side that only observes.
    pub(crate) fn invalid_but_passes(self) -> Step {
        let fate = Fate::Noticed(format!("invalid.{}", self.path.side()));
        Step { packet: self, fate }
    }
}

/// Takes all steps without a policy, then with it.
pub(crate) fn play(policy: &str, steps: &[Step]) {
    let mut stage = Stage::new();
    stage.rehearse(steps);
    stage.enforce(policy).take(steps);
}

/// The places of the hosts in the network.
const SERVER: usize = 0;
const PEER: usize = 1;
const FAR: usize = 2;

/// Who packets may come from that nobody has sent.
pub(crate) const STRANGERS: [&str; 2] = ["10.0.0.9", "fd00::9"];

fn sender(path: Path) -> usize {
    match path {
        Path::In | Path::Through => PEER,
        Path::Out | Path::Within => SERVER,
    }
}

/// Without the wait for duplicates that the kernel's own link-local address has, and during which
/// a router can't look for its neighbours.
fn add_link_local(host: &Host, address: &str, interface: &str) {
    let add = ["address", "add", &format!("{address}/64"), "dev", interface, "nodad"];
    host.namespace.command("ip", &add).unwrap();
    host.wait_for_addresses(&[address.parse().unwrap()]).unwrap();
}

/// The hosts, without a policy.
#[derive(Debug)]
pub(crate) struct Stage {
    network: Network,
    /// Of every host, in the order of the network.
    ears: Vec<Ears>,
}

impl Stage {
    /// A server and its peer.
    pub(crate) fn new() -> Self {
        let stage = Self::with_hosts([
            ("server", vec![V4.server, V6.server]),
            ("peer", vec![V4.peer, V6.peer]),
        ]);
        // Answers to strangers go nowhere. Were their link addresses looked for, the kernel would
        // tell itself after some seconds that nobody has them, and a rule would count that.
        for stranger in STRANGERS {
            let known = ["neighbour", "add", stranger, "lladdr", "02:00:00:00:00:09"];
            let known = [&known[..], &["dev", "eth0", "nud", "permanent"]].concat();
            stage.server().namespace.command("ip", &known).unwrap();
        }
        stage
    }

    /// A server that routes, its peer, and a host that the peer reaches through it.
    pub(crate) fn router() -> Self {
        // Two interfaces: a router that sends a packet back to where it came from also sends a
        // redirect.
        let second = ["10.0.1.1", "fd00:1::1"].map(|address| address.parse().unwrap());
        let stage = Self::with_hosts([
            ("server", [[V4.server, V6.server], second].concat()),
            ("peer", vec![V4.peer, V6.peer]),
            ("far", vec![V4.far, V6.far]),
        ]);
        add_link_local(stage.server(), "fe80::11", "eth1");
        let server = &stage.server().namespace;
        server.sysctl("net.ipv4.ip_forward", "1").unwrap();
        server.sysctl("net.ipv6.conf.all.forwarding", "1").unwrap();
        for addresses in [V4, V6] {
            let far = addresses.far.to_string();
            server.command("ip", &["route", "add", &far, "dev", "eth1"]).unwrap();
            let via = ["route", "add", &far, "via", &addresses.server.to_string()];
            stage.peer().namespace.command("ip", &via).unwrap();
        }
        stage
    }

    fn with_hosts<const N: usize>(hosts: [(&str, Vec<IpAddr>); N]) -> Self {
        let network = Network::new(hosts).unwrap();
        for (number, host) in (1..).zip(network.hosts()) {
            add_link_local(host, &format!("fe80::{number}"), "eth0");
        }
        let ears = network.hosts().iter().map(|host| Ears::open(host).unwrap()).collect();
        Self { network, ears }
    }

    pub(crate) fn server(&self) -> &Host {
        &self.network.hosts()[SERVER]
    }

    pub(crate) fn peer(&self) -> &Host {
        &self.network.hosts()[PEER]
    }

    /// Sends `packet` and returns the mark that it carries.
    pub(crate) fn send(&self, packet: &Packet) -> (Mark, io::Result<()>) {
        let mark = Mark::new();
        (mark, send_from(&self.network.hosts()[sender(packet.path)], packet, mark))
    }

    /// What the host hears that sends packets on `path`.
    pub(crate) fn sender(&mut self, path: Path) -> &mut Ears {
        &mut self.ears[sender(path)]
    }

    /// What the host hears that packets on `path` are for.
    pub(crate) fn receiver(&mut self, path: Path) -> &mut Ears {
        &mut self.ears[match path {
            Path::In | Path::Within => SERVER,
            Path::Out => PEER,
            Path::Through => FAR,
        }]
    }

    fn arrives(&mut self, packet: &Packet) -> bool {
        let (mark, sent) = self.send(packet);
        sent.unwrap_or_else(|error| panic!("can't send {packet}: {error}"));
        self.receiver(packet.path).wait(|heard| heard.has(mark))
    }

    /// Sends every packet; without a policy, all must arrive.
    pub(crate) fn rehearse(&mut self, steps: &[Step]) {
        for Step { packet, .. } in steps {
            assert!(self.arrives(packet), "doesn't arrive even without a policy: {packet}");
        }
    }

    /// Starts `tierwalld` with `policy` on the server.
    pub(crate) fn enforce(&mut self, policy: &str) -> Enforced<'_> {
        let server = Server::new(self.server(), policy).unwrap();
        let daemon = server.start(&[]).unwrap();
        let mut enforced =
            Enforced { stage: self, _daemon: daemon, server, counted: BTreeMap::new() };
        enforced.counted = enforced.counters();
        enforced
    }
}

/// The hosts, with a policy on the server.
#[derive(Debug)]
pub(crate) struct Enforced<'a> {
    pub(crate) stage: &'a mut Stage,
    /// Before the server, whose files it uses.
    _daemon: Daemon,
    pub(crate) server: Server,
    /// What the counters said last.
    counted: BTreeMap<String, u64>,
}

impl Enforced<'_> {
    /// Takes every step; each packet must meet its fate.
    pub(crate) fn take(&mut self, steps: &[Step]) {
        let mut denied: Vec<(Mark, &Packet)> = Vec::new();
        for Step { packet, fate } in steps {
            if let Fate::Passes | Fate::Noticed(_) = fate {
                assert!(self.stage.arrives(packet), "doesn't arrive: {packet}\n{}", self.listing());
            }
            if let Fate::Denied(_) = fate {
                let (mark, sent) = self.stage.send(packet);
                denied.push((mark, packet));
                // On output the kernel tells the sender, whether the packet is dropped or refused.
                let refused = sent.map_err(|error| error.kind());
                let expected = match packet.path {
                    Path::Out | Path::Within => Err(io::ErrorKind::PermissionDenied),
                    Path::In | Path::Through => Ok(()),
                };
                assert_eq!(refused, expected, "sending {packet}\n{}", self.listing());
            }
            if let Fate::Denied(counter) | Fate::Noticed(counter) = fate {
                self.counts(&[counter], packet);
            }
        }
        self.nothing_passed(&denied);
        // What passed was counted nowhere.
        assert_eq!(self.counters(), self.counted, "{}", self.listing());
    }

    /// Runs the command line on the server.
    pub(crate) fn tierwall(&self, arguments: &[&str]) -> std::process::Output {
        self.server.tierwall(arguments).unwrap()
    }

    /// Writes another policy and has the daemon apply it.
    pub(crate) fn reload(&self, policy: &str) {
        self.server.replace_policy(policy).unwrap();
        let output = self.tierwall(&["reload"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The kernel's own listing of our table.
    pub(crate) fn listing(&self) -> String {
        self.server.nft_list("table inet filter").unwrap_or_else(|error| format!("{error:#}"))
    }

    /// Waits until each of `counters` has counted one packet more, and no other counter anything.
    pub(crate) fn counts(&mut self, counters: &[&str], packet: &Packet) {
        let mut expected = self.counted.clone();
        for counter in counters {
            *expected.entry((*counter).to_owned()).or_default() += 1;
        }
        let start = Instant::now();
        loop {
            self.counted = self.counters();
            if self.counted == expected {
                return;
            }
            assert!(
                start.elapsed() < ARRIVED,
                "{packet}: expected {expected:?}, one more in {counters:?}, but there is {:?}\n{}",
                self.counted,
                self.listing()
            );
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// What the counters of denied packets say; those that say nothing are left out.
    pub(crate) fn counters(&self) -> BTreeMap<String, u64> {
        let arguments = ["-j", "list", "counters", "table", "inet", "filter"];
        let listing = self.stage.server().namespace.command("nft", &arguments).unwrap();
        let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
        let objects = listing["nftables"].as_array().unwrap().iter();
        objects
            .filter_map(|object| {
                let counter = object.get("counter")?;
                let (name, packets) = (counter["name"].as_str()?, counter["packets"].as_u64()?);
                let of_denied = ["denied.", "would-deny.", "invalid."];
                let counts = packets > 0 && of_denied.iter().any(|kind| name.starts_with(kind));
                counts.then(|| (name.to_owned(), packets))
            })
            .collect()
    }

    /// None of these packets was delivered, although one that was sent after them was.
    fn nothing_passed(&mut self, denied: &[(Mark, &Packet)]) {
        for path in [Path::In, Path::Out] {
            if denied.iter().any(|(_, packet)| packet.path == path) {
                let later = send(path, V4, icmp(8, 0, &[0xff, 0xff, 0, 1]));
                assert!(self.stage.arrives(&later), "doesn't arrive: {later}\n{}", self.listing());
            }
        }
        for (mark, packet) in denied {
            let heard = self.stage.receiver(packet.path).heard();
            assert!(!heard.iter().any(|heard| heard.has(*mark)), "counted, and arrived: {packet}");
        }
    }
}
