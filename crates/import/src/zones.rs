//! The zones of firewalld that are bound to sources: each is who it is for, under a name that people
//! know.

use crate::intervals::Intervals;
use ruleset::Family;
use ruleset::Verdict;
use ruleset::listing::{ListedRule, ListedTable, Operand, Selector, Step, Value};
use std::collections::BTreeMap;

/// The sources of a zone, by family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sources {
    pub(crate) v4: Intervals,
    pub(crate) v6: Intervals,
}

impl Sources {
    pub(crate) fn of(&self, family: Family) -> &Intervals {
        if family == Family::V4 { &self.v4 } else { &self.v6 }
    }

    fn add(&mut self, family: Family, ranges: &Intervals) {
        let mine = if family == Family::V4 { &mut self.v4 } else { &mut self.v6 };
        *mine = mine.union(ranges);
    }
}

/// The zones of the tables, by name.
pub(crate) fn zones(tables: &[ListedTable]) -> BTreeMap<String, Sources> {
    let mut zones: BTreeMap<String, Sources> = BTreeMap::new();
    for table in tables.iter().filter(|table| table.name == "firewalld") {
        // `filter_INPUT_ZONES`, in older versions with `_SOURCE` behind it.
        let dispatch =
            table.chains.iter().filter(|chain| chain.name.starts_with("filter_INPUT_ZONES"));
        for rule in dispatch.flat_map(|chain| &chain.rules) {
            if let Some((zone, family, ranges)) = source(rule) {
                zones.entry(zone.to_owned()).or_default().add(family, &ranges);
            }
        }
    }
    zones
}

/// `ip saddr ADDRESSES goto filter_IN_ZONE`.
fn source(rule: &ListedRule) -> Option<(&str, Family, Intervals)> {
    let mut steps = rule.steps.iter().filter(|step| !matches!(step, Step::Counter));
    let (Some(matched), Some(verdict), None) = (steps.next(), steps.next(), steps.next()) else {
        return None;
    };
    let Step::Match { selectors, negated: false, operand: Operand::Keys(keys) } = matched else {
        return None;
    };
    let [Selector::Saddr(family)] = selectors.as_slice() else { return None };
    let Step::Verdict(Verdict::Goto(chain) | Verdict::Jump(chain)) = verdict else { return None };
    let zone = chain.strip_prefix("filter_IN_")?;
    let range = |key: &Vec<Value>| match key.as_slice() {
        [Value::Range(first, last)] => Some((*first, *last)),
        _ => None,
    };
    let ranges: Option<Vec<_>> = keys.iter().map(range).collect();
    Some((zone, *family, Intervals::new(ranges?)))
}
