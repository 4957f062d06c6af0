//! What the chains of the tables do on each hook: which of them decides, whether it denies what no
//! rule names, and how.

use crate::condition::{Direction, Names};
use crate::entry::Entry;
use crate::region::Region;
use crate::walk::{Action, Item, TooLong, walk};
use policy::model::{DenyAction, Forward, Mode};
use ruleset::Family;
use ruleset::listing::{ListedChain, ListedTable};
use std::collections::BTreeSet;

/// Input, output, and the rest.
#[derive(Debug)]
pub(crate) struct Hooks {
    /// Input, then output.
    pub(crate) sides: Vec<Side>,
    pub(crate) forward: Forward,
    /// What of other hooks isn't in the policy, and what is odd.
    pub(crate) others: Vec<Entry>,
}

/// One side of this server.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) direction: Direction,
    pub(crate) chains: Vec<Unrolled>,
    pub(crate) mode: Mode,
    pub(crate) deny: DenyAction,
    /// Whether what no rule names passes.
    pub(crate) is_open: bool,
}

/// A base chain as one list.
#[derive(Debug)]
pub(crate) struct Unrolled {
    pub(crate) title: String,
    pub(crate) items: Vec<Item>,
    families: &'static [Family],
    /// Its policy.
    accepts: bool,
    /// The families in which its accepts become allows. A packet has to pass all chains of the
    /// hook, so the others only deny.
    decides: BTreeSet<Family>,
}

impl Hooks {
    /// Sorts the chains of the tables out.
    /// `first` is the number of the first table among all that are imported.
    pub(crate) fn new(
        tables: &[ListedTable],
        first: usize,
        names: &mut Names,
    ) -> Result<Self, TooLong> {
        let mut others = Vec::new();
        let mut sides = Vec::new();
        for direction in [Direction::Input, Direction::Output] {
            sides.push(side((tables, first), direction, names, &mut others)?);
        }
        let forward = forward(tables, &mut others);
        if forward == Forward::Drop && sides[0].mode == Mode::Off {
            let rule = "chain forward";
            others.push(Entry::lost(rule, "forward is as open as input is, which filters nothing"));
        }
        for table in tables {
            for chain in table.chains.iter().filter(|chain| !chain.rules.is_empty()) {
                if let Some(base) = chain.base.as_ref().filter(|_| !is_filtered(chain)) {
                    let rule = format!(
                        "chain {} (type {} hook {}), {}",
                        chain.name,
                        base.kind,
                        base.hook,
                        counted(chain.rules.len())
                    );
                    others.push(Entry::lost(rule, "a policy has rules for input and output only"));
                }
            }
        }
        Ok(Self { sides, forward, others })
    }
}

fn counted(rules: usize) -> String {
    format!("{rules} rule{}", if rules == 1 { "" } else { "s" })
}

fn is_filtered(chain: &ListedChain) -> bool {
    chain.base.as_ref().is_some_and(|base| {
        base.kind == "filter" && ["input", "output", "forward"].contains(&base.hook.as_str())
    })
}

fn on<'t>(table: &'t ListedTable, hook: &str) -> Vec<&'t ListedChain> {
    let is_here = |chain: &&ListedChain| {
        is_filtered(chain) && chain.base.as_ref().is_some_and(|base| base.hook == hook)
    };
    let mut chains: Vec<_> = table.chains.iter().filter(is_here).collect();
    chains.sort_by_key(|chain| chain.base.as_ref().map_or(0, |base| base.priority));
    chains
}

fn side(
    (tables, first): (&[ListedTable], usize),
    direction: Direction,
    names: &mut Names,
    others: &mut Vec<Entry>,
) -> Result<Side, TooLong> {
    let hook = if direction == Direction::Input { "input" } else { "output" };
    let mut unrolled = Vec::new();
    for (number, table) in (first..).zip(tables) {
        for chain in on(table, hook) {
            let items = walk(table, number, chain, direction, names)?;
            let policy = match chain.base.as_ref().is_some_and(|base| base.accepts) {
                true => "accept",
                false => "drop",
            };
            unrolled.push(Unrolled {
                title: format!(
                    "{hook}: chain {} of {} {}, policy {policy}",
                    chain.name, table.family, table.name
                ),
                items,
                families: table.family.addresses(),
                accepts: policy == "accept",
                decides: BTreeSet::new(),
            });
        }
    }
    choose(&mut unrolled);
    let closed: BTreeSet<Family> = unrolled
        .iter()
        .filter(|chain| chain.closes())
        .flat_map(|chain| chain.families)
        .copied()
        .collect();
    let is_open = closed.is_empty();
    let logs = unrolled.iter().any(|chain| {
        let last = chain.items.last();
        last.is_some_and(|item| item.action == Action::Log)
    });
    let mode = match (is_open, logs) {
        (false, _) => Mode::Enforce,
        (true, true) => Mode::Observe,
        (true, false) => Mode::Off,
    };
    if !is_open {
        for family in Family::BOTH.into_iter().filter(|family| !closed.contains(family)) {
            let name = if family == Family::V4 { "IPv4" } else { "IPv6" };
            let rule = format!("{name} passes in {hook}: these tables don't deny any of it");
            others.push(Entry::lost(rule, "a policy is for both families: it is denied now"));
        }
    }
    let deny = deny(&unrolled, direction);
    Ok(Side { direction, chains: unrolled, mode, deny, is_open })
}

/// Has one chain decide in each family, whichever table it is of: the one that denies what no rule
/// names, else the one that accepts most.
fn choose(chains: &mut [Unrolled]) {
    let accepts =
        |chain: &Unrolled| chain.items.iter().filter(|item| item.action == Action::Accept).count();
    for family in Family::BOTH {
        let here = (0..chains.len()).rev().filter(|at| chains[*at].families.contains(&family));
        let chosen = here.max_by_key(|at| (chains[*at].closes(), accepts(&chains[*at])));
        if let Some(chosen) = chosen {
            chains[chosen].decides.insert(family);
        }
    }
    // What is denied elsewhere has to be known when a chain's accepts become allows. One that
    // decides in one of its families denies in the other.
    chains.sort_by_key(|chain| (!chain.decides.is_empty(), chain.yields().next().is_none()));
}

impl Unrolled {
    pub(crate) fn decides(&self, family: Family) -> bool {
        self.decides.contains(&family)
    }

    /// The families in which another chain decides.
    pub(crate) fn yields(&self) -> impl Iterator<Item = Family> {
        self.families.iter().copied().filter(|family| !self.decides(*family))
    }

    pub(crate) fn has_accepts(&self) -> bool {
        self.items.iter().any(|item| item.action == Action::Accept)
    }

    /// Whether nothing is left to a policy that accepts.
    pub(crate) fn closes(&self) -> bool {
        if !self.accepts {
            return true;
        }
        let mut open: Vec<Region> =
            self.families.iter().map(|family| Region::all(*family)).collect();
        for item in self.items.iter().filter(|item| is_denial(item)) {
            for denied in &item.regions {
                let less: Option<Vec<_>> = open.iter().map(|region| region.minus(denied)).collect();
                let Some(less) = less else { continue };
                let less: Vec<Region> = less.into_iter().flatten().collect();
                // Many small holes never close a chain.
                if less.len() <= 64 {
                    open = less;
                }
            }
        }
        open.is_empty()
    }
}

fn is_denial(item: &Item) -> bool {
    matches!(item.action, Action::Drop | Action::Reject)
}

/// How the end of the chain refuses.
fn deny(chains: &[Unrolled], direction: Direction) -> DenyAction {
    let closing = chains.iter().filter(|chain| !chain.decides.is_empty() && chain.closes());
    let mut denials = closing.flat_map(|chain| {
        let ends = chain.items.iter().rev().take_while(|item| item.action != Action::Accept);
        ends.filter(|item| item.action == Action::Reject && item.regions.iter().all(is_for_all))
    });
    let default = policy::model::Deny::default();
    match (denials.next(), chains.iter().any(|chain| chain.closes())) {
        (Some(_), _) => DenyAction::Reject,
        (None, true) => DenyAction::Drop,
        // Nothing is denied: what a later policy does is its own.
        (None, false) if direction == Direction::Input => default.input,
        (None, false) => default.output,
    }
}

/// Whether everybody is refused so, be it in one protocol only.
fn is_for_all(region: &Region) -> bool {
    let mut all = Region::all(region.family);
    all.service = region.service.clone();
    *region == all
}

fn forward(tables: &[ListedTable], others: &mut Vec<Entry>) -> Forward {
    let chains: Vec<(&ListedTable, &ListedChain)> = tables
        .iter()
        .flat_map(|table| on(table, "forward").into_iter().map(move |chain| (table, chain)))
        .collect();
    if chains.is_empty() {
        return Forward::Unmanaged;
    }
    let accepts = |chain: &ListedChain| chain.base.as_ref().is_some_and(|base| base.accepts);
    for (table, chain) in &chains {
        // Established packets of connections that nobody may open are none.
        if !chain.rules.is_empty() {
            let rule = format!(
                "chain {} of {} {} (forward), {}",
                chain.name,
                table.family,
                table.name,
                counted(chain.rules.len())
            );
            others.push(Entry::lost(rule, "a policy has no rules for what is routed"));
        }
    }
    match chains.iter().all(|(_, chain)| accepts(chain)) {
        true => Forward::Accept,
        false => Forward::Drop,
    }
}
