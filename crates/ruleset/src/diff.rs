//! The difference of two rulesets, as the smallest plan.
//!
//! What is equal in both is not touched: a rule that stays keeps its handle, a counter its count,
//! a set its elements. A change of members alone yields element operations only.

use crate::plan::{Operation, Plan};
use crate::statement::Verdict;
use crate::table::{Chain, Elements, Rule, Ruleset, Table};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

impl Ruleset {
    /// The plan that turns this ruleset into `wanted`; empty where they are equal.
    pub fn diff(&self, wanted: &Self) -> Plan {
        let operations = match (&self.table, &wanted.table) {
            (None, None) => Vec::new(),
            (Some(_), None) => vec![Operation::DeleteTable],
            (None, Some(new)) => build(new),
            (Some(old), Some(new)) if old == new => Vec::new(),
            (Some(old), Some(new)) if must_rebuild(old, new) => return self.rebuild(wanted),
            (Some(old), Some(new)) => change(old, new),
        };
        Plan { operations }
    }

    /// The plan that makes `new` from nothing in place of whatever is there, equal or not. What can't
    /// be changed in a table that exists, such as that it has an owner, needs this; counters
    /// start anew.
    pub fn rebuild(&self, new: &Self) -> Plan {
        let mut operations = Vec::new();
        operations.extend(self.table.is_some().then_some(Operation::DeleteTable));
        operations.extend(new.table.iter().flat_map(build));
        Plan { operations }
    }
}

/// Whether `old` holds what can only be changed by deleting the table: in the same batch, so no
/// packet sees the gap.
fn must_rebuild(old: &Table, new: &Table) -> bool {
    let rehooked = old.chains.iter().any(|(name, chain)| {
        let hook = |chain: &Chain| {
            chain.base.as_ref().map(|base| (base.kind.clone(), base.hook, base.priority))
        };
        new.chains.get(name).is_some_and(|new| hook(new) != hook(chain))
    });
    old.comment != new.comment || old.foreign != new.foreign || rehooked
}

/// Everything, from nothing.
fn build(new: &Table) -> Vec<Operation> {
    let mut operations = vec![Operation::AddTable { comment: new.comment.clone() }];
    operations.extend(change(&Table { comment: new.comment.clone(), ..Table::default() }, new));
    operations
}

/// The order is what the kernel asks for within a batch: chains exist before a verdict leads to
/// them, elements are deleted before others take their keys, nothing is deleted while in use.
fn change(old: &Table, new: &Table) -> Vec<Operation> {
    let remade: BTreeSet<&String> = old
        .sets
        .iter()
        .filter(|(name, set)| new.sets.get(*name).is_some_and(|new| new.spec != set.spec))
        .map(|(name, _)| name)
        .collect();
    let mut operations = Vec::new();
    for counter in new.counters.difference(&old.counters) {
        operations.push(Operation::AddCounter { counter: counter.clone() });
    }
    for (name, chain) in new.chains_in_order() {
        if !old.chains.contains_key(name) {
            let (chain, base) = (name.clone(), chain.base.clone());
            operations.push(Operation::AddChain { chain, base });
        }
    }

    let mut additions = Vec::new();
    for (name, set) in &new.sets {
        let kept = old.sets.get(name).filter(|_| !remade.contains(name));
        let none = Elements::empty(&set.spec);
        let kept = kept.map_or(&none, |old| &old.elements);
        let (mut deleted, mut added) = kept.difference(&set.elements);
        if kept.are_unread() || is_turnover(kept, &deleted) {
            operations.push(Operation::FlushSet { set: name.clone() });
            (deleted, added) = (none, set.elements.clone());
        }
        let (set, spec) = (name.clone(), set.spec.clone());
        if !deleted.is_empty() {
            let (set, spec) = (set.clone(), spec.clone());
            operations.push(Operation::DeleteElements { set, spec, elements: deleted });
        }
        if !added.is_empty() {
            additions.push(Operation::AddElements { set, spec, elements: added });
        }
    }

    let mut insertions = Vec::new();
    for (name, chain) in new.chains_in_order() {
        let old_rules = old.chains.get(name).map_or(&[][..], |chain| &chain.rules);
        let movable = |rule: &Rule| !rule.sets().any(|set| remade.iter().any(|name| *name == set));
        let edit = RuleEdit::between(old_rules, &chain.rules, movable);
        operations.extend(
            edit.deleted
                .into_iter()
                .map(|i| Operation::DeleteRule { chain: name.clone(), index: i }),
        );
        insertions.extend(edit.inserted.into_iter().map(|(before, rule)| Operation::InsertRule {
            chain: name.clone(),
            before,
            rule: rule.clone(),
        }));
    }
    let gone = old.chains.iter().filter(|(name, _)| !new.chains.contains_key(*name));
    for (name, chain) in gone.clone() {
        let indexes = 0..chain.rules.len();
        operations.extend(indexes.map(|i| Operation::DeleteRule { chain: name.clone(), index: i }));
    }

    for name in old.sets.keys() {
        if !new.sets.contains_key(name) || remade.contains(name) {
            operations.push(Operation::DeleteSet { set: name.clone() });
        }
    }
    for (name, set) in &new.sets {
        if !old.sets.contains_key(name) || remade.contains(name) {
            operations.push(Operation::AddSet { set: name.clone(), spec: set.spec.clone() });
        }
    }
    operations.extend(additions);
    operations.extend(insertions);

    for (name, chain) in &new.chains {
        let changed = old.chains.get(name).is_some_and(|old| old.base != chain.base);
        if let Some(base) = chain.base.as_ref().filter(|_| changed) {
            operations.push(Operation::SetPolicy { chain: name.clone(), base: base.clone() });
        }
    }
    operations.extend(gone.map(|(name, _)| Operation::DeleteChain { chain: name.clone() }));
    for counter in old.counters.difference(&new.counters) {
        operations.push(Operation::DeleteCounter { counter: counter.clone() });
    }
    if old.state != new.state {
        let (old, new) = (old.state.clone(), new.state.clone());
        operations.push(Operation::SetState { old, new });
    }
    operations
}

/// Whether so little of a large set stays that it is filled anew: naming each element that goes
/// takes the kernel a quarter longer for intervals and as long for single addresses, and twice the
/// memory.
fn is_turnover(old: &Elements, deleted: &Elements) -> bool {
    const LARGE: usize = 50_000;
    deleted.len() > LARGE && deleted.len() > old.len() / 8 * 7
}

/// How one list of rules becomes another.
struct RuleEdit<'a> {
    /// Indexes in the old list.
    deleted: Vec<usize>,
    /// New rules, each with the index of the kept old rule it goes before.
    inserted: Vec<(Option<usize>, &'a Rule)>,
}

impl<'a> RuleEdit<'a> {
    /// Keeps a longest run of rules that stand in both lists in the same order. `movable` rules
    /// may be kept; the others are made anew even where they are equal.
    fn between(old: &[Rule], new: &'a [Rule], movable: impl Fn(&Rule) -> bool) -> Self {
        let mut places: HashMap<&Rule, VecDeque<usize>> = HashMap::new();
        for (index, rule) in old.iter().enumerate().filter(|(_, rule)| movable(rule)) {
            places.entry(rule).or_default().push_back(index);
        }
        let candidates: Vec<Option<usize>> =
            new.iter().map(|rule| places.get_mut(rule)?.pop_front()).collect();
        let kept = longest_increasing(&candidates);

        let kept_old: BTreeSet<usize> =
            kept.iter().filter_map(|index| candidates[*index]).collect();
        let deleted = (0..old.len()).filter(|index| !kept_old.contains(index)).collect();
        let mut inserted = Vec::new();
        let mut next_kept = kept.iter().peekable();
        for (index, rule) in new.iter().enumerate() {
            if next_kept.next_if(|kept| **kept == index).is_none() {
                inserted.push((next_kept.peek().and_then(|kept| candidates[**kept]), rule));
            }
        }
        Self { deleted, inserted }
    }
}

/// Positions of a longest strictly increasing subsequence of the values that are there: patience
/// sorting, n log n.
fn longest_increasing(values: &[Option<usize>]) -> Vec<usize> {
    let mut tails: Vec<usize> = Vec::new();
    let mut previous: Vec<Option<usize>> = vec![None; values.len()];
    for (position, value) in values.iter().enumerate() {
        let Some(value) = value else { continue };
        let length = tails.partition_point(|tail| values[*tail].is_some_and(|tail| tail < *value));
        previous[position] = length.checked_sub(1).map(|before| tails[before]);
        if length == tails.len() {
            tails.push(position);
        } else {
            tails[length] = position;
        }
    }
    let mut run: Vec<usize> =
        std::iter::successors(tails.last().copied(), |position| previous[*position]).collect();
    run.reverse();
    run
}

impl Elements {
    /// The elements to delete from and to add to this set to make it `new`. Sets of different
    /// kinds share nothing.
    pub fn difference(&self, new: &Self) -> (Self, Self) {
        match (self, new) {
            (Self::Ipv4(old), Self::Ipv4(new)) => {
                (Self::Ipv4(old.elements_missing_in(new)), Self::Ipv4(new.elements_missing_in(old)))
            }
            (Self::Ipv6(old), Self::Ipv6(new)) => {
                (Self::Ipv6(old.elements_missing_in(new)), Self::Ipv6(new.elements_missing_in(old)))
            }
            (Self::TimedIpv4(old), Self::TimedIpv4(new)) => (
                Self::TimedIpv4(old.elements_missing_in(new)),
                Self::TimedIpv4(new.elements_missing_in(old)),
            ),
            (Self::TimedIpv6(old), Self::TimedIpv6(new)) => (
                Self::TimedIpv6(old.elements_missing_in(new)),
                Self::TimedIpv6(new.elements_missing_in(old)),
            ),
            (Self::Keys(old), Self::Keys(new)) => (
                Self::Keys(old.difference(new).copied().collect()),
                Self::Keys(new.difference(old).copied().collect()),
            ),
            (Self::Verdicts(old), Self::Verdicts(new)) => {
                let missing = |from: &BTreeMap<_, Verdict>, other: &BTreeMap<_, Verdict>| {
                    let entries =
                        from.iter().filter(|(key, verdict)| other.get(*key) != Some(*verdict));
                    entries.map(|(key, verdict)| (*key, verdict.clone())).collect()
                };
                (Self::Verdicts(missing(old, new)), Self::Verdicts(missing(new, old)))
            }
            (Self::Opaque(old), Self::Opaque(new)) => (
                Self::Opaque(old.difference(new).cloned().collect()),
                Self::Opaque(new.difference(old).cloned().collect()),
            ),
            (Self::Dynamic, Self::Dynamic) => (Self::Dynamic, Self::Dynamic),
            (old, new) => (old.clone(), new.clone()),
        }
    }
}
