//! `tierwall trace`, against packets that were sent.

#![allow(clippy::unwrap_used)]

mod agreement;
mod beside;
mod leaving;
mod limits;
mod packets;
mod telling;

use serde_json::Value;
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;
use tierwall_tests::trace::Trace;

/// `peer` may reach tcp/80 and udp/53 of the server, by the allow at line 6; the server's programs
/// of the user daemon may open tcp/443, by the one at line 10.
const POLICY: &str = r#"role = "server"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peers  = ["10.0.0.2", "fd00::2"]

[[allow]]
from    = "peers"
to      = "server"
service = ["tcp/80", "udp/53"]
[[allow]]
name    = "updates"
from    = "server"
to      = "peers"
service = "tcp/443"
user    = "daemon"
"#;

/// A network of a server and its peer.
fn network() -> Network {
    let addresses = |addresses: [&str; 2]| addresses.map(|a| a.parse().unwrap()).to_vec();
    Network::new([
        ("server", addresses(["10.0.0.1", "fd00::1"])),
        ("peer", addresses(["10.0.0.2", "fd00::2"])),
    ])
    .unwrap()
}

fn server(network: &Network) -> Server {
    Server::new(network.host("server"), POLICY).unwrap()
}

/// A trace with these arguments.
fn trace(server: &Server, arguments: &str) -> Trace {
    let arguments: Vec<&str> = arguments.split(' ').collect();
    Trace::start(server, &arguments).unwrap()
}

fn nft(host: &Host, script: &str) {
    host.namespace.command_with_input("nft", &["-f", "-"], script).unwrap();
}

/// Whether a packet goes to this address and port.
fn is_to(packet: &Value, address: &str, port: u16) -> bool {
    packet["destination"] == address && packet["destination_port"] == port
}
