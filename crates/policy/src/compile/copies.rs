//! Copies of chains, with all that they lead to: an allow is asked about another packet than the
//! one that opens a connection.
//!
//! A copy stands below a prefix with a dot of its own, so that no two names meet. The sets that it
//! looks in are those of the original: a change of members changes no copy.

use super::Compiler;
use ruleset::{Elements, Field, Interval, Rule, Set, Statement, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// How copies differ from what they are copies of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copies {
    /// What their names begin with, before a dot.
    pub(super) prefix: &'static str,
    /// What becomes of a statement that leads nowhere; none where the copy has none.
    pub(super) change: fn(Statement) -> Option<Statement>,
    /// Whether maps of peers keep their short cuts, as long as the table may hold more of them.
    /// Without them a copy asks each allow in turn, and no change of members touches it.
    pub(super) short_cuts: bool,
}

impl Compiler<'_> {
    /// Copies a chain, and returns the copy's name.
    pub(super) fn copy_chain(&mut self, copies: Copies, chain: &str) -> String {
        let name = format!("{}.{chain}", copies.prefix);
        if !self.table.chains.contains_key(&name) {
            let rules = self.table.chains.get(chain).map(|chain| chain.rules.clone());
            let rules = rules.unwrap_or_default();
            let in_turn = rules.iter().flat_map(Rule::targets).map(str::to_owned).collect();
            let rules = rules.into_iter();
            let rules = rules.filter_map(|rule| self.copy_rule(copies, rule, &in_turn)).collect();
            self.add_chain(&name, None, rules);
        }
        name
    }

    /// Copies a rule of a chain that asks the chains `in_turn`; none if its map has no copy.
    fn copy_rule(
        &mut self,
        copies: Copies,
        rule: Rule,
        in_turn: &BTreeSet<String>,
    ) -> Option<Rule> {
        let mut statements = Vec::new();
        for statement in rule.statements {
            let statement = match statement {
                Statement::Verdict(Verdict::Jump(chain)) => {
                    Statement::jump(self.copy_chain(copies, &chain))
                }
                Statement::Dispatch { field, map } => {
                    Statement::dispatch(field, self.copy_peers(copies, &map, in_turn)?)
                }
                other => other,
            };
            statements.extend((copies.change)(statement));
        }
        Some(Rule::new(rule.comment, statements))
    }

    /// Copies of a map of ports the entries that `wanted` picks, and returns the copy's name; none
    /// if it picks none.
    pub(super) fn copy_ports(
        &mut self,
        copies: Copies,
        map: &str,
        wanted: impl Fn(Interval) -> bool,
    ) -> Option<String> {
        self.copy_map(copies, map, false, |ports, _| wanted(ports))
    }

    /// Copies a map of peers. An entry is a short cut if the chain that it leads to is asked in turn
    /// as well. Any other is the only way to its allow.
    fn copy_peers(
        &mut self,
        copies: Copies,
        map: &str,
        in_turn: &BTreeSet<String>,
    ) -> Option<String> {
        let mut left = if copies.short_cuts { self.short_cuts } else { 0 };
        // What follows the members must be there even if it is empty now.
        let copy = self.copy_map(copies, map, copies.short_cuts, |_, verdict| {
            let is_short_cut = verdict.target().is_some_and(|chain| in_turn.contains(chain));
            let is_wanted = !is_short_cut || left > 0;
            left -= usize::from(is_short_cut && is_wanted);
            is_wanted
        });
        if copies.short_cuts {
            self.short_cuts = left;
        }
        copy
    }

    fn copy_map(
        &mut self,
        copies: Copies,
        map: &str,
        may_be_empty: bool,
        mut wanted: impl FnMut(Interval, &Verdict) -> bool,
    ) -> Option<String> {
        let name = format!("{}.{map}", copies.prefix);
        if self.table.sets.contains_key(&name) {
            return Some(name);
        }
        let Set { spec, elements } = self.table.sets.get(map)?;
        let Elements::Verdicts(verdicts) = elements else { return None };
        let spec = spec.clone();
        let picked = verdicts.iter().filter(|(interval, verdict)| wanted(**interval, verdict));
        let picked: Vec<_> =
            picked.map(|(interval, verdict)| (*interval, verdict.clone())).collect();
        if picked.is_empty() && !may_be_empty {
            return None;
        }
        let copied = picked.into_iter().map(|(interval, verdict)| match verdict {
            Verdict::Jump(chain) => (interval, Verdict::Jump(self.copy_chain(copies, &chain))),
            other => (interval, other),
        });
        let elements = Elements::Verdicts(copied.collect::<BTreeMap<_, _>>());
        self.add_set(&name, Set { spec, elements });
        Some(name)
    }
}

/// The same statement about the packet that goes the other way.
pub(super) fn reversed(statement: Statement) -> Statement {
    let other = |field| match field {
        Field::Saddr(family) => Field::Daddr(family),
        Field::Daddr(family) => Field::Saddr(family),
        Field::Sport(transport) => Field::Dport(transport),
        Field::Dport(transport) => Field::Sport(transport),
        field => field,
    };
    match statement {
        Statement::Match { field, value } => Statement::Match { field: other(field), value },
        Statement::Lookup { field, set } => Statement::Lookup { field: other(field), set },
        Statement::Dispatch { field, map } => Statement::Dispatch { field: other(field), map },
        statement => statement,
    }
}
