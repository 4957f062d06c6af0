//! T1 to T4: what connection tracking knows, and the loopback interface.

use super::packet::Path::{In, Out, Within};
use super::packet::{
    ACK, Addresses, BOTH, FIN, Packet, RST, SYN, V4, V6, error, icmp, icmpv6, send, tcp, udp,
};
use super::stage::{CLOSED, ONE_PORT_EACH, OPEN, Stage, Step, play};
use nix::errno::Errno;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;
use tierwall_tests::listener::Listener;
use tierwall_tests::network::Host;
use tierwall_tests::probe::{OPEN_LIMIT, Probe};
use tierwall_tests::service::Service;
use tierwall_tests::verdict::Verdict;

#[test]
fn t01_established_connections_pass_both_ways() {
    let steps: Vec<Step> = BOTH
        .into_iter()
        .flat_map(|addresses| {
            [
                // An answer needs a question: the same packets are denied without one.
                send(In, addresses, udp(7001, 4001)).denied(),
                send(Out, addresses, udp(4001, 7001)).passes(),
                send(In, addresses, udp(7001, 4001)).passes(),
                send(In, addresses, udp(7001, 4002)).denied(),
                send(Out, addresses, udp(7009, 4003)).denied(),
                send(In, addresses, udp(4003, 7000)).passes(),
                send(Out, addresses, udp(7000, 4003)).passes(),
                send(Out, addresses, udp(7009, 4003)).denied(),
            ]
        })
        .collect();
    play(ONE_PORT_EACH, &steps);
}

#[test]
fn t01_handshakes_and_exchanges_are_completed_both_ways() {
    let mut stage = Stage::new();
    let listen = |host: &Host, port| {
        Listener::start(host, &[Service::Tcp(port), Service::Udp(port)]).unwrap()
    };
    let _listeners = [listen(stage.server(), 7000), listen(stage.peer(), 7001)];
    let enforced = stage.enforce(ONE_PORT_EACH);
    let stage = &enforced.stage;
    for (from, to, port) in
        [(stage.peer(), stage.server(), 7000), (stage.server(), stage.peer(), 7001)]
    {
        for service in [Service::Tcp(port), Service::Udp(port)] {
            for &target in &to.addresses {
                let outcome = Probe::new(target, service, OPEN_LIMIT).run(from).unwrap();
                assert_eq!(outcome.verdict, Verdict::Open, "{target} {service}");
            }
        }
    }
}

#[test]
fn t02_icmp_errors_about_connections_pass() {
    let asked = |addresses| send(Out, addresses, udp(4001, 7001));
    let asking = |addresses| send(In, addresses, udp(4002, 7000));
    let never = |addresses| send(Out, addresses, udp(4009, 7001));
    let never_in = |addresses| send(In, addresses, udp(4009, 7000));
    let answer = |path, kind, code, about: &dyn Fn(Addresses) -> Packet, addresses| {
        send(path, addresses, error(kind, code, &about(addresses)))
    };
    let mut steps = Vec::new();
    for addresses in BOTH {
        steps.push(asked(addresses).passes());
        steps.push(asking(addresses).passes());
    }
    // Port unreachable, fragmentation needed or too big, time exceeded, parameter problem; an error
    // that no other line lets through (source quench, and one for experiments).
    for (addresses, errors, router) in [
        (V4, [(3, 3), (3, 4), (11, 0), (12, 0), (4, 0)], "192.0.2.1"),
        (V6, [(1, 4), (2, 0), (3, 0), (4, 1), (100, 0)], "2001:db8::1"),
    ] {
        for (kind, code) in errors {
            steps.extend([
                answer(In, kind, code, &asked, addresses).passes(),
                answer(In, kind, code, &asked, addresses).from(router).passes(),
                answer(In, kind, code, &never, addresses).invalid(),
                answer(Out, kind, code, &asking, addresses).passes(),
                answer(Out, kind, code, &never_in, addresses).invalid(),
            ]);
        }
    }
    play(ONE_PORT_EACH, &steps);
}

/// Sends from `from` to a port where nobody listens, and returns the error that comes back.
fn ask_nobody(from: &Host, to: SocketAddr) -> Option<Errno> {
    from.namespace.run(|| {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send(b"anybody?").unwrap();
        let error = socket.recv(&mut [0; 8]).unwrap_err();
        error.raw_os_error().map(Errno::from_raw)
    })
}

#[test]
fn t02_programs_are_told_of_closed_ports() {
    let mut stage = Stage::new();
    let enforced = stage.enforce(ONE_PORT_EACH);
    let stage = &enforced.stage;
    for addresses in BOTH {
        let refused = Some(Errno::ECONNREFUSED);
        // The peer's error comes in.
        let error = ask_nobody(stage.server(), (addresses.peer, 7001).into());
        assert_eq!(error, refused, "to {}", addresses.peer);
        // The server's own error goes out.
        let error = ask_nobody(stage.peer(), (addresses.server, 7000).into());
        assert_eq!(error, refused, "to {}", addresses.server);
    }
}

/// A TFTP server answers from a port that nobody named (RFC 1350): only the helper, which reads
/// the request, expects it.
const TFTP_HELPER: &str = r#"
table inet helpers {
    ct helper tftp { type "tftp" protocol udp; }
    chain input {
        type filter hook input priority filter - 10;
        udp dport 69 ct helper set "tftp"
    }
    chain output {
        type filter hook output priority filter - 10;
        udp dport 69 ct helper set "tftp"
    }
}"#;

#[test]
fn t02_connections_that_a_helper_expects_pass() {
    let read = [0, 1].as_slice();
    let request = |path, addresses, port| send(path, addresses, udp(port, 69).with(read));
    let steps: Vec<Step> = BOTH
        .into_iter()
        .flat_map(|addresses| {
            [
                send(In, addresses, udp(5001, 4001)).denied(),
                request(Out, addresses, 4001).passes(),
                send(In, addresses, udp(5001, 4001)).passes(),
                send(Out, addresses, udp(5002, 4002)).denied(),
                request(In, addresses, 4002).passes(),
                send(Out, addresses, udp(5002, 4002)).passes(),
            ]
        })
        .collect();
    let mut stage = Stage::new();
    stage.rehearse(&steps);
    stage.server().namespace.command_with_input("nft", &["-f", "-"], TFTP_HELPER).unwrap();
    stage.enforce(ONE_PORT_EACH).take(&steps);
}

#[test]
fn t03_invalid_packets_are_dropped() {
    let mut steps = Vec::new();
    for path in [In, Out, Within] {
        for addresses in BOTH {
            steps.extend([
                send(path, addresses, tcp(4000, 80, RST)).invalid(),
                send(path, addresses, tcp(4000, 80, FIN)).invalid(),
                send(path, addresses, tcp(4000, 80, SYN | FIN)).invalid(),
                send(path, addresses, tcp(4000, 80, SYN | ACK)).invalid(),
                send(path, addresses, tcp(4000, 80, 0)).invalid(),
                // Connection tracking picks up connections that are older than itself
                // (nf_conntrack_tcp_loose): this one is new, and the allow lets it through.
                send(path, addresses, tcp(4001, 80, ACK)).passes(),
            ]);
        }
        // Answers to no question, errors about no connection.
        let about = |addresses| send(path, addresses, udp(4002, 4003));
        steps.extend([
            send(path, V4, icmp(0, 0, &[0, 1, 0, 1])).invalid(),
            send(path, V6, icmpv6(129, 0, &[0, 1, 0, 1])).invalid(),
            send(path, V4, error(3, 1, &about(V4))).invalid(),
            send(path, V6, error(1, 0, &about(V6))).invalid(),
        ]);
    }
    // The kernel checks checksums of what comes in only.
    for addresses in BOTH {
        steps.push(send(In, addresses, udp(4004, 4005)).broken().invalid());
        steps.push(send(In, addresses, udp(4004, 4005)).passes());
    }
    play(OPEN, &steps);
}

#[test]
fn t04_the_loopback_interface_is_open() {
    let mut steps = Vec::new();
    for addresses in BOTH {
        for content in [udp(4000, 80), tcp(4000, 80, SYN)] {
            steps.extend([
                send(Within, addresses, content.clone()).passes(),
                send(In, addresses, content.clone()).denied(),
                send(Out, addresses, content).denied(),
            ]);
        }
    }
    let mut stage = Stage::new();
    stage.rehearse(&steps);
    let addresses = ["127.0.0.1", "::1"].map(|address| address.parse().unwrap());
    let inside = Host { addresses: addresses.to_vec(), ..stage.server().clone() };
    let _listener = Listener::start(&inside, &[Service::Tcp(80)]).unwrap();
    let mut enforced = stage.enforce(CLOSED);
    enforced.take(&steps);
    for target in addresses {
        let probe = Probe::new(target, Service::Tcp(80), OPEN_LIMIT);
        let outcome = probe.run(enforced.stage.server()).unwrap();
        assert_eq!(outcome.verdict, Verdict::Open, "{target}");
    }
}

#[test]
fn t04_a_loopback_address_on_another_interface_is_not() {
    let mut stage = Stage::new();
    stage.server().namespace.sysctl("net.ipv4.conf.eth0.route_localnet", "1").unwrap();
    let steps = [send(In, V4, udp(4000, 80)).addressed_to("127.0.0.1").denied()];
    stage.rehearse(&steps);
    stage.enforce(CLOSED).take(&steps);
}
