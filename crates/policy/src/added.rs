//! Members by command: what a server has in its tiers beside what the files name.
//!
//! Who enforces a policy and who says what it would change add them in the same way, or the one would
//! forever find a difference that the other doesn't see.

use crate::member::Member;
use crate::model::{Policy, TimedMembers};
use ruleset::{AddressRange, AddressSet, Lifetime, TimedSet};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A member that was added to a tier by command. Times are in seconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedMember<'a> {
    /// The tier, which may be gone from the policy since.
    pub tier: &'a str,
    /// An address, prefix or range.
    pub member: &'a str,
    /// When it was added.
    pub added: u64,
    /// When it ends by itself.
    pub until: Option<u64>,
}

/// The members of one tier: those that stay and those that end by themselves.
#[derive(Default)]
struct Added {
    v4: Vec<AddressRange<Ipv4Addr>>,
    v6: Vec<AddressRange<Ipv6Addr>>,
    timed_v4: Vec<(AddressRange<Ipv4Addr>, Lifetime)>,
    timed_v6: Vec<(AddressRange<Ipv6Addr>, Lifetime)>,
}

impl Added {
    fn push(&mut self, AddedMember { member, added, until, .. }: AddedMember<'_>) {
        let lifetime =
            until.map(|until| Lifetime { until, timeout: until.saturating_sub(added).max(1) });
        match (member.parse(), lifetime) {
            (Ok(Member::V4(range)), None) => self.v4.push(range),
            (Ok(Member::V6(range)), None) => self.v6.push(range),
            (Ok(Member::V4(range)), Some(lifetime)) => self.timed_v4.push((range, lifetime)),
            (Ok(Member::V6(range)), Some(lifetime)) => self.timed_v6.push((range, lifetime)),
            (Err(_), _) => {}
        }
    }
}

impl Policy {
    /// The policy with these members in its tiers. A tier is merged once, however many there are;
    /// those of a tier that isn't there are left out.
    pub fn with_added<'a>(&self, members: impl IntoIterator<Item = AddedMember<'a>>) -> Self {
        let mut whole = self.clone();
        let mut added: BTreeMap<&str, Added> = BTreeMap::new();
        for member in members {
            added.entry(member.tier).or_default().push(member);
        }
        for (name, Added { v4, v6, timed_v4, timed_v6 }) in added {
            let Some(tier) = whole.tiers.get_mut(name) else { continue };
            if !v4.is_empty() {
                tier.v4 = tier.v4.union(&AddressSet::new(v4));
            }
            if !v6.is_empty() {
                tier.v6 = tier.v6.union(&AddressSet::new(v6));
            }
            tier.timed = TimedMembers { v4: TimedSet::new(timed_v4), v6: TimedSet::new(timed_v6) };
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, load_text};
    use std::path::Path;

    #[test]
    fn those_that_end_are_apart_from_those_that_stay() {
        let text = "[tiers]\nweb = [\"10.0.0.0/24\"]\n";
        let policy = load_text(Path::new("t.toml"), text, &Options::default()).policy;
        let policy = policy.expect("a good policy");
        let member = |tier, member, until| AddedMember { tier, member, added: 5, until };
        let whole = policy.with_added([
            member("web", "10.0.1.0/24", None),
            member("web", "2001:db8::7", Some(9)),
            member("gone", "10.0.2.0", None),
        ]);
        let web = &whole.tiers["web"];
        assert_eq!((whole.tiers.len(), web.v4.to_string()), (1, "{ 10.0.0.0/23 }".into()));
        assert!(web.v6.is_empty() && web.timed.v4.is_empty());
        let (_, lifetime) = web.timed.v6.elements().next().expect("one");
        assert_eq!(lifetime, Some(&Lifetime { until: 9, timeout: 4 }));
    }
}
