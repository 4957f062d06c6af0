//! A limit on the table, which is asked before it is made.

use super::{Active, Side, active};
use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::model::{Mode, Policy};
use crate::role::Role;

/// Rules of a server's table. The kernel takes more, but each reload would take seconds, and tens of
/// seconds on a small machine.
const RULES_MAX: usize = 250_000;

/// Rules that lead to an allow, for each of its port ranges: fewer where ranges don't overlap.
const RULES_PER_RANGE: usize = 8;

/// An error if a server of this role would get more than 250,000 rules, at the allow that makes most
/// of them. The number is a close guess: what large tiers and users add is left out.
pub fn check_size(policy: &Policy, role: &Role) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    let mut by_allow = vec![0usize; policy.allows.len()];
    for (side, mode) in [(Side::Input, policy.mode.input), (Side::Output, policy.mode.output)] {
        for allow in active(policy, role, side).filter(|_| mode != Mode::Off) {
            by_allow[allow.index] = by_allow[allow.index].saturating_add(rules(side, allow, role));
        }
    }
    let total = by_allow.iter().fold(0usize, |sum, rules| sum.saturating_add(*rules));
    let widest = by_allow.iter().zip(&policy.allows).max_by_key(|(rules, _)| **rules);
    let Some((most, allow)) = widest.filter(|_| total > RULES_MAX) else { return diagnostics };
    let message = format!(
        "this policy makes about {} rules on this server; at most {} are possible",
        grouped(total),
        grouped(RULES_MAX)
    );
    let label = Label::at(allow.location.clone(), format!("{} of them", grouped(*most)));
    let hint = "this allow makes the most: name fewer tiers in it, make one tier of those that stand \
                together, or write \"*\" for all of them";
    diagnostics.push(Diagnostic::error("too-many-rules", label, message).hint(hint.to_owned()));
    diagnostics
}

/// About how many rules an allow makes on a side.
fn rules(side: Side, active: Active<'_>, role: &Role) -> usize {
    let Active { allow, peer, .. } = active;
    let is_confined = side == Side::Input && role.auto && !allow.to.every_server;
    let own = match is_confined {
        true => allow.to.tiers.intersection(&role.tiers).count(),
        false => 1,
    };
    let tiers = if peer.every_server { 1 } else { peer.tiers.len() };
    let literals = usize::from(!peer.v4.is_empty()) + usize::from(!peer.v6.is_empty());
    let peers = if peer.any { 2 } else { 2 * tiers + literals };
    let ranges: usize = allow.service.ports.values().map(Vec::len).sum();
    peers.saturating_mul(own).saturating_add(RULES_PER_RANGE * ranges)
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}
