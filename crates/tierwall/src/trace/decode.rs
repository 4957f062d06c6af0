//! A packet's way through a base chain, and what it means: by the rules that the kernel held then,
//! and the policy behind them.
//!
//! Our own table's part is the walk that the evaluator makes over a table ([`Evaluation`]), only
//! made by the kernel: so a [`Judge`] finds the same words for both.

use super::packet::Visit;
use netlink::survey::Family;
use netlink::trace::{Event, Step, Verdict};
use netlink::{AllRules, ChainRules, Connection, Error};
use policy::explain::{Fate, Ground};
use policy::judge::By;
use policy::model::Policy;
use policy::{Judge, Labels};
use ruleset::evaluate::{Evaluation, Outcome, RuleRef};
use ruleset::{Base, Chain, Hook, Rule, Ruleset, Statement, Table};
use std::cell::OnceCell;

/// How many states of the rules are kept: packets may have met those before the last change.
const STATES: usize = 4;

/// The rules in the kernel, now and lately.
pub(super) struct Rules {
    connection: Connection,
    /// The last one is the newest.
    states: Vec<State>,
}

/// The rules at one generation.
struct State {
    rules: AllRules,
    /// The chains of our table, as values.
    ours: Ruleset,
}

/// Reads what packets met.
pub(super) struct Decoder<'a> {
    /// Each with its judge, once one was needed.
    states: Vec<(&'a State, OnceCell<Judge<'a>>)>,
    policy: Option<&'a Policy>,
}

/// What a visit comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    /// Hook and priority of the base chain, where it is still there.
    pub(super) base: Option<&'a Base>,
    /// Whether the table is tierwall's.
    pub(super) ours: bool,
    /// The rule of each step.
    pub(super) rules: Vec<Option<&'a Rule>>,
    /// What our table decided; none where it is another's, or steps are missing.
    pub(super) decision: Option<Decision<'a>>,
}

/// What our table decided about a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision<'a> {
    pub(super) hook: Hook,
    pub(super) fate: Fate,
    pub(super) by: Cause<'a>,
}

/// What a decision is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause<'a> {
    /// As `explain` tells it.
    Ground(Ground<'a>),
    /// An allow that the policy files don't have, by what its rule's comment says.
    UnknownAllow(&'a str),
}

impl Rules {
    pub(super) fn read() -> Result<Self, Error> {
        let mut connection = Connection::open()?;
        let rules = connection.all_rules()?;
        Ok(Self { connection, states: vec![State::of(rules)] })
    }

    /// Reads them again where anything was committed since. Whether those of our table are others
    /// now.
    pub(super) fn refresh(&mut self) -> Result<bool, Error> {
        let generation = self.connection.generation()?;
        if self.states.last().is_some_and(|state| state.rules.generation == generation) {
            return Ok(false);
        }
        let state = State::of(self.connection.all_rules()?);
        let is_other = self.states.last().is_none_or(|before| before.ours != state.ours);
        if self.states.len() == STATES {
            self.states.remove(0);
        }
        self.states.push(state);
        Ok(is_other)
    }

    /// By the policy of the files, if they are good.
    pub(super) fn decoder<'a>(&'a self, policy: Option<&'a Policy>) -> Decoder<'a> {
        let state = |state| (state, OnceCell::new());
        Decoder { states: self.states.iter().map(state).collect(), policy }
    }
}

impl<'a> Decoder<'a> {
    /// What a visit comes to.
    pub(super) fn decode(&self, visit: &Visit) -> Decoded<'a> {
        // The state that has every rule of the visit, else the newest.
        let mut states = self.states.iter().rev();
        let known = states.find(|(state, _)| state.knows(visit)).or(self.states.last());
        let Some((state, judge)) = known else {
            return Decoded { base: None, ours: false, rules: Vec::new(), decision: None };
        };
        let state: &'a State = state;
        let table = state.rules.tables.get(&(visit.family, visit.table.clone()));
        let base = state.chain(visit, &visit.chain).and_then(|chain| chain.base.as_ref());
        let ours = table.is_some_and(|table| table.ours);
        let rule = |step: &Step| {
            let (_, rule) = state.chain(visit, &step.chain)?.rule(handle(&step.event)?)?;
            Some(rule)
        };
        let decision = || {
            let evaluation = state.evaluation(visit)?;
            let judge = judge.get_or_init(|| match self.policy {
                Some(policy) => Judge::new(policy, &state.ours),
                None => Judge::without_policy(&state.ours),
            });
            let ruling = judge.rule_as(evaluation);
            let by = match ruling.by {
                By::Allow(allow) => Cause::Ground(Ground::Allow(allow)),
                By::BuiltIn(name) => match Labels::allow_in(name) {
                    Some(allow) => Cause::UnknownAllow(allow),
                    None => Cause::Ground(Ground::BuiltIn(name.to_owned())),
                },
                By::Closing => Cause::Ground(Ground::Closing),
                By::Unfiltered => Cause::Ground(Ground::Unfiltered),
            };
            Some(Decision { hook: base?.hook, fate: ruling.fate(), by })
        };
        Decoded {
            base,
            ours,
            rules: visit.steps.iter().map(rule).collect(),
            decision: if ours { decision() } else { None },
        }
    }
}

impl State {
    fn of(rules: AllRules) -> Self {
        let ours = rules.tables.get(&(Family::Inet, ruleset::TABLE.to_owned()));
        let chain = |(name, chain): (&String, &ChainRules)| {
            let rules = chain.rules.iter().map(|(_, rule)| rule.clone()).collect();
            (name.clone(), Chain { base: chain.base.clone(), rules })
        };
        let table = ours.filter(|table| table.ours).map(|table| Table {
            chains: table.chains.iter().map(chain).collect(),
            ..Table::new()
        });
        Self { rules, ours: Ruleset { table } }
    }

    fn chain(&self, visit: &Visit, chain: &str) -> Option<&ChainRules> {
        self.rules.chain(visit.family, &visit.table, chain)
    }

    fn knows(&self, visit: &Visit) -> bool {
        visit.steps.iter().all(|step| {
            let chain = self.chain(visit, &step.chain);
            chain.is_some_and(|chain| {
                handle(&step.event).is_none_or(|handle| chain.rule(handle).is_some())
            })
        })
    }

    /// The kernel's walk as the evaluator's; none where steps are missing or rules are gone.
    fn evaluation(&self, visit: &Visit) -> Option<Evaluation<'_>> {
        let table = self.ours.table.as_ref()?;
        let mut evaluation = Evaluation {
            outcome: Outcome::Accept,
            rule: None,
            via: Vec::new(),
            counters: Vec::new(),
            logged: Vec::new(),
        };
        // Whether it comes back behind the rule.
        let mut jumped: Vec<bool> = Vec::new();
        for step in &visit.steps {
            let known = handle(&step.event).map(|handle| {
                let (index, _) = self.chain(visit, &step.chain)?.rule(handle)?;
                let (chain, own) = table.chains.get_key_value(&step.chain)?;
                let rule = own.rules.get(index)?;
                Some((RuleRef { chain, index, comment: &rule.comment }, rule))
            });
            let known = match known {
                Some(found) => Some(found?),
                None => None,
            };
            if let Some((_, rule)) = known {
                evaluation.counters.extend(counters(rule));
            }
            match (&step.event, known) {
                (Event::Policy { accepts }, _) => {
                    evaluation.outcome = if *accepts { Outcome::Accept } else { Outcome::Drop };
                    return Some(evaluation);
                }
                (Event::Return { .. }, _) => {
                    while let Some(comes_back) = jumped.pop() {
                        evaluation.via.pop();
                        if comes_back {
                            break;
                        }
                    }
                }
                (Event::Rule { verdict, .. }, Some((place, rule))) => match verdict {
                    Verdict::Jump(_) | Verdict::Goto(_) => {
                        evaluation.via.push(place);
                        jumped.push(matches!(verdict, Verdict::Jump(_)));
                    }
                    Verdict::Accept => {
                        evaluation.rule = Some(place);
                        return Some(evaluation);
                    }
                    Verdict::Drop => {
                        evaluation.rule = Some(place);
                        evaluation.outcome = dropped(rule);
                        return Some(evaluation);
                    }
                    Verdict::Continue => {}
                    // Ours say nothing else.
                    Verdict::Queue | Verdict::Stolen | Verdict::Other(_) => return None,
                },
                (Event::Rule { .. }, None) => return None,
            }
        }
        None
    }
}

/// The rule that a step is of.
pub(super) fn handle(event: &Event) -> Option<u64> {
    match event {
        Event::Rule { handle, .. } => Some(*handle),
        Event::Return { handle } => *handle,
        Event::Policy { .. } => None,
    }
}

/// Those that count each packet; behind a limit the evaluator leaves them out too.
fn counters(rule: &Rule) -> impl Iterator<Item = &str> {
    let unlimited = rule.statements.iter().take_while(|s| !matches!(s, Statement::Limit(_)));
    unlimited.filter_map(|statement| match statement {
        Statement::Counter(name) => Some(name.as_str()),
        _ => None,
    })
}

/// The kernel tells a refusal as a drop.
fn dropped(rule: &Rule) -> Outcome {
    let reject = rule.statements.iter().find_map(|statement| match statement {
        Statement::Reject(reject) => Some(Outcome::Reject(*reject)),
        _ => None,
    });
    reject.unwrap_or(Outcome::Drop)
}
