//! `tierwall plan`: what would change in the kernel, and what that means.

use crate::error::Error;
use crate::guard;
use crate::judge::{Judged, judge, tell_diagnostics};
use crate::options::{Common, Judgement, Plan};
use crate::output::{BAD, FAINT, GOOD, WARNING, print, print_json, styled};
use crate::runtime_members::by_command;
use crate::time::now;
use control::{Guarded, MemberSummary};
use policy::model::User;
use policy::{
    AddedMember, Change, Labels, Part, Scopes, Side, Sign, Step, UserFlows, UserNames, ended_flows,
};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn run(common: &Common, options: &Plan) -> Result<u8, Error> {
    let judged = judge(common, &Judgement { as_: None, strict: false })?;
    if !common.json {
        tell_diagnostics(&judged.warnings);
    }
    let planned = Planned::of(common, judged, guard::ask)?;
    let plan = &planned.plan;
    if common.json {
        print_json(&planned.as_json())?;
    } else if plan.is_empty() {
        print(&format!("{NOTHING}{}", planned.guarded_as_text()))?;
    } else {
        let mut text = planned.as_text();
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

/// What a policy would change, in words.
pub(crate) fn told(common: &Common, judged: Judged) -> Result<String, Error> {
    tell_diagnostics(&judged.warnings);
    // It is in no file that the daemon could be asked of.
    let planned = Planned::of(common, judged, guard::judge_here)?;
    Ok(if planned.plan.is_empty() { NOTHING.into() } else { planned.as_text() })
}

const NOTHING: &str = "nothing would change: the kernel holds this policy\n";

/// A policy beside what the kernel holds.
struct Planned {
    judged: Judged,
    plan: ruleset::Plan,
    change: Change,
    users: UserNames,
    /// Whether the kernel's table is one that tierwall did not make.
    foreign: bool,
    /// What is to be known of it, a line each.
    notes: Vec<String>,
    /// What the lockout guard says of a reload.
    guarded: Option<Guarded>,
}

impl Planned {
    fn of(common: &Common, mut judged: Judged, guard: guard::Ask) -> Result<Self, Error> {
        let mut connection = netlink::Connection::open().map_err(Error::Kernel)?;
        let found = connection.dump().map_err(Error::Kernel)?;
        // As the daemon does, after the role was found: that follows from the files alone.
        let members = by_command(common, None);
        if let Ok(members) = &members {
            let now = now();
            let members = members.iter().filter(|own| own.until.is_none_or(|until| until > now));
            judged.policy = judged.policy.with_added(members.map(added));
        }
        let table = found.ruleset.table.as_ref();
        let ours = table.is_some_and(|table| table.is_ours());
        let foreign = table.is_some_and(|table| !table.is_ours() && !table.is_inert());
        let wanted = judged.compile(ours.then_some(&found.ruleset)).noted();
        let plan = found.ruleset.diff(&wanted);
        let change = Change::of(&found.ruleset, &wanted);
        let is_lost = change.members.values().any(|members| !members.lost.is_empty());
        let mut notes: Vec<String> =
            members.err().filter(|_| is_lost).as_ref().map(unknown).into_iter().collect();
        let ended = ended_flows(&found.ruleset, &wanted);
        let users = user_names(&judged, &change, &ended);
        notes.extend(ended.iter().map(|flows| flows.words(&users)));
        let guarded = guard(common, &judged, &found.ruleset, &wanted).map_err(|unknown| {
            notes.push(format!("what the lockout guard would say isn't known: {unknown}"));
        });
        Ok(Self { judged, plan, change, users, foreign, notes, guarded: guarded.ok() })
    }

    /// What the lockout guard says, where it has anything against it.
    fn guarded_as_text(&self) -> String {
        let Some(Guarded { policy_file: _, refused, shut_out }) = &self.guarded else {
            return String::new();
        };
        let refused = refused
            .iter()
            .map(|why| format!("{} {why}\n", styled(BAD, "a reload would be refused:")));
        let warning = styled(WARNING, "warning:");
        let shut_out = shut_out.iter().map(|line| format!("{warning} {line}\n"));
        refused.chain(shut_out).collect()
    }

    fn as_text(&self) -> String {
        let Judged { policy, role, .. } = &self.judged;
        let mut lines = Vec::new();
        if self.foreign {
            let line = "the table was not made by tierwall: only `tierwall takeover` replaces it";
            lines.push(styled(WARNING, line));
        }
        let words = self.change.words(policy, role, &self.users);
        lines.extend(words.lines().iter().map(|line| match line.sign {
            Sign::More => styled(GOOD, &format!("+ {}", line.text)),
            Sign::Less => styled(BAD, &format!("- {}", line.text)),
        }));
        if lines.is_empty() {
            lines.push("the same traffic passes".into());
        }
        lines.extend(self.notes.iter().map(|note| format!("{} {note}", styled(WARNING, "note:"))));
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        text + &self.guarded_as_text()
    }

    fn as_json(&self) -> serde_json::Value {
        let Self { judged, change, users, .. } = self;
        let words = change.words(&judged.policy, &judged.role, users);
        let operations: Vec<String> =
            self.plan.operations.iter().map(ToString::to_string).collect();
        let step = |step: &Step, meaning: String| {
            let allow = |comment: &String| Labels::allow_in(comment).unwrap_or(comment).to_owned();
            let parts =
                |parts: &BTreeSet<Part>| parts.iter().map(|part| words.part(part)).collect();
            let (only, except): (Vec<String>, Vec<String>) = match &step.scopes {
                Scopes::Only(these) => (parts(these), Vec::new()),
                Scopes::AllBut(those) => (Vec::new(), parts(those)),
            };
            json!({
                "direction": step.direction.to_string(),
                "peers": step.peers.names(),
                "services": step.services,
                "only": only,
                "except": except,
                "allows": step.comments.iter().map(allow).collect::<Vec<_>>(),
                "meaning": meaning,
            })
        };
        let open = |sides: [Side; 2]| -> Vec<String> {
            let open = change.sides.iter().filter(|(_, side)| sides.contains(side));
            open.map(|(direction, _)| direction.to_string()).collect()
        };
        let members: BTreeMap<&String, _> = change
            .members
            .iter()
            .map(|(tier, members)| {
                (tier, {
                    let list =
                        |addresses: &policy::Addresses| addresses.ranges().collect::<Vec<_>>();
                    json!({ "gained": list(&members.gained), "lost": list(&members.lost) })
                })
            })
            .collect();
        let gained = change.gained.iter().map(|s| step(s, words.gain(s)));
        let lost = change.lost.iter().map(|s| step(s, words.loss(s)));
        json!({
            "changes": !operations.is_empty(),
            "foreign_table": self.foreign,
            "open_before": open([Side::Open, Side::Closes]),
            "open_after": open([Side::Open, Side::Opens]),
            "forwards": change.forwards,
            "gained": gained.collect::<Vec<_>>(),
            "lost": lost.collect::<Vec<_>>(),
            "members": members,
            "operations": operations,
            "notes": self.notes,
            "refused": self.guarded.as_ref().and_then(|guarded| guarded.refused.as_ref()),
            "shut_out": self.guarded.as_ref().map(|guarded| &guarded.shut_out),
            "diagnostics": judged.warnings,
        })
    }
}

/// What users are called: as the policy writes them, and if only what was enforced named one, as this
/// server does.
fn user_names(judged: &Judged, change: &Change, ended: &[UserFlows]) -> UserNames {
    let parts = change.gained.iter().chain(&change.lost).flat_map(|step| match &step.scopes {
        Scopes::AllBut(parts) | Scopes::Only(parts) => parts,
    });
    let uids = parts.filter_map(|part| match part {
        Part::User(uid) => Some(*uid),
        Part::Tier(_) => None,
    });
    let is_number =
        |uid: &u32| judged.policy.allows.iter().any(|allow| allow.users.contains(&User::Uid(*uid)));
    let uids = uids.chain(ended.iter().map(|flows| flows.user)).filter(|uid| !is_number(uid));
    let accounts = uids.filter_map(account);
    let mut names = UserNames::of(&accounts.collect());
    names.learn(&judged.users);
    names
}

/// A user id with its name on this server.
fn account(uid: u32) -> Option<(String, u32)> {
    let user = nix::unistd::User::from_uid(uid.into()).ok().flatten()?;
    Some((user.name, uid))
}

fn added(member: &MemberSummary) -> AddedMember<'_> {
    let MemberSummary { tier, member, added, until, .. } = member;
    AddedMember { tier, member, added: *added, until: *until }
}

/// That those which are lost may be in the kernel by command.
fn unknown(error: &Error) -> String {
    let why = error.message().unwrap_or_default();
    format!("members by command aren't known, and may be among those that are lost: {why}")
}
