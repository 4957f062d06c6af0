//! A packet for a person: a block with a line for each chain that decided about it.

use super::Summary;
use super::decode::{Cause, Decoded, handle};
use super::packet::{End, Packet, Visit};
use super::words::{self, Context};
use crate::output::{BAD, FAINT, GOOD, HEADING, WARNING, clean_line, counted, styled};
use netlink::trace::{Event, TABLE_PREFIX, Verdict};
use policy::explain::{Fate, Ground};
use ruleset::Hook;

/// The width of the longest hook.
const HOOK: usize = 11;

/// The types of an echo request, of ICMP and ICMPv6.
const ECHO: [u8; 2] = [8, 128];

pub(super) fn packet(context: Context<'_>, packet: &Packet, visits: &[Decoded<'_>]) -> String {
    let mut text = format!("{}\n", styled(HEADING, &headline(context, packet)));
    for (visit, decoded) in packet.visits.iter().zip(visits) {
        for line in lines(visit, decoded) {
            text += &format!("  {:HOOK$} {line}\n", words::hook_of(decoded.base));
        }
    }
    text += &end(context, packet, visits);
    text.push('\n');
    text
}

/// `+0.512s  tcp 10.10.1.10:40312 (web) -> 10.10.1.20:8080 (app)  in eth0  syn`
fn headline(context: Context<'_>, packet: &Packet) -> String {
    let headers = &packet.headers;
    let side = |address, port| {
        let tiers = context.tiers(address).join(",");
        let tiers = if tiers.is_empty() { tiers } else { format!(" ({tiers})") };
        format!("{}{tiers}", words::end_point(address, port))
    };
    let source = side(headers.source, headers.ports.map(|(source, _)| source));
    let target = side(headers.destination, headers.ports.map(|(_, target)| target));
    let after = packet.after.as_secs_f64();
    let mut text = format!("+{after:.3}s  {} {source} -> {target}", words::protocol(headers));
    for (word, index) in [("in", packet.input), ("out", packet.output)] {
        if let Some(name) = context.interface(index) {
            text += &format!("  {word} {name}");
        }
    }
    let flags = words::tcp_flags(headers);
    if !flags.is_empty() {
        text += &format!("  {}", flags.join(","));
    }
    if let Some((kind, code)) = headers.icmp {
        text += &format!("  type {kind} code {code}");
    }
    if let Some(state) = packet.state.map(|state| state.to_string()).filter(|s| !s.is_empty()) {
        text += &format!("  {state}");
    }
    if let Some(mark) = packet.mark {
        text += &format!("  mark {mark:#x}");
    }
    text
}

fn lines(visit: &Visit, decoded: &Decoded<'_>) -> Vec<String> {
    // Another trace, which accepts everything, says nothing of the packet.
    let accepts = visit.last().is_some_and(|last| words::step_verdict(last) == "accept");
    if accepts && visit.table.starts_with(TABLE_PREFIX) {
        return Vec::new();
    }
    let Some(decision) = &decoded.decision else {
        return vec![foreign(visit, decoded)];
    };
    let mut lines: Vec<String> =
        way(visit, decoded).iter().map(|line| styled(FAINT, line)).collect();
    let words = words::decision(decision);
    lines.push(match decision.fate {
        Fate::Allowed => styled(GOOD, &words),
        Fate::WouldBeDenied => styled(WARNING, &words),
        Fate::Dropped | Fate::Refused(_) => styled(BAD, &words),
    });
    lines
}

/// The rules that led to the one that decided.
fn way(visit: &Visit, decoded: &Decoded<'_>) -> Vec<String> {
    let mut way: Vec<(bool, String)> = Vec::new();
    for (step, rule) in visit.steps.iter().zip(&decoded.rules) {
        match &step.event {
            Event::Rule { verdict: verdict @ (Verdict::Jump(to) | Verdict::Goto(to)), .. } => {
                let comment = rule.map_or("", |rule| rule.comment.as_str());
                let jumps = matches!(verdict, Verdict::Jump(_));
                way.push((jumps, format!("{comment}, to {to}")));
            }
            Event::Return { .. } => {
                while let Some((jumped, _)) = way.pop() {
                    if jumped {
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    way.into_iter().map(|(_, line)| line).collect()
}

/// What another table, or ours where steps are missing, did: where, by which rule, and what.
fn foreign(visit: &Visit, decoded: &Decoded<'_>) -> String {
    let place = |chain: &str| clean_line(&format!("{} {} {chain}", visit.family, visit.table));
    let Some(step) = visit.steps.last() else { return place(&visit.chain) };
    let rule = decoded.rules.last().copied().flatten();
    let comment = rule.map(|rule| clean_line(&rule.comment)).filter(|comment| !comment.is_empty());
    let by = match (handle(&step.event), comment) {
        (None, _) => "its policy".to_owned(),
        (Some(handle), None) => format!("rule {handle}"),
        (Some(handle), Some(comment)) => format!("rule {handle}, \"{comment}\""),
    };
    let place = place(&step.chain);
    match &step.event {
        Event::Policy { accepts: true } | Event::Rule { verdict: Verdict::Accept, .. } => {
            styled(FAINT, &format!("{place}: accepted by {by}"))
        }
        Event::Policy { accepts: false } | Event::Rule { verdict: Verdict::Drop, .. } => {
            styled(BAD, &format!("{place}: dropped by {by}"))
        }
        Event::Rule { verdict: Verdict::Queue, .. } => {
            styled(WARNING, &format!("{place}: handed to a program by {by}"))
        }
        event => format!("{place}: {} by {by}; no more is known", words::step_verdict(event)),
    }
}

/// Where it ended, and where to look.
fn end(context: Context<'_>, packet: &Packet, visits: &[Decoded<'_>]) -> String {
    let mut text = String::new();
    let mut line = |style, words: &str| text += &format!("  {}\n", styled(style, words));
    let last = packet.visits.last().zip(visits.last());
    match (packet.end, last) {
        (End::Delivered, _) => line(FAINT, "delivered to this server"),
        (End::Sent, _) => match context.interface(packet.output) {
            Some(interface) => line(FAINT, &format!("sent by {interface}")),
            None => line(FAINT, "sent"),
        },
        (End::Dropped, Some((visit, decoded))) if !decoded.ours => {
            let (family, table) = (visit.family, clean_line(&visit.table));
            line(FAINT, &format!("the rule: nft --handle list table {family} {table}"));
        }
        (End::Dropped, Some((_, decoded))) => {
            // Of ICMP, explain is asked about echo requests only.
            let asked = packet.headers.icmp.is_none_or(|(kind, _)| ECHO.contains(&kind));
            let lacks_an_allow = decoded.decision.as_ref().is_some_and(|decision| {
                decision.by == Cause::Ground(Ground::Closing) && decision.hook != Hook::Forward
            });
            if asked && lacks_an_allow {
                line(FAINT, &format!("what is missing: {}", question(packet)));
            }
        }
        (End::Dropped, None) => {}
        (End::Taken, _) => line(WARNING, "nothing more was heard of it"),
        // It may have been told.
        (End::Unheard, _) if packet.partial => {}
        (End::Unheard, _) => line(
            WARNING,
            "neither dropped by a rule nor delivered or sent: routing, the reverse path filter, or \
             a hook that isn't nftables' took it",
        ),
    }
    if packet.partial {
        line(WARNING, "steps are missing: more came than could be read");
    }
    text
}

/// The command that says more of a denied packet.
fn question(packet: &Packet) -> String {
    let headers = &packet.headers;
    format!(
        "tierwall explain --from {} --to {} --service {}",
        headers.source,
        headers.destination,
        words::service(headers)
    )
}

pub(super) fn summary(summary: &Summary) -> String {
    let of = |verdict: &str| summary.verdicts.get(verdict).copied().unwrap_or(0);
    let parts: Vec<String> = [
        ("allowed", "allowed"),
        ("would-be-denied", "would be denied"),
        ("denied", "denied"),
        ("unknown", "not heard of again"),
    ]
    .into_iter()
    .filter(|(verdict, _)| of(verdict) > 0)
    .map(|(verdict, words)| format!("{} {words}", of(verdict)))
    .collect();
    let seconds = summary.duration.as_secs_f64();
    let packets = counted(summary.packets as usize, "packet");
    let mut text = match summary.packets {
        0 => format!("no packet in {seconds:.1} s\n"),
        _ => format!("{packets} in {seconds:.1} s: {}\n", parts.join(", ")),
    };
    let mut warn = |words: String| text += &format!("{}\n", styled(WARNING, &words));
    let held_back = summary.counts.held_back();
    if held_back > 0 {
        let matched = summary.counts.matched;
        warn(format!("{held_back} of {matched} weren't traced: --rate says how many a second are"));
    }
    if summary.losses > 0 {
        warn("some steps were lost, since more came than could be read: name less, or a lower --rate"
            .into());
    }
    text
}
