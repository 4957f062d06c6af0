//! T16: everything else, and how it is denied.

use super::packet::Path::{In, Out};
use super::packet::{
    Checksum, FIN, ICMP, ICMPV6, IGMP, Mark, Packet, RST, SYN, TCP, V4, V6, icmp, other, send, tcp,
    udp,
};
use super::stage::{CLOSED, Enforced, OPEN, Stage, play};
use super::wire::{ARRIVED, Heard};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Instant;
use tierwall_tests::listener::Listener;
use tierwall_tests::network::Host;
use tierwall_tests::probe::{OPEN_LIMIT, Probe};
use tierwall_tests::service::Service;
use tierwall_tests::verdict::{Denial, Verdict};

/// Strangers get an error at once.
const REJECTING: &str = r#"
role = "server"
deny = { input = "reject" }
[tiers]
server = ["10.0.0.1", "fd00::1"]
"#;

/// Whether `heard` is the answer that refuses `packet`, sent with `mark`: a reset of TCP, an ICMP
/// error of the rest.
fn refuses(heard: &Heard, packet: &Packet, mark: Mark) -> bool {
    let is_refusal = match heard.protocol {
        TCP => {
            let port = u16::from_be_bytes([heard.transport[2], heard.transport[3]]);
            packet.protocol() == TCP
                && heard.transport[13] & RST != 0
                && port == packet.source_port()
        }
        ICMP => packet.protocol() != TCP && heard.transport[0] == 3 && heard.quotes(mark),
        ICMPV6 => packet.protocol() != TCP && heard.transport[0] == 1 && heard.quotes(mark),
        _ => false,
    };
    is_refusal && heard.from == packet.target
}

/// New connections from the peer, to ports where nobody listens.
fn strangers() -> Vec<Packet> {
    [V4, V6]
        .into_iter()
        .flat_map(|addresses| {
            [send(In, addresses, tcp(4000, 80, SYN)), send(In, addresses, udp(4000, 80))]
        })
        .collect()
}

/// Without a policy, the kernel of the server says that nobody listens.
fn rehearse(stage: &mut Stage) {
    for packet in strangers() {
        let (mark, sent) = stage.send(&packet);
        sent.unwrap();
        let refused = stage.sender(In).wait(|heard| refuses(heard, &packet, mark));
        assert!(refused, "no answer even without a policy: {packet}");
    }
}

#[test]
fn t16_strangers_get_silence() {
    let mut stage = Stage::new();
    rehearse(&mut stage);
    let mut enforced = stage.enforce(CLOSED);
    for packet in strangers() {
        answered_with_silence(&mut enforced, &packet, &["denied.input"]);
    }
}

#[test]
fn t16_strangers_get_an_error_if_the_policy_says_so() {
    let mut stage = Stage::new();
    rehearse(&mut stage);
    let mut enforced = stage.enforce(REJECTING);
    for packet in strangers() {
        let (mark, sent) = enforced.stage.send(&packet);
        sent.unwrap();
        // Exactly one packet is denied: the server's own output chain lets the error out.
        enforced.counts(&["denied.input"], &packet);
        let refused = enforced.stage.sender(In).wait(|heard| {
            let prohibited = match heard.protocol {
                ICMP => heard.transport[1] == 13,
                ICMPV6 => heard.transport[1] == 1,
                _ => true,
            };
            prohibited && refuses(heard, &packet, mark)
        });
        assert!(refused, "no answer to {packet}\n{}", enforced.listing());
    }
    // What is invalid is dropped all the same.
    answered_with_silence(
        &mut enforced,
        &send(In, V4, tcp(4001, 80, SYN | FIN)),
        &["invalid.input"],
    );
}

/// Sends `packet`, which those counters count, and whose sender hears nothing.
fn answered_with_silence(enforced: &mut Enforced<'_>, packet: &Packet, counters: &[&str]) {
    let before = enforced.stage.sender(In).heard().len();
    let (_, sent) = enforced.stage.send(packet);
    sent.unwrap();
    enforced.counts(counters, packet);
    // Whatever the server answers is heard before its answer to this.
    let (ping, sent) = enforced.stage.send(&send(In, V4, icmp(8, 0, &[0, 9, 0, 1])));
    sent.unwrap();
    assert!(enforced.stage.sender(In).wait(|heard| heard.has(ping)), "{}", enforced.listing());
    let answers: Vec<&Heard> = enforced.stage.sender(In).heard()[before..]
        .iter()
        .filter(|heard| heard.from == packet.target && !heard.has(ping))
        // The server looks for its neighbours meanwhile.
        .filter(|heard| heard.protocol != ICMPV6 || heard.transport[0] < 128)
        .collect();
    assert!(answers.is_empty(), "{packet} was answered: {answers:?}");
}

/// The kernel doesn't know to which connection the refusal of an untracked packet belongs.
#[test]
fn refusals_need_connection_tracking() {
    const UNTRACKED: &str = "
        table inet untracked {
            chain prerouting {
                type filter hook prerouting priority raw;
                meta l4proto { tcp, udp } notrack
            }
        }";
    let mut stage = Stage::new();
    rehearse(&mut stage);
    stage.server().namespace.command_with_input("nft", &["-f", "-"], UNTRACKED).unwrap();
    let mut enforced = stage.enforce(REJECTING);
    for packet in strangers() {
        answered_with_silence(&mut enforced, &packet, &["denied.input", "invalid.output"]);
    }
}

#[test]
fn t16_own_programs_are_refused_at_once() {
    let mut stage = Stage::new();
    let services = [Service::Tcp(80), Service::Udp(80), Service::Protocol(50)];
    let _listener = Listener::start(stage.peer(), &services).unwrap();
    let probe = |stage: &Stage, target, service| {
        Probe::new(target, service, OPEN_LIMIT).run(stage.server()).unwrap()
    };
    for addresses in [V4, V6] {
        for service in services {
            let outcome = probe(&stage, addresses.peer, service);
            assert_eq!(outcome.verdict, Verdict::Open, "without a policy: {service}");
        }
    }
    let enforced = stage.enforce(CLOSED);
    for addresses in [V4, V6] {
        for service in services {
            let before = enforced.counters();
            let outcome = probe(enforced.stage, addresses.peer, service);
            let how = if service == services[0] { Denial::Refused } else { Denial::Unreachable };
            assert_eq!(outcome.verdict, Verdict::Denied(how), "{} {service}", addresses.peer);
            assert!(outcome.duration < OPEN_LIMIT / 4, "{outcome} for {service}");
            let mut expected = before;
            *expected.entry("denied.output".into()).or_default() += 1;
            assert_eq!(enforced.counters(), expected, "{} {service}", addresses.peer);
        }
    }
}

#[test]
fn t16_the_rest_is_denied_both_ways() {
    let mut steps = Vec::new();
    for path in [In, Out] {
        for addresses in [V4, V6] {
            steps.extend([
                send(path, addresses, tcp(4000, 22, SYN)).denied(),
                send(path, addresses, udp(4000, 53)).denied(),
                send(path, addresses, udp(5353, 5353)).denied(),
            ]);
        }
        steps.push(send(path, V4, udp(4000, 123)).to("255.255.255.255").denied());
        steps.push(send(path, V6, udp(4000, 123)).behind_hop_by_hop().denied());
        steps.push(send(path, V6, udp(4000, 123)).to("ff02::1").denied());
    }
    play(CLOSED, &steps);
}

/// Sends a datagram larger than a link takes at once.
fn fragmented(enforced: &Enforced<'_>, target: IpAddr, port: u16) {
    enforced.stage.peer().namespace.run(|| {
        let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        UdpSocket::bind(any).unwrap().send_to(&[0xaa; 4000], (target, port)).unwrap()
    });
}

#[test]
fn fragments_are_judged_as_the_packet_that_they_make() {
    const ONE_PORT: &str = r#"
role = "server"
[tiers]
server = ["10.0.0.1", "fd00::1"]
[[allow]]
from = "any"
to = "server"
service = "udp/7000"
"#;
    let mut stage = Stage::new();
    let mut enforced = stage.enforce(ONE_PORT);
    for addresses in [V4, V6] {
        let packet = send(In, addresses, udp(0, 7001));
        fragmented(&enforced, addresses.server, 7001);
        enforced.counts(&["denied.input"], &packet);
        fragmented(&enforced, addresses.server, 7000);
        let whole = enforced
            .stage
            .receiver(In)
            .wait(|heard| heard.transport.len() == 4008 && heard.from == addresses.peer);
        assert!(whole, "to {}\n{}", addresses.server, enforced.listing());
    }
    // Nothing else was denied, and what was is not among what arrived.
    enforced.take(&[]);
    let heard = enforced.stage.receiver(In).heard();
    assert_eq!(heard.iter().filter(|heard| heard.transport.len() > 1000).count(), 2);
}

/// What IPv4 has in place of multicast listener discovery is not built in.
#[test]
fn igmp_needs_an_allow() {
    let group = Ipv4Addr::new(224, 0, 0, 251);
    let routers = Ipv4Addr::new(224, 0, 0, 22);
    for (policy, allowed) in [(CLOSED, false), (OPEN, true)] {
        let mut stage = Stage::new();
        let _router = join(stage.peer(), routers);
        let enforced = stage.enforce(policy);
        // The kernel reports at once that a program joined, and again a little later.
        let _joined = join(enforced.stage.server(), group);
        let is_report = |heard: &Heard| {
            heard.protocol == IGMP && heard.transport.windows(4).any(|part| part == group.octets())
        };
        if allowed {
            assert!(enforced.stage.receiver(Out).wait(is_report), "{}", enforced.listing());
            assert!(enforced.counters().is_empty(), "{}", enforced.listing());
        } else {
            let start = Instant::now();
            while !enforced.counters().contains_key("denied.output") {
                assert!(start.elapsed() < ARRIVED, "{}", enforced.listing());
            }
            assert!(!enforced.stage.receiver(Out).heard().iter().any(is_report));
        }
    }
}

/// Under `role = "auto"` a tier is addresses, and a group is none of them: `explain` says what the
/// kernel does, and what it says to write helps.
#[test]
fn multicast_passes_as_explain_says() {
    const POLICY: &str = r#"
role = "ROLE"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peer = ["10.0.0.2", "fd00::2"]
[[allow]]
from = "any"
to = "server"
service = "tcp/22"
[[allow]]
from = "peer"
to = "TO"
service = ["igmp", "udp/5353"]
"#;
    let sent = [
        (send(In, V4, other(IGMP, Checksum::Internet(2))).to("224.0.0.1"), "igmp"),
        (send(In, V4, udp(5353, 5353)).to("224.0.0.1"), "udp/5353"),
        (send(In, V4, udp(5353, 5353)).to("255.255.255.255"), "udp/5353"),
        (send(In, V6, udp(5353, 5353)).to("ff02::1"), "udp/5353"),
    ];
    for (role, to, passes) in
        [("server", "server", true), ("auto", "server", false), ("auto", "*", true)]
    {
        let mut stage = Stage::new();
        let policy = POLICY.replace("ROLE", role).replace("TO", to);
        let mut enforced = stage.enforce(&policy);
        for (packet, service) in &sent {
            let (from, to) = (packet.source.to_string(), packet.target.to_string());
            let question = ["explain", "--from", &from, "--to", &to, "--service", service];
            let answer = enforced.tierwall(&question);
            let text = String::from_utf8_lossy(&answer.stdout).into_owned();
            // A sender that loads the policy, too, would refuse: no tier holds a group.
            assert_eq!(answer.status.code(), Some(9), "{text}");
            let (_, here) = text.split_once("input of this server").expect("this end");
            let verdict = here.lines().nth(1).expect("a verdict");
            assert_eq!(verdict.starts_with("  accepted"), passes, "{text}");
            assert!(passes || text.contains("to      = \"*\""), "{text}");
            let packet = packet.clone();
            enforced.take(&[if passes { packet.passes() } else { packet.denied() }]);
        }
    }
}

fn join(host: &Host, group: Ipv4Addr) -> Socket {
    let joined = host.namespace.run(|| {
        let interface = nix::net::if_::if_nametoindex("eth0")?;
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.join_multicast_v4_n(&group, &InterfaceIndexOrAddress::Index(interface))?;
        std::io::Result::Ok(socket)
    });
    joined.unwrap()
}
