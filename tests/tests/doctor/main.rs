//! `tierwall doctor` on hosts with real firewalls, chains, settings and daemons.

#![allow(clippy::unwrap_used)]

mod clean;
mod daemon;
mod files;
mod firewalls;
mod host;
mod kernel;
#[path = "../world/random.rs"]
mod random;
mod walk;

use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Output;
use tierwall_tests::network::{Host, Network};
use tierwall_tests::server::Server;

const POLICY: &str = r#"role = "app"
[tiers]
web = ["10.10.1.10"]
app = ["10.10.1.20"]

[[allow]]
from    = "web"
to      = "app"
service = "tcp/8080"

[guard]
services = []
"#;

/// A host with these addresses, each IPv4 one on an interface of its own, where everything is as the
/// doctor likes it.
fn host(addresses: &[&str]) -> (Network, Host) {
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().unwrap()).collect();
    let network = Network::new([("app1", addresses)]).unwrap();
    let host = network.host("app1").clone();
    // A namespace begins with this machine's.
    for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        host.namespace.sysctl(name, "0").unwrap();
    }
    (network, host)
}

/// The same with a policy, and nothing of this machine's own files to be seen.
fn server(host: &Host, policy: &str) -> Server {
    let server = Server::new(host, policy).unwrap();
    let marker = root(&server).join("run/systemd/timesync");
    fs::create_dir_all(&marker).unwrap();
    // Whoever keeps this machine's clock.
    fs::write(marker.join("synchronized"), "").unwrap();
    harden(&server);
    server
}

/// Stands for `/` where files of other services are looked for.
fn root(server: &Server) -> PathBuf {
    server.path("root")
}

/// Chooses every setting that the doctor ships, in the namespace of the host.
fn harden(server: &Server) {
    let shipped = server.tierwall(&["doctor", "--sysctl"]).unwrap();
    assert_eq!(shipped.status.code(), Some(0));
    let shipped = String::from_utf8(shipped.stdout).unwrap();
    let settings = shipped.lines().filter_map(|line| line.strip_prefix("#net."));
    let namespace = &server.host().namespace;
    for setting in settings {
        let (name, value) = setting.split_once(" = ").unwrap();
        let Some((directory, key)) = name.split_once(".*.") else {
            namespace.sysctl(&format!("net.{name}"), value).unwrap();
            continue;
        };
        let directory = format!("/proc/sys/net/{}", directory.replace('.', "/"));
        for interface in namespace.command("ls", &[&directory]).unwrap().lines() {
            let path = format!("{directory}/{interface}/{key}");
            namespace.run(|| fs::write(&path, value)).unwrap_or_else(|e| panic!("{path}: {e}"));
        }
    }
}

fn run(server: &Server, arguments: &[&str]) -> Output {
    let mut command = server.tierwall_command().unwrap();
    command.arg("doctor").arg("--state-directory").arg(server.state_directory());
    command.arg("--root").arg(root(server)).args(arguments);
    server.run(&mut command).unwrap()
}

/// What the doctor finds: severity and id of each, less what depends on the kernel that runs here.
fn found(server: &Server) -> Vec<String> {
    let findings = findings(server);
    let line = |finding: &Value| {
        format!("{} {}", finding["severity"].as_str().unwrap(), finding["id"].as_str().unwrap())
    };
    findings.iter().map(line).collect()
}

fn findings(server: &Server) -> Vec<Value> {
    let all = all_findings(server).into_iter();
    all.filter(|finding| !is_of_this_kernel(finding)).collect()
}

fn all_findings(server: &Server) -> Vec<Value> {
    let output = run(server, &["--json"]);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let bad = answer["errors"].as_u64().unwrap() + answer["warnings"].as_u64().unwrap();
    assert_eq!(output.status.code(), Some(if bad == 0 { 0 } else { 2 }), "{answer:#}");
    answer["findings"].as_array().unwrap().clone()
}

fn is_of_this_kernel(finding: &Value) -> bool {
    ["kernel-ownership", "kernel-set-lookups", "kernel-log"]
        .map(Value::from)
        .contains(&finding["id"])
}

/// The finding with this id.
#[track_caller]
fn finding(server: &Server, id: &str) -> Value {
    let findings = findings(server);
    let found = findings.iter().find(|finding| finding["id"] == id);
    found.unwrap_or_else(|| panic!("no {id}: {findings:#?}")).clone()
}

/// What the doctor says to people, less what depends on the kernel that runs here: also in the sum
/// at the end.
fn text(server: &Server) -> String {
    let output = run(server, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let (of_this_kernel, others): (Vec<&str>, Vec<&str>) =
        text.split("\n\n").partition(|paragraph| paragraph.starts_with("note[kernel-"));
    let (sum, others) = others.split_last().unwrap();
    let (sum, pointer) = sum.split_once('\n').unwrap();
    let (others_counted, notes) = sum.rsplit_once(", ").unwrap();
    let notes: usize = notes.split(' ').next().unwrap().parse().unwrap();
    let notes = match notes - of_this_kernel.len() {
        1 => "1 note".to_owned(),
        number => format!("{number} notes"),
    };
    // Where there is nothing, no more is told about it.
    let pointer = if others.is_empty() { "" } else { pointer };
    let sum = format!("{others_counted}, {notes}\n{pointer}");
    others.iter().copied().chain([sum.as_str()]).collect::<Vec<_>>().join("\n\n")
}

/// Compares what the doctor says with a snapshot, without what differs from run to run.
macro_rules! assert_text {
    ($name:literal, $server:expr) => {{
        let mut settings = insta::Settings::clone_current();
        let root = $server.path("");
        settings.add_filter(root.to_str().unwrap().trim_end_matches('/'), "ROOT");
        settings.add_filter(r"\((\d+)\)", "(PID)");
        settings.bind(|| insta::assert_snapshot!($name, $crate::text(&$server)));
    }};
}
pub(crate) use assert_text;
