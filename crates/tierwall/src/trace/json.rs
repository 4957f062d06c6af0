//! A packet for programs: one object a line.

use super::Summary;
use super::decode::{Cause, Decision, Decoded, handle};
use super::packet::{End, Packet, Visit};
use super::words::{self, Context};
use crate::explain::text::fate;
use netlink::trace::Event;
use policy::explain::{Fate, Ground};
use serde_json::{Value, json};
use std::time::UNIX_EPOCH;

pub(super) fn packet(context: Context<'_>, packet: &Packet, visits: &[Decoded<'_>]) -> Value {
    let headers = &packet.headers;
    let chains = packet.visits.iter().zip(visits).map(|(visit, decoded)| chain(visit, decoded));
    json!({
        "kind": "packet",
        "time": packet.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        "after": packet.after.as_secs_f64(),
        "protocol": words::protocol(headers),
        "source": headers.source,
        "source_port": headers.ports.map(|(source, _)| source),
        "source_tiers": context.tiers(headers.source),
        "destination": headers.destination,
        "destination_port": headers.ports.map(|(_, destination)| destination),
        "destination_tiers": context.tiers(headers.destination),
        "tcp_flags": headers.tcp_flags.map(|_| words::tcp_flags(headers)),
        "icmp_type": headers.icmp.map(|(kind, _)| kind),
        "icmp_code": headers.icmp.map(|(_, code)| code),
        "input": context.interface(packet.input),
        "output": context.interface(packet.output),
        "mark": packet.mark,
        "state": packet.state.map(|state| state.to_string()).filter(|state| !state.is_empty()),
        "verdict": words::verdict(packet, visits),
        "end": match packet.end {
            End::Delivered => "delivered",
            End::Sent => "sent",
            End::Dropped => "dropped",
            End::Taken => "taken",
            End::Unheard => "unheard",
        },
        "chains": chains.collect::<Vec<_>>(),
        "partial": packet.partial,
    })
}

/// A base chain, and the steps in it and those it leads to.
fn chain(visit: &Visit, decoded: &Decoded<'_>) -> Value {
    let steps = visit.steps.iter().zip(&decoded.rules).map(|(step, rule)| {
        json!({
            "chain": step.chain,
            "handle": handle(&step.event),
            "comment": rule.map(|rule| &rule.comment),
            "by": match step.event {
                Event::Policy { .. } => "policy",
                Event::Return { handle: None } => "end",
                _ => "rule",
            },
            "verdict": words::step_verdict(&step.event),
        })
    });
    json!({
        "family": visit.family.to_string(),
        "table": visit.table,
        "chain": visit.chain,
        "hook": words::hook_of(decoded.base),
        "priority": decoded.base.map(|base| base.priority),
        "ours": decoded.ours,
        "steps": steps.collect::<Vec<_>>(),
        "decision": decoded.decision.as_ref().map(decision),
    })
}

/// With the keys of an answer of `explain`.
fn decision(decision: &Decision<'_>) -> Value {
    let (by, rule, allow, place) = match &decision.by {
        Cause::UnknownAllow(allow) => ("allow", None, Some((*allow).to_owned()), None),
        Cause::Ground(Ground::Allow(allow)) => {
            ("allow", None, Some(allow.key.to_string()), Some(allow.location.to_string()))
        }
        Cause::Ground(Ground::BuiltIn(name)) => ("built-in", Some(name.clone()), None, None),
        Cause::Ground(Ground::Closing) => ("closing", None, None, None),
        Cause::Ground(Ground::Unfiltered) => ("off", None, None, None),
        Cause::Ground(Ground::NoServer) => ("no-server", None, None, None),
    };
    json!({
        "verdict": match decision.fate {
            Fate::Allowed => "allowed",
            Fate::WouldBeDenied => "would-be-denied",
            Fate::Dropped | Fate::Refused(_) => "denied",
        },
        "how": fate(decision.fate),
        "by": by,
        "rule": rule,
        "allow": allow,
        "place": place,
        "words": words::decision(decision),
    })
}

/// The first line: packets are traced from now on.
pub(super) fn start(table: &str, notes: &[String]) -> Value {
    json!({ "kind": "start", "table": table, "notes": notes })
}

/// The last line.
pub(super) fn summary(summary: &Summary) -> Value {
    json!({
        "kind": "summary",
        "seconds": summary.duration.as_secs_f64(),
        "packets": summary.packets,
        "verdicts": summary.verdicts,
        "matched": summary.counts.matched,
        "traced": summary.counts.traced,
        "held_back": summary.counts.held_back(),
        "losses": summary.losses,
    })
}
