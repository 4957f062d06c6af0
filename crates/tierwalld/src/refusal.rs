//! Text of the policy files that mustn't be applied by itself later: it was refused, nobody
//! confirmed it in time, or somebody rolled back from it. Neither when a file of it is touched, nor
//! at a restart, when the session that it would have shut out is gone. Other rules are another
//! decision, and a reload asks for these again.

use crate::clock;
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
    /// Of its rules, wherever they stand; none where a version before this one recorded it.
    #[serde(default)]
    rules: Option<u64>,
    /// What happened to it.
    #[serde(default = "refused")]
    pub(crate) kind: HeldBack,
    /// When, in seconds since the epoch.
    time: u64,
    /// Why.
    pub(crate) why: String,
}

impl Refusal {
    /// Of this policy, now.
    pub(crate) fn of(policy: &Policy, kind: HeldBack, why: &str) -> Self {
        let rules = Some(digest(&policy.rules()));
        Self { digest: digest(policy), rules, kind, time: clock::now(), why: why.to_owned() }
    }

    /// Whether it is the policy with this digest.
    pub(crate) fn is_of(&self, digest: u64) -> bool {
        self.digest == digest
    }

    /// Whether `policy` has the rules of it, whatever its members.
    pub(crate) fn has_rules_of(&self, policy: &Policy) -> bool {
        self.rules.is_some_and(|rules| rules == digest(&policy.rules()))
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

    fn save(&self, state: &StateDirectory) -> io::Result<()> {
        state.write_synced(FILE, &serde_json::to_vec_pretty(self)?)
    }

    /// Records what is held back, also that nothing is.
    pub(crate) fn record(refusal: Option<&Self>, state: &StateDirectory) -> io::Result<()> {
        match refusal {
            Some(refusal) => refusal.save(state),
            None => state.remove(FILE),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use policy::{Options, load_text};
    use std::path::Path;

    fn policy(text: &str) -> Policy {
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    const TEXT: &str = "[tiers]\nweb = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"*\"\nto = \"web\"\nservice = \"tcp/80\"\n";

    #[test]
    fn an_edit_of_members_or_comments_leaves_the_rules() {
        let refusal = Refusal::of(&policy(TEXT), HeldBack::Reverted, "nobody confirmed");
        for edited in [format!("# A note.\n{TEXT}"), TEXT.replace("0.1\"", "0.1\", \"10.0.0.2\"")] {
            let edited = policy(&edited);
            assert!(!refusal.is_of(digest(&edited)) && refusal.has_rules_of(&edited));
            assert!(refusal.clone().moved_to(digest(&edited)).is_of(digest(&edited)));
        }
        assert!(!refusal.has_rules_of(&policy(&TEXT.replace("80", "81"))));
    }

    #[test]
    fn one_without_rules_is_of_its_text_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        let text = policy(TEXT);
        let earlier = format!("{{\"digest\":{},\"time\":7,\"why\":\"so\"}}", digest(&text));
        state.write(FILE, earlier.as_bytes()).expect("written");
        let refusal = Refusal::load(&state).expect("readable");
        assert!(refusal.is_of(digest(&text)) && !refusal.has_rules_of(&text));
    }
}
