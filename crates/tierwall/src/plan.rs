//! `tierwall plan`: what would change in the kernel, and what that means.

use crate::error::Error;
use crate::judge::{Judged, judge, tell_diagnostics};
use crate::options::{Common, Judgement, Plan};
use crate::output::{BAD, FAINT, GOOD, WARNING, print, print_json, styled};
use policy::{Change, Opening, Reach, Sign};
use serde_json::json;
use std::collections::BTreeMap;

pub(crate) fn run(common: &Common, options: &Plan) -> Result<u8, Error> {
    let judged = judge(common, &Judgement { as_: None, strict: false })?;
    if !common.json {
        tell_diagnostics(&judged.warnings);
    }
    let mut connection = netlink::Connection::open().map_err(Error::Kernel)?;
    let found = connection.dump().map_err(Error::Kernel)?;
    let ours = found.ruleset.table.as_ref().is_some_and(|table| table.is_ours());
    let wanted = judged.compile(ours.then_some(&found.ruleset)).noted();
    let plan = found.ruleset.diff(&wanted);
    let foreign = found.ruleset.table.as_ref().is_some_and(|t| !t.is_ours() && !t.is_inert());
    let change = Change::of(&found.ruleset, &plan, &wanted);
    if common.json {
        let operations: Vec<String> = plan.operations.iter().map(ToString::to_string).collect();
        print_json(&as_json(&change, &judged, foreign, &operations))?;
    } else if plan.is_empty() {
        print("nothing would change: the kernel holds this policy\n")?;
    } else {
        let mut text = as_text(&change, &judged, foreign);
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
pub(crate) fn told(judged: &Judged) -> Result<String, Error> {
    tell_diagnostics(&judged.warnings);
    let mut connection = netlink::Connection::open().map_err(Error::Kernel)?;
    let found = connection.dump().map_err(Error::Kernel)?;
    let ours = found.ruleset.table.as_ref().is_some_and(|table| table.is_ours());
    let wanted = judged.compile(ours.then_some(&found.ruleset)).noted();
    let plan = found.ruleset.diff(&wanted);
    if plan.is_empty() {
        return Ok("nothing would change: the kernel holds this policy\n".into());
    }
    let foreign = found.ruleset.table.as_ref().is_some_and(|t| !t.is_ours() && !t.is_inert());
    Ok(as_text(&Change::of(&found.ruleset, &plan, &wanted), judged, foreign))
}

fn as_text(change: &Change, judged: &Judged, foreign: bool) -> String {
    let mut lines = Vec::new();
    if foreign {
        let line = "the table was not made by tierwall: only `tierwalld --takeover` replaces it";
        lines.push(styled(WARNING, line));
    }
    lines.extend(change.lines(&judged.policy, &judged.role).iter().map(|line| match line.sign {
        Sign::More => styled(GOOD, &format!("+ {}", line.text)),
        Sign::Less => styled(BAD, &format!("- {}", line.text)),
    }));
    if lines.is_empty() {
        lines.push("the same traffic passes; only the table's own shape changes".into());
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn as_json(
    change: &Change,
    judged: &Judged,
    foreign: bool,
    operations: &[String],
) -> serde_json::Value {
    let opening = |opening: &Opening, meaning: String| {
        json!({
            "direction": opening.direction.to_string(),
            "peer": opening.peer,
            "service": opening.service,
            "users": opening.users,
            "allow": opening.comment.strip_prefix("allow ").unwrap_or(&opening.comment),
            "meaning": meaning,
        })
    };
    let (allows, role) = (judged.policy.allows_by_comment(), &judged.role);
    let open =
        |reach: &Reach| -> Vec<String> { reach.open.iter().map(ToString::to_string).collect() };
    let members: BTreeMap<&String, _> = change
        .members
        .iter()
        .map(|(tier, members)| {
            (tier, {
                let list = |addresses: &policy::Addresses| addresses.ranges().collect::<Vec<_>>();
                json!({ "gained": list(&members.gained), "lost": list(&members.lost) })
            })
        })
        .collect();
    json!({
        "changes": !operations.is_empty(),
        "foreign_table": foreign,
        "open_before": open(&change.before),
        "open_after": open(&change.after),
        "gained": change.gained().map(|o| opening(o, o.gained(&allows, role))).collect::<Vec<_>>(),
        "lost": change.lost().map(|o| opening(o, o.lost(role))).collect::<Vec<_>>(),
        "members": members,
        "operations": operations,
        "diagnostics": judged.warnings,
    })
}
