//! `tierwall watch` in a terminal and as lines, with packets that are denied.

#![allow(clippy::unwrap_used)]

mod lines;
mod terminal;
mod view;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;
use tierwall_tests::source_port;

const PEER: &str = "fd00:1111:2222:3333:4444:5555:6666:7777";

/// A server that lets in nothing but what every server needs, and its peers.
const POLICY: &str = r#"
role = "server"
[tiers]
server = ["10.0.0.1", "fd00:1111:2222:3333:4444:5555:6666:1"]
a-tier-with-quite-a-long-name = ["fd00:1111:2222:3333:4444:5555:6666:7777"]
peers = ["10.0.0.2-10.0.0.9"]
"#;

fn network() -> Network {
    let addresses = |addresses: [&str; 2]| addresses.map(|a| a.parse().unwrap()).to_vec();
    Network::new([
        ("server", addresses(["10.0.0.1", "fd00:1111:2222:3333:4444:5555:6666:1"])),
        ("peer", addresses(["10.0.0.2", PEER])),
    ])
    .unwrap()
}

fn server(network: &Network) -> Server {
    Server::new(network.host("server"), POLICY).unwrap()
}

/// Sends a datagram to each of the ports of an address, each from a port of its own.
fn send(host: &Host, to: &str, ports: impl IntoIterator<Item = u16> + Send) {
    let to: IpAddr = to.parse().unwrap();
    host.namespace.run(|| {
        for port in ports {
            let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
            let socket = UdpSocket::bind((any, source_port::fresh())).unwrap();
            socket.send_to(b"?", SocketAddr::from((to, port))).unwrap();
        }
    });
}
