//! T5 to T9: ICMP and ICMPv6.
//!
//! Connection tracking judges most ICMP errors before T5, T6 and T8 are asked: they belong to a
//! connection (T2), or to none (T3). Where a table of the administrator's tells it not to
//! (`notrack`), these lines are what is left.

use super::packet::Path::{self, In, Out};
use super::packet::{Addresses, LINK_LOCAL, Mark, Packet, V4, V6, error, icmp, icmpv6, send, udp};
use super::stage::{CLOSED, OPEN, Stage, Step, play};

/// Ours leaves alone what others do before it.
pub(crate) const UNTRACKED: &str = "
table inet untracked {
    chain prerouting {
        type filter hook prerouting priority raw;
        icmp type != { echo-request, echo-reply } notrack
        icmpv6 type != { echo-request, echo-reply } notrack
    }
    chain output {
        type filter hook output priority raw;
        icmp type != { echo-request, echo-reply } notrack
        icmpv6 type != { echo-request, echo-reply } notrack
    }
}";

const BOTH_WAYS: [Path; 2] = [In, Out];

/// Takes the steps where connection tracking doesn't see ICMP.
fn play_untracked(policy: &str, steps: &[Step]) {
    let mut stage = Stage::new();
    stage.rehearse(steps);
    stage.server().namespace.command_with_input("nft", &["-f", "-"], UNTRACKED).unwrap();
    stage.enforce(policy).take(steps);
}

/// A redirect about `packet`, as a router on the link sends it. The gateways it names don't exist.
pub(crate) fn redirect(path: Path, addresses: Addresses, packet: &Packet) -> Packet {
    let content = match addresses.server.is_ipv4() {
        true => error(5, 1, packet),
        false => {
            // RFC 4861, 4.5 and 4.6.3: reserved, the better first hop, the destination; an option
            // with the redirected packet, its length in eight bytes.
            let quoted = packet.bytes(Mark::new());
            let length = (quoted.len() / 8 + 1) as u8;
            let option = [[4, length, 0, 0, 0, 0, 0, 0].as_slice(), &quoted].concat();
            icmpv6(137, 0, &[[0; 4].as_slice(), &[0xfe; 32], &option].concat())
        }
    };
    let redirect = send(path, addresses, content).hops(255);
    // ICMPv6 redirects come from a link-local address, to the one that the packet came from.
    match addresses.server.is_ipv4() {
        true => redirect,
        false => redirect.from(&send(path, LINK_LOCAL, udp(0, 0)).source.to_string()),
    }
}

#[test]
fn t05_redirects_never_pass() {
    let mut steps = Vec::new();
    for (there, back) in [(Out, In), (In, Out)] {
        let about = send(there, V4, udp(4000, 4001));
        let never = send(there, V4, udp(4002, 4003));
        steps.extend([
            about.clone().passes(),
            // Another error about the connection is related to it, and so is the redirect.
            send(back, V4, error(3, 1, &about)).passes(),
            redirect(back, V4, &about).denied(),
            redirect(back, V4, &about).from("10.0.0.254").denied(),
            redirect(back, V4, &never).invalid(),
        ]);
        let about = send(there, V6, udp(4000, 4001));
        let never = send(there, V6, udp(4002, 4003));
        steps.extend([
            about.clone().passes(),
            send(back, V6, error(1, 0, &about)).passes(),
            redirect(back, V6, &never).invalid(),
            redirect(back, V6, &about).from("fd00::99").invalid(),
            redirect(back, V6, &about).hops(254).invalid(),
        ]);
    }
    play(OPEN, &steps);
}

/// Older kernels call every ICMPv6 redirect invalid, newer ones (6.2, and stable ones before it)
/// relate it to the connection of the packet that it quotes.
#[test]
fn t05_icmpv6_redirects_about_connections_never_pass() {
    for (there, back) in [(Out, In), (In, Out)] {
        let about = send(there, V6, udp(4000, 4001));
        let packet = redirect(back, V6, &about);
        let mut stage = Stage::new();
        stage.rehearse(&[about.clone().passes(), packet.clone().passes()]);
        stage.enforce(OPEN).take(&[about.passes(), packet.denied()]);
    }
}

#[test]
fn t05_redirects_never_pass_untracked() {
    let mut steps = Vec::new();
    for path in BOTH_WAYS {
        for addresses in [V4, V6] {
            let about = send(path, addresses, udp(4000, 4001));
            steps.push(redirect(path, addresses, &about).denied());
        }
    }
    play_untracked(OPEN, &steps);
}

#[test]
fn t06_icmp_errors_pass() {
    let mut steps = Vec::new();
    for path in BOTH_WAYS {
        let about = send(path, V4, udp(4000, 4001));
        let packet = |kind, code| send(path, V4, error(kind, code, &about));
        steps.extend([
            packet(3, 0).passes(),
            packet(3, 1).passes(),
            packet(3, 4).passes(),
            packet(11, 0).passes(),
            packet(12, 0).passes(),
            // Source quench, and an alternate host address: both deprecated (RFC 6633, RFC 6918).
            packet(4, 0).denied(),
            packet(6, 0).denied(),
        ]);
    }
    play_untracked(CLOSED, &steps);
}

#[test]
fn t07_echo_requests_pass() {
    let steps = BOTH_WAYS.map(|path| {
        [
            send(path, V4, icmp(8, 0, &[0, 7, 0, 1])).passes(),
            send(path, V4, icmp(8, 0, &[0, 8, 0, 1])).hops(1).passes(),
            // Timestamp and address mask requests.
            send(path, V4, icmp(13, 0, &[0; 16])).denied(),
            send(path, V4, icmp(17, 0, &[0; 8])).denied(),
        ]
    });
    play(CLOSED, steps.as_flattened());
}

#[test]
fn t08_icmpv6_errors_pass() {
    let mut steps = Vec::new();
    for path in BOTH_WAYS {
        let about = send(path, V6, udp(4000, 4001));
        let packet = |kind, code| send(path, V6, error(kind, code, &about));
        steps.extend([
            packet(1, 0).passes(),
            packet(1, 4).passes(),
            packet(2, 0).passes(),
            packet(2, 0).behind_hop_by_hop().passes(),
            packet(3, 0).passes(),
            packet(4, 1).passes(),
            // For experiments (RFC 4443, 2.1).
            packet(100, 0).denied(),
            packet(100, 0).behind_hop_by_hop().denied(),
        ]);
    }
    play_untracked(CLOSED, &steps);
}

#[test]
fn t09_icmpv6_echo_requests_pass() {
    let steps = BOTH_WAYS.map(|path| {
        [
            send(path, V6, icmpv6(128, 0, &[0, 7, 0, 1])).passes(),
            send(path, V6, icmpv6(128, 0, &[0, 8, 0, 1])).behind_hop_by_hop().passes(),
            // Node information (RFC 4620).
            send(path, V6, icmpv6(139, 0, &[0; 12])).denied(),
            send(path, V6, icmpv6(139, 0, &[0; 12])).behind_hop_by_hop().denied(),
        ]
    });
    play(CLOSED, steps.as_flattened());
}

/// The answers are established (T1).
#[test]
fn t07_t09_pings_are_answered() {
    let mut stage = Stage::new();
    let enforced = stage.enforce(CLOSED);
    for path in BOTH_WAYS {
        let requests = [
            send(path, V4, icmp(8, 0, &[0, 7, 0, 1])),
            send(path, V6, icmpv6(128, 0, &[0, 7, 0, 1])),
        ];
        for request in requests {
            let (mark, sent) = enforced.stage.send(&request);
            sent.unwrap();
            let answered = enforced
                .stage
                .sender(path)
                .wait(|heard| heard.has(mark) && [0, 129].contains(&heard.transport[0]));
            assert!(answered, "no answer to {request}\n{}", enforced.listing());
        }
    }
}
