//! From the start of the daemon to READY=1, with the strict three-tier policy, and the memory it
//! then holds. Beside it: `nft -f` with the same table, from the start of the process to its end.

use crate::statistics::{median, progress};
use anyhow::{Context, Result};
use serde_json::json;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

const POLICY: &str = include_str!("../../../scenarios/strict-three-tier/policy.toml");
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 10, 1, 20);
const ROUNDS: usize = 15;

/// The medians.
pub(crate) struct Start {
    ready_ms: f64,
    nft_ms: f64,
    resident_kib: f64,
    peak_kib: f64,
}

pub(crate) fn measure() -> Result<Start> {
    let (mut ready, mut nft) = (Vec::new(), Vec::new());
    let (mut resident, mut peak) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        progress("start", round, ROUNDS);
        let network = Network::new([("app", vec![IpAddr::V4(ADDRESS)])])?;
        let server = Server::new(network.host("app"), POLICY)?;
        let daemon = server.start(&[])?;
        ready.push(daemon.ready_after.as_secs_f64() * 1000.0);
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.id()))?;
        resident.push(kibibytes(&status, "VmRSS:")?);
        peak.push(kibibytes(&status, "VmHWM:")?);
        let export = server.tierwall(&["export"])?;
        let script = String::from_utf8(export.stdout)?;
        drop(daemon);
        // What tierwalld owned, nft may delete now but not change the flags of.
        let namespace = &network.host("app").namespace;
        namespace.command("nft", &["delete", "table", "inet", "filter"])?;
        let begun = Instant::now();
        namespace.command_with_input("nft", &["-f", "-"], &script)?;
        nft.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    progress("start", ROUNDS, ROUNDS);
    Ok(Start {
        ready_ms: median(ready),
        nft_ms: median(nft),
        resident_kib: median(resident),
        peak_kib: median(peak),
    })
}

fn kibibytes(status: &str, key: &str) -> Result<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.split_whitespace().next());
    let number = number.with_context(|| format!("/proc/PID/status has no {key}"))?;
    Ok(number.parse()?)
}

impl Start {
    pub(crate) fn as_json(&self) -> serde_json::Value {
        json!({
            "ready_ms": self.ready_ms,
            "nft_ms": self.nft_ms,
            "resident_kib": self.resident_kib,
            "peak_kib": self.peak_kib,
        })
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "strict three-tier policy on the app server")?;
        writeln!(f, "{:<48}{:>12.1}", "start of tierwalld until READY=1, ms", self.ready_ms)?;
        writeln!(f, "{:<48}{:>12.1}", "nft -f of the same table, ms", self.nft_ms)?;
        writeln!(f, "{:<48}{:>12.0}", "resident memory, KiB", self.resident_kib)?;
        writeln!(f, "{:<48}{:>12.0}", "peak memory, KiB", self.peak_kib)
    }
}
