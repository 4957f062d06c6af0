//! What a trace of a busy server tells, and how much.

use super::{is_to, network, server, trace};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;
use tierwall_tests::network::Host;

const FLOOD: usize = 3000;

fn flood(from: &Host) {
    from.namespace.run(|| {
        let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
        for _ in 0..FLOOD {
            socket.send_to(b"x", "10.0.0.1:53").unwrap();
        }
    });
}

#[test]
fn a_flood_is_cut_down_and_hides_no_opening() {
    const RATE: u64 = 10;
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let daemon = server.start(&[]).unwrap();
    let mut trace = trace(&server, &format!("--from 10.0.0.2 --rate {RATE}"));
    flood(peer);
    peer.namespace.run(|| {
        let address = "10.0.0.1:81".parse().unwrap();
        TcpStream::connect_timeout(&address, Duration::from_millis(200)).unwrap_err();
    });
    trace.packet(|packet| is_to(packet, "10.0.0.1", 81)).unwrap();
    let (packets, summary) = trace.stop().unwrap();
    let number = |key: &str| summary[key].as_u64().unwrap();
    assert!(number("matched") > FLOOD as u64, "{summary}");
    assert_eq!(number("held_back"), number("matched") - number("traced"));
    assert_eq!((number("traced"), number("losses")), (packets.len() as u64, 0), "{summary}");
    // As many at once as in a second, and then the rate.
    let seconds = summary["seconds"].as_f64().unwrap().ceil() as u64 + 2;
    let of_flood = packets.iter().filter(|packet| is_to(packet, "10.0.0.1", 53)).count() as u64;
    assert!((1..=RATE * seconds).contains(&of_flood), "{of_flood} in {summary}");
    daemon.stop().unwrap();
}

#[test]
fn it_ends_after_as_many_as_were_asked_for() {
    let network = network();
    let server = server(&network);
    let mut trace = trace(&server, "--service udp/53 --count 3 --for 1h");
    flood(network.host("peer"));
    let (packets, summary) = trace.rest().unwrap();
    assert_eq!((packets.len(), summary["packets"].as_u64()), (3, Some(3)));
}
