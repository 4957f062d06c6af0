//! The last good policy, kept for a start that finds bad files.
//!
//! The policy is stored as the value it was parsed to, with a checksum: what is read back is
//! exactly what was enforced, whatever became of the files, their includes and lists.

use crate::state::StateDirectory;
use policy::Policy;
use serde::{Deserialize, Serialize};
use std::io;

/// The file in the state directory.
const FILE: &str = "last-good.json";

/// Grows when an older daemon's file can't be understood.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    version: u32,
    /// When it was enforced, in seconds since the epoch.
    time: u64,
    /// FNV-1a of the bytes after the header's line.
    checksum: u64,
}

/// A policy that was enforced.
pub(crate) struct LastGood {
    /// When, in seconds since the epoch.
    pub(crate) time: u64,
    pub(crate) policy: Policy,
}

/// Keeps `policy`.
pub(crate) fn save(state: &StateDirectory, policy: &Policy, time: u64) -> io::Result<()> {
    let body = serde_json::to_vec(policy)?;
    let header = Header { version: VERSION, time, checksum: checksum(&body) };
    let mut file = serde_json::to_vec(&header)?;
    file.push(b'\n');
    file.extend(body);
    state.write_synced(FILE, &file)
}

/// The policy kept last. None where there is none, or what is there isn't what was written.
pub(crate) fn load(state: &StateDirectory) -> Option<LastGood> {
    let bytes = state.read(FILE)?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let header: Header = serde_json::from_slice(&bytes[..end]).ok()?;
    let body = &bytes[end + 1..];
    if header.version != VERSION || header.checksum != checksum(body) {
        tracing::warn!("the last good policy in the state directory is damaged; going on without");
        return None;
    }
    let policy = serde_json::from_slice(body).ok()?;
    Some(LastGood { time: header.time, policy })
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};
    use std::fs;
    use std::path::Path;

    #[test]
    fn comes_back_as_it_was_or_not_at_all() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        assert!(super::load(&state).is_none());
        let text = "[tiers]\nweb = [\"10.0.0.1-10.0.0.9\", \"2001:db8::/32\"]\n[[allow]]\nfrom = \"*\"\nto = \"web\"\nservice = [\"tcp/80\", \"gre\"]\nuser = [\"root\", 7]\n";
        let loaded = load_text(Path::new("t.toml"), text, &Options::default());
        let policy = loaded.policy.expect("a good policy");
        save(&state, &policy, 7).expect("written");
        let back = super::load(&state).expect("readable");
        assert_eq!((back.time, &back.policy), (7, &policy));

        let path = directory.path().join(FILE);
        let mut bytes = fs::read(&path).expect("readable");
        let last = bytes.len() - 3;
        bytes[last] ^= 1;
        fs::write(&path, &bytes).expect("writable");
        assert!(super::load(&state).is_none());
        fs::write(&path, &bytes[..40]).expect("writable");
        assert!(super::load(&state).is_none());
    }
}
