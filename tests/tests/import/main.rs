//! `tierwall import`: rules that were written by hand, as admins write them, and what becomes of
//! them.

#![allow(clippy::unwrap_used)]

mod drafts;
mod kernel;
mod quoted;
mod scenarios;
mod written;

use std::path::PathBuf;
use std::process::{Command, Output};
use tierwall_tests::binaries;
use tierwall_tests::namespace::Namespace;

/// A folder of rules.
fn rules(scenario: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/import").join(scenario)
}

/// What `nft -j` lists when these rules are loaded.
fn listing(script: &str) -> String {
    let namespace = Namespace::new().unwrap();
    namespace.command_with_input("nft", &["-f", "-"], script).unwrap();
    namespace.command("nft", &["-j", "list", "ruleset"]).unwrap()
}

/// `tierwall`, with nothing that depends on this machine.
fn tierwall(arguments: &[&str]) -> Output {
    let mut command = Command::new(binaries::find("tierwall").unwrap());
    command.env_remove("NO_COLOR").args(arguments).output().unwrap()
}
