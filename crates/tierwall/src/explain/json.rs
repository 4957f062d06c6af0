//! An explanation for programs.

use super::text::{Asked, fate, lacks};
use policy::explain::{Answer, End, Explanation, Fate, Ground};
use policy::{Gap, Missing};
use serde_json::{Value, json};

pub(super) fn of(asked: &Asked<'_>, explanation: &Explanation<'_>, notes: &[String]) -> Value {
    let ends = explanation.ends.iter().map(|end| of_end(asked, end));
    json!({
        "from": asked.words[0],
        "to": asked.words[1],
        "service": asked.question.service.names(),
        "user": asked.options.user,
        "role": asked.server.role.tiers,
        "verdict": match explanation.fates() {
            (Fate::Allowed, _) => "allowed",
            (Fate::WouldBeDenied, _) => "would-be-denied",
            (_, best) if best.is_denied() => "denied",
            _ => "denied-in-part",
        },
        "ends": ends.collect::<Vec<_>>(),
        "notes": notes,
    })
}

fn of_end(asked: &Asked<'_>, end: &End<'_>) -> Value {
    let answers = end.answers.iter().map(|answer| of_answer(asked, end, answer));
    json!({
        "direction": end.direction.to_string(),
        "here": end.is_here,
        "answers": answers.collect::<Vec<_>>(),
    })
}

fn of_answer(asked: &Asked<'_>, end: &End<'_>, answer: &Answer<'_>) -> Value {
    let verdict = match answer.verdict.fate {
        Fate::Allowed => "allowed",
        Fate::WouldBeDenied => "would-be-denied",
        Fate::Dropped | Fate::Refused(_) => "denied",
    };
    let (by, allow) = match &answer.verdict.ground {
        Ground::Allow(allow) => ("allow", Some(*allow)),
        Ground::BuiltIn(_) => ("built-in", None),
        Ground::Closing => ("closing", None),
        Ground::Unfiltered => ("off", None),
        Ground::NoServer => ("no-server", None),
    };
    let rule = match &answer.verdict.ground {
        Ground::BuiltIn(name) => Some(name),
        _ => None,
    };
    json!({
        "from": answer.from.ranges().collect::<Vec<_>>(),
        "to": answer.to.ranges().collect::<Vec<_>>(),
        "services": answer.service.names(),
        "verdict": verdict,
        "how": fate(answer.verdict.fate),
        "by": by,
        "rule": rule,
        "allow": allow.map(|allow| allow.key.to_string()),
        "place": allow.map(|allow| allow.location.to_string()),
        "missing": answer.missing.as_ref().map(|missing| of_missing(asked, end, answer, missing)),
    })
}

fn of_missing(
    asked: &Asked<'_>,
    end: &End<'_>,
    answer: &Answer<'_>,
    missing: &Missing<'_>,
) -> Value {
    let nearest = missing.nearest.as_ref().map(|(allow, gap)| {
        json!({
            "allow": allow.key.to_string(),
            "place": allow.location.to_string(),
            "lacks": match gap {
                Gap::User => "user",
                Gap::Service => "service",
                Gap::Peer => "peer",
                Gap::Server => "server",
            },
            "but": lacks(end.direction, answer, allow, *gap),
        })
    });
    let allow = missing.to_toml(asked.policy, asked.options.user.as_deref());
    json!({ "nearest": nearest, "allow": allow })
}
