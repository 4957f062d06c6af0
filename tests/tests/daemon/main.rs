//! The daemon from outside: when it says what, what it sends to the kernel and what not, what it
//! leaves behind.
//!
//! Each test has a host of its own, without a network: what passes is tested elsewhere.

#![allow(clippy::unwrap_used)]

mod boot;
mod log;
mod restart;
mod role;
mod start;
mod state;
mod takeover;
mod watchdog;

use std::process::Output;
use std::time::{Duration, Instant};
use tierwall_tests::kernel::Kernel;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

/// The policy of an application server.
const POLICY: &str = r#"ownership = "report"
role = "app"

[tiers]
admin = ["10.10.0.0/26"]
web   = ["10.10.1.10-10.10.1.19", "2001:db8:1::10"]
app   = ["10.10.1.20-10.10.1.29"]
db    = ["10.10.1.30"]

[[allow]]
from    = "web"
to      = "app"
service = "tcp/8080"

[[allow]]
from    = "app"
to      = "db"
service = "tcp/5432"

[[allow]]
from    = "admin"
to      = "*"
service = "tcp/22"
"#;

/// An application server with its address, nothing started.
fn app_server() -> Server {
    server(&["10.10.1.20"], POLICY)
}

fn server(addresses: &[&str], policy: &str) -> Server {
    let addresses = addresses.iter().map(|address| address.parse().unwrap());
    Server::new(&Host::alone("app1", addresses).unwrap(), policy).unwrap()
}

fn kernel(server: &Server) -> Kernel {
    Kernel::of(server.host()).unwrap()
}

fn nft(server: &Server, script: &str) {
    server.host().namespace.command_with_input("nft", &["-f", "-"], script).unwrap();
}

/// The policy with one text in it replaced.
fn edited(from: &str, to: &str) -> String {
    assert_eq!(POLICY.matches(from).count(), 1, "{from} isn't there once");
    POLICY.replace(from, to)
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it says once that holds.
fn status_when(server: &Server, holds: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let start = Instant::now();
    loop {
        let status = status(server);
        if holds(&status) {
            return status;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{status}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What `tierwall status --json` says.
fn status(server: &Server) -> serde_json::Value {
    let output = server.tierwall(&["status", "--json"]).unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}
