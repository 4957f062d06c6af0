//! What becomes of a packet under a policy, and what says so: an allow with its place in the file,
//! a built-in rule, or the closing one.
//!
//! The table that the policy compiled to is walked as the kernel walks it
//! ([`ruleset::evaluate`]), so the answer is that of the kernel and not a second reading of the
//! policy; rules lead back to the policy by their comments.

use crate::compile::{BUILT_IN, Labels};
use crate::model::{Allow, Policy};
use ruleset::evaluate::{Evaluation, Outcome, Packet, RuleRef};
use ruleset::{Reject, Ruleset, Table};
use std::collections::HashMap;
use std::fmt;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It passes.
    Allowed,
    /// It passes, only because the side observes.
    WouldBeDenied,
    /// It is dropped.
    Dropped,
    /// It is refused with an error.
    Refused(Reject),
}

impl Fate {
    /// Whether it doesn't get through.
    pub fn is_denied(self) -> bool {
        matches!(self, Self::Dropped | Self::Refused(_))
    }
}

/// A policy and the table that it compiled to on a server.
#[derive(Debug, Clone)]
pub struct Judge<'a> {
    table: Option<&'a Table>,
    /// By the comment of their rules.
    allows: HashMap<String, &'a Allow>,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling<'a> {
    /// The verdict.
    pub outcome: Outcome,
    /// What gave it.
    pub by: By<'a>,
    /// The named counters that count the packet, in order.
    pub counters: Vec<&'a str>,
}

/// What gave a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// An allow: its key names it, its location is where it stands.
    Allow(&'a Allow),
    /// A built-in rule, by its name in the kernel's listing: `established`, `no redirects`.
    BuiltIn(&'a str),
    /// The end of the side's chain: no allow names the packet.
    Closing,
    /// Nothing, since the side isn't filtered: its mode is off, or what is forwarded isn't our
    /// business.
    Unfiltered,
}

impl<'a> Judge<'a> {
    /// Of `policy` on the server for which it was compiled to `ruleset`. It must be what was
    /// compiled: of a table read from the kernel, a set that [wasn't
    /// read](ruleset::Elements::Unread) holds nobody here. Timed members count until they are
    /// [taken out](Table::expire).
    pub fn new(policy: &'a Policy, ruleset: &'a Ruleset) -> Self {
        let labels = Labels::of(&policy.allows);
        let of_comment = |(index, allow)| (labels.comment(index).to_owned(), allow);
        let allows = policy.allows.iter().enumerate().map(of_comment).collect();
        Self { table: ruleset.table.as_ref(), allows }
    }

    /// Where the policy isn't at hand: what an allow says is then taken for a built-in rule of its
    /// comment ([`Labels::allow_in`]).
    pub fn without_policy(ruleset: &'a Ruleset) -> Self {
        Self { table: ruleset.table.as_ref(), allows: HashMap::new() }
    }

    /// The ruling on `packet`; on a new connection with [`Packet::opening`].
    pub fn rule_on(&self, packet: &Packet) -> Ruling<'a> {
        let Some(table) = self.table else {
            return Ruling { outcome: Outcome::Accept, by: By::Unfiltered, counters: Vec::new() };
        };
        self.rule_as(table.evaluate(packet))
    }

    /// The ruling that an evaluation of the table comes to, of which the kernel's own walk is one
    /// too.
    pub fn rule_as(&self, evaluation: Evaluation<'a>) -> Ruling<'a> {
        let by = match self.table {
            Some(table) => self.by(table, &evaluation),
            None => By::Unfiltered,
        };
        Ruling { outcome: evaluation.outcome, by, counters: evaluation.counters }
    }

    fn by(&self, table: &Table, evaluation: &Evaluation<'a>) -> By<'a> {
        let Some(rule) = evaluation.rule else {
            // The chain's policy decides for the closing rules of an observed side, after they
            // counted; a chain without rules counts nothing, and no chain neither.
            let closed = evaluation.outcome != Outcome::Accept || !evaluation.counters.is_empty();
            return if closed { By::Closing } else { By::Unfiltered };
        };
        if let Some(allow) = self.allows.get(rule.comment) {
            return By::Allow(allow);
        }
        let in_base = table.chains.get(rule.chain).is_some_and(|chain| chain.base.is_some());
        if in_base && evaluation.outcome != Outcome::Accept {
            return By::Closing;
        }
        By::BuiltIn(built_in(rule, &evaluation.via))
    }
}

/// What is denied is counted and dropped in a chain that several rules lead to: which one did says
/// more than the drop.
fn built_in<'a>(rule: RuleRef<'a>, via: &[RuleRef<'a>]) -> &'a str {
    let telling = match via.last() {
        Some(from) if rule.chain.ends_with("_never") => *from,
        _ => rule,
    };
    telling.comment.strip_prefix(BUILT_IN).unwrap_or(telling.comment)
}

impl Ruling<'_> {
    /// Whether the packet doesn't get through.
    pub fn is_denied(&self) -> bool {
        self.outcome != Outcome::Accept
    }

    /// What becomes of the packet.
    pub fn fate(&self) -> Fate {
        match self.outcome {
            Outcome::Accept if self.would_be_denied() => Fate::WouldBeDenied,
            Outcome::Accept => Fate::Allowed,
            Outcome::Drop => Fate::Dropped,
            Outcome::Reject(how) => Fate::Refused(how),
        }
    }

    /// Whether it gets through only because its side merely observes.
    pub fn would_be_denied(&self) -> bool {
        let denial = |counter: &&str| {
            ["would-deny.", "invalid."].iter().any(|kind| counter.starts_with(kind))
        };
        !self.is_denied() && self.counters.iter().any(denial)
    }
}

impl fmt::Display for Ruling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.outcome {
            Outcome::Accept if self.would_be_denied() => "would be denied",
            Outcome::Accept => "accepted",
            Outcome::Drop => "dropped",
            Outcome::Reject(Reject::TcpReset) => "rejected with a TCP reset",
            Outcome::Reject(Reject::AdminProhibited) => "rejected as prohibited",
        })?;
        match self.by {
            By::Allow(allow) => write!(f, " by the allow {} ({})", allow.key, allow.location),
            By::BuiltIn(name) => write!(f, " by the built-in rule {name}"),
            By::Closing => f.write_str(": no allow names it"),
            By::Unfiltered => f.write_str(": nothing is filtered here"),
        }?;
        match &self.counters[..] {
            [] => Ok(()),
            counters => write!(f, ", counted in {}", counters.join(", ")),
        }
    }
}
