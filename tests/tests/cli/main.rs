//! The command line: what it prints, where, and with which exit code.
//!
//! What people read is in `snapshots/`; what programs read is taken apart here, key by key, since
//! they depend on it.

#![allow(clippy::unwrap_used)]

mod check;
mod explain;
mod export;
mod matrix;
mod output;
mod plan;
mod rights;
mod status;
mod teardown;
mod usage;
mod who_can;

use serde_json::Value;
use std::process::Output;
use tierwall_tests::kernel::Kernel;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;

const POLICY: &str = r#"role = "app"
ownership = "report"
[tiers]
admin = ["10.10.0.0/26"]
web   = ["10.10.1.10-10.10.1.19", "2001:db8:1::10", "127.0.0.1"]
app   = ["10.10.1.20-10.10.1.29"]
db    = ["10.10.1.30"]

[[allow]]
from    = "web"
to      = "app"
service = "tcp/8080"

[[allow]]
name    = "reports"
from    = "app"
to      = "db"
service = ["tcp/5432", "tcp/3306"]
user    = "daemon"

[[allow]]
from    = "admin"
to      = "*"
service = "tcp/22"

[[allow]]
from    = "*"
to      = "any"
service = ["udp/53", "tcp/443"]
"#;

fn app_server() -> Server {
    server(POLICY)
}

fn server(policy: &str) -> Server {
    let host = Host::alone("app1", ["10.10.1.20".parse().unwrap()]).unwrap();
    Server::new(&host, policy).unwrap()
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

/// A table that somebody made by hand.
const FOREIGN: &str = "
table inet filter {
    chain input {
        type filter hook input priority filter; policy accept;
        tcp dport 23 drop
    }
}";

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Runs a command that is to end with `code`, and returns its standard output. With 0 it says
/// nothing on standard error.
fn run(server: &Server, arguments: &[&str], code: i32) -> String {
    let output = server.tierwall(arguments).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    assert!(code != 0 || output.stderr.is_empty(), "{arguments:?}: {}", stderr(&output));
    stdout(&output).to_owned()
}

/// The same for one that fails with an error: what it says on standard error. Nothing is on
/// standard output.
fn fails(server: &Server, arguments: &[&str], code: i32) -> String {
    let output = server.tierwall(arguments).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    assert_eq!(stdout(&output), "", "{arguments:?}");
    stderr(&output).to_owned()
}

/// The same as [`run`] with `--json`.
fn json(server: &Server, arguments: &[&str], code: i32) -> Value {
    let text = run(server, &[arguments, &["--json"]].concat(), code);
    serde_json::from_str(&text).expect(&text)
}

/// That an object has these keys, in the order of the alphabet, and no others.
#[track_caller]
fn assert_keys(value: &Value, keys: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    let mut own: Vec<&str> = object.keys().map(String::as_str).collect();
    own.sort_unstable();
    assert_eq!(own, keys);
}

/// Compares with a snapshot, without what differs from run to run.
macro_rules! assert_text {
    ($name:literal, $server:expr, $text:expr) => {{
        let mut settings = insta::Settings::clone_current();
        let root = $server.path("");
        settings.add_filter(root.to_str().unwrap().trim_end_matches('/'), "ROOT");
        settings.add_filter(r"generation \d+", "generation N");
        settings.add_filter(r"pid \d+, up \d+ s", "pid N, up N s");
        settings.add_filter(r"\d+ s ago", "N s ago");
        settings.add_filter(r"\d+ bytes in \d+\.\d ms", "N bytes in N ms");
        settings.bind(|| insta::assert_snapshot!($name, $text));
    }};
}
pub(crate) use assert_text;
