//! A base chain as one list: every rule in the order in which packets meet it, with all that was
//! asked on the way to it.
//!
//! Jumps, gotos and verdict maps are gone afterwards. What is left is a list of [`Item`]s, of
//! which the first that matches a packet decides.

use crate::condition::{Context, Direction, Names, matching};
use crate::region::{Beyond, Region};
use ruleset::Verdict;
use ruleset::listing::{
    ListedChain, ListedRule, ListedTable, Operand, Refusal, Selector, Step, VerdictMap,
};

/// How deep jumps may lead (`NFT_JUMP_STACK_SIZE` of the kernel).
const DEEPEST: usize = 16;
/// How many rules, each as often as it is jumped to, one hook may come to.
const LONGEST: usize = 20_000;

/// What becomes of the packets of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Accept,
    Drop,
    Reject,
    /// They go on, and something was done that no policy does.
    Other,
    /// They go on, and were logged.
    Log,
}

/// A rule as it is met.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) regions: Vec<Region>,
    pub(crate) action: Action,
    /// The rule in nft's words, with its chain where that isn't the base chain.
    pub(crate) text: String,
    pub(crate) comment: Option<String>,
}

/// A hook can't be unrolled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rules of {chain} lead to more than {LONGEST} ways through them")]
pub struct TooLong {
    /// The base chain.
    pub chain: String,
}

/// Unrolls a base chain. Its policy isn't among the items.
pub(crate) fn walk(
    table: &ListedTable,
    number: usize,
    chain: &ListedChain,
    direction: Direction,
    names: &mut Names,
) -> Result<Vec<Item>, TooLong> {
    let context = Context { table, number, direction };
    let mut walk = Walk { context, base: &chain.name, items: Vec::new(), met: 0, names };
    let reach = table.family.addresses().iter().map(|family| Region::all(*family)).collect();
    let accepts = chain.base.as_ref().is_some_and(|base| base.accepts);
    walk.chain(chain, reach, accepts, 0)?;
    Ok(walk.items)
}

struct Walk<'l, 'n> {
    context: Context<'l>,
    base: &'l str,
    items: Vec<Item>,
    met: usize,
    names: &'n mut Names,
}

impl<'l> Walk<'l, '_> {
    /// `accepts` is the base chain's policy, for what goes away from it for good.
    fn chain(
        &mut self,
        chain: &'l ListedChain,
        mut reach: Vec<Region>,
        accepts: bool,
        depth: usize,
    ) -> Result<(), TooLong> {
        for rule in &chain.rules {
            if reach.is_empty() {
                break;
            }
            self.met += 1 + reach.len();
            if self.met > LONGEST {
                return Err(TooLong { chain: self.base.to_owned() });
            }
            reach = self.rule(chain, rule, reach, accepts, depth)?;
        }
        Ok(())
    }

    /// Adds what a rule does to the items. What comes to the next rule of its chain.
    fn rule(
        &mut self,
        chain: &'l ListedChain,
        rule: &'l ListedRule,
        reach: Vec<Region>,
        accepts: bool,
        depth: usize,
    ) -> Result<Vec<Region>, TooLong> {
        let text = match depth {
            0 => rule.to_string(),
            _ => format!("{}: {rule}", chain.name),
        };
        let mut here = reach.clone();
        let mut rest = reach;
        let (mut logs, mut does_more, mut decided) = (false, false, false);
        for step in &rule.steps {
            if here.is_empty() {
                break;
            }
            match step {
                Step::Match { selectors, negated, operand } => {
                    here = self.matching(&here, selectors, *negated, operand);
                }
                Step::Counter => {}
                Step::Log(_) => logs = true,
                Step::Limit(text) => {
                    beyond(&mut here, text, "an allow has no rate");
                }
                Step::Other(text) => {
                    does_more = true;
                    beyond(&mut here, text, "no policy does this");
                }
                Step::Reject(Refusal { family, .. }) => {
                    here.retain(|region| family.is_none_or(|family| family == region.family));
                    self.add(Action::Reject, &here, &text, rule);
                    decided = true;
                }
                Step::Verdict(verdict) => {
                    decided = true;
                    let entry = (verdict, here.clone());
                    rest = self.verdict(entry, rest, (&text, rule), accepts, depth)?;
                }
                Step::Dispatch { selectors, map } => {
                    decided = true;
                    for (key, verdict) in self.entries(map) {
                        let operand = Operand::Keys(vec![key]);
                        let entry = self.matching(&here, selectors, false, &operand);
                        let entry = (&verdict, entry);
                        let text = self.entry_text(&text, rule, operand, &verdict);
                        rest = self.verdict(entry, rest, (&text, rule), accepts, depth)?;
                    }
                }
            }
        }
        if !decided && !here.is_empty() {
            if does_more {
                self.add(Action::Other, &here, &text, rule);
            } else if logs {
                self.add(Action::Log, &here, &text, rule);
            }
        }
        Ok(rest)
    }

    fn matching(
        &mut self,
        reach: &[Region],
        selectors: &[Selector],
        negated: bool,
        operand: &Operand,
    ) -> Vec<Region> {
        matching(reach, selectors, negated, operand, &self.context, self.names)
    }

    fn entries(&self, map: &VerdictMap) -> Vec<(Vec<ruleset::listing::Value>, Verdict)> {
        match map {
            VerdictMap::Entries(entries) => entries.clone(),
            VerdictMap::Named(name) => {
                let elements = self.context.table.sets.get(name).map(|set| set.elements.as_slice());
                let elements = elements.unwrap_or_default().iter();
                elements
                    .filter_map(|element| Some((element.key.clone(), element.verdict.clone()?)))
                    .collect()
            }
        }
    }

    /// The rule that an entry of a map stands for.
    fn entry_text(&self, text: &str, rule: &ListedRule, key: Operand, verdict: &Verdict) -> String {
        let chain = text.split_once(": ").filter(|_| !text.starts_with(&rule.to_string()));
        let mut steps = Vec::new();
        for step in &rule.steps {
            let Step::Dispatch { selectors, .. } = step else {
                steps.push(step.clone());
                continue;
            };
            let (selectors, operand) = (selectors.clone(), key.clone());
            steps.push(Step::Match { selectors, negated: false, operand });
            steps.push(Step::Verdict(verdict.clone()));
        }
        let entry = ListedRule { comment: None, steps };
        chain.map_or_else(|| entry.to_string(), |(chain, _)| format!("{chain}: {entry}"))
    }

    /// What a verdict does to the packets of `entry`. What is left of `rest`, which they are of.
    fn verdict(
        &mut self,
        (verdict, here): (&Verdict, Vec<Region>),
        rest: Vec<Region>,
        (text, rule): (&str, &'l ListedRule),
        accepts: bool,
        depth: usize,
    ) -> Result<Vec<Region>, TooLong> {
        if here.is_empty() {
            return Ok(rest);
        }
        match verdict {
            Verdict::Accept => self.add(Action::Accept, &here, text, rule),
            Verdict::Drop => self.add(Action::Drop, &here, text, rule),
            Verdict::Return if depth == 0 => self.policy(accepts, &here, text, rule),
            Verdict::Return => return Ok(without(rest, &here, text)),
            Verdict::Jump(_) | Verdict::Goto(_) if depth >= DEEPEST => {
                return Err(TooLong { chain: self.base.to_owned() });
            }
            Verdict::Jump(name) | Verdict::Goto(name) => {
                if let Some(target) = self.context.table.chain(name) {
                    self.chain(target, here.clone(), accepts, depth + 1)?;
                }
                if let Verdict::Goto(_) = verdict {
                    if depth > 0 {
                        return Ok(without(rest, &here, text));
                    }
                    self.policy(accepts, &here, text, rule);
                }
            }
        }
        Ok(rest)
    }

    fn policy(&mut self, accepts: bool, here: &[Region], text: &str, rule: &ListedRule) {
        let action = if accepts { Action::Accept } else { Action::Drop };
        self.add(action, here, text, rule);
    }

    fn add(&mut self, action: Action, here: &[Region], text: &str, rule: &ListedRule) {
        if !here.is_empty() {
            let (regions, text) = (here.to_vec(), text.to_owned());
            self.items.push(Item { regions, action, text, comment: rule.comment.clone() });
        }
    }
}

/// The regions less those that went away. Where that can't be told, a word is said about it.
fn without(reach: Vec<Region>, gone: &[Region], text: &str) -> Vec<Region> {
    let mut rest = reach;
    for gone in gone {
        let less = |region: Region| match region.minus(gone) {
            Some(parts) => parts,
            None => {
                let mut region = [region];
                beyond(&mut region, text, "a rule before it leads some of these packets away");
                region.to_vec()
            }
        };
        rest = rest.into_iter().flat_map(less).collect();
    }
    rest
}

fn beyond(regions: &mut [Region], what: &str, why: &'static str) {
    for region in regions {
        region.beyond.insert(Beyond { what: what.to_owned(), why, is_hygiene: false });
    }
}
