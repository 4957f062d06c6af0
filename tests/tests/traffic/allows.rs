//! T13 to T15: the policy's allows, and DHCP.

use super::packet::Path::{In, Out, Within};
use super::packet::{BOTH, LINK_LOCAL, SYN, V4, V6, send, tcp, udp, udp_lite};
use super::stage::{CLOSED, ONE_PORT_EACH, OPEN, STRANGERS, Stage, Step, play};
use super::wire::ARRIVED;
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, UdpSocket};

#[test]
fn t13_allows_let_through_what_they_say() {
    let mut steps: Vec<Step> = Vec::new();
    for (addresses, stranger) in BOTH.into_iter().zip(STRANGERS) {
        steps.extend([
            send(In, addresses, tcp(4000, 7000, SYN)).passes(),
            send(In, addresses, udp(4000, 7000)).passes(),
            send(In, addresses, tcp(4000, 7001, SYN)).denied(),
            send(In, addresses, udp(4000, 7001)).denied(),
            send(In, addresses, tcp(4000, 7000, SYN)).from(stranger).denied(),
            send(In, addresses, udp(4000, 7000)).from(stranger).denied(),
            send(Out, addresses, tcp(4001, 7001, SYN)).passes(),
            send(Out, addresses, udp(4001, 7001)).passes(),
            send(Out, addresses, tcp(4001, 7000, SYN)).denied(),
            send(Out, addresses, udp(4001, 7000)).denied(),
        ]);
    }
    play(ONE_PORT_EACH, &steps);
}

#[test]
fn t14_dhcp_passes_for_a_client() {
    let offer = || send(In, V4, udp(67, 68));
    let request = || send(Out, V4, udp(68, 67));
    let steps = [
        offer().from(STRANGERS[0]).passes(),
        offer().from("192.0.2.1").passes(),
        offer().to("255.255.255.255").passes(),
        send(In, V4, udp(66, 68)).denied(),
        send(In, V4, udp(67, 69)).denied(),
        send(In, V4, udp(66, 68)).to("255.255.255.255").denied(),
        send(In, V4, tcp(67, 68, SYN)).denied(),
        request().passes(),
        request().to("255.255.255.255").passes_and_comes_back_denied(),
        send(Out, V4, udp(69, 67)).denied(),
        send(Out, V4, udp(68, 66)).denied(),
        send(Out, V4, tcp(68, 67, SYN)).denied(),
        // The ports decide, whatever the family.
        send(In, V6, udp(67, 68)).from(STRANGERS[1]).passes(),
        send(In, V6, udp(66, 68)).denied(),
        send(Out, V6, udp(68, 67)).passes(),
        send(Out, V6, udp(69, 67)).denied(),
    ];
    play(CLOSED, &steps);
}

/// A server that has no address yet, and may learn it by a broadcast only.
#[test]
fn t14_dhcp_passes_without_an_address() {
    let everybody = |port| SocketAddr::from(([255; 4], port));
    let mut stage = Stage::new();
    for interface in ["all", "eth0"] {
        // Without an address and a route, every source looks wrong to it.
        let rp_filter = format!("net.ipv4.conf.{interface}.rp_filter");
        stage.server().namespace.sysctl(&rp_filter, "0").unwrap();
    }
    let mut enforced = stage.enforce(CLOSED);
    let namespace = &enforced.stage.server().namespace;
    namespace.command("ip", &["-4", "address", "flush", "dev", "eth0"]).unwrap();
    let client = namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        socket.set_broadcast(true)?;
        socket.bind_device(Some(b"eth0"))?;
        socket.set_read_timeout(Some(ARRIVED))?;
        socket.bind(&SocketAddr::from(([0; 4], 68)).into())?;
        std::io::Result::Ok(UdpSocket::from(socket))
    });
    let client = client.unwrap();

    let offer = send(In, V4, udp(67, 68)).to("255.255.255.255");
    let (mark, sent) = enforced.stage.send(&offer);
    sent.unwrap();
    let mut answer = [0; 64];
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(answer[..length], mark.0);

    client.send_to(b"discover", everybody(67)).unwrap();
    let heard = enforced.stage.receiver(Out).wait(|heard| {
        heard.from == SocketAddr::from(([0; 4], 0)).ip() && heard.transport.ends_with(b"discover")
    });
    assert!(heard, "{}", enforced.listing());
    // Its own copy.
    enforced.counts(&["denied.input"], &send(Out, V4, udp(68, 67)).to("255.255.255.255"));
    client.send_to(b"discover", everybody(66)).unwrap_err();
    enforced.counts(&["denied.output"], &send(Out, V4, udp(68, 66)).to("255.255.255.255"));
}

#[test]
fn t14_dhcp_does_not_pass_for_a_server() {
    let steps = [
        send(In, V4, udp(68, 67)).denied(),
        send(In, V4, udp(68, 67)).to("255.255.255.255").denied(),
        send(Out, V4, udp(67, 68)).denied(),
        send(Out, V4, udp(67, 68)).to("255.255.255.255").denied(),
    ];
    play(CLOSED, &steps);
}

#[test]
fn t15_dhcpv6_passes_for_a_client() {
    let servers = "ff02::1:2";
    let steps = [
        send(In, LINK_LOCAL, udp(547, 546)).passes(),
        // A server answers from whatever address it has.
        send(In, LINK_LOCAL, udp(547, 546)).from("2001:db8::9").passes(),
        send(In, LINK_LOCAL, udp(547, 546)).from(STRANGERS[1]).passes(),
        // What goes to another address may have come through a router.
        send(In, V6, udp(547, 546)).denied(),
        send(In, LINK_LOCAL, udp(547, 546)).addressed_to("fd00::1").denied(),
        send(In, LINK_LOCAL, udp(547, 545)).denied(),
        send(In, LINK_LOCAL, udp(545, 546)).denied(),
        send(Out, LINK_LOCAL, udp(546, 547)).to(servers).passes_and_comes_back_denied(),
        send(Out, V6, udp(546, 547)).to(servers).denied(),
        send(Out, LINK_LOCAL, udp(546, 545)).to(servers).denied(),
        send(Out, LINK_LOCAL, udp(545, 547)).to(servers).denied(),
        // As a server.
        send(In, LINK_LOCAL, udp(546, 547)).to(servers).denied(),
        send(Out, LINK_LOCAL, udp(547, 546)).to("ff02::1").denied(),
    ];
    play(CLOSED, &steps);
}

/// Five tiers to four that this server is in by its addresses: those are asked first, then the peer.
const MANY: &str = r#"
role = "auto"
[tiers]
one = ["10.0.0.1", "fd00::1"]
two = ["10.0.0.1", "fd00::1"]
three = ["10.0.0.1"]
four = ["10.0.0.1", "fd00::1"]
peer = ["10.0.0.2", "fd00::2"]
[[allow]]
name = "many"
from = ["one", "two", "three", "four", "peer"]
to = ["one", "two", "three", "four"]
service = ["tcp/80", "udp/53"]
"#;

#[test]
fn t13_many_tiers_to_many_pass_as_any_pair_would() {
    let mut steps: Vec<Step> = Vec::new();
    for (addresses, stranger) in [V4, V6].into_iter().zip(STRANGERS) {
        steps.extend([
            send(In, addresses, tcp(4000, 80, SYN)).passes(),
            send(In, addresses, udp(4000, 53)).passes(),
            send(In, addresses, udp(4001, 53)).from(stranger).denied(),
            send(In, addresses, tcp(4001, 81, SYN)).denied(),
        ]);
    }
    // An address of this server's that is in none of its tiers.
    steps.push(send(In, LINK_LOCAL, udp(4002, 53)).from("fd00::2").denied());
    let mut stage = Stage::new();
    stage.rehearse(&steps);
    let mut enforced = stage.enforce(MANY);
    assert!(enforced.listing().contains("jump from.many"), "{}", enforced.listing());
    enforced.take(&steps);
}

/// What `tierwall check` says of an allow of UDP-Lite: connection tracking takes its checksums for wrong
/// where packets come from another host.
#[test]
fn udp_lite_from_other_hosts_is_invalid_unless_checksums_are_not_judged() {
    let all = |port| [V4, V6].map(|addresses| (addresses, udp_lite(4000, port)));
    let within: Vec<Step> =
        all(5000).map(|(addresses, content)| send(Within, addresses, content).passes()).into();
    let out: Vec<Step> =
        all(5001).map(|(addresses, content)| send(Out, addresses, content).passes()).into();
    let invalid: Vec<Step> =
        all(5002).map(|(addresses, content)| send(In, addresses, content).invalid()).into();
    let passes: Vec<Step> =
        all(5003).map(|(addresses, content)| send(In, addresses, content).passes()).into();
    let mut stage = Stage::new();
    for steps in [&within, &out, &invalid, &passes] {
        stage.rehearse(steps);
    }
    let mut enforced = stage.enforce(OPEN);
    for steps in [&within, &out, &invalid] {
        enforced.take(steps);
    }
    let server = enforced.stage.server().clone();
    server.namespace.sysctl("net.netfilter.nf_conntrack_checksum", "0").unwrap();
    enforced.take(&passes);
    server.namespace.sysctl("net.netfilter.nf_conntrack_checksum", "1").unwrap();
    enforced.take(&invalid);
}
