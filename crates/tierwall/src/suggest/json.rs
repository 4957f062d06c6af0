//! Suggestions for programs.

use super::Told;
use policy::suggest::{Evidence, OtherEnd, Suggestion};
use serde_json::{Value, json};

pub(super) fn of(told: &Told<'_>) -> Value {
    let suggestions = told.suggestions;
    let allows = suggestions.allows.iter().map(|allow| of_suggestion(told, allow));
    let unsayable = suggestions.unsayable.iter().map(|unsayable| {
        json!({
            "service": unsayable.wanted.to_string(),
            "reason": unsayable.reason.to_string(),
            "evidence": of_evidence(&unsayable.evidence),
        })
    });
    json!({
        "since": told.denials.since,
        "until": told.denials.until,
        "role": told.server.role.tiers,
        "allows": allows.collect::<Vec<_>>(),
        "unsayable": unsayable.collect::<Vec<_>>(),
        "passing": suggestions.passing.as_ref().map(of_evidence),
        "incomplete": told.incomplete(),
        "notes": told.notes,
    })
}

fn of_suggestion(told: &Told<'_>, suggestion: &Suggestion<'_>) -> Value {
    let user = suggestion.user.and_then(|uid| told.names.get(&uid));
    let other_end = suggestion.other_end.map(|other_end| match other_end {
        OtherEnd::Closed => json!({ "open": false }),
        OtherEnd::Open(allow) => json!({
            "open": true,
            "allow": allow.key.to_string(),
            "place": allow.location.to_string(),
            "users": allow.users.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    });
    json!({
        "from": suggestion.from.words(),
        "to": suggestion.to.words(),
        "services": suggestion.service.words(told.services),
        "user": suggestion.user,
        "user_name": user,
        "stranger": suggestion.doubt.stranger,
        "scan": suggestion.doubt.scan,
        "asked_for": told.is_asked_for(suggestion.doubt),
        "evidence": of_evidence(&suggestion.evidence),
        "other_end": other_end,
        "toml": suggestion.to_toml(told.services, user.map(String::as_str)),
    })
}

fn of_evidence(evidence: &Evidence) -> Value {
    json!({
        "denied": evidence.denied,
        "would_be_denied": evidence.would,
        "retries": evidence.retries,
        "uncertain": evidence.uncertain,
        "first": evidence.first,
        "last": evidence.last,
        "directions": evidence.sides.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "sources": evidence.sources,
        "destinations": evidence.destinations,
        "also_held_by": evidence.also,
    })
}
