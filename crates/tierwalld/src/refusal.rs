//! What was refused, and must not be applied by itself later: neither when a file of it is touched
//! nor at a restart, when the session that it would have shut out is gone. Another text is another
//! decision, and a reload asks for this one again.

use crate::report;
use crate::state::StateDirectory;
use policy::Policy;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};

/// The file in the state directory.
const FILE: &str = "refused.json";

/// A policy of the files that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Of the policy.
    digest: u64,
    /// When, in seconds since the epoch.
    time: u64,
    /// Why.
    pub(crate) why: String,
}

impl Refusal {
    /// Of `policy`, now.
    pub(crate) fn of(policy: &Policy, why: &str) -> Self {
        Self { digest: digest(policy), time: report::now(), why: why.to_owned() }
    }

    /// Whether it is `policy` that was refused.
    pub(crate) fn is_of(&self, policy: &Policy) -> bool {
        self.digest == digest(policy)
    }

    /// The one recorded; none where there is none or it can't be read.
    pub(crate) fn load(state: &StateDirectory) -> Option<Self> {
        serde_json::from_slice(&state.read(FILE)?).ok()
    }

    /// Records it.
    pub(crate) fn save(&self, state: &StateDirectory) -> io::Result<()> {
        state.write_synced(FILE, &serde_json::to_vec_pretty(self)?)
    }

    /// Records that nothing is refused.
    pub(crate) fn forget(state: &StateDirectory) -> io::Result<()> {
        state.remove(FILE)
    }
}

/// The same for the same policy, in every run of this version.
fn digest(policy: &Policy) -> u64 {
    let mut out = BufWriter::with_capacity(1 << 16, Sum(SipHasher13::new()));
    // Writing to a sum doesn't fail.
    let _ = postcard::to_io(policy, &mut out);
    out.into_inner().map_or(0, |sum| sum.0.finish())
}

struct Sum(SipHasher13);

impl Write for Sum {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
