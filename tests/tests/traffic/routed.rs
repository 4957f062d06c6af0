//! T17: what is routed through the server.

use super::packet::Path::{In, Out, Through};
use super::packet::{SYN, V4, V6, icmp, icmpv6, send, tcp, udp};
use super::stage::{OPEN, Stage, Step};

fn policy(forward: &str, mode: &str) -> String {
    format!("forward = \"{forward}\"\nmode = \"{mode}\"\n{OPEN}")
}

fn packets() -> [super::packet::Packet; 6] {
    [
        send(Through, V4, udp(4000, 80)),
        send(Through, V4, tcp(4000, 80, SYN)),
        send(Through, V4, icmp(8, 0, &[0, 1, 0, 1])),
        send(Through, V6, udp(4000, 80)),
        send(Through, V6, tcp(4000, 80, SYN)),
        send(Through, V6, icmpv6(128, 0, &[0, 1, 0, 1])),
    ]
}

/// Packets for the server itself, which no setting of `forward` changes.
fn own() -> [Step; 2] {
    [send(In, V4, udp(4001, 81)).passes(), send(Out, V6, udp(4002, 82)).passes()]
}

#[test]
fn t17_routed_packets_are_dropped() {
    let steps: Vec<Step> =
        packets().into_iter().map(super::packet::Packet::denied).chain(own()).collect();
    let mut stage = Stage::router();
    stage.rehearse(&steps);
    stage.enforce(&policy("drop", "enforce")).take(&steps);
}

#[test]
fn t17_routed_packets_pass_where_forward_says_so() {
    let steps: Vec<Step> =
        packets().into_iter().map(super::packet::Packet::passes).chain(own()).collect();
    for forward in ["accept", "unmanaged"] {
        let mut stage = Stage::router();
        let mut enforced = stage.enforce(&policy(forward, "enforce"));
        enforced.take(&steps);
        let chain = enforced.listing().contains("hook forward");
        assert_eq!(chain, forward == "accept", "{}", enforced.listing());
    }
}

#[test]
fn t17_routed_packets_are_counted_where_input_observes() {
    let steps: Vec<Step> =
        packets().into_iter().map(super::packet::Packet::would_be_denied).chain(own()).collect();
    Stage::router().enforce(&policy("drop", "observe")).take(&steps);
}
