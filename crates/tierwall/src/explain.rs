//! `tierwall explain`: is a connection allowed, by which allow, or what is missing?
//!
//! The files are asked, with the members that the daemon was given by command; where it enforces
//! something else than the files say, that is told beside the answer.

pub(crate) mod daemon;
mod json;
pub(crate) mod text;

use crate::doctor;
use crate::error::Error;
use crate::judge::{Whole, lookup_user, resolve, stand_in_users, tell_diagnostics, whole};
use crate::options::{Common, Explain};
use crate::output::{print, print_json};
use crate::own_addresses::own_addresses;
use policy::explain::{Party, Question, Server};
use policy::model::{RoleSetting, Service};
use policy::{Addresses, Member, Policy, Role, closest_tier, role_of};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What one asks for this server by.
pub(crate) const SELF: [&str; 2] = ["self", "this"];

pub(crate) fn run(common: &Common, options: &Explain) -> Result<u8, Error> {
    let [from, to, on] = options.between.whole()?;
    let Whole { mut policy, services, warnings } = whole(common)?;
    if !common.json {
        tell_diagnostics(&warnings);
    }
    let mut notes = Vec::new();
    if options.as_.is_none() {
        notes = daemon::compare(common, &mut policy);
    }
    let server = server(&policy, options)?;
    let users = users(&policy);
    let question = Question {
        from: party(&policy, from)?,
        to: party(&policy, to)?,
        service: service(&services, on)?,
        user: options.user.as_ref().map(|user| uid(user, &users)).transpose()?,
    };
    let is_self = [&question.from, &question.to].contains(&&Party::Here);
    if is_self && server.role.tiers.is_empty() && server.addresses.is_empty() {
        return Err(Error::Question(
            "this server has no address".into(),
            Some("name another one with --as".into()),
        ));
    }
    if options.as_.is_none() && server.role.tiers.is_empty() {
        notes.push("this host is in no tier: it is no server of this policy".into());
    }
    let explanation = policy
        .explain(&server, &users, &question)
        .map_err(|error| Error::Question(error.to_string(), Some(error.hint().into())))?;
    if options.as_.is_none() && explanation.ends.iter().any(|end| end.is_here) {
        notes.extend(beside());
    }
    let (policy, server, question) = (&policy, &server, &question);
    let asked = text::Asked { options, words: [from, to, on], policy, server, question };
    match common.json {
        true => print_json(&json::of(&asked, &explanation, &notes))?,
        false => print(&text::of(&asked, &explanation, &notes))?,
    }
    Ok(match explanation.fates().0.is_denied() {
        true => control::exit::DENIED,
        false => control::exit::OK,
    })
}

/// What tables of others on this server have a say, as far as this user may know.
fn beside() -> Vec<String> {
    let survey = netlink::Connection::open().and_then(|mut connection| connection.survey());
    survey.map(|survey| doctor::beside(&survey)).unwrap_or_default()
}

/// The server that is asked: this one, or that of `--as`.
fn server(policy: &Policy, options: &Explain) -> Result<Server, Error> {
    let Some(who) = &options.as_ else {
        let own = own_addresses()?;
        let role = role_of(policy, &own);
        let addresses = own.iter().map(|own| Addresses::single(own.address)).collect();
        return Ok(Server { role, addresses });
    };
    let role = Role::parse_as(policy, who, resolve).map_err(Error::As)?;
    let addresses = match (role.auto, who.parse::<IpAddr>()) {
        (true, Ok(address)) => Addresses::single(address),
        (true, Err(_)) => resolve(who).into_iter().map(Addresses::single).collect(),
        // Any server of these tiers.
        (false, _) => {
            let tiers = role.tiers.iter().filter_map(|name| policy.tiers.get(name));
            tiers.map(Addresses::of_tier).collect()
        }
    };
    // A role that the file sets holds on any address of a server.
    let set = |tiers| matches!(&policy.role, RoleSetting::Tiers { tiers: set, .. } if set == tiers);
    let auto = role.auto && !set(&role.tiers);
    Ok(Server { role: Role { auto, ..role }, addresses })
}

pub(crate) fn party(policy: &Policy, text: &str) -> Result<Party, Error> {
    if SELF.contains(&text) {
        return Ok(Party::Here);
    }
    if policy.tiers.contains_key(text) {
        return Ok(Party::Tier(text.into()));
    }
    let name = text.to_owned();
    let asked = match text.parse::<Member>() {
        Ok(member) => return Ok(Party::Addresses { name, addresses: member.into() }),
        Err(_) if ["any", "*"].contains(&text) => {
            let hint = "explain answers for addresses: name one; `tierwall who-can` knows `any`";
            return Err(Error::Question(
                format!("`{text}` is nobody in particular"),
                Some(hint.into()),
            ));
        }
        Err(error) => error,
    };
    // What looks like an address is none that a resolver should see, and neither are several names.
    let is_name =
        !text.contains(['/', ':', ' ']) && text.contains(|c: char| c.is_ascii_alphabetic());
    let found: Addresses = match is_name && !text.contains(',') {
        true => resolve(text).into_iter().map(Addresses::single).collect(),
        false => Addresses::default(),
    };
    match (found.is_empty(), is_name) {
        (false, _) => Ok(Party::Addresses { name, addresses: found }),
        (true, false) => Err(Error::Question(asked.to_string(), asked.hint())),
        (true, true) => Err(nobody(policy, text, "a host with an address")),
    }
}

/// That a name is nobody: no tier, nor what else it could be.
pub(crate) fn nobody(policy: &Policy, name: &str, other: &str) -> Error {
    let hint = match closest_tier(policy, name) {
        Some(closest) => format!("did you mean `{closest}`?"),
        None => {
            let known: Vec<&str> = policy.tiers.keys().map(String::as_str).collect();
            format!("one at a time; tiers: {}", known.join(", "))
        }
    };
    Error::Question(format!("`{name}` is neither a tier nor {other}"), Some(hint))
}

/// A name of `[services]`, or literals.
pub(crate) fn service(services: &BTreeMap<String, Service>, text: &str) -> Result<Service, Error> {
    if let Some(service) = services.get(text) {
        return Ok(service.clone());
    }
    text.parse().map_err(|error: policy::ServiceError| {
        let known: Vec<&str> = services.keys().map(String::as_str).collect();
        let hint = match (known.is_empty(), error.hint.clone()) {
            (false, Some(hint)) => {
                Some(format!("{hint}, or one of [services]: {}", known.join(", ")))
            }
            (_, hint) => hint,
        };
        Error::Question(error.to_string(), hint)
    })
}

/// The users that the policy names: this server's own numbers, and numbers that no account has for
/// those that only others know.
fn users(policy: &Policy) -> BTreeMap<String, u32> {
    let mut users = stand_in_users(policy);
    for (name, uid) in &mut users {
        *uid = lookup_user(name).unwrap_or(*uid);
    }
    users
}

fn uid(user: &str, users: &BTreeMap<String, u32>) -> Result<u32, Error> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    users.get(user).copied().or_else(|| lookup_user(user)).ok_or_else(|| {
        let hint = "name one that the policy or this server knows, or a number";
        Error::Question(format!("there is no user `{user}`"), Some(hint.into()))
    })
}
