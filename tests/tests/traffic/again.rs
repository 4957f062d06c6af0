//! T19: connections that connection tracking forgot, and packets within none.

use super::packet::Path::{In, Out};
use super::packet::{ACK, BOTH, Packet, SYN, V4, send, tcp, udp};
use super::sockets::{ROOT, bind, connect};
use super::stage::{CLOSED, Enforced, ONE_PORT_EACH, SOMEBODY, STRANGERS, Stage, play};
use super::wire::Heard;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

/// The same by whole protocols, and under the server's addresses.
const EVERYTHING_EACH: &str = r#"
role = "auto"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peer = ["10.0.0.2", "fd00::2"]
[[allow]]
from = "peer"
to = "server"
service = "tcp"
[[allow]]
from = "server"
to = "peer"
service = "any"
"#;

fn says(from: &mut TcpStream, to: &mut TcpStream) -> Result<(), String> {
    from.write_all(b"hello").map_err(|error| format!("write: {error}"))?;
    let mut heard = [0; 5];
    to.read_exact(&mut heard).map_err(|error| format!("read: {error}"))
}

/// Both ends say something, the first of them first, once everything is forgotten.
fn goes_on(enforced: &Enforced<'_>, first: &mut TcpStream, second: &mut TcpStream) {
    // Nothing is under way that would tell of the connection.
    says(second, first).unwrap();
    says(first, second).unwrap();
    enforced.stage.server().namespace.forget_connections().unwrap();
    let result = says(first, second).and_then(|()| says(second, first));
    result.unwrap_or_else(|error| panic!("{error}\n{}", enforced.listing()));
}

#[test]
fn t19_forgotten_connections_go_on_whoever_speaks_first() {
    for policy in [ONE_PORT_EACH, EVERYTHING_EACH] {
        let mut stage = Stage::new();
        let enforced = stage.enforce(policy);
        let (server, peer) = (enforced.stage.server(), enforced.stage.peer());
        for addresses in BOTH {
            let (mut theirs, mut ours) = connect((peer, ROOT), server, addresses.server, 7000);
            goes_on(&enforced, &mut ours, &mut theirs);
            goes_on(&enforced, &mut theirs, &mut ours);
            let (mut ours, mut theirs) = connect((server, ROOT), peer, addresses.peer, 7001);
            goes_on(&enforced, &mut theirs, &mut ours);
            goes_on(&enforced, &mut ours, &mut theirs);
        }
        let counters = enforced.counters();
        assert!(!counters.contains_key("denied.output"), "{counters:?}");
        assert!(!counters.contains_key("denied.input"), "{counters:?}");
    }
}

/// What one side doesn't deny at all, the other side takes up as well.
#[test]
fn t19_forgotten_connections_go_on_where_only_one_side_is_enforced() {
    for (mode, server_speaks) in [
        (r#"{ input = "off", output = "enforce" }"#, true),
        (r#"{ input = "observe", output = "enforce" }"#, true),
        (r#"{ input = "enforce", output = "off" }"#, false),
    ] {
        let mut stage = Stage::new();
        let policy = format!("mode = {mode}\n{CLOSED}");
        let enforced = stage.enforce(&policy);
        let (server, peer) = (enforced.stage.server(), enforced.stage.peer());
        let (opener, target, address) =
            if server_speaks { (peer, server, V4.server) } else { (server, peer, V4.peer) };
        let (mut opened, mut accepted) = connect((opener, ROOT), target, address, 7005);
        goes_on(&enforced, &mut accepted, &mut opened);
    }
}

#[test]
fn t19_a_forgotten_connection_of_a_user_goes_on() {
    let mut stage = Stage::new();
    let enforced = stage.enforce(ONE_PORT_EACH);
    let (server, peer) = (enforced.stage.server(), enforced.stage.peer());
    for addresses in BOTH {
        let (mut ours, mut theirs) = connect((server, SOMEBODY), peer, addresses.peer, 7002);
        goes_on(&enforced, &mut theirs, &mut ours);
    }
}

/// Whether the local sender of `packet` heard a reset.
fn is_reset(heard: &Heard, packet: &Packet) -> bool {
    let to = u16::from_be_bytes([heard.transport[2], heard.transport[3]]);
    heard.protocol == super::packet::TCP
        && heard.transport[13] & 4 != 0
        && to == packet.source_port()
}

#[test]
fn t19_what_no_allow_takes_up_is_dropped_in_silence() {
    let mut stage = Stage::new();
    let mut enforced = stage.enforce(&format!("deny = {{ input = \"reject\" }}\n{ONE_PORT_EACH}"));
    let mut next = 4100;
    for (addresses, stranger) in BOTH.into_iter().zip(STRANGERS) {
        for packet in [
            // Not of a service, or to somebody whom it isn't for.
            send(Out, addresses, tcp(7009, 4000, ACK)),
            send(Out, addresses, tcp(7000, 4000, ACK)).to(stranger),
            // No socket is there, or one that isn't a connection's.
            send(In, addresses, tcp(7001, 4000, ACK)),
            send(In, addresses, tcp(7009, 4000, ACK)),
            send(In, addresses, tcp(4000, 7009, ACK)),
        ] {
            let (_, sent) = enforced.stage.send(&packet);
            assert_eq!(sent.is_err(), packet.path == Out, "{packet}");
            enforced.counts(&[&format!("denied.{}", packet.path.side())], &packet);
            // Nor does a reset come later than the answer to what does get one.
            next += 1;
            let opening = send(packet.path, addresses, tcp(next, 7009, SYN));
            let _ = enforced.stage.send(&opening);
            enforced.counts(&[&format!("denied.{}", packet.path.side())], &opening);
            let sender = enforced.stage.sender(packet.path);
            assert!(sender.wait(|heard| is_reset(heard, &opening)), "no reset: {opening}");
            let resets = sender.heard().iter().filter(|heard| is_reset(heard, &packet)).count();
            assert_eq!(resets, 0, "{packet} was answered with a reset");
        }
    }
}

/// A listener that is bound to no address is nobody's connection.
#[test]
fn t19_a_bare_acknowledgement_reaches_no_listener_of_all_addresses() {
    let mut stage = Stage::new();
    let server = stage.server().clone();
    let _everywhere = server.namespace.run(|| TcpListener::bind("0.0.0.0:9000")).unwrap();
    let steps = [
        send(In, V4, tcp(7001, 9000, ACK)).denied(),
        send(In, V4, tcp(7009, 9000, ACK)).denied(),
        send(In, V4, tcp(7001, 9000, SYN)).denied(),
    ];
    stage.enforce(ONE_PORT_EACH).take(&steps);
}

#[test]
fn t19_late_answers_pass() {
    let mut steps = Vec::new();
    for (addresses, stranger) in BOTH.into_iter().zip(STRANGERS) {
        steps.extend([
            send(Out, addresses, udp(7000, 4003)).passes(),
            send(Out, addresses, udp(7000, 4003)).to(stranger).denied(),
            send(Out, addresses, udp(7009, 4003)).denied(),
            // Where a datagram comes from lets it reach nothing here.
            send(In, addresses, udp(7001, 4003)).denied(),
        ]);
    }
    // Not without a policy first: nobody hears what goes to a stranger.
    Stage::new().enforce(ONE_PORT_EACH).take(&steps);
}

/// Every program may come by such a port.
#[test]
fn t19_ports_of_a_range_of_ephemeral_ones_make_no_answer() {
    const RANGES: &str = r#"
role = "server"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peer = ["10.0.0.2", "fd00::2"]
[[allow]]
from = "peer"
to = "server"
service = ["udp/10000-10100", "udp/30000-65535", "udp/20"]
[[allow]]
from = "peer"
to = "server"
service = ["udp"]
"#;
    let steps = [
        send(Out, V4, udp(10_050, 4003)).passes(),
        send(Out, V4, udp(20, 4003)).passes(),
        send(Out, V4, udp(51_820, 4003)).denied(),
        send(Out, V4, udp(30_000, 4003)).denied(),
        send(Out, V4, udp(7, 4003)).denied(),
    ];
    play(RANGES, &steps);
}

/// A service that was asked long ago.
#[test]
fn t19_a_program_answers_late() {
    let mut stage = Stage::new();
    let enforced = stage.enforce(ONE_PORT_EACH);
    for addresses in BOTH {
        let service = bind(enforced.stage.server(), ROOT, addresses.server, 7000);
        let client = bind(enforced.stage.peer(), ROOT, addresses.peer, 4009);
        client.send_to(b"?", service.local_addr().unwrap()).unwrap();
        let (_, asked_by): (usize, SocketAddr) = service.recv_from(&mut [0; 8]).unwrap();
        enforced.stage.server().namespace.forget_connections().unwrap();
        service.send_to(b"!", asked_by).unwrap();
        assert_eq!(client.recv(&mut [0; 8]).unwrap(), 1);
        let nobody = SocketAddr::new(STRANGERS[0].parse().unwrap(), 4009);
        if asked_by.is_ipv4() {
            let error = service.send_to(b"!", nobody).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        }
    }
}
