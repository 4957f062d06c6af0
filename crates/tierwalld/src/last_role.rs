//! The role that a start finds: which tiers this server was in, and which of them it was about to
//! leave.
//!
//! An interface that flaps, or comes up late, must not cost connections. So a tier stays for a while
//! with a server that lost its address, also over a restart.

use crate::deadline::Deadline;
use crate::journal::kind;
use crate::last_good;
use crate::state::StateDirectory;
use policy::{HostAddress, Policy, Role, role_of};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

/// How long a tier stays with a server that lost its address: an interface that flaps must not
/// cost connections.
pub(crate) const GRACE: Duration = Duration::from_secs(300);

/// The file in the state directory.
const FILE: &str = "role.json";

/// The role of an earlier run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastRole {
    /// The tiers this server was in, those it was leaving included.
    pub(crate) tiers: BTreeSet<String>,
    /// Those whose address was gone, and when they were to go, too.
    #[serde(default)]
    leaving: BTreeMap<String, Deadline>,
}

impl LastRole {
    /// Of a role, with the tiers in it that go at a time.
    pub(crate) fn new(role: &Role, leaving: &BTreeMap<String, Instant>) -> Self {
        let now = Instant::now();
        let deadline = |until: &Instant| Deadline::after_time(until.saturating_duration_since(now));
        let leaving = leaving.iter().map(|(tier, until)| (tier.clone(), deadline(until)));
        Self { tiers: role.tiers.clone(), leaving: leaving.collect() }
    }

    /// Records it.
    pub(crate) fn save(&self, state: &StateDirectory) -> io::Result<()> {
        state.write_synced(FILE, &serde_json::to_vec_pretty(self)?)
    }

    /// When each of its tiers goes that the server isn't in by its addresses `now`, which is not yet.
    /// `is_taken` says which tiers an edit took from it, not the network: those are gone.
    fn leaving(
        &self,
        by_address: &BTreeSet<String>,
        is_taken: impl Fn(&String) -> bool,
        now: Instant,
    ) -> BTreeMap<String, Instant> {
        let lost = self.tiers.difference(by_address).filter(|tier| !is_taken(tier));
        let until = lost.map(|tier| {
            let left = self.leaving.get(tier).map_or(GRACE, |deadline| deadline.left().min(GRACE));
            (tier.clone(), now + left)
        });
        until.filter(|(_, until)| *until > now).collect()
    }
}

/// The role that was recorded last. None where none was, or the record can't be read.
pub(crate) fn load(state: &StateDirectory) -> Option<LastRole> {
    serde_json::from_slice(&state.read(FILE)?).ok()
}

/// At a start, the tiers that this server was in and isn't in by its addresses, and when they go.
pub(crate) fn leaving(
    policy: &Policy,
    role: &Role,
    addresses: &[HostAddress],
    state: Option<&StateDirectory>,
) -> BTreeMap<String, Instant> {
    let Some((state, mut last)) = state.and_then(|state| Some((state, load(state)?))) else {
        return BTreeMap::new();
    };
    last.tiers.retain(|tier| policy.tiers.contains_key(tier));
    if !role.auto || last.tiers.is_subset(&role.tiers) {
        return BTreeMap::new();
    }
    // With these addresses it would be in them as it was, if nobody had edited the policy.
    let before = last_good::load(state).map(|before| role_of(&before.policy, addresses).tiers);
    let is_taken = |tier: &String| before.as_ref().is_some_and(|before| before.contains(tier));
    let leaving = last.leaving(&role.tiers, is_taken, Instant::now());
    if !leaving.is_empty() {
        let kept = Role { tiers: leaving.keys().cloned().collect(), auto: true }.to_string();
        tracing::warn!(target: kind::ROLE_KEPT,
            role = kept,
            "no address of this server puts it into {kept}; its last role holds for now"
        );
    }
    leaving
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn tiers(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_restart_gives_a_tier_no_more_time_than_it_had() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        assert_eq!(load(&state), None);
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let role = Role { tiers: tiers(&["app", "db", "web", "gone"]), auto: true };
        let leaving = [("db".to_owned(), now + minute), ("gone".to_owned(), now)].into();
        let mut record = LastRole::new(&role, &leaving);
        record.save(&state).expect("written");

        let last = load(&state).expect("recorded");
        assert_eq!(last.tiers, role.tiers);
        let left = last.leaving(&tiers(&["app"]), |_| false, now);
        // `web` was lost while nobody looked.
        assert_eq!(left.keys().cloned().collect::<BTreeSet<_>>(), tiers(&["db", "web"]));
        assert!(left["db"] <= now + minute && left["db"] > now + minute / 2, "{left:?}");
        assert_eq!(left["web"], now + GRACE);
        assert_eq!(last.leaving(&tiers(&["app"]), |tier| tier == "web", now).len(), 1);
        assert!(last.leaving(&role.tiers, |_| false, now).is_empty());
        // A forged record gives no more than any tier has.
        record.leaving.insert("db".into(), Deadline::after_time(10 * GRACE));
        assert_eq!(record.leaving(&tiers(&["app"]), |_| false, now)["db"], now + GRACE);
    }

    #[test]
    fn a_record_without_them_or_a_damaged_one_says_that_no_tier_was_leaving() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let state = StateDirectory::open(directory.path()).expect("opened");
        state.write(FILE, b"{\"tiers\":[\"app\"]}").expect("written");
        let last = load(&state).expect("recorded");
        assert_eq!((last.tiers, last.leaving.len()), (tiers(&["app"]), 0));
        state.write(FILE, b"{\"tiers\":[\"a").expect("written");
        assert_eq!(load(&state), None);
    }
}
