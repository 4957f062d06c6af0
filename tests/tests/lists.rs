//! Real lists as tiers: what a `tierwalld` commits of them is what `nft` lists, and both are what a
//! model makes of the text on its own; the kernel lets in who is in them and nobody beside.

use policy::Options;
use ruleset::{Address, AddressSet};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use tierwall_tests::listener::Listener;
use tierwall_tests::network::{Host, Network};
use tierwall_tests::probe::{self, DENIED_LIMIT, OPEN_LIMIT, Probe};
use tierwall_tests::server::Server;
use tierwall_tests::service::Service;
use tierwall_tests::verdict::{Denial, Verdict};

/// Tiers, the list of each, and the port that each is let in on.
const TIERS: [(&str, &str, u16); 3] = [
    ("addresses", "addresses-v4.list", 1001),
    ("four", "prefixes-v4.list", 1002),
    ("six", "prefixes-v6.list", 1003),
];

const SERVER: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const PEER: [&str; 2] = ["192.0.2.2", "2001:db8::2"];

/// How many of the ranges of a list are probed.
const PROBED: usize = 24;

/// Addresses as a map from the first of a range to the last of it, as numbers: ranges neither
/// overlap nor touch.
#[derive(Debug, Default, PartialEq)]
struct Model(BTreeMap<u128, u128>);

impl Model {
    /// From the text of a list of addresses and prefixes of one family.
    fn of_text(text: &str) -> Self {
        let mut model = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let (address, length) = match line.split_once('/') {
                Some((address, length)) => (address, Some(length.parse().expect("a length"))),
                None => (line, None),
            };
            let (number, width) = number(address);
            let host_bits = width - length.unwrap_or(width);
            let size = 1u128.checked_shl(host_bits).expect("no list holds ::/0");
            model.insert(number, number + (size - 1));
        }
        model
    }

    /// From the elements that `nft -j` lists.
    fn of_elements(elements: &[Value]) -> Self {
        let mut model = Self::default();
        for element in elements {
            let text = |value: &Value| number(value.as_str().expect("an address"));
            let (first, last) = if let Some(prefix) = element.get("prefix") {
                let (first, width) = text(&prefix["addr"]);
                let length = prefix["len"].as_u64().expect("a length") as u32;
                (first, first + ((1u128 << (width - length)) - 1))
            } else if let Some(range) = element.get("range") {
                (text(&range[0]).0, text(&range[1]).0)
            } else {
                (text(element).0, text(element).0)
            };
            // Elements are listed as they are: none of them touch.
            assert!(!model.touches(first, last), "{element} touches another element");
            model.0.insert(first, last);
        }
        model
    }

    fn of_set<A: Address>(set: &AddressSet<A>) -> Self {
        Self(set.ranges().map(|r| (r.first.to_number(), r.last.to_number())).collect())
    }

    /// The last range that begins before `number`, or at it.
    fn before(&self, number: u128) -> Option<(u128, u128)> {
        self.0.range(..=number).next_back().map(|(first, last)| (*first, *last))
    }

    /// Whether a range holds an address of these, or is next to one.
    fn touches(&self, first: u128, last: u128) -> bool {
        self.before(last.saturating_add(1)).is_some_and(|(_, end)| end.saturating_add(1) >= first)
    }

    fn insert(&mut self, mut first: u128, mut last: u128) {
        while self.touches(first, last) {
            let (start, end) = self.before(last.saturating_add(1)).expect("what it touches");
            self.0.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.0.insert(first, last);
    }

    fn contains(&self, number: u128) -> bool {
        self.before(number).is_some_and(|(_, last)| number <= last)
    }

    /// The ranges of one address, or the others.
    fn part(&self, single: bool) -> Self {
        let part = self.0.iter().filter(|(first, last)| (first == last) == single);
        Self(part.map(|(first, last)| (*first, *last)).collect())
    }
}

/// An address as a number, and how many bits wide it is.
fn number(address: &str) -> (u128, u32) {
    match address.parse().expect("an address") {
        IpAddr::V4(address) => (u32::from(address).into(), 32),
        IpAddr::V6(address) => (address.into(), 128),
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(data(name)).expect("a list")
}

fn policy() -> String {
    let mut tiers = format!("[tiers]\nserver = {SERVER:?}\n");
    let mut allows = String::new();
    for (tier, file, port) in TIERS {
        writeln!(tiers, "{tier} = {{ file = \"{file}\" }}").expect("a string takes all");
        let allow = "[[allow]]\nfrom = \"{tier}\"\nto = \"server\"\nservice = \"tcp/{port}\"\n";
        allows += &allow.replace("{tier}", tier).replace("{port}", &port.to_string());
    }
    format!("role = \"server\"\n{tiers}\n{allows}")
}

#[test]
fn lists_are_merged_as_a_model_merges_them() {
    let path = data("tierwall.toml");
    let loaded = policy::load_text(
        &path,
        policy(),
        &Options { check_permissions: false, ..Options::default() },
    );
    let policy = loaded.policy.expect("a policy");
    for (tier, file, _) in TIERS {
        let model = Model::of_text(&text(file));
        let members = &policy.tiers[tier];
        let (set, other) = match file.ends_with("-v4.list") {
            true => (Model::of_set(&members.v4), members.v6.len()),
            false => (Model::of_set(&members.v6), members.v4.len()),
        };
        assert!(set == model, "{file}: {} ranges, {} in the model", set.0.len(), model.0.len());
        assert_eq!(other, 0, "{file} holds one family");
    }
}

#[test]
fn lists_are_enforced_as_they_are() {
    let addresses = |list: [&str; 2]| list.map(|address| address.parse().expect("an address"));
    let network =
        Network::new([("server", addresses(SERVER).to_vec()), ("peer", addresses(PEER).to_vec())])
            .expect("a network");
    let (host, peer) = (network.host("server"), network.host("peer"));
    let server = Server::new(host, &policy()).expect("a server");
    for (_, file, _) in TIERS {
        server.write(file, text(file)).expect("a list is copied");
    }
    let daemon = server.start(&[]).expect("a daemon");

    let services = TIERS.map(|(_, _, port)| Service::Tcp(port));
    let listener = Listener::start(host, &services).expect("a listener");
    let mut probes = Vec::new();
    for (tier, file, port) in TIERS {
        let model = Model::of_text(&text(file));
        let v4 = file.ends_with("-v4.list");
        // More than 10,000: single addresses have a set of their own.
        let large = tier == "addresses";
        assert_eq!(model.0.len() > 10_000, large, "{file}");
        let name = format!("{tier}_{}", if v4 { "v4" } else { "v6" });
        if large {
            assert_eq!(listed(host, &name), model.part(false));
            assert_eq!(listed(host, &format!("{name}_hosts")), model.part(true));
        } else {
            assert_eq!(listed(host, &name), model);
        }
        let other = format!("{tier}_{}", if v4 { "v6" } else { "v4" });
        assert_eq!(listed(host, &other), Model::default());

        for part in [model.part(true), model.part(false)] {
            for (first, last) in chosen(&part) {
                let middle = first + (last - first) / 2;
                for (number, verdict) in [
                    (middle, Verdict::Open),
                    (first, Verdict::Open),
                    (last, Verdict::Open),
                    (first - 1, Verdict::Denied(Denial::Silence)),
                    (last + 1, Verdict::Denied(Denial::Silence)),
                ] {
                    // The model says it again, for what lies beside a range.
                    assert_eq!(model.contains(number), verdict == Verdict::Open);
                    let source: IpAddr = match v4 {
                        true => Ipv4Addr::from(number as u32).into(),
                        false => Ipv6Addr::from(number).into(),
                    };
                    probes.push((source, port, verdict));
                }
            }
        }
    }
    // Of single addresses and of ranges, as far as a list has both.
    assert_eq!(probes.len(), 4 * PROBED * 5);
    try_all(host, peer, &listener, &probes);
    drop(daemon);
}

/// Ranges from all over a list, without those at whose border an address can't send: the kernel
/// takes no packet from 0.0.0.0/8, 127.0.0.0/8 and 224.0.0.0/3.
fn chosen(model: &Model) -> Vec<(u128, u128)> {
    let usable = |number: u128| number >> 32 != 0 || !matches!(number >> 24, 0 | 127 | 224..);
    let ranges: Vec<(u128, u128)> = model
        .0
        .iter()
        .map(|(first, last)| (*first, *last))
        .filter(|(first, last)| usable(first - 1) && usable(last + 1))
        .collect();
    ranges.iter().step_by((ranges.len() / PROBED).max(1)).take(PROBED).copied().collect()
}

/// The elements of a set in the kernel, as `nft` lists them.
fn listed(host: &Host, set: &str) -> Model {
    let arguments = ["-j", "list", "set", "inet", "filter", set];
    let printed = host.namespace.command("nft", &arguments).expect("a set");
    let printed: Value = serde_json::from_str(&printed).expect("nft prints JSON");
    let objects = printed["nftables"].as_array().expect("a list of objects");
    let set = objects.iter().find_map(|object| object.get("set")).expect("the set");
    Model::of_elements(set.get("elem").and_then(Value::as_array).map_or(&[][..], Vec::as_slice))
}

/// Connects from every source to its port, and expects what stands beside it.
fn try_all(host: &Host, peer: &Host, listener: &Listener, expected: &[(IpAddr, u16, Verdict)]) {
    let mut addresses: Vec<IpAddr> = expected.iter().map(|(source, _, _)| *source).collect();
    addresses.sort();
    addresses.dedup();
    let mut batch = String::new();
    for address in addresses {
        let (length, nodad) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
        writeln!(batch, "address add {address}/{length} dev eth0{nodad}").expect("a string");
    }
    let batched = peer.namespace.command_with_input("ip", &["-batch", "-"], &batch);
    batched.expect("the peer has all addresses");
    let probes: Vec<Probe> = expected
        .iter()
        .map(|(source, port, verdict)| {
            let target = host.address_towards(*source).expect("of both families");
            let limit = if *verdict == Verdict::Open { OPEN_LIMIT } else { DENIED_LIMIT };
            Probe { source: Some(*source), ..Probe::new(target, Service::Tcp(*port), limit) }
        })
        .collect();
    let attempts: Vec<_> = probes.iter().map(|probe| (probe, peer, listener)).collect();
    let outcomes = probe::run_all(&attempts).expect("probes can be made");
    let wrong: Vec<String> = expected
        .iter()
        .zip(outcomes)
        .filter(|((_, _, verdict), outcome)| *verdict != outcome.verdict)
        .map(|((source, port, verdict), outcome)| {
            format!("{source} to tcp/{port}: expected {verdict}, met {}", outcome.verdict)
        })
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
}
