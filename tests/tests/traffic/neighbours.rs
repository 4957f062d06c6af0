//! T10 to T12: what IPv6 needs on its link.

use super::packet::Path::{self, In, Out};
use super::packet::{Content, ICMPV6, LINK_LOCAL, V6, icmpv6, send};
use super::stage::{CLOSED, OPEN, Stage, play};
use socket2::{Domain, Socket, Type};
use std::net::Ipv6Addr;
use tierwall_tests::network::Host;

const BOTH_WAYS: [Path; 2] = [In, Out];

/// Router and neighbour solicitations and advertisements (RFC 4861, 4.1 to 4.4), which change
/// nothing for who hears them: a router for zero seconds, a neighbour that isn't there.
fn messages() -> [Content; 4] {
    let somebody: Ipv6Addr = "fd00::99".parse().unwrap();
    let target = [[0; 4].as_slice(), &somebody.octets()].concat();
    [
        icmpv6(133, 0, &[0; 4]),
        icmpv6(134, 0, &[0; 12]),
        icmpv6(135, 0, &target),
        icmpv6(136, 0, &target),
    ]
}

#[test]
fn t10_neighbour_discovery_passes() {
    let mut steps = Vec::new();
    for path in BOTH_WAYS {
        for content in messages() {
            let packet = |addresses| send(path, addresses, content.clone()).hops(255);
            steps.extend([
                packet(LINK_LOCAL).passes(),
                packet(V6).passes(),
                packet(LINK_LOCAL).to("ff02::1").passes(),
                packet(LINK_LOCAL).behind_hop_by_hop().passes(),
            ]);
        }
    }
    play(CLOSED, &steps);
}

#[test]
fn t11_neighbour_discovery_from_elsewhere_is_denied() {
    let mut steps = Vec::new();
    for path in BOTH_WAYS {
        for content in messages() {
            let packet = |hops| send(path, V6, content.clone()).hops(hops);
            steps.extend([
                packet(255).passes(),
                packet(254).denied(),
                packet(64).denied(),
                packet(1).denied(),
                packet(254).behind_hop_by_hop().denied(),
            ]);
        }
    }
    play(CLOSED, &steps);
    // No allow lets it through either.
    play(OPEN, &steps);
}

#[test]
fn t12_multicast_listener_discovery_passes() {
    // RFC 2710, 3: delay, reserved, address. RFC 3810, 5.2: reserved, no records.
    let message = [[0; 4].as_slice(), &[0; 16]].concat();
    let mut steps = Vec::new();
    for path in BOTH_WAYS {
        for content in [
            icmpv6(130, 0, &message),
            icmpv6(131, 0, &message),
            icmpv6(132, 0, &message),
            icmpv6(143, 0, &[0; 4]),
        ] {
            let packet = |group| send(path, LINK_LOCAL, content.clone()).hops(1).to(group);
            steps.extend([
                packet("ff02::16").behind_hop_by_hop().passes(),
                packet("ff02::1").behind_hop_by_hop().passes(),
                packet("ff02::1").passes(),
            ]);
        }
        // Node information (RFC 4620): no router alert makes it anything else.
        let query = send(path, LINK_LOCAL, icmpv6(139, 0, &[0; 12])).hops(1);
        steps.push(query.behind_hop_by_hop().denied());
    }
    play(CLOSED, &steps);
}

/// The report that the kernel makes when a program joins a group.
#[test]
fn t12_the_kernels_own_reports_pass() {
    let group: Ipv6Addr = "ff02::1234".parse().unwrap();
    let mut stage = Stage::new();
    let mut enforced = stage.enforce(CLOSED);
    let join = |host: &Host| {
        let joined = host.namespace.run(|| {
            let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
            let interface = nix::net::if_::if_nametoindex("eth0")?;
            socket.join_multicast_v6(&group, interface)?;
            std::io::Result::Ok(socket)
        });
        joined.unwrap()
    };
    for path in BOTH_WAYS {
        let stage = &mut *enforced.stage;
        let _joined = join(if path == In { stage.peer() } else { stage.server() });
        let heard = stage.receiver(path).wait(|heard| {
            heard.protocol == ICMPV6
                && heard.transport[0] == 143
                && heard.transport.windows(16).any(|part| part == group.octets())
        });
        assert!(heard, "no report {path:?}\n{}", enforced.listing());
    }
    enforced.take(&[]);
}
