//! A plan: the operations that turn one state of the table into another, in an order that the
//! kernel accepts within one batch.
//!
//! [`Ruleset::diff`](crate::Ruleset::diff) makes plans, the netlink crate encodes them. [`Plan::apply`] performs one on
//! a value, with the kernel's own rules about what must exist and what is still in use, so that a
//! plan can be tested without a kernel.

use crate::table::{Base, Chain, Elements, Rule, Ruleset, STATE_SET, Set, SetSpec, Table};
use std::collections::BTreeMap;
use std::fmt;

/// Operations in order. Empty where nothing changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The operations.
    pub operations: Vec<Operation>,
}

/// One step of a plan; each becomes one or more netlink messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Delete the table with all that is in it.
    DeleteTable,
    /// Make the table.
    AddTable {
        /// The comment in its userdata.
        comment: Option<String>,
    },
    /// Make a named counter, at zero.
    AddCounter {
        /// Its name.
        counter: String,
    },
    /// Make an empty chain.
    AddChain {
        /// Its name.
        chain: String,
        /// Hook and policy of a base chain.
        base: Option<Base>,
    },
    /// Delete elements of a set or map.
    DeleteElements {
        /// The set.
        set: String,
        /// How the set is stored.
        spec: SetSpec,
        /// The elements.
        elements: Elements,
    },
    /// Delete all elements of a set or map, whatever they are.
    FlushSet {
        /// The set.
        set: String,
    },
    /// Delete a rule.
    DeleteRule {
        /// Its chain.
        chain: String,
        /// Its index in the chain as that was before the plan.
        index: usize,
    },
    /// Delete a set that no rule refers to any more.
    DeleteSet {
        /// The set.
        set: String,
    },
    /// Make an empty set.
    AddSet {
        /// The set.
        set: String,
        /// How it is stored.
        spec: SetSpec,
    },
    /// Add elements to a set or map.
    AddElements {
        /// The set.
        set: String,
        /// How the set is stored.
        spec: SetSpec,
        /// The elements.
        elements: Elements,
    },
    /// Insert a rule. Rules inserted at the same place keep the order of the plan.
    InsertRule {
        /// Its chain.
        chain: String,
        /// The rule to insert before, as an index in the chain before the plan; never one that
        /// the plan deletes. None: at the end.
        before: Option<usize>,
        /// The rule.
        rule: Rule,
    },
    /// Change the policy of a base chain.
    SetPolicy {
        /// The chain.
        chain: String,
        /// The chain's hook, with the new policy.
        base: Base,
    },
    /// Delete a chain without rules that nothing leads to any more.
    DeleteChain {
        /// The chain.
        chain: String,
    },
    /// Delete a counter that no rule refers to any more.
    DeleteCounter {
        /// The counter.
        counter: String,
    },
    /// Note the table's state: make or delete its set, or exchange the element of that.
    SetState {
        /// The state before the plan.
        old: Option<String>,
        /// The state after it.
        new: Option<String>,
    },
}

/// Why a plan doesn't fit a ruleset. The kernel would refuse the batch for the same reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The table, or an object in it, isn't there.
    #[error("{0} does not exist")]
    Missing(String),
    /// The object is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// Something still refers to the object.
    #[error("{0} is still in use")]
    Busy(String),
    /// Elements that are not those of the set's kind, or overlap.
    #[error("elements that {0} can't take")]
    BadElements(String),
}

impl Plan {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Whether the plan only adds and deletes set elements.
    pub fn is_elements_only(&self) -> bool {
        self.operations.iter().all(|operation| {
            matches!(
                operation,
                Operation::AddElements { .. }
                    | Operation::DeleteElements { .. }
                    | Operation::FlushSet { .. }
                    | Operation::SetState { old: Some(_), new: Some(_) }
            )
        })
    }

    /// What the plan changes, in numbers.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for operation in &self.operations {
            match operation {
                Operation::AddElements { set, elements, .. } => {
                    summary.sets.entry(set.clone()).or_default().added += elements.len();
                }
                Operation::DeleteElements { set, elements, .. } => {
                    summary.sets.entry(set.clone()).or_default().deleted += elements.len();
                }
                Operation::InsertRule { .. } => summary.rules_added += 1,
                Operation::DeleteRule { .. } => summary.rules_deleted += 1,
                _ => {}
            }
        }
        summary
    }

    /// The ruleset after the plan.
    ///
    /// # Errors
    /// When an operation names what isn't there, makes what is there, or deletes what is in use at
    /// that moment: the plan was made for another ruleset.
    pub fn apply(&self, ruleset: &Ruleset) -> Result<Ruleset, ApplyError> {
        let mut state = State::of(ruleset);
        self.operations.iter().try_for_each(|operation| state.perform(operation))?;
        Ok(state.into_ruleset())
    }
}

/// What a plan changes, in numbers, for the log and the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Elements added and deleted, by set or map.
    pub sets: BTreeMap<String, ElementCount>,
    /// Rules inserted.
    pub rules_added: usize,
    /// Rules deleted.
    pub rules_deleted: usize,
}

/// Elements added to and deleted from one set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ElementCount {
    pub added: usize,
    pub deleted: usize,
}

/// `web_v4 +1 -0, app_v4 +0 -2`, and how many more where they would fill screens.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 50;
        for (index, (set, count)) in self.sets.iter().take(SHOWN).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{set} +{} -{}", count.added, count.deleted)?;
        }
        match self.sets.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, ", and {more} more sets"),
        }
    }
}

/// The table while a plan runs: rules remember the index they had before it.
struct State {
    table: Option<Table>,
    rules: BTreeMap<String, Vec<(Option<usize>, Rule)>>,
}

impl State {
    fn of(ruleset: &Ruleset) -> Self {
        let mut table = ruleset.table.clone();
        let chains = table.iter_mut().flat_map(|table| &mut table.chains);
        let rules = chains.map(|(name, chain)| {
            let rules = std::mem::take(&mut chain.rules);
            let numbered = rules.into_iter().enumerate().map(|(index, rule)| (Some(index), rule));
            (name.clone(), numbered.collect())
        });
        Self { rules: rules.collect(), table }
    }

    fn into_ruleset(mut self) -> Ruleset {
        for (name, chain) in self.table.iter_mut().flat_map(|table| &mut table.chains) {
            let rules = self.rules.remove(name).unwrap_or_default();
            chain.rules = rules.into_iter().map(|(_, rule)| rule).collect();
        }
        Ruleset { table: self.table }
    }

    fn table(&mut self) -> Result<&mut Table, ApplyError> {
        self.table.as_mut().ok_or_else(|| ApplyError::Missing("the table".into()))
    }

    fn perform(&mut self, operation: &Operation) -> Result<(), ApplyError> {
        match operation {
            Operation::DeleteTable => {
                self.table()?;
                self.table = None;
                self.rules.clear();
                Ok(())
            }
            Operation::AddTable { comment } => {
                if self.table.is_some() {
                    return Err(ApplyError::Exists("the table".into()));
                }
                self.table = Some(Table { comment: comment.clone(), ..Table::default() });
                Ok(())
            }
            Operation::AddCounter { counter } => {
                let added = self.table()?.counters.insert(counter.clone());
                added.then_some(()).ok_or_else(|| exists("counter", counter))
            }
            Operation::DeleteCounter { counter } => {
                let used = |rule: &Rule| rule.counters().any(|name| name == counter);
                self.refuse_if_used("counter", counter, used, |_| false)?;
                let removed = self.table()?.counters.remove(counter);
                removed.then_some(()).ok_or_else(|| missing("counter", counter))
            }
            Operation::AddChain { chain, base } => self.add_chain(chain, base.as_ref()),
            Operation::DeleteChain { chain } => self.delete_chain(chain),
            Operation::SetPolicy { chain, base } => {
                let chains = &mut self.table()?.chains;
                let chain = chains.get_mut(chain).ok_or_else(|| missing("chain", chain))?;
                chain.base = Some(base.clone());
                Ok(())
            }
            Operation::AddSet { set, spec } => {
                let sets = &mut self.table()?.sets;
                if sets.contains_key(set) {
                    return Err(exists("set", set));
                }
                let elements = Elements::empty(spec);
                sets.insert(set.clone(), Set { spec: spec.clone(), elements });
                Ok(())
            }
            Operation::DeleteSet { set } => {
                let used = |rule: &Rule| rule.sets().any(|name| name == set);
                self.refuse_if_used("set", set, used, |_| false)?;
                self.table()?.sets.remove(set).map(|_| ()).ok_or_else(|| missing("set", set))
            }
            Operation::AddElements { set, elements, .. } => {
                if let Elements::Verdicts(verdicts) = elements {
                    for target in verdicts.values().filter_map(|verdict| verdict.target()) {
                        if !self.table()?.chains.contains_key(target) {
                            return Err(missing("chain", target));
                        }
                    }
                }
                let elements_of = &mut self.set(set)?.elements;
                elements_of.add(elements).ok_or_else(|| ApplyError::BadElements(set.clone()))
            }
            Operation::FlushSet { set } => {
                let set = self.set(set)?;
                set.elements = Elements::empty(&set.spec);
                Ok(())
            }
            Operation::DeleteElements { set, elements, .. } => {
                let elements_of = &mut self.set(set)?.elements;
                elements_of.remove(elements).ok_or_else(|| missing("an element of", set))
            }
            Operation::SetState { old, new } => {
                let table = self.table()?;
                match (&table.state, old) {
                    (is, was) if is == was => {}
                    (Some(_), None) => return Err(exists("set", STATE_SET)),
                    _ => return Err(missing("that element of", STATE_SET)),
                }
                if new.is_some() && table.sets.contains_key(STATE_SET) {
                    return Err(exists("set", STATE_SET));
                }
                table.state.clone_from(new);
                Ok(())
            }
            Operation::DeleteRule { chain, index } => {
                let rules = self.rules.get_mut(chain).ok_or_else(|| missing("chain", chain))?;
                let at = position(rules, *index).ok_or_else(|| missing("a rule of", chain))?;
                rules.remove(at);
                Ok(())
            }
            Operation::InsertRule { chain, before, rule } => {
                self.check_references(rule)?;
                let rules = self.rules.get_mut(chain).ok_or_else(|| missing("chain", chain))?;
                let at = match before {
                    Some(index) => {
                        position(rules, *index).ok_or_else(|| missing("a rule of", chain))?
                    }
                    None => rules.len(),
                };
                rules.insert(at, (None, rule.clone()));
                Ok(())
            }
        }
    }

    fn set(&mut self, name: &str) -> Result<&mut Set, ApplyError> {
        self.table()?.sets.get_mut(name).ok_or_else(|| missing("set", name))
    }

    fn add_chain(&mut self, name: &str, base: Option<&Base>) -> Result<(), ApplyError> {
        let chains = &mut self.table()?.chains;
        if chains.contains_key(name) {
            return Err(exists("chain", name));
        }
        chains.insert(name.into(), Chain { base: base.cloned(), rules: Vec::new() });
        self.rules.insert(name.into(), Vec::new());
        Ok(())
    }

    fn delete_chain(&mut self, name: &str) -> Result<(), ApplyError> {
        let leads_here = |rule: &Rule| rule.targets().any(|target| target == name);
        let dispatches_here = |elements: &Elements| match elements {
            Elements::Verdicts(map) => map.values().any(|verdict| verdict.target() == Some(name)),
            _ => false,
        };
        self.refuse_if_used("chain", name, leads_here, dispatches_here)?;
        match self.rules.remove(name) {
            Some(rules) if rules.is_empty() => {
                self.table()?.chains.remove(name);
                Ok(())
            }
            Some(_) => Err(ApplyError::Busy(format!("chain {name}"))),
            None => Err(missing("chain", name)),
        }
    }

    fn refuse_if_used(
        &mut self,
        kind: &str,
        name: &str,
        rule_uses: impl Fn(&Rule) -> bool,
        elements_use: impl Fn(&Elements) -> bool,
    ) -> Result<(), ApplyError> {
        let in_rules = self.rules.values().flatten().any(|(_, rule)| rule_uses(rule));
        if in_rules || self.table()?.sets.values().any(|set| elements_use(&set.elements)) {
            return Err(ApplyError::Busy(format!("{kind} {name}")));
        }
        Ok(())
    }

    fn check_references(&mut self, rule: &Rule) -> Result<(), ApplyError> {
        let table = self.table()?;
        if let Some(set) = rule.sets().find(|set| !table.sets.contains_key(*set)) {
            return Err(missing("set", set));
        }
        if let Some(counter) = rule.counters().find(|name| !table.counters.contains(*name)) {
            return Err(missing("counter", counter));
        }
        match rule.targets().find(|target| !table.chains.contains_key(*target)) {
            Some(chain) => Err(missing("chain", chain)),
            None => Ok(()),
        }
    }
}

fn position(rules: &[(Option<usize>, Rule)], index: usize) -> Option<usize> {
    rules.iter().position(|(old, _)| *old == Some(index))
}

fn missing(kind: &str, name: &str) -> ApplyError {
    ApplyError::Missing(format!("{kind} {name}"))
}

fn exists(kind: &str, name: &str) -> ApplyError {
    ApplyError::Exists(format!("{kind} {name}"))
}

impl Elements {
    /// Adds `more`; none where the kinds differ or an element overlaps one that is there.
    fn add(&mut self, more: &Self) -> Option<()> {
        match (self, more) {
            (Self::Ipv4(own), Self::Ipv4(more)) => *own = own.with_elements(more)?,
            (Self::Ipv6(own), Self::Ipv6(more)) => *own = own.with_elements(more)?,
            (Self::TimedIpv4(own), Self::TimedIpv4(more)) => *own = own.with_elements(more)?,
            (Self::TimedIpv6(own), Self::TimedIpv6(more)) => *own = own.with_elements(more)?,
            (Self::Keys(own), Self::Keys(more)) => {
                more.iter().all(|key| own.insert(*key)).then_some(())?;
            }
            (Self::Verdicts(own), Self::Verdicts(more)) => {
                let (before, verdicts) = (own.len(), more.clone());
                own.extend(verdicts);
                let disjoint = own.keys().zip(own.keys().skip(1)).all(|(a, b)| a.last < b.first);
                (disjoint && own.len() == before + more.len()).then_some(())?;
            }
            (Self::Opaque(own), Self::Opaque(more)) => {
                more.iter().all(|element| own.insert(element.clone())).then_some(())?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Removes `gone`; none where an element isn't there with these very bounds and verdict.
    fn remove(&mut self, gone: &Self) -> Option<()> {
        match (self, gone) {
            (Self::Ipv4(own), Self::Ipv4(gone)) => *own = own.without_elements(gone)?,
            (Self::Ipv6(own), Self::Ipv6(gone)) => *own = own.without_elements(gone)?,
            (Self::TimedIpv4(own), Self::TimedIpv4(gone)) => *own = own.without_elements(gone)?,
            (Self::TimedIpv6(own), Self::TimedIpv6(gone)) => *own = own.without_elements(gone)?,
            (Self::Keys(own), Self::Keys(gone)) => {
                gone.iter().all(|key| own.remove(key)).then_some(())?;
            }
            (Self::Verdicts(own), Self::Verdicts(gone)) => {
                let mut removed = gone.iter().map(|(key, verdict)| (own.remove(key), verdict));
                removed.all(|(old, verdict)| old.as_ref() == Some(verdict)).then_some(())?;
            }
            (Self::Opaque(own), Self::Opaque(gone)) => {
                gone.iter().all(|element| own.remove(element)).then_some(())?;
            }
            _ => return None,
        }
        Some(())
    }
}
