//! The proof that nobody changed nftables since our last commit: the kernel's boot, the network
//! namespace and the generation are those recorded then.
//!
//! With it, and the fingerprint that every batch leaves in the table, a restart knows what the
//! kernel holds without reading sets of a million elements.

use crate::boot;
use crate::state::StateDirectory;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// The file in the state directory.
const FILE: &str = "kernel.json";

/// Which commit of which kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    boot: String,
    namespace: u64,
    generation: u32,
}

impl Proof {
    /// That `generation` is the kernel's now. None where the kernel doesn't say which it is.
    pub(crate) fn of(generation: u32) -> Option<Self> {
        let boot = boot::id()?;
        let namespace = fs::metadata("/proc/thread-self/ns/net").ok()?.ino();
        Some(Self { boot, namespace, generation })
    }

    /// The one recorded last.
    pub(crate) fn load(state: &StateDirectory) -> Option<Self> {
        serde_json::from_slice(&state.read(FILE)?).ok()
    }

    /// Records it. That it can't costs the next start a look at the kernel.
    pub(crate) fn save(&self, state: &StateDirectory) -> io::Result<()> {
        state.write(FILE, &serde_json::to_vec(self)?)
    }
}
