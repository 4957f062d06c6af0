//! When what a restart needs is brought up to date in the state directory.
//!
//! Soon after a change, so that a storm of edits is one record. The last good policy is the
//! exception where it is large: a million members are megabytes, and lists that change all day
//! would write them all day. Where only members changed it is written at most once a minute.
//! What is lost by that shows only where the daemon or the machine is killed within the minute and
//! the files are bad at the next start: the policy enforced then has the lists of a minute before.
//! A change of rules is never held back, and an end of the daemon writes what is due.

use crate::journal::kind;
use crate::recorder::{Debts, Recorder};
use crate::state::StateDirectory;
use policy::Policy;
use std::io;
use std::time::{Duration, Instant};

/// How long after the first change.
const SOON: Duration = Duration::from_secs(2);

/// How long after it was written before, for members of a large policy.
const SELDOM: Duration = Duration::from_secs(60);

/// A policy with more members takes over some 100 KB.
const LARGE: usize = 20_000;

/// What isn't recorded yet, and when it is due.
pub(crate) struct Memory {
    /// None where there is no state directory.
    recorder: Option<Recorder>,
    /// The role, the users and the members by command.
    small: Option<Instant>,
    policy: Option<Instant>,
    /// When the policy was written last.
    written: Option<Instant>,
}

/// What of a policy changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Changed {
    Rules,
    MembersOnly,
}

impl Memory {
    /// Of a directory; of none, nothing is kept.
    pub(crate) fn of(state: Option<StateDirectory>) -> Self {
        let started = state.and_then(|state| {
            let started = Recorder::start(state);
            // The system has no thread left.
            started
                .inspect_err(|error| tracing::warn!(target: kind::NOT_RECORDED, %error, "nothing is kept for a restart"))
                .ok()
        });
        Self { recorder: started, small: None, policy: None, written: None }
    }

    /// The way to the thread that writes.
    pub(crate) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// The same, or why there is none.
    pub(crate) fn recorder_or(&self) -> io::Result<&Recorder> {
        self.recorder().ok_or_else(|| io::Error::other("the state directory can't be used"))
    }

    /// What isn't in the state directory.
    pub(crate) fn debts(&self) -> Debts {
        self.recorder().map_or_else(Debts::of_none, Recorder::debts)
    }

    /// The role, users or members by command are others than those recorded.
    pub(crate) fn is_old(&mut self) {
        let due = Instant::now() + SOON;
        self.small = Some(self.small.map_or(due, |earlier| earlier.min(due)));
    }

    /// So is the policy of the files.
    pub(crate) fn policy_is_old(&mut self, policy: &Policy, changed: Changed) {
        self.is_old();
        let due = due(Instant::now(), self.written, members_of(policy), changed);
        self.policy = Some(self.policy.map_or(due, |earlier| earlier.min(due)));
    }

    /// When something is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.small.into_iter().chain(self.policy).min()
    }

    /// When the last of it is due.
    pub(crate) fn last_due(&self) -> Option<Instant> {
        self.small.max(self.policy)
    }

    /// Whether the small ones are due by then, and whether the policy is, since this was asked last.
    pub(crate) fn take_due(&mut self, by: Instant) -> (bool, bool) {
        let is_due = |at: &mut Instant| *at <= by;
        (self.small.take_if(is_due).is_some(), self.policy.take_if(is_due).is_some())
    }

    /// The policy is written now.
    pub(crate) fn policy_is_written(&mut self) {
        (self.policy, self.written) = (None, Some(Instant::now()));
    }
}

fn due(now: Instant, written: Option<Instant>, members: usize, changed: Changed) -> Instant {
    let soon = now + SOON;
    match written {
        Some(written) if changed == Changed::MembersOnly && members > LARGE => {
            soon.max(written + SELDOM)
        }
        _ => soon,
    }
}

fn members_of(policy: &Policy) -> usize {
    policy.tiers.values().map(|tier| tier.v4.len() + tier.v6.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_large_policy_are_written_once_a_minute() {
        let now = Instant::now();
        let just = Some(now);
        let soon = now + SOON;
        assert_eq!(due(now, None, LARGE + 1, Changed::MembersOnly), soon, "never written");
        assert_eq!(due(now, just, LARGE, Changed::MembersOnly), soon, "small");
        assert_eq!(due(now, just, LARGE + 1, Changed::Rules), soon);
        assert_eq!(due(now, just, LARGE + 1, Changed::MembersOnly), now + SELDOM);
        let later = now + SELDOM;
        assert_eq!(due(later, just, LARGE + 1, Changed::MembersOnly), later + SOON);
    }

    #[test]
    fn a_change_of_rules_brings_forward_what_was_held_back() {
        let text = "[tiers]\nweb = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"*\"\nto = \"web\"\nservice = \"any\"\n";
        let options = policy::Options::default();
        let mut policy = policy::load_text(std::path::Path::new("t.toml"), text, &options)
            .policy
            .expect("a good policy");
        let big = (0..=LARGE as u32).map(|n| std::net::Ipv4Addr::from_bits(2 * n));
        let big = big.map(ruleset::AddressRange::single).collect();
        if let Some(tier) = policy.tiers.get_mut("web") {
            tier.v4 = big;
        }
        let mut memory = Memory::of(None);
        memory.written = Some(Instant::now());
        memory.policy_is_old(&policy, Changed::MembersOnly);
        let held = memory.policy.expect("due some time");
        assert!(held > Instant::now() + SELDOM - SOON, "not soon");
        assert!(memory.due().expect("the small ones") < held);
        memory.policy_is_old(&policy, Changed::MembersOnly);
        assert_eq!(memory.policy, Some(held), "not put off again and again");
        memory.policy_is_old(&policy, Changed::Rules);
        assert!(memory.policy.expect("due") <= Instant::now() + SOON);
    }
}
