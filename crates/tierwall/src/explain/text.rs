//! An explanation for a person.

use crate::options::Explain;
use crate::output::{BAD, GOOD, HEADING, WARNING, styled};
use policy::explain::{Answer, End, Explanation, Fate, Ground, Party, Question, Server, Verdict};
use policy::model::Allow;
use policy::{Addresses, Direction, Gap, Policy, Sides};
use ruleset::Reject;

/// What was asked of whom.
pub(super) struct Asked<'a> {
    pub(super) options: &'a Explain,
    /// Who opens it, to whom, and on what, as somebody typed it.
    pub(super) words: [&'a str; 3],
    pub(super) policy: &'a Policy,
    pub(super) server: &'a Server,
    pub(super) question: &'a Question,
}

pub(super) fn of(asked: &Asked<'_>, explanation: &Explanation<'_>, notes: &[String]) -> String {
    let mut text = headline(asked, explanation);
    let is_here = explanation.ends.iter().any(|end| end.is_here);
    for end in &explanation.ends {
        // Of a host that is no server of the policy there is nothing to say besides this server's end.
        if !is_here || end.is_here || !end.is_nobodys() {
            text += &of_end(asked, end);
        }
    }
    text += &mending(asked, explanation);
    if !notes.is_empty() {
        text.push('\n');
    }
    for note in notes {
        text += &format!("{} {note}\n", styled(WARNING, "note:"));
    }
    text
}

fn headline(asked: &Asked<'_>, explanation: &Explanation<'_>) -> String {
    let ([from, to, service], user) = (asked.words, &asked.options.user);
    let what = format!("{from} to {to} on {service}");
    let what = user.as_ref().map_or(what.clone(), |user| format!("{what} by {user}"));
    let verdict = match explanation.fates() {
        (Fate::Allowed, _) => styled(GOOD, "allowed:"),
        (Fate::WouldBeDenied, _) => styled(WARNING, "would be denied, but passes:"),
        (_, best) if best.is_denied() => styled(BAD, "denied:"),
        _ => styled(BAD, "denied in part:"),
    };
    format!("{verdict} {what}\n")
}

/// `input of this server (app)`
fn of_end(asked: &Asked<'_>, end: &End<'_>) -> String {
    let (options, question) = (asked.options, asked.question);
    let [from, to, _] = asked.words;
    let (party, name) = match end.direction {
        Direction::Input => (&question.to, to),
        Direction::Output => (&question.from, from),
    };
    let whose = match (end.is_here, party, &options.as_) {
        (true, _, None) => format!("this server ({})", asked.server.role),
        (true, Party::Here, Some(who)) => who.clone(),
        _ if end.is_nobodys() => format!("{name}, which is no server of this policy"),
        _ => name.to_owned(),
    };
    let heading = format!("{} of {whose}", end.direction);
    let mut text = format!("\n{}\n", styled(HEADING, &heading));
    let one = end.answers.len() == 1;
    for answer in &end.answers {
        if !one {
            let Answer { from, to, service, .. } = answer;
            text += &format!("  {from} to {to} on {service}:\n");
        }
        let indent = if one { "  " } else { "    " };
        for line in lines(asked, end, answer) {
            text += &format!("{indent}{line}\n");
        }
    }
    text
}

fn lines(asked: &Asked<'_>, end: &End<'_>, answer: &Answer<'_>) -> Vec<String> {
    let (mode, done) = match end.direction {
        Direction::Input => (asked.policy.mode.input, "accepted"),
        Direction::Output => (asked.policy.mode.output, "opened"),
    };
    let by = decided(done, &answer.verdict).unwrap_or_else(|| match &answer.verdict.ground {
        Ground::NoServer => "in no tier: this policy says nothing of what it lets through".into(),
        _ => format!("not filtered: {} is {}", end.direction, mode_name(mode)),
    });
    let mut lines = vec![match answer.verdict.fate {
        Fate::Allowed => by,
        Fate::WouldBeDenied => format!("{by}; {} only observes", end.direction),
        Fate::Dropped | Fate::Refused(_) => styled(BAD, &by),
    }];
    let Some(missing) = &answer.missing else { return lines };
    if let Some((allow, gap)) = &missing.nearest {
        let but = lacks(end.direction, answer, allow, *gap);
        lines.push(format!("the nearest is {}, but {but}", named(allow)));
    }
    if let Sides::NoTier(address) = &missing.sides {
        lines.push(format!("{address} is in no tier that this server is in: add it to one first"));
    }
    lines
}

/// What becomes of a connection and what says so; none where nothing decides about it. `done` is
/// the word for letting it through.
pub(crate) fn decided(done: &str, verdict: &Verdict<'_>) -> Option<String> {
    Some(match &verdict.ground {
        Ground::Allow(allow) => format!("{done} by the allow {}", named(allow)),
        Ground::BuiltIn(name) if verdict.fate == Fate::Allowed => {
            format!("{done} by the built-in rule {name}")
        }
        Ground::BuiltIn(name) => format!("{} by the built-in rule {name}", fate(verdict.fate)),
        Ground::Closing => format!("{}: no allow names it", fate(verdict.fate)),
        Ground::Unfiltered | Ground::NoServer => return None,
    })
}

pub(super) fn mode_name(mode: policy::model::Mode) -> &'static str {
    match mode {
        policy::model::Mode::Enforce => "enforced",
        policy::model::Mode::Observe => "observed",
        policy::model::Mode::Off => "off",
    }
}

pub(crate) fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Allowed => "allowed",
        Fate::WouldBeDenied => "would be denied",
        Fate::Dropped => "dropped",
        Fate::Refused(Reject::TcpReset) => "refused with a TCP reset",
        Fate::Refused(Reject::AdminProhibited) => "refused as prohibited",
    }
}

fn named(allow: &Allow) -> String {
    format!("{} ({})", allow.key, allow.location)
}

/// What to write: one allow opens both ends, so each that is missing is told once.
fn mending(asked: &Asked<'_>, explanation: &Explanation<'_>) -> String {
    let mut allows: Vec<String> = Vec::new();
    for end in &explanation.ends {
        for missing in end.answers.iter().filter_map(|answer| answer.missing.as_ref()) {
            let allow = missing.to_toml(asked.policy, asked.options.user.as_deref());
            allows.extend(allow.filter(|allow| !allows.contains(allow)));
        }
    }
    if allows.is_empty() {
        return String::new();
    }
    let indented =
        |allow: &String| -> String { allow.lines().map(|line| format!("  {line}\n")).collect() };
    let allows: Vec<String> = allows.iter().map(indented).collect();
    format!("\nto allow it:\n{}", allows.join("\n"))
}

/// What an allow is for, other than what was asked.
pub(super) fn lacks(direction: Direction, answer: &Answer<'_>, allow: &Allow, gap: Gap) -> String {
    let (own, peer, address) = match direction {
        Direction::Input => (&allow.to, &allow.from, &answer.from),
        Direction::Output => (&allow.from, &allow.to, &answer.to),
    };
    let named = |side: &policy::model::Endpoint| {
        let mut names: Vec<String> = Vec::new();
        names.extend(side.any.then(|| "any".to_owned()));
        names.extend(side.every_server.then(|| "*".to_owned()));
        names.extend(side.tiers.iter().cloned());
        let literals = Addresses::of_literals(side);
        names.extend((!literals.is_empty()).then(|| literals.to_string()));
        names.join(", ")
    };
    let users: Vec<String> = allow.users.iter().map(ToString::to_string).collect();
    let users = users.join(", ");
    match gap {
        Gap::User => format!("it is for the user {users} only"),
        Gap::Service if direction == Direction::Output && !users.is_empty() => {
            format!("it is for {} and the user {users}", allow.service)
        }
        Gap::Service => format!("it is for {}", allow.service),
        Gap::Peer => format!("{} doesn't hold {address}", named(peer)),
        Gap::Server => format!("it is for servers of {}", named(own)),
    }
}
