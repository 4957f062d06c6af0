//! Copies of chains, with all that they lead to: an allow is asked about another packet than the
//! one that opens a connection.
//!
//! A copy stands below a prefix with a dot of its own, so that no two names meet. The sets that it
//! looks in are those of the original: a change of members changes no copy.

use super::Compiler;
use ruleset::{Elements, Field, Interval, Rule, Set, Statement, Verdict};

/// How copies differ from what they are copies of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copies {
    /// What their names begin with, before a dot.
    pub(super) prefix: &'static str,
    /// What becomes of a statement that leads nowhere; none where the copy has none.
    pub(super) change: fn(Statement) -> Option<Statement>,
}

impl Compiler<'_> {
    /// Copies a chain, and returns the copy's name.
    pub(super) fn copy_chain(&mut self, copies: Copies, chain: &str) -> String {
        let name = format!("{}.{chain}", copies.prefix);
        if !self.table.chains.contains_key(&name) {
            let rules = self.table.chains.get(chain).map(|chain| chain.rules.clone());
            let rules = rules.unwrap_or_default().into_iter();
            let rules = rules.map(|rule| self.copy_rule(copies, rule)).collect();
            self.add_chain(&name, None, rules);
        }
        name
    }

    fn copy_rule(&mut self, copies: Copies, rule: Rule) -> Rule {
        let statements = rule.statements.into_iter().filter_map(|statement| {
            let statement = match statement {
                Statement::Verdict(Verdict::Jump(chain)) => {
                    Statement::jump(self.copy_chain(copies, &chain))
                }
                Statement::Dispatch { field, map } => {
                    Statement::dispatch(field, self.copy_map(copies, &map, |_| true)?)
                }
                other => other,
            };
            (copies.change)(statement)
        });
        Rule::new(rule.comment, statements.collect())
    }

    /// Copies of a map the entries that `wanted` picks, and returns the copy's name; none where
    /// there are none.
    pub(super) fn copy_map(
        &mut self,
        copies: Copies,
        map: &str,
        wanted: impl Fn(Interval) -> bool,
    ) -> Option<String> {
        let name = format!("{}.{map}", copies.prefix);
        if self.table.sets.contains_key(&name) {
            return Some(name);
        }
        let Set { spec, elements } = self.table.sets.get(map)?.clone();
        let Elements::Verdicts(verdicts) = elements else { return None };
        let picked = verdicts.into_iter().filter(|(interval, _)| wanted(*interval));
        let copied = picked.map(|(interval, verdict)| match verdict {
            Verdict::Jump(chain) => (interval, Verdict::Jump(self.copy_chain(copies, &chain))),
            other => (interval, other),
        });
        let elements: std::collections::BTreeMap<Interval, Verdict> = copied.collect();
        // A map of peers follows the members, and is there though nobody is in it now.
        if elements.is_empty() && matches!(spec.key, ruleset::KeyType::Port) {
            return None;
        }
        let elements = Elements::Verdicts(elements);
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
