//! What `tierwall denied` says, against packets that were sent.

#![allow(clippy::unwrap_used)]

mod accounting;
mod after_change;
mod great_flood;
mod members;
mod numbers;
mod restart;
mod scenarios;
mod status;

use control::Denials;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;

/// How long it may take until something is listed.
const LISTED: Duration = Duration::from_secs(10);

/// A server that lets in nothing but what every server needs, and its peer.
const POLICY: &str = r#"
role = "server"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peers  = ["10.0.0.2-10.0.0.9"]
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

fn server(host: &Host, policy: &str) -> Server {
    Server::new(host, policy).unwrap()
}

/// What `tierwall denied` says with these arguments.
fn denied(server: &Server, arguments: &[&str]) -> Denials {
    let output = server.tierwall(&[&["denied", "--json"], arguments].concat()).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks until the answer is as wanted, or too much time has passed.
fn wait_for(server: &Server, arguments: &[&str], wanted: impl Fn(&Denials) -> bool) -> Denials {
    let start = Instant::now();
    loop {
        let answer = denied(server, arguments);
        if wanted(&answer) {
            return answer;
        }
        assert!(start.elapsed() < LISTED, "{arguments:?}: {answer:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}
