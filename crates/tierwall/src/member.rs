//! `tierwall member`: members of tiers by command, beside those of the files.

use crate::change::change;
use crate::error::Error;
use crate::options::{Common, ListMembers, Member};
use crate::output::{WARNING, clean_line, columns, print, print_json, styled, tell};
use crate::policy_text::{self, Turn};
use crate::promote;
use crate::runtime_members::by_command;
use crate::time::{ago, left};
use control::Request;
use serde_json::json;

pub(crate) fn run(common: &Common, member: &Member) -> Result<u8, Error> {
    match member {
        Member::List(options) => list(common, options),
        Member::Add(add) => {
            let (tier, member) = (add.tier.clone(), add.member.clone());
            let seconds = add.for_.map(|time| time.as_secs());
            let reason = add.reason.clone();
            let request = Request::AddMember { tier, member, seconds, reason };
            change(common, &request, "recorded; no allow of this server names the tier")
        }
        Member::Promote(promote) => {
            let (tier, member) = (promote.tier.clone(), promote.member.clone());
            // Until the daemon has answered.
            let turn = turn(common)?;
            let file = promote::write(common, &turn, &tier, &member)?;
            let file = file.display();
            let warning =
                format!("{file} names {member} now, and it stays a member by command, too");
            let request = Request::PromotedMember { tier, member };
            let nothing = "written into the policy file; the kernel held it already";
            change(common, &request, nothing).inspect_err(|error| {
                if matches!(error, Error::Refused(_)) {
                    tell(&format!("{} {warning}\n", styled(WARNING, "warning:")));
                }
            })
        }
        Member::Remove(remove) => {
            let (tier, member) = (remove.tier.clone(), remove.member.clone());
            let request = Request::RemoveMember { tier, member, force: remove.force };
            change(common, &request, "removed; nothing in the kernel had to change")
        }
    }
}

/// Waits for one's turn to change the files, and says so.
fn turn(common: &Common) -> Result<Turn, Error> {
    if let Some(turn) = policy_text::turn_at_once(&common.config)? {
        return Ok(turn);
    }
    tell("waiting for another `tierwall edit` or `tierwall member promote` to end\n");
    policy_text::turn(&common.config)
}

fn list(common: &Common, options: &ListMembers) -> Result<u8, Error> {
    let members = by_command(common, options.tier.as_deref())?;
    if common.json {
        print_json(&json!(members))?;
        return Ok(control::exit::OK);
    }
    if members.is_empty() {
        let to = options.tier.as_ref().map(|tier| format!(" to {tier}")).unwrap_or_default();
        print(&format!("no member was added by command{to}\n"))?;
        return Ok(control::exit::OK);
    }
    let rows = members.into_iter().map(|member| {
        vec![
            member.tier,
            member.member,
            format!("added {} ago", ago(member.added)),
            member.until.map_or_else(String::new, |until| format!("{} left", left(until))),
            format!("by uid {}", member.by),
            clean_line(&member.reason.unwrap_or_default()),
        ]
    });
    print(&columns(&rows.collect::<Vec<_>>()))?;
    Ok(control::exit::OK)
}
