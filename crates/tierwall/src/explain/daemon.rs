//! What the daemon holds beside the files, and whether it enforces what they say.

use crate::options::Common;
use crate::output::clean_line;
use control::{
    Client, ClientError, Differs, Enforcement, Request, Response, TableState, socket_path,
};
use policy::{Addresses, Member, Policy};
use std::fs;
use std::path::Path;

/// As [`compare`] for a question about all servers: files alone answer it where no daemon runs,
/// and members by command are this server's own, so that a line says which tiers have any.
pub(crate) fn compare_if_running(common: &Common, policy: &mut Policy) -> Vec<String> {
    let daemon = Client::connect(&socket_path(&common.runtime_directory));
    if let Err(ClientError::NotRunning { .. }) = daemon {
        return Vec::new();
    }
    let in_files = policy.tiers.clone();
    let mut notes = compare(common, policy);
    let has_more = |name: &&str| policy.tiers[*name] != in_files[*name];
    let more: Vec<&str> = in_files.keys().map(String::as_str).filter(has_more).collect();
    if !more.is_empty() {
        let tiers = more.join(", ");
        notes.insert(0, format!("with members added by command on this server: {tiers}"));
    }
    notes
}

/// Adds the members that the daemon was given by command, and says how what is enforced differs
/// from the files, a line each.
pub(crate) fn compare(common: &Common, policy: &mut Policy) -> Vec<String> {
    let ask = |request: &Request| -> Result<Response, ClientError> {
        Client::connect(&socket_path(&common.runtime_directory))?.ask(request)
    };
    let status = match ask(&Request::Status) {
        Ok(Response::Status(status)) => status,
        Ok(_) => {
            return vec![
                "tierwalld doesn't say what it enforces; this is what the files say".into(),
            ];
        }
        Err(error) => {
            return vec![format!(
                "this is what the files say; what is enforced isn't known: {error}"
            )];
        }
    };
    let mut notes = Vec::new();
    if !is_same(&common.config, Path::new(&status.policy_file)) {
        notes.push(format!("tierwalld enforces another file, {}", status.policy_file));
        return notes;
    }
    if let Ok(Response::Members(members)) = ask(&Request::Members { tier: None }) {
        for member in members {
            let Ok(parsed) = member.member.parse::<Member>() else { continue };
            if let Some(tier) = policy.tiers.get_mut(&member.tier) {
                let Addresses { v4, v6 } = Addresses::of_tier(tier).union(&parsed.into());
                (tier.v4, tier.v6) = (v4, v6);
            }
        }
    }
    if status.enforcement == Enforcement::TornDown {
        notes.push("nothing is filtered at the moment: the table was taken away".into());
    } else if status.table != TableState::Ours {
        notes.push(
            "nothing of this is enforced at the moment: the kernel's table isn't tierwall's".into(),
        );
    }
    if status.problem.is_some() {
        notes.push("an older policy is enforced: these files couldn't be applied".into());
    }
    if status.refused.is_some() {
        notes.push(
            "an older policy is enforced: a change was refused, since it would lock out a session"
                .into(),
        );
    }
    if let Some(Differs { why, .. }) = status.held_back() {
        let why = clean_line(why.lines().next().unwrap_or_default());
        notes.push(format!("an older policy is enforced: the files are held back: {why}"));
    } else if !status.waiting.is_empty() {
        notes.push("an older policy is enforced: changes wait for `tierwall reload`".into());
    }
    notes.extend(status.waiting.iter().map(|line| format!("waits: {line}")));
    if status.kernel_problem.is_some() {
        notes.push("the kernel doesn't hold what was wanted".into());
    }
    if !notes.is_empty() {
        notes.push("`tierwall status` says more".into());
    }
    notes
}

/// Whether two paths lead to the same file, as far as can be seen.
fn is_same(one: &Path, other: &Path) -> bool {
    let found = fs::canonicalize(one).ok().zip(fs::canonicalize(other).ok());
    one == other || found.is_some_and(|(one, other)| one == other)
}
