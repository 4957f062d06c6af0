//! `tierwall suggest`: allows that would let through what was denied, for somebody to choose from.
//!
//! The daemon says what was denied, the policy files as they are now say what of that passes by
//! now, and [`policy::suggest`] makes allows of the rest. Nothing is written anywhere.

mod comment;
mod json;
mod text;

use crate::error::Error;
use crate::explain;
use crate::judge::{Whole, lookup_user, tell_diagnostics, whole};
use crate::options::{Common, Suggest};
use crate::output::{print, print_json};
use crate::own_addresses::own_addresses;
use control::{
    Client, DenialFate, DenialGroup, Denials, DenialsBy, DenialsOrder, Direction, Request,
    Response, socket_path,
};
use policy::explain::Server;
use policy::model::Service;
use policy::suggest::{Count, Denial, Doubt, Suggestions};
use policy::{Addresses, Fate, Mark, Policy, resolve_users, role_of};
use ruleset::Hook;
use std::collections::BTreeMap;

/// More than the daemon tells apart.
const EVERYTHING: usize = 1_000_000;

/// All that is told.
struct Told<'a> {
    options: &'a Suggest,
    policy: &'a Policy,
    services: &'a BTreeMap<String, Service>,
    server: &'a Server,
    denials: &'a Denials,
    suggestions: &'a Suggestions<'a>,
    /// The names of users, of those that have one.
    names: BTreeMap<u32, String>,
    /// What else is to know, a line each.
    notes: Vec<String>,
}

pub(crate) fn run(common: &Common, options: &Suggest) -> Result<u8, Error> {
    let Whole { mut policy, services, warnings } = whole(common)?;
    let denials = ask(common, options)?;
    if !common.json {
        tell_diagnostics(&warnings);
    }
    let notes = explain::daemon::compare(common, &mut policy);
    let own = own_addresses()?;
    let role = role_of(&policy, &own);
    let (users, _) = resolve_users(&policy, &role, lookup_user);
    let addresses = own.iter().map(|own| Addresses::single(own.address)).collect();
    let server = Server { role, addresses };
    let groups = chosen(&policy, options, &denials)?;
    let flows: Vec<Denial> = groups.iter().filter_map(|group| denial(group)).collect();
    let suggestions = policy.suggest(&server, &users, &flows);
    let mut told = Told {
        options,
        policy: &policy,
        services: &services,
        server: &server,
        denials: &denials,
        suggestions: &suggestions,
        names: names(&suggestions),
        notes,
    };
    if flows.len() < groups.len() {
        let note =
            "tierwalld tells some of it in words that this tierwall doesn't know: it is left out";
        told.notes.push(note.into());
    }
    match common.json {
        true => print_json(&json::of(&told))?,
        false => print(&text::of(&told))?,
    }
    Ok(control::exit::OK)
}

fn ask(common: &Common, options: &Suggest) -> Result<Denials, Error> {
    let client = Client::connect(&socket_path(&common.runtime_directory)).map_err(Error::Client)?;
    let seconds = options.since.map(|time| time.as_secs());
    let request = Request::Denied {
        by: DenialsBy::Flow,
        seconds,
        limit: EVERYTHING,
        order: DenialsOrder::Heaviest,
        seen_since: None,
    };
    match client.ask(&request).map_err(Error::Client)? {
        Response::Denied(denials) => Ok(*denials),
        other => Err(crate::unexpected(other)),
    }
}

/// The groups that the options ask for.
fn chosen<'d>(
    policy: &Policy,
    options: &Suggest,
    denials: &'d Denials,
) -> Result<Vec<&'d DenialGroup>, Error> {
    let tier = options.tier.as_ref().map(|name| {
        let unknown = || {
            let known: Vec<&str> = policy.tiers.keys().map(String::as_str).collect();
            let hint = format!("tiers: {}", known.join(", "));
            Error::Question(format!("no tier is named `{name}`"), Some(hint))
        };
        policy.tiers.get(name).ok_or_else(unknown)
    });
    let tier = tier.transpose()?;
    let user = options.user.as_ref().map(|name| {
        let uid = name.parse().ok().or_else(|| lookup_user(name));
        let unknown = || {
            let hint = "name one of this server's users, or a number";
            Error::Question(format!("there is no user `{name}`"), Some(hint.into()))
        };
        uid.ok_or_else(unknown)
    });
    let user = user.transpose()?;
    let is_chosen = |group: &&DenialGroup| {
        let mut ends = [group.source, group.destination].into_iter().flatten();
        tier.is_none_or(|tier| ends.any(|address| tier.holds(address)))
            && (user.is_none() || group.user == user)
    };
    Ok(denials.groups.iter().filter(is_chosen).collect())
}

/// What the daemon told, for the policy; none where it speaks of what isn't known here.
fn denial(group: &DenialGroup) -> Option<Denial> {
    let hook = match group.direction {
        Direction::Input => Hook::Input,
        Direction::Output => Hook::Output,
        Direction::Forward => Hook::Forward,
    };
    let fate = match group.fate {
        DenialFate::Denied => Fate::Denied,
        DenialFate::WouldDeny => Fate::WouldDeny,
        DenialFate::Invalid => Fate::Invalid,
        DenialFate::WouldDropInvalid => Fate::WouldDropInvalid,
    };
    let count = Count {
        connections: group.count.connections,
        retries: group.count.retries,
        uncertain: group.uncertain,
    };
    Some(Denial {
        mark: Mark { hook, fate },
        source: group.source?,
        destination: group.destination?,
        wanted: group.service.as_ref()?.parse().ok()?,
        user: group.user,
        count,
        first: group.first,
        last: group.last,
    })
}

/// Names by which the same users are found again: of two accounts with one number, neither is.
fn names(suggestions: &Suggestions<'_>) -> BTreeMap<u32, String> {
    let users = suggestions.allows.iter().filter_map(|suggestion| suggestion.user);
    let name = |uid: u32| {
        let user = nix::unistd::User::from_uid(uid.into()).ok().flatten()?;
        (lookup_user(&user.name) == Some(uid)).then_some((uid, user.name))
    };
    users.filter_map(name).collect()
}

impl Told<'_> {
    /// Whether what is in doubt was asked for.
    fn is_asked_for(&self, doubt: Doubt) -> bool {
        (!doubt.stranger || self.options.strangers) && (!doubt.scan || self.options.scans)
    }

    /// What the numbers don't say, a line each.
    fn incomplete(&self) -> Vec<String> {
        let Denials { rest, losses, left_out, .. } = self.denials;
        let mut lines = Vec::new();
        let mut missing = |packets: u64, what: &str| {
            if packets > 0 {
                lines.push(format!("{packets} {what}"));
            }
        };
        missing(*left_out as u64, "different flows are left out, since there are too many");
        missing(
            rest.connections,
            "connections aren't told apart, since there were too many different ones",
        );
        missing(losses.lost, "packets came too fast to be counted");
        missing(
            losses.limits.iter().map(|limit| limit.held_back).sum(),
            "packets were held back by the rate limits of the log",
        );
        if losses.reading_since.is_none() {
            lines.push("denied packets can't be read at the moment: see `tierwall status`".into());
        }
        lines
    }
}
