//! A week of what came in, as packets through a real daemon: what it suggests is what the policy makes
//! of the flows themselves, and when that is enforced, exactly the others are denied.

use super::packets::{json, run};
use super::spec::{Flow, Spec};
use super::week;
use super::world::random::Random;
use control::{DenialFate, Denials, Direction};
use policy::suggest::{Denial, Suggestion};
use ruleset::Hook;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;

/// How long it may take until all is read.
const READ: Duration = Duration::from_secs(30);

const CONNECTIONS: usize = 1500;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| match word {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        rest => u32::from(rest[0]) << 8,
    });
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A packet of a flow of IPv4, which begins a connection. `id` is its source port, or what ICMP has in
/// place of one.
fn packet(flow: &Flow, id: u16) -> Vec<u8> {
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (flow.source, flow.destination) else {
        panic!("{flow:?} isn't of IPv4");
    };
    let port = flow.wanted.detail.unwrap_or(0);
    let ports = [id.to_be_bytes(), port.to_be_bytes()].concat();
    let protocol = flow.wanted.protocol;
    let payload = match protocol {
        TCP => {
            let mut segment = [&ports[..], &[0; 8], &[5 << 4, 0x02, 0x20, 0, 0, 0, 0, 0]].concat();
            let pseudo = [&source.octets()[..], &destination.octets(), &[0, TCP, 0, 20]].concat();
            let sum = checksum(&[&pseudo[..], &segment].concat());
            segment[16..18].copy_from_slice(&sum.to_be_bytes());
            segment
        }
        // Of UDP a checksum of 0 is none.
        UDP => [&ports[..], &[0, 8, 0, 0]].concat(),
        ICMP => {
            let mut message = vec![port as u8, 0, 0, 0, 0, 0, 0, 1];
            message[4..6].copy_from_slice(&id.to_be_bytes());
            message.extend([0; 12]);
            let sum = checksum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            message
        }
        _ => vec![0; 16],
    };
    let length = 20 + payload.len() as u8;
    // The kernel fills in the checksum of this header.
    let mut packet = vec![0x45, 0, 0, length, 0, 0, 0, 0, 64, protocol, 0, 0];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(payload);
    packet
}

/// Sends each flow's packets, as many as it has connections, from one port.
fn send(host: &Host, denials: &[Denial], first_id: u16) {
    host.namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(255))).unwrap();
        socket.set_header_included_v4(true).unwrap();
        for (denial, id) in denials.iter().zip(first_id..) {
            let packet = packet(&denial.into(), id);
            let to = SocketAddr::new(denial.destination, 0).into();
            for _ in 0..=denial.count.retries {
                socket.send_to(&packet, &to).unwrap();
            }
        }
    });
}

/// Flows from outside over IPv4, each one connection with a few retries.
fn sample() -> Vec<Denial> {
    let mut random = Random(7);
    let mut flows: BTreeMap<Flow, Denial> = BTreeMap::new();
    for denial in week::sample(&mut random, CONNECTIONS) {
        let is_valid = !matches!(denial.mark.fate, policy::Fate::WouldDropInvalid);
        if denial.mark.hook == Hook::Input && denial.source.is_ipv4() && is_valid {
            let mut denial = denial;
            // What ICMP asks for is answered at once, and what follows belongs to that.
            let retries = if denial.wanted.is_icmp() { 0 } else { random.below(3) as u64 };
            (denial.count.connections, denial.count.retries) = (1, retries);
            denial.mark.fate = policy::Fate::WouldDeny;
            flows.insert(Flow::from(&denial), denial);
        }
    }
    // IPv6's ICMP says nothing over IPv4, and connection tracking doesn't know a TCP port 0.
    flows.retain(|flow, _| flow.wanted.protocol != 58 && flow.wanted.detail != Some(0));
    flows.into_values().collect()
}

fn packets(denials: &[Denial]) -> u64 {
    denials.iter().map(|denial| 1 + denial.count.retries).sum()
}

/// Waits until so many packets are read.
fn wait_for(server: &Server, packets: u64) -> Denials {
    let start = Instant::now();
    loop {
        let text = run(server, &["denied", "--json", "--limit", "10000"]);
        let answer: Denials = serde_json::from_str(&text).unwrap();
        if answer.losses.read >= packets {
            assert_eq!(answer.losses.read, packets, "more than was sent: {:#?}", answer.totals);
            return answer;
        }
        assert!(start.elapsed() < READ, "{} of {packets} packets", answer.losses.read);
        thread::sleep(Duration::from_millis(50));
    }
}

/// An allow in a few words, as it is suggested and as the command tells it.
fn words(suggestion: &Suggestion<'_>) -> String {
    let (from, to) = (suggestion.from.words(), suggestion.to.words());
    let services = suggestion.service.names();
    let evidence = &suggestion.evidence;
    format!("{from:?} -> {to:?} {services:?} {} + {}", evidence.would, evidence.retries)
}

fn words_of_json(allow: &Value) -> String {
    let list = |key: &str| -> Vec<String> { serde_json::from_value(allow[key].clone()).unwrap() };
    let evidence = &allow["evidence"];
    let (would, retries) = (&evidence["would_be_denied"], &evidence["retries"]);
    format!("{:?} -> {:?} {:?} {would} + {retries}", list("from"), list("to"), list("services"))
}

#[test]
fn a_week_of_packets_is_suggested_as_it_was_sent() {
    let addresses = week::OWN.map(|address| address.parse().unwrap()).to_vec();
    let hosts = [("app1", addresses), ("others", vec![Ipv4Addr::new(10, 99, 0, 1).into()])];
    let network = Network::new(hosts).unwrap();
    // Without names of services, to compare ports.
    let policy_of = |mode: &str| {
        let text = week::policy("auto", mode).replace("\"ssh\"", "\"tcp/22\"");
        let services = text.find("[services]").unwrap();
        let allows = text.find("[[allow]]").unwrap();
        format!("{}{}", &text[..services], &text[allows..])
    };
    let server = Server::new(network.host("app1"), &policy_of("observe")).unwrap();
    std::fs::create_dir(server.path("etc/conf.d")).unwrap();
    let daemon = server.start(&[]).unwrap();
    let (policy, _) = week::load(&policy_of("enforce"));
    let this = week::server(&policy);
    let none = BTreeMap::new();
    // What passes by an allow isn't logged.
    let sample: Vec<Denial> = sample()
        .into_iter()
        .filter(|denial| {
            policy.suggest(&this, &none, std::slice::from_ref(denial)).passing.is_none()
        })
        .collect();
    assert!(sample.len() > 150, "{}", sample.len());
    send(network.host("others"), &sample, 20_000);
    wait_for(&server, packets(&sample));

    let (observing, _) = week::load(&policy_of("observe"));
    let suggestions = observing.suggest(&this, &none, &sample);
    let wanted: BTreeSet<String> = suggestions.allows.iter().map(words).collect();
    let answer = json(&server, &[]);
    let told: BTreeSet<String> =
        answer["allows"].as_array().unwrap().iter().map(words_of_json).collect();
    assert_eq!(told, wanted);
    assert_eq!(answer["unsayable"].as_array().unwrap().len(), suggestions.unsayable.len());
    assert!(suggestions.unsayable.len() >= 2 && wanted.len() >= 8, "{wanted:#?}");

    // Enforced, exactly those pass that were to.
    server.write("conf.d/suggested.toml", run(&server, &["suggest"])).unwrap();
    server.write("tierwall.toml", policy_of("enforce")).unwrap();
    run(&server, &["check"]);
    run(&server, &["reload"]);
    let spec = Spec::new(&policy, &this, &sample, false);
    let (open, shut): (Vec<Denial>, Vec<Denial>) =
        sample.iter().cloned().partition(|denial| spec.asks_for(&denial.into()));
    assert!(open.len() > 50 && shut.len() > 50, "{} and {}", open.len(), shut.len());
    send(network.host("others"), &sample, 40_000);
    let answer = wait_for(&server, packets(&sample) + packets(&shut));
    let denied = answer.groups.iter().filter(|group| group.fate == DenialFate::Denied);
    let denied: BTreeSet<_> = denied
        .map(|group| {
            assert_eq!(group.direction, Direction::Input);
            let wanted = group.service.as_deref().unwrap().parse().unwrap();
            (group.source.unwrap(), wanted, group.count.connections, group.count.retries)
        })
        .collect();
    let expected: BTreeSet<_> =
        shut.iter().map(|denial| (denial.source, denial.wanted, 1, denial.count.retries)).collect();
    assert_eq!(denied, expected);
    daemon.stop().unwrap();
}
