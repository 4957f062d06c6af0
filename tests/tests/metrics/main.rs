//! What `tierwall metrics` says, against what was sent and done; and how it gets to those who read
//! it.

#![allow(clippy::unwrap_used)]

mod denials;
mod documents;
mod http;
mod scrape;
mod socket_unit;
mod state;
mod textfile;

use scrape::Scrape;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;

/// When what doesn't come is a failure.
const LIMIT: Duration = Duration::from_secs(20);

/// A server with one service, for its peers; root may ask them for names.
const POLICY: &str = r#"
role = "server"
ownership = "repair"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peers  = ["10.0.0.2-10.0.0.9", "fd00::2"]
second = ["10.0.0.3"]
[[allow]]
from    = "peers"
to      = "server"
service = "tcp/8080"
[[allow]]
name    = "names"
from    = "server"
to      = "peers"
service = "udp/53"
user    = "root"
"#;

/// The server, a peer, one that is in two tiers, and one that is in none.
fn network() -> Network {
    let addresses = |addresses: &[&str]| addresses.iter().map(|a| a.parse().unwrap()).collect();
    Network::new([
        ("server", addresses(&["10.0.0.1", "fd00::1"])),
        ("peer", addresses(&["10.0.0.2", "fd00::2"])),
        ("both", addresses(&["10.0.0.3"])),
        ("stranger", addresses(&["10.0.0.77"])),
    ])
    .unwrap()
}

fn server(host: &Host, policy: &str) -> Server {
    Server::new(host, policy).unwrap()
}

/// What the numbers are once they are as wanted.
fn wait_for(server: &Server, wanted: impl Fn(&Scrape) -> bool) -> Scrape {
    let start = Instant::now();
    loop {
        let scrape = Scrape::of(server);
        if wanted(&scrape) {
            return scrape;
        }
        assert!(start.elapsed() < LIMIT, "{scrape:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A file of the repository.
fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
