//! Text of the policy files that mustn't be applied by itself later: it was refused, nobody
//! confirmed it in time, or somebody rolled back from it. Neither when a file of it is touched, nor
//! at a restart, when the session that it would have shut out is gone. Another text is another
//! decision, and a reload asks for this one again.

use crate::report;
use crate::state::StateDirectory;
use control::{Differs, HeldBack};
use policy::Policy;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::io::{self, BufWriter, Write};

/// The file in the state directory.
const FILE: &str = "refused.json";

/// A policy of the files that is held back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Of the policy.
    digest: u64,
    /// What happened to it.
    #[serde(default = "refused")]
    pub(crate) kind: HeldBack,
    /// When, in seconds since the epoch.
    time: u64,
    /// Why.
    pub(crate) why: String,
}

impl Refusal {
    /// Of the policy with this digest, now.
    pub(crate) fn of(digest: u64, kind: HeldBack, why: &str) -> Self {
        Self { digest, kind, time: report::now(), why: why.to_owned() }
    }

    /// Whether it is the policy with this digest.
    pub(crate) fn is_of(&self, digest: u64) -> bool {
        self.digest == digest
    }

    /// The same of another text, which differs from it in members only.
    pub(crate) fn moved_to(self, digest: u64) -> Self {
        Self { digest, ..self }
    }

    /// For `status`.
    pub(crate) fn differs(&self) -> Differs {
        Differs { kind: self.kind, why: self.why.clone(), since: self.time }
    }

    /// The one recorded; none where there is none or it can't be read.
    pub(crate) fn load(state: &StateDirectory) -> Option<Self> {
        serde_json::from_slice(&state.read(FILE)?).ok()
    }

    /// Records it.
    pub(crate) fn save(&self, state: &StateDirectory) -> io::Result<()> {
        state.write_synced(FILE, &serde_json::to_vec_pretty(self)?)
    }

    /// Records that nothing is held back.
    pub(crate) fn forget(state: &StateDirectory) -> io::Result<()> {
        state.remove(FILE)
    }
}

fn refused() -> HeldBack {
    HeldBack::Refused
}

/// The same for the same policy, in every run of this version.
pub(crate) fn digest(policy: &Policy) -> u64 {
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
