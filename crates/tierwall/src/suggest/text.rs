//! Suggestions as a part of a policy file.

use super::Told;
use super::comment::{comment, commented_out};
use crate::output::counted;
use crate::time::utc;
use policy::model::User;
use policy::suggest::{Evidence, OtherEnd, SCAN, Side, Suggestion, Unsayable};
use policy::{Addresses, Direction};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Addresses in an allow, beyond which there are better ways to say it.
const MANY: usize = 32;

/// Addresses named in a sentence.
const NAMED: usize = 4;

/// Lines about what no allow can say.
const UNSAYABLE: usize = 20;

/// The ports that Linux sends from unless told otherwise (`ip_local_port_range`).
const CLIENT_PORTS: std::ops::RangeInclusive<u16> = 32_768..=60_999;

/// The uids that systemd gives to services for as long as they run (`DynamicUser=`).
const DYNAMIC_USERS: std::ops::RangeInclusive<u32> = 61_184..=65_519;

pub(super) fn of(told: &Told<'_>) -> String {
    let mut text = heading(told);
    let allows = &told.suggestions.allows;
    for suggestion in allows.iter().filter(|allow| told.is_asked_for(allow.doubt)) {
        text += &format!("\n{}", allow(told, suggestion));
    }
    if !allows.iter().any(|allow| told.is_asked_for(allow.doubt)) {
        let nothing = match allows.is_empty() {
            true => "There is nothing to suggest.",
            false => {
                "Nothing is suggested outright. What is commented out below needs your decision."
            }
        };
        text += &format!("\n{}", comment(nothing));
    }
    text += &section(
        told,
        "From outside all tiers",
        "Addresses in no tier wanted in. That is what attacks look like; who is welcome rather belongs \
         into a tier. --strangers makes these allows.",
        |suggestion| !suggestion.doubt.scan,
    );
    let scans = format!(
        "Between this server and the same address there were more than {SCAN} services: a scan, or a \
         protocol that chooses its ports, for which to allow a range. --scans makes these allows{}.",
        if told.options.strangers { "" } else { ", --strangers those of addresses in no tier too" }
    );
    text += &section(told, "Looks like a scan", &scans, |suggestion| suggestion.doubt.scan);
    text + &unsayable(&told.suggestions.unsayable)
}

fn heading(told: &Told<'_>) -> String {
    let role = &told.server.role;
    let mut text = comment(&format!(
        "Allows for what was denied on this server ({role}), or would have been, since {}.",
        utc(told.denials.since)
    ));
    let mut chosen = Vec::new();
    chosen.extend(told.options.tier.as_ref().map(|tier| format!("of the tier {tier}")));
    chosen.extend(told.options.user.as_ref().map(|user| format!("of the user {user}")));
    if !chosen.is_empty() {
        text += &comment(&format!("Only that {}.", chosen.join(" and ")));
    }
    text += "#\n";
    text += &comment(
        "Not all that was denied is to be allowed: take out what isn't. Keep the rest in a file that \
         the policy includes, such as conf.d/suggested.toml, on every server, since an allow is for \
         both ends. Then `tierwall check` and `tierwall reload --confirm`. Nothing is added by \
         itself.",
    );
    let passing = told.suggestions.passing.as_ref().map(|evidence| {
        let connections = counted(evidence.connections() as usize, "connection");
        format!("{connections} of it pass under the policy files as they are now")
    });
    let incomplete = told.incomplete().into_iter().map(|line| format!("incomplete: {line}"));
    let notes: Vec<String> =
        passing.into_iter().chain(incomplete).chain(told.notes.iter().cloned()).collect();
    if !notes.is_empty() {
        text += "#\n";
        notes.iter().for_each(|note| text += &comment(note));
    }
    text
}

/// An allow with its evidence.
fn allow(told: &Told<'_>, suggestion: &Suggestion<'_>) -> String {
    let user = suggestion.user.and_then(|uid| told.names.get(&uid)).map(String::as_str);
    about(told, suggestion) + &suggestion.to_toml(told.services, user)
}

/// What wasn't asked for, commented out.
fn section(
    told: &Told<'_>,
    title: &str,
    why: &str,
    belongs: impl Fn(&Suggestion<'_>) -> bool,
) -> String {
    let suggestions = told.suggestions.allows.iter();
    let suggestions = suggestions.filter(|allow| !told.is_asked_for(allow.doubt) && belongs(allow));
    let mut text = String::new();
    for suggestion in suggestions {
        if text.is_empty() {
            text = format!("\n# ---- {title} ----\n{}", comment(why));
        }
        text += "#\n";
        text += &match listed(suggestion) {
            Some(addresses) if addresses.len() > MANY => {
                let services = suggestion.service.words(told.services).join(", ");
                comment(&format!("{}, on {services}", sentence(told, suggestion)))
                    + &comment(&format!("such as {}", some(&peers(told, suggestion))))
            }
            _ => {
                let user = suggestion.user.and_then(|uid| told.names.get(&uid));
                let allow = suggestion.to_toml(told.services, user.map(String::as_str));
                about(told, suggestion) + &commented_out(&allow)
            }
        };
    }
    text
}

/// What was seen, and what else is to know, as comments.
fn about(told: &Told<'_>, suggestion: &Suggestion<'_>) -> String {
    let Evidence { also, .. } = &suggestion.evidence;
    let mut text = comment(&sentence(told, suggestion));
    if !also.is_empty() {
        let also: Vec<&str> = also.iter().map(String::as_str).collect();
        text += &comment(&format!("also held by the wider {}", also.join(", ")));
    }
    if let Some(other_end) = suggestion.other_end.filter(|_| suggestion.doubt.is_none()) {
        text += &comment(&at_the_other_end(suggestion, other_end));
    }
    if let Some(many) = listed(suggestion).filter(|addresses| addresses.len() > MANY) {
        text += &comment(&format!(
            "{} addresses are many for an allow: a tier of a list file (NAME = {{ file = \
             \"NAME.list\" }}) is easier to keep, but \"*\" holds it too; where the addresses change \
             all the time, it takes \"any\"",
            many.len()
        ));
    }
    let mut ports = suggestion.service.ports.values().flatten().peekable();
    let is_clients = |range: &std::ops::RangeInclusive<u16>| {
        CLIENT_PORTS.contains(range.start()) && CLIENT_PORTS.contains(range.end())
    };
    if ports.peek().is_some() && ports.all(is_clients) && suggestion.service.protocols.is_empty() {
        text += &comment(
            "clients send from such ports: these may be answers to connections that were forgotten, \
             and no service",
        );
    }
    match suggestion.user {
        Some(uid) if DYNAMIC_USERS.contains(&uid) => {
            text += &comment(&format!(
                "systemd gives the uid {uid} to a service while it runs: it may be another one next \
                 time"
            ));
        }
        Some(uid) if !told.names.contains_key(&uid) => {
            text += &comment(&format!("the uid {uid} has no name here"));
        }
        _ => {}
    }
    text
}

/// `12 connections denied on input, 3 retries beside, from 2 of web's 10 addresses, first …`
fn sentence(told: &Told<'_>, suggestion: &Suggestion<'_>) -> String {
    let evidence = &suggestion.evidence;
    let (side, preposition) = match (evidence.sides.first(), evidence.sides.len()) {
        (Some(Direction::Output), _) => (&suggestion.to, "to"),
        (_, 1) => (&suggestion.from, "from"),
        _ => (&suggestion.from, "with"),
    };
    let seen = peers(told, suggestion);
    let whom = match side {
        Side::Addresses(_) if seen.len() == 1 => String::new(),
        Side::Addresses(_) => format!(", {preposition} {} addresses", seen.len()),
        Side::Tier(name) => {
            let members = told.policy.tiers.get(name).map(Addresses::of_tier).unwrap_or_default();
            match members.count() {
                Some(all) => format!(", {preposition} {} of {name}'s {all} addresses", seen.len()),
                None => format!(", {preposition} {} in {name}", counted_addresses(seen.len())),
            }
        }
    };
    format!("{}{whom}, {}", counts(evidence), times(evidence))
}

fn counts(evidence: &Evidence) -> String {
    let mut counts = Vec::new();
    if evidence.denied > 0 || evidence.would == 0 {
        counts.push(format!("{} denied", counted(evidence.denied as usize, "connection")));
    }
    if evidence.would > 0 {
        let connections = counted(evidence.would as usize, "connection");
        counts.push(format!("{connections} would be denied"));
    }
    let sides: Vec<String> = evidence.sides.iter().map(ToString::to_string).collect();
    let mut text = counts.join(", ");
    if !sides.is_empty() {
        text += &format!(" on {}", sides.join(" and "));
    }
    match evidence.retries {
        0 => {}
        1 => text += ", 1 retry beside",
        retries => text += &format!(", {retries} retries beside"),
    }
    if evidence.uncertain > 0 {
        text += &format!(", and up to {} packets more", evidence.uncertain);
    }
    text
}

fn times(evidence: &Evidence) -> String {
    match (utc(evidence.first), utc(evidence.last)) {
        (first, last) if first == last => format!("at {first}"),
        (first, last) => format!("first {first}, last {last}"),
    }
}

fn at_the_other_end(suggestion: &Suggestion<'_>, other_end: OtherEnd<'_>) -> String {
    let name = |side: &Side| side.words().join(", ");
    let sides = &suggestion.evidence.sides;
    let (servers, does) = match (sides.first(), sides.len()) {
        (Some(Direction::Input), 1) => (format!("{}'s servers", name(&suggestion.from)), "open"),
        (_, 1) => (format!("{}'s servers", name(&suggestion.to)), "accept"),
        _ => (format!("the other servers of {}", name(&suggestion.from)), "open and accept"),
    };
    let OtherEnd::Open(allow) = other_end else {
        return format!("{servers} need this allow too: one is for both ends");
    };
    let by = format!("{servers} {does} it already, by {} ({})", allow.key, allow.location);
    let users: Vec<String> = allow.users.iter().map(User::to_string).collect();
    match users.is_empty() || does == "accept" {
        true => by,
        false => format!(
            "{by}, for {} only: this allow opens it for everybody's programs there",
            users.join(", ")
        ),
    }
}

fn unsayable(unsayable: &[Unsayable]) -> String {
    if unsayable.is_empty() {
        return String::new();
    }
    let mut text = "\n# ---- What no allow can say ----\n".to_owned();
    for Unsayable { reason, wanted, evidence } in unsayable.iter().take(UNSAYABLE) {
        let (sources, destinations) = (some(&evidence.sources), some(&evidence.destinations));
        text += &comment(&format!(
            "{wanted} from {sources} to {destinations}: {}, {}: {reason}",
            counts(evidence),
            times(evidence)
        ));
    }
    if let Some(more) = unsayable.len().checked_sub(UNSAYABLE).filter(|more| *more > 0) {
        text += &comment(&format!("and {more} more: --json has them"));
    }
    text
}

/// The literal addresses of an allow.
fn listed<'s>(suggestion: &'s Suggestion<'_>) -> Option<&'s BTreeSet<IpAddr>> {
    [&suggestion.from, &suggestion.to].into_iter().find_map(|side| match side {
        Side::Addresses(addresses) => Some(addresses),
        Side::Tier(_) => None,
    })
}

/// The other side's addresses.
fn peers(told: &Told<'_>, suggestion: &Suggestion<'_>) -> BTreeSet<IpAddr> {
    let Evidence { sides, sources, destinations, .. } = &suggestion.evidence;
    match (sides.first(), sides.len()) {
        (Some(Direction::Output), _) => destinations.clone(),
        (_, 1) => sources.clone(),
        _ => {
            let is_own = |address: &IpAddr| told.server.addresses.contains(*address);
            (sources | destinations).into_iter().filter(|address| !is_own(address)).collect()
        }
    }
}

/// The first few addresses.
fn some(addresses: &BTreeSet<IpAddr>) -> String {
    let named: Vec<String> = addresses.iter().take(NAMED).map(ToString::to_string).collect();
    match addresses.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

fn counted_addresses(number: usize) -> String {
    format!("{number} address{}", if number == 1 { "" } else { "es" })
}

#[cfg(test)]
mod tests {
    use super::super::{Told, denial};
    use super::*;
    use crate::options::Suggest;
    use control::{DenialCount, DenialFate, DenialGroup, Denials, DenialsBy, Losses};
    use policy::explain::Server;
    use policy::suggest::Denial;
    use policy::{Options, Role};
    use std::collections::BTreeMap;
    use std::path::Path;

    const POLICY: &str = r#"
role = "app"
[tiers]
web = ["10.1.0.0/24"]
app = ["10.2.0.1", "10.2.0.2"]
[[allow]]
name    = "nginx"
from    = "web"
to      = "any"
service = "tcp/8080"
user    = "nginx"
"#;

    fn group(input: bool, peer: &str, service: &str, user: Option<u32>) -> DenialGroup {
        let (own, peer) = ("10.2.0.1".parse().ok(), peer.parse().ok());
        let (source, destination) = if input { (peer, own) } else { (own, peer) };
        DenialGroup {
            direction: if input { control::Direction::Input } else { control::Direction::Output },
            fate: DenialFate::WouldDeny,
            source,
            source_tiers: Vec::new(),
            destination,
            destination_tiers: Vec::new(),
            service: Some(service.into()),
            user,
            interface: None,
            generation: None,
            count: DenialCount { connections: 2, retries: 1 },
            first: 1_800_000_000,
            last: 1_800_000_100,
            uncertain: 0,
        }
    }

    /// What is printed of these, joined to one line.
    fn told(groups: Vec<DenialGroup>, strangers: bool, scans: bool) -> (String, String) {
        let options = Options { check_permissions: false, ..Options::default() };
        let loaded = policy::load_text(Path::new("p.toml"), POLICY, &options);
        let policy = loaded.policy.expect("a policy");
        let role = Role { tiers: ["app".to_owned()].into(), auto: false };
        let server = Server { role, addresses: Addresses::default() };
        let flows: Vec<Denial> = groups.iter().filter_map(denial).collect();
        let suggestions = policy.suggest(&server, &BTreeMap::new(), &flows);
        let denials = Denials {
            since: 1_800_000_000,
            until: 1_800_000_200,
            totals: Vec::new(),
            by: DenialsBy::Flow,
            groups,
            left_out: 0,
            rest: DenialCount { connections: 7, retries: 0 },
            losses: Losses { lost: 5, reading_since: None, ..Losses::default() },
        };
        let text = of(&Told {
            options: &Suggest { since: None, tier: None, user: None, strangers, scans },
            policy: &policy,
            services: &loaded.services,
            server: &server,
            denials: &denials,
            suggestions: &suggestions,
            names: BTreeMap::from([(33, "www-data".into())]),
            notes: Vec::new(),
        });
        let joined = text.replace("\n# ", " ");
        (text, joined)
    }

    /// The lines that aren't comments.
    fn live(text: &str) -> Vec<&str> {
        text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
    }

    #[test]
    fn what_looks_like_an_attack_is_only_a_comment() {
        let mut groups = vec![group(true, "203.0.113.7", "tcp/22", None)];
        groups.extend(
            (1..=60).map(|host| group(true, &format!("198.51.100.{host}"), "tcp/23", None)),
        );
        groups.extend((1..=20).map(|port| group(true, "10.1.0.9", &format!("tcp/{port}"), None)));
        let (text, joined) = told(groups.clone(), false, false);
        assert_eq!(live(&text), Vec::<&str>::new(), "{text}");
        assert!(!joined.contains("There is nothing"), "{text}");
        assert!(joined.contains("Nothing is suggested outright."), "{text}");
        assert!(joined.contains(" [[allow]] from    = \"203.0.113.7\""), "{text}");
        assert!(joined.contains("from 60 addresses") && joined.contains("and 56 more"), "{text}");
        assert!(!text.contains("198.51.100.40"), "{text}");
        assert!(joined.contains("Looks like a scan"), "{text}");
        let (text, _) = told(groups.clone(), true, false);
        assert!(
            text.contains("198.51.100.40") && text.contains("# service = \"tcp/1-20\""),
            "{text}"
        );
        let (text, _) = told(groups, true, true);
        assert!(text.contains("\nservice = \"tcp/1-20\"\n"), "{text}");
    }

    #[test]
    fn remarks_stand_above_the_allow_that_they_are_about() {
        let many =
            (1..=33).map(|host| group(false, &format!("198.51.100.{host}"), "tcp/443", Some(33)));
        let cases = [
            (many.collect(), "33 addresses are many for an allow"),
            (
                vec![group(false, "198.51.100.1", "tcp/40000", Some(33))],
                "clients send from such ports",
            ),
            (
                vec![group(false, "198.51.100.1", "tcp/443", Some(61_200))],
                "systemd gives the uid 61200",
            ),
            (
                vec![group(false, "198.51.100.1", "tcp/443", Some(4321))],
                "the uid 4321 has no name here",
            ),
            (
                vec![group(true, "10.1.0.1", "tcp/8080", None)],
                "by nginx (p.toml:6), for nginx only",
            ),
            (vec![group(true, "10.1.0.1", "tcp/80", None)], "web's servers need this allow too"),
            (
                vec![group(true, "10.1.0.1", "icmp type 13", None)],
                "opens every type of ICMP or none",
            ),
        ];
        for (groups, remark) in cases {
            let (text, joined) = told(groups, false, false);
            assert!(joined.contains(remark), "{remark}: {text}");
            assert!(text.lines().all(|line| line.chars().count() <= 98), "{text}");
        }
        let (_, joined) =
            told(vec![group(false, "198.51.100.1", "tcp/443", Some(33))], false, false);
        assert!(joined.contains("user    = \"www-data\""), "{joined}");
        assert!(!joined.contains("no name here") && !joined.contains("clients send"), "{joined}");
    }

    #[test]
    fn gaps_in_the_record_are_told_first() {
        let (_, joined) = told(Vec::new(), false, false);
        for gap in ["7 connections aren't told apart", "5 packets came too fast", "can't be read"] {
            assert!(
                joined.contains(&format!("incomplete: {gap}")) || joined.contains(gap),
                "{joined}"
            );
        }
        assert!(joined.contains("There is nothing to suggest."), "{joined}");
    }
}
