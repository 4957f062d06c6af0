//! The norm of docs/traffic.md with real packets: a test for each of its lines, named after it.
//!
//! - [`packet`]: packets made by hand
//! - [`sockets`]: sockets of programs, of any user
//! - [`wire`]: raw sockets that send them, and hear what was delivered
//! - [`stage`]: what becomes of them without a policy and with one
//!
//! A packet counts as let through when its receiver hears it behind its own filter, and as denied
//! when it doesn't and the counter that the norm names has counted it.

#![allow(clippy::unwrap_used)]

mod again;
mod allows;
mod asked;
mod connections;
mod denied;
mod icmp;
mod modes;
mod neighbours;
mod own_source;
#[allow(dead_code, reason = "the evaluator's test sends other kinds of packets")]
mod packet;
mod routed;
mod sockets;
mod stage;
mod wire;

use std::collections::BTreeSet;
use std::process::Command;

/// The numbers of the lines of the norm.
fn lines() -> BTreeSet<String> {
    let norm = include_str!("../../../docs/traffic.md");
    let first_cells = norm.lines().filter_map(|line| line.strip_prefix("| T")?.split(' ').next());
    first_cells.map(String::from).collect()
}

/// The tests of this program, without their modules.
fn tests() -> Vec<String> {
    let output = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    let names = listing.lines().filter_map(|line| line.strip_suffix(": test"));
    names.map(|name| name.rsplit("::").next().unwrap_or(name).to_owned()).collect()
}

#[test]
fn every_line_of_the_norm_has_a_test_and_every_test_a_line() {
    let of_line = |name: &String| {
        let (line, _) = name.strip_prefix('t')?.split_once('_')?;
        Some(line.parse::<u8>().ok()?.to_string())
    };
    let tested: BTreeSet<String> = tests().iter().filter_map(of_line).collect();
    assert!(tested.len() > 1, "no tests were listed");
    assert_eq!(lines(), tested);
}
