//! What text and JSON share: names, places and verdicts of a packet.

use super::decode::{Cause, Decision, Decoded};
use super::packet::{End, Packet};
use crate::explain::text::{decided, fate};
use netlink::Headers;
use netlink::trace::{Event, Verdict};
use policy::explain::{self, Fate, Ground};
use policy::model::tiers_with;
use policy::{Policy, protocol_name};
use ruleset::{Base, Hook};
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// The flags of a TCP segment, from the lowest bit (RFC 9293, RFC 3168).
const TCP_FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// The hooks beyond the three that have a name as values (`enum nf_inet_hooks`).
const PREROUTING: u32 = 0;
const POSTROUTING: u32 = 4;

/// What names are looked up in.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) policy: Option<&'a Policy>,
    pub(super) interfaces: &'a Interfaces,
}

/// The names of interfaces by index, each looked up once.
#[derive(Debug, Default)]
pub(super) struct Interfaces(RefCell<HashMap<u32, String>>);

impl<'a> Context<'a> {
    /// The name of an interface; its number where it is gone. None for none.
    pub(super) fn interface(&self, index: u32) -> Option<String> {
        if index == 0 {
            return None;
        }
        let mut known = self.interfaces.0.borrow_mut();
        if !known.contains_key(&index) {
            let links = netlink::links().unwrap_or_default();
            known.extend(links.into_iter().map(|link| (link.index, link.name)));
            known.entry(index).or_insert_with(|| format!("interface {index}"));
        }
        known.get(&index).cloned()
    }

    /// The tiers that hold an address.
    pub(super) fn tiers(&self, address: IpAddr) -> Vec<&'a str> {
        let policy = self.policy.into_iter();
        policy.flat_map(|policy| tiers_with(&policy.tiers, address)).map(String::as_str).collect()
    }
}

/// `tcp`, `udp`, `icmp`, `gre`
pub(super) fn protocol(headers: &Headers) -> String {
    match ruleset::Transport::of_protocol(headers.protocol) {
        Some(transport) => transport.to_string(),
        None => protocol_name(headers.protocol),
    }
}

/// As the policy file and `explain` have it: `tcp/8080`, `icmp`.
pub(super) fn service(headers: &Headers) -> String {
    match headers.ports {
        Some((_, port)) => format!("{}/{port}", protocol(headers)),
        None => protocol(headers),
    }
}

/// Address and port.
pub(super) fn end_point(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

pub(super) fn tcp_flags(headers: &Headers) -> Vec<&'static str> {
    let flags = headers.tcp_flags.unwrap_or(0);
    let set = TCP_FLAGS.iter().enumerate().filter(|(bit, _)| flags & (1 << bit) != 0);
    set.map(|(_, name)| *name).collect()
}

pub(super) fn hook(hook: Hook) -> String {
    match hook {
        Hook::Other(PREROUTING) => "prerouting".into(),
        Hook::Other(POSTROUTING) => "postrouting".into(),
        hook => hook.to_string(),
    }
}

/// The hook of a base chain; where that is gone, nobody knows.
pub(super) fn hook_of(base: Option<&Base>) -> String {
    base.map_or_else(|| "unknown".into(), |base| hook(base.hook))
}

/// What became of a packet.
pub(super) fn verdict(packet: &Packet, visits: &[Decoded<'_>]) -> &'static str {
    let would = |decoded: &Decoded<'_>| {
        decoded.decision.as_ref().is_some_and(|decision| decision.fate == Fate::WouldBeDenied)
    };
    match packet.end {
        End::Dropped => "denied",
        End::Delivered | End::Sent if visits.iter().any(would) => "would-be-denied",
        End::Delivered | End::Sent => "allowed",
        End::Unheard | End::Taken => "unknown",
    }
}

/// What our table decided, in the words of `explain`.
pub(super) fn decision(decision: &Decision<'_>) -> String {
    let side = hook(decision.hook);
    let done = match decision.hook {
        Hook::Input => "accepted",
        Hook::Output => "opened",
        _ => "forwarded",
    };
    let by = match &decision.by {
        Cause::UnknownAllow(allow) => {
            let word = if decision.fate == Fate::Allowed { done } else { fate(decision.fate) };
            format!("{word} by the allow {allow}, which the policy files don't have")
        }
        Cause::Ground(Ground::Closing) if decision.hook == Hook::Forward => {
            format!("{}: this server forwards nothing", fate(decision.fate))
        }
        Cause::Ground(ground) => {
            let verdict = explain::Verdict { fate: decision.fate, ground: ground.clone() };
            decided(done, &verdict).unwrap_or_else(|| format!("not filtered: {side} lets all pass"))
        }
    };
    match decision.fate {
        Fate::WouldBeDenied => format!("{by}; {side} only observes"),
        _ => by,
    }
}

/// The verdict of a step, as `nft` writes it.
pub(super) fn step_verdict(event: &Event) -> String {
    match event {
        Event::Rule { verdict, .. } => verdict.to_string(),
        Event::Return { .. } => "return".into(),
        Event::Policy { accepts: true } => Verdict::Accept.to_string(),
        Event::Policy { accepts: false } => Verdict::Drop.to_string(),
    }
}
