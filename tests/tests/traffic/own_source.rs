//! T18: this server's own addresses, from outside.

use super::packet::Path::In;
use super::packet::{LINK_LOCAL, SYN, V4, V6, icmpv6, send, tcp, udp};
use super::stage::{OPEN, play};
use std::net::Ipv6Addr;

/// IPv4 has no such line: the kernel drops those by itself, and counts them as martians.
#[test]
fn t18_own_addresses_from_outside_are_dropped() {
    let group = |addresses| send(In, addresses, udp(4000, 80)).to("ff02::1");
    let steps = [
        send(In, V6, udp(4000, 80)).passes(),
        send(In, V6, udp(4000, 80)).from("fd00::1").denied(),
        send(In, V6, tcp(4000, 80, SYN)).from("fd00::1").denied(),
        // From another of its addresses than that which it goes to.
        send(In, V6, udp(4000, 80)).from("fe80::1").denied(),
        send(In, LINK_LOCAL, udp(4000, 80)).from("fd00::1").denied(),
        send(In, LINK_LOCAL, udp(4000, 80)).passes(),
        send(In, V4, udp(4000, 80)).passes(),
        // A copy of what the server itself sent to a group looks like this.
        group(V6).from("fd00::1").passes(),
        group(LINK_LOCAL).from("fe80::1").passes(),
        group(V6).passes(),
    ];
    play(OPEN, &steps);
}

/// Who takes an address of this server for theirs says so with it as the source.
#[test]
fn t18_a_duplicate_address_is_noticed() {
    let own: Ipv6Addr = "fd00::1".parse().unwrap();
    let target = [[0; 4].as_slice(), &own.octets()].concat();
    let claim = || send(In, V6, icmpv6(136, 0, &target)).from("fd00::1").hops(255);
    play(OPEN, &[claim().to("ff02::1").passes(), claim().passes()]);
}
