//! What becomes of others' rules in a policy, one entry each.

use crate::condition::Direction;
use crate::intervals::Intervals;
use crate::region::Addresses;
use ruleset::Family;
use std::collections::BTreeSet;

/// One `[[allow]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allow {
    pub(crate) direction: Direction,
    pub(crate) name: Option<String>,
    /// Who is on the other side, by family.
    pub(crate) peers: BTreeSet<(Family, Addresses)>,
    pub(crate) service: Intervals,
    pub(crate) users: Intervals,
    /// The denials in front of it that it doesn't heed, by number.
    pub(crate) heedless_of: BTreeSet<usize>,
    /// What it opens on other hosts of a merged policy.
    pub(crate) elsewhere: Elsewhere,
}

impl Allow {
    /// Whether it lets through more than the tables did, here or elsewhere.
    pub(crate) fn is_wider(&self) -> bool {
        !self.heedless_of.is_empty() || !self.elsewhere.is_empty()
    }
}

/// What stands in the policy about a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// What follows is of this chain.
    Chain(String),
    Allow(Allow),
    /// Nothing need be said.
    BuiltIn {
        rule: String,
        differs: Option<&'static str>,
        /// Whether more passes than the rule let through.
        wider: bool,
    },
    /// What no allow names is denied anyway.
    Denied {
        rule: String,
    },
    /// It is never reached.
    Dead {
        rule: String,
    },
    /// It isn't in the policy.
    Lost(Lost),
}

/// A rule that a policy can't say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) rule: String,
    pub(crate) why: String,
    /// Allows that come next to it, wider than the rule.
    pub(crate) nearest: Vec<Allow>,
    /// The number by which allows refer to it, if any do.
    pub(crate) number: Option<usize>,
}

impl Entry {
    pub(crate) fn lost(rule: impl Into<String>, why: impl Into<String>) -> Self {
        let (rule, why) = (rule.into(), why.into());
        Self::Lost(Lost { rule, why, nearest: Vec::new(), number: None })
    }
}

/// Other hosts that do by an allow what their own tables deny.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Elsewhere {
    /// They may open the connection.
    pub(crate) open: Vec<String>,
    /// They accept it.
    pub(crate) accept: Vec<String>,
}

impl Elsewhere {
    pub(crate) fn is_empty(&self) -> bool {
        let Self { open, accept } = self;
        open.is_empty() && accept.is_empty()
    }
}
