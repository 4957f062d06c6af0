//! Policy → ruleset: this server's part of the policy as the table `inet filter`.
//!
//! A pure function of the policy, the role and the users' ids. The shape of the table:
//!
//! - Base chains `input`, `forward`, `output` hold what is the same for everybody: connections
//!   that exist, built-in traffic, the dispatch by service, and the closing log and drop.
//! - Every allow has one chain a side, `in.NAME` or `out.NAME`: its peers and its accept. A rule
//!   is thus written once, however many ports it opens, and keeps its handle when others change.
//! - A map for each transport protocol (`input_tcp`) leads from the destination port to the chain of
//!   the allow that holds there, or to a chain that jumps to each of several. What a new flow
//!   costs doesn't depend on how many allows there are, as long as few of their ranges overlap.
//! - Copies of these stand below a prefix: `again.` for packets of connections that connection
//!   tracking forgot, `asked.` for UDP whose user is asked in each packet.
//! - Every tier named on this server has a set for each family (`web_v4`, `web_v6`), so that a change of
//!   members never changes a rule. So has `"*"`, of which all tiers are part (`every.server_v4`).
//! - What is denied is logged within limits, of which members of tiers that allows name have their
//!   own.

mod again;
mod allow;
mod asked;
mod base;
mod copies;
mod dispatch;
mod labels;
mod log;
mod names;
mod segments;
mod size;
mod tiers;

pub(crate) use asked::PORTS as ASKED_PORTS;
pub(crate) use labels::BUILT_IN;
pub use labels::Labels;
pub use log::LOG_GROUP;
pub use size::{check_size, estimate_rules};
pub(crate) use tiers::{EVERY_SERVER, set_name};

use crate::model::{Allow, Endpoint, Mode, Policy, User};
use crate::role::Role;
use dispatch::Dispatch;
use ruleset::{Base, Chain, Family, Field, Hook, NameTaken, Rule, Ruleset, Set, Table};
use std::collections::{BTreeMap, BTreeSet};

/// What compiling depends on beside the policy.
#[derive(Debug, Clone, Copy)]
pub struct Host<'a> {
    /// The tiers this server is in.
    pub role: &'a Role,
    /// The ids of the users that the policy names and this server knows. An allow for others
    /// only has no rule.
    pub users: &'a BTreeMap<String, u32>,
    /// What was compiled before, from which large sets keep their layout and size as long as they
    /// fit. None for the first time.
    pub previous: Option<&'a Ruleset>,
}

/// Compiles the part of `policy` that concerns `host`.
pub fn compile(policy: &Policy, host: Host<'_>) -> Ruleset {
    let labels = Labels::of(&policy.allows);
    let mut compiler = Compiler {
        policy,
        host,
        labels: &labels,
        table: Table::new(),
        tier_sets: BTreeMap::new(),
        counted: BTreeSet::new(),
        short_cuts: dispatch::SHORT_CUTS,
    };
    let (input, output) = (policy.mode.input, policy.mode.output);
    let accepted = (input != Mode::Off).then(|| compiler.side(Side::Input));
    let opened = (output != Mode::Off).then(|| compiler.side(Side::Output));
    if let Some(accepted) = &accepted {
        let again = compiler.again(Side::Input, (output, opened.as_ref()));
        compiler.base_chain(Side::Input, input, accepted, again);
    }
    if let Some(opened) = &opened {
        let again = compiler.again(Side::Output, (input, accepted.as_ref()));
        compiler.base_chain(Side::Output, output, opened, again);
    }
    compiler.forward();
    Ruleset { table: Some(compiler.table) }
}

/// The sides of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    Output,
}

impl Side {
    /// The name of its base chain, and of what belongs to it.
    fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }

    fn hook(self) -> Hook {
        match self {
            Self::Input => Hook::Input,
            Self::Output => Hook::Output,
        }
    }

    /// The chain of an allow on this side.
    fn allow_chain(self, slug: &str) -> String {
        match self {
            Self::Input => format!("in.{slug}"),
            Self::Output => format!("out.{slug}"),
        }
    }

    /// The address of the other side.
    fn peer(self, family: ruleset::Family) -> Field {
        match self {
            Self::Input => Field::Saddr(family),
            Self::Output => Field::Daddr(family),
        }
    }
}

/// An allow that this server acts on, on one side.
#[derive(Debug, Clone, Copy)]
struct Active<'a> {
    /// Its index in the policy, and so in the labels.
    index: usize,
    allow: &'a Allow,
    /// The other side.
    peer: &'a Endpoint,
}

struct Compiler<'a> {
    policy: &'a Policy,
    host: Host<'a>,
    labels: &'a Labels,
    table: Table,
    /// The sets of the tiers named so far, and of `"*"`.
    tier_sets: BTreeMap<(&'a str, Family), Vec<String>>,
    /// The allows that have their counter, by index: one for both sides.
    counted: BTreeSet<usize>,
    /// How many elements of tiers may still be in maps from peers to allows.
    short_cuts: usize,
}

impl<'a> Compiler<'a> {
    /// The chains of a side's allows, and what leads to them.
    fn side(&mut self, side: Side) -> Dispatch {
        let mut active: Vec<Active<'a>> = self.active(side).collect();
        // Not in the order of the file: moving an allow there must not move a rule.
        active.sort_by_key(|allow| self.labels.slug(allow.index));
        for allow in &active {
            if self.counted.insert(allow.index) {
                free(self.table.add_counter(&self.labels.counter(allow.index)));
            }
            self.allow_chain(side, *allow);
        }
        self.dispatch(side, &active)
    }

    fn add_chain(&mut self, name: &str, base: Option<Base>, rules: Vec<Rule>) {
        free(self.table.add_chain(name, Chain { base, rules }));
    }

    fn add_set(&mut self, name: &str, set: Set) {
        free(self.table.add_set(name, set));
    }

    /// The allows of which this server is one side, and that it can act on.
    fn active(&self, side: Side) -> impl Iterator<Item = Active<'a>> + use<'a> {
        let host = self.host;
        active(self.policy, host.role, side).filter(move |Active { allow, .. }| {
            side == Side::Input
                || allow.users.is_empty()
                || allow.users.iter().any(|user| uid(user, host.users).is_some())
        })
    }
}

/// The allows of which a server of this role is one side.
fn active<'a>(
    policy: &'a Policy,
    role: &'a Role,
    side: Side,
) -> impl Iterator<Item = Active<'a>> + use<'a> {
    policy.allows.iter().enumerate().filter_map(move |(index, allow)| {
        let (own, peer) = match side {
            Side::Input => (&allow.to, &allow.from),
            Side::Output => (&allow.from, &allow.to),
        };
        concerns(own, role).then_some(Active { index, allow, peer })
    })
}

/// A name that is taken would give one allow's peers what another opens. Names are made so that none
/// is ([`names`]), and a server is better off with its last table than with such a one.
fn free(added: Result<(), NameTaken>) {
    if let Err(taken) = added {
        panic!("a fault in the compiler: {taken}");
    }
}

/// Whether one side of an allow is a server of this role.
fn concerns(own: &Endpoint, role: &Role) -> bool {
    own.every_server || !own.tiers.is_disjoint(&role.tiers)
}

fn uid(user: &User, users: &BTreeMap<String, u32>) -> Option<u32> {
    match user {
        User::Uid(uid) => Some(*uid),
        User::Name { name, .. } => users.get(name).copied(),
    }
}
