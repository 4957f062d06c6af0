//! `tierwall check`: is the policy good, and what will this server accept and open?

use crate::error::Error;
use crate::judge::{Judged, judge, tell_diagnostics};
use crate::options::{Check, Common};
use crate::output::{FAINT, GOOD, HEADING, columns, counted, print, print_json, styled};
use policy::model::{DenyAction, Forward, Mode};
use policy::{Direction, Opening, Reach, UserNames};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn run(common: &Common, options: &Check) -> Result<u8, Error> {
    let judged = judge(common, &options.judgement)?;
    let reach = Reach::of(&judged.compile(None));
    let rows = rows(&judged, &reach);
    if common.json {
        print_json(&as_json(&judged, &rows))?;
    } else {
        tell_diagnostics(&judged.warnings);
        let who = if options.judgement.as_.is_some() { "it" } else { "this server" };
        let file = common.config.display().to_string();
        print(&as_text(&file, &judged, &rows, who))?;
    }
    Ok(control::exit::OK)
}

/// One allow on one side of this server.
struct Row {
    direction: Direction,
    peers: BTreeSet<String>,
    services: Vec<String>,
    /// Of whom it is, as the policy names them.
    users: Vec<String>,
    allow: String,
    place: String,
}

fn rows(judged: &Judged, reach: &Reach) -> Vec<Row> {
    let mut groups: BTreeMap<(Direction, &str), Vec<&Opening>> = BTreeMap::new();
    for opening in &reach.openings {
        groups.entry((opening.direction, &opening.comment)).or_default().push(opening);
    }
    let allows = judged.policy.allows_by_comment();
    let names = UserNames::of(&judged.users);
    let rows = groups.into_iter().map(|((direction, comment), openings)| {
        let allow = allows.get(comment);
        let mut services: Vec<String> = Vec::new();
        for opening in &openings {
            for service in opening.service.names() {
                if !services.contains(&service) {
                    services.push(service);
                }
            }
        }
        Row {
            direction,
            peers: openings.iter().flat_map(|opening| opening.peers()).collect(),
            services,
            users: openings
                .first()
                .map(|opening| opening.users())
                .unwrap_or_default()
                .into_iter()
                .map(|uid| names.name(uid).map_or_else(|| uid.to_string(), str::to_owned))
                .collect(),
            allow: allow.map_or_else(|| comment.to_owned(), |allow| allow.key.to_string()),
            place: allow.map(|allow| allow.location.to_string()).unwrap_or_default(),
        }
    });
    rows.collect()
}

fn as_text(file: &str, judged: &Judged, rows: &[Row], who: &str) -> String {
    let policy = &judged.policy;
    let tiers = counted(policy.tiers.len(), "tier");
    let allows = counted(policy.allows.len(), "allow");
    let good = styled(GOOD, "good");
    let role: Vec<&str> = judged.role.tiers.iter().map(String::as_str).collect();
    let role = if role.is_empty() { "no tier".into() } else { role.join(", ") };
    let mut text = format!("{file} is {good}: {tiers}, {allows}\n");
    text += &format!("{who} is in {}\n", styled(HEADING, &role));
    for direction in Direction::BOTH {
        let (mode, heading) = match direction {
            Direction::Input => (policy.mode.input, "accepts"),
            Direction::Output => (policy.mode.output, "opens"),
        };
        text += &format!("\n{}\n", styled(HEADING, &format!("{who} {heading}")));
        if mode == Mode::Off {
            text += "  everything: this side is off\n";
            continue;
        }
        let mine: Vec<&Row> = rows.iter().filter(|row| row.direction == direction).collect();
        let cells: Vec<Vec<String>> = mine.iter().map(|row| cells(row)).collect();
        text += &match cells.is_empty() {
            true => "  built-in traffic only\n".into(),
            false => columns(&cells),
        };
        let note = closing(policy, direction, mode);
        text += &format!("  {}\n", styled(FAINT, note));
    }
    let forward = match policy.forward {
        _ if policy.mode.input == Mode::Off => "packets through it are not filtered",
        Forward::Drop if policy.mode.input == Mode::Observe => {
            "packets through it pass; those that would be dropped are logged"
        }
        Forward::Drop => "packets through it are dropped",
        Forward::Accept => "packets through it are accepted",
        Forward::Unmanaged => "packets through it are not filtered",
    };
    text + &format!("\n{forward}\n")
}

fn cells(row: &Row) -> Vec<String> {
    const SHOWN: usize = 4;
    let mut peers: Vec<&str> = row.peers.iter().take(SHOWN).map(String::as_str).collect();
    let more = format!("and {} more", row.peers.len().saturating_sub(SHOWN));
    if row.peers.len() > SHOWN {
        peers.push(&more);
    }
    let preposition = if row.direction == Direction::Input { "from" } else { "to" };
    let by = match row.users.as_slice() {
        [] => String::new(),
        users => format!(" by user {}", users.join(", ")),
    };
    vec![
        format!("{preposition} {}{by}", peers.join(", ")),
        row.services.join(", "),
        row.allow.clone(),
        row.place.clone(),
    ]
}

fn closing(policy: &policy::Policy, direction: Direction, mode: Mode) -> &'static str {
    let deny = match direction {
        Direction::Input => policy.deny.input,
        Direction::Output => policy.deny.output,
    };
    match (mode, deny) {
        (Mode::Observe, _) => "and everything else, which is logged as what would be denied",
        (_, DenyAction::Drop) => "everything else is dropped",
        (_, DenyAction::Reject) => "everything else is refused with an error",
    }
}

fn as_json(judged: &Judged, rows: &[Row]) -> Value {
    let side = |wanted: Direction| -> Vec<Value> {
        let mine = rows.iter().filter(|row| row.direction == wanted);
        mine.map(|row| {
            json!({
                "peers": row.peers,
                "services": row.services,
                "users": row.users,
                "allow": row.allow,
                "place": row.place,
            })
        })
        .collect()
    };
    json!({
        "good": true,
        "role": judged.role.tiers,
        "role_auto": judged.role.auto,
        "tiers": judged.policy.tiers.len(),
        "allows": judged.policy.allows.len(),
        "accepts": side(Direction::Input),
        "opens": side(Direction::Output),
        "diagnostics": judged.warnings,
    })
}
