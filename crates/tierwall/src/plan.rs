//! `tierwall plan`: what would change in the kernel, and what that means.

use crate::error::Error;
use crate::judge::{Judged, judge, tell_diagnostics};
use crate::options::{Common, Judgement, Plan};
use crate::output::{BAD, FAINT, GOOD, WARNING, print, print_json, styled};
use policy::{Direction, Opening, Reach};
use ruleset::{AddressSet, Elements, Operation};
use serde_json::json;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Members of a tier named in full in a change; more are counted.
const MEMBERS_SHOWN: usize = 8;

pub(crate) fn run(common: &Common, options: &Plan) -> Result<u8, Error> {
    let judged = judge(common, &Judgement { as_: None, strict: false })?;
    if !common.json {
        tell_diagnostics(&judged.warnings);
    }
    let mut connection = netlink::Connection::open().map_err(Error::Kernel)?;
    let found = connection.dump().map_err(Error::Kernel)?;
    let ours = found.ruleset.table.as_ref().is_some_and(|table| table.is_ours());
    let wanted = judged.compile(ours.then_some(&found.ruleset));
    let plan = found.ruleset.diff(&wanted);
    let foreign = found.ruleset.table.as_ref().is_some_and(|t| !t.is_ours() && !t.is_inert());
    let change = Change {
        before: Reach::of(&found.ruleset),
        after: Reach::of(&wanted),
        members: members(&plan),
        foreign,
    };
    if common.json {
        let operations: Vec<String> = plan.operations.iter().map(ToString::to_string).collect();
        print_json(&change.as_json(&judged, &operations))?;
    } else if plan.is_empty() {
        print("nothing would change: the kernel holds this policy\n")?;
    } else {
        let mut text = change.as_text(&judged);
        let summary = plan.summary();
        text += &styled(
            FAINT,
            &format!("\nrules: {} added, {} deleted", summary.rules_added, summary.rules_deleted),
        );
        for (set, count) in &summary.sets {
            text += &styled(FAINT, &format!("; {set} +{} -{}", count.added, count.deleted));
        }
        text.push('\n');
        if options.operations {
            text += &format!("\n{plan}");
        }
        print(&text)?;
    }
    match options.detailed_exitcode && !plan.is_empty() {
        true => Ok(control::exit::CHANGES),
        false => Ok(control::exit::OK),
    }
}

/// What changes, in the words of the policy.
struct Change {
    before: Reach,
    after: Reach,
    members: BTreeMap<String, Members>,
    foreign: bool,
}

/// How a tier's members change.
#[derive(Default)]
struct Members {
    gained: Vec<String>,
    lost: Vec<String>,
}

impl Change {
    fn lost(&self) -> impl Iterator<Item = &Opening> {
        self.before.openings.difference(&self.after.openings)
    }

    fn gained(&self) -> impl Iterator<Item = &Opening> {
        self.after.openings.difference(&self.before.openings)
    }

    fn as_text(&self, judged: &Judged) -> String {
        let mut lines = Vec::new();
        if self.foreign {
            let line =
                "the table was not made by tierwall: only `tierwalld --takeover` replaces it";
            lines.push(styled(WARNING, line));
        }
        for direction in Direction::BOTH {
            let (was, is) =
                (self.before.open.contains(&direction), self.after.open.contains(&direction));
            if was && !is {
                let line =
                    format!("{direction} was open to everything; now only what allows name passes");
                lines.push(styled(BAD, &line));
            } else if is && !was {
                lines.push(styled(GOOD, &format!("{direction} is now open to everything")));
            }
        }
        lines.extend(self.gained().map(|o| styled(GOOD, &format!("+ {}", gained(judged, o)))));
        lines.extend(self.lost().map(|o| styled(BAD, &format!("- {}", lost(judged, o)))));
        for (tier, members) in &self.members {
            if !members.gained.is_empty() {
                let line = format!("+ {tier} gains {}", shortened(&members.gained));
                lines.push(styled(GOOD, &line));
            }
            if !members.lost.is_empty() {
                lines.push(styled(BAD, &format!("- {tier} loses {}", shortened(&members.lost))));
            }
        }
        if lines.is_empty() {
            lines.push("the same traffic passes; only the table's own shape changes".into());
        }
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn as_json(&self, judged: &Judged, operations: &[String]) -> serde_json::Value {
        let opening = |meaning: fn(&Judged, &Opening) -> String| {
            move |opening: &Opening| {
                json!({
                    "direction": opening.direction.to_string(),
                    "peer": opening.peer,
                    "service": opening.service,
                    "users": opening.users,
                    "allow": opening.comment.strip_prefix("allow ").unwrap_or(&opening.comment),
                    "meaning": meaning(judged, opening),
                })
            }
        };
        let open =
            |reach: &Reach| -> Vec<String> { reach.open.iter().map(ToString::to_string).collect() };
        let members: BTreeMap<&String, _> = self
            .members
            .iter()
            .map(|(tier, members)| {
                (tier, json!({ "gained": members.gained, "lost": members.lost }))
            })
            .collect();
        json!({
            "changes": !operations.is_empty(),
            "foreign_table": self.foreign,
            "open_before": open(&self.before),
            "open_after": open(&self.after),
            "gained": self.gained().map(opening(gained)).collect::<Vec<_>>(),
            "lost": self.lost().map(opening(lost)).collect::<Vec<_>>(),
            "members": members,
            "operations": operations,
            "diagnostics": judged.warnings,
        })
    }
}

fn gained(judged: &Judged, opening: &Opening) -> String {
    let (own, by) = (own_name(judged), by(opening));
    let Opening { peer, service, .. } = opening;
    let place = judged.policy.allow_of_comment(&opening.comment);
    let place = place.map(|allow| format!("  ({})", allow.location)).unwrap_or_default();
    match opening.direction {
        Direction::Input => format!("{own} is now reachable from {peer} on {service}{place}"),
        Direction::Output => format!("{own} may now open {service} to {peer}{by}{place}"),
    }
}

fn lost(judged: &Judged, opening: &Opening) -> String {
    let (own, by) = (own_name(judged), by(opening));
    let Opening { peer, service, .. } = opening;
    match opening.direction {
        Direction::Input => format!("{own} is no longer reachable from {peer} on {service}"),
        Direction::Output => format!("{own} may no longer open {service} to {peer}{by}"),
    }
}

fn own_name(judged: &Judged) -> String {
    let tiers: Vec<&str> = judged.role.tiers.iter().map(String::as_str).collect();
    if tiers.is_empty() { "this server".into() } else { tiers.join(", ") }
}

fn by(opening: &Opening) -> String {
    let users: Vec<String> = opening.users.iter().map(|uid| format!("user {uid}")).collect();
    if users.is_empty() { String::new() } else { format!(" by {}", users.join(", ")) }
}

fn shortened(members: &[String]) -> String {
    let shown = members.iter().take(MEMBERS_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match members.len().checked_sub(MEMBERS_SHOWN) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// Member changes of the tiers whose sets exist before and after: addresses, not elements, since a
/// range that grows is another element to the kernel.
fn members(plan: &ruleset::Plan) -> BTreeMap<String, Members> {
    let made: Vec<&String> = plan
        .operations
        .iter()
        .filter_map(|operation| match operation {
            Operation::AddSet { set, .. } => Some(set),
            _ => None,
        })
        .collect();
    let mut changes: BTreeMap<&str, [Addresses; 2]> = BTreeMap::new();
    for operation in &plan.operations {
        let (set, elements, side) = match operation {
            Operation::AddElements { set, elements, .. } => (set, elements, 0),
            Operation::DeleteElements { set, elements, .. } => (set, elements, 1),
            _ => continue,
        };
        let Some(tier) = policy::tier_of_set(set).filter(|_| !made.contains(&set)) else {
            continue;
        };
        changes.entry(tier).or_default()[side].extend(elements);
    }
    let tiers = changes.into_iter().map(|(tier, [added, deleted])| {
        let members = Members { gained: added.without(&deleted), lost: deleted.without(&added) };
        (tier.to_owned(), members)
    });
    tiers.collect()
}

/// Addresses of both families.
#[derive(Default)]
struct Addresses {
    v4: AddressSet<Ipv4Addr>,
    v6: AddressSet<Ipv6Addr>,
}

impl Addresses {
    fn extend(&mut self, elements: &Elements) {
        match elements {
            Elements::Ipv4(set) => self.v4 = self.v4.union(set),
            Elements::Ipv6(set) => self.v6 = self.v6.union(set),
            _ => {}
        }
    }

    fn without(&self, others: &Self) -> Vec<String> {
        let (v4, v6) = (self.v4.minus(&others.v4), self.v6.minus(&others.v6));
        let v4 = v4.ranges().iter().map(ToString::to_string);
        v4.chain(v6.ranges().iter().map(ToString::to_string)).collect()
    }
}
