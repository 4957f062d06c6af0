//! What the evaluator says of a packet, with what follows from it: what is delivered, what comes
//! back, and what counts.

use crate::exchange::{Sending, is_own};
use crate::packet::{ICMP, ICMPV6, Packet, Path, RST, TCP};
use crate::tracking::Tracking;
use policy::judge::{Judge, Ruling};
use ruleset::evaluate::{self, LOOPBACK, Outcome};
use ruleset::{Hook, Reject, States};

/// What becomes of a packet, as far as others can see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    /// Its sender is told so.
    Refused(Reject),
    Silence,
}

/// What the evaluator says.
#[derive(Debug)]
pub(crate) struct Prediction<'a> {
    pub(crate) fate: Fate,
    pub(crate) state: States,
    /// Of each hook that the packet passes, until one denies it.
    pub(crate) rulings: Vec<Ruling<'a>>,
    /// Of what the server's kernel answers, where connection tracking doesn't know that this belongs
    /// to the packet.
    pub(crate) answer: Vec<Ruling<'a>>,
}

impl<'a> Prediction<'a> {
    /// The prediction for a packet that is sent now.
    pub(crate) fn of(judge: &Judge<'a>, tracking: &mut Tracking, sending: &Sending) -> Self {
        let Sending { packet, user, .. } = sending;
        let state = tracking.state(sending);
        let hooks: &[Hook] = match packet.path {
            Path::In => &[Hook::Input],
            Path::Out => &[Hook::Output],
            Path::Within => &[Hook::Output, Hook::Input],
            Path::Through => &[Hook::Forward],
        };
        let user = |hook: &Hook| (*hook == Hook::Output).then_some(*user);
        let is_reply = tracking.is_reply(packet);
        let seen_at =
            |hook: &Hook| evaluate::Packet { is_reply, ..seen(packet, *hook, state, user(hook)) };
        let rulings = pass(judge, hooks, seen_at);
        let mut answer = Vec::new();
        let fate = match rulings.last().map(|ruling| ruling.outcome) {
            None | Some(Outcome::Accept) => {
                tracking.passed(packet, state);
                if is_reset_as_invalid(packet, state) {
                    let hooks = if packet.path == Path::Within { hooks } else { &[Hook::Output] };
                    answer = pass(judge, hooks, |hook| reset_of(packet, *hook));
                }
                Fate::Delivered
            }
            Some(Outcome::Drop) => Fate::Silence,
            // A reset is not answered with a reset (RFC 9293, 3.5.2).
            Some(Outcome::Reject(Reject::TcpReset)) if flags(packet) & RST != 0 => Fate::Silence,
            Some(Outcome::Reject(reject)) if state == States::UNTRACKED => {
                answer = pass(judge, &[Hook::Output], |_| error_about(packet));
                match answer.iter().any(Ruling::is_denied) {
                    true => Fate::Silence,
                    false => Fate::Refused(reject),
                }
            }
            Some(Outcome::Reject(reject)) => Fate::Refused(reject),
        };
        Self { fate, state, rulings, answer }
    }

    /// The counters that move.
    pub(crate) fn counters(&self) -> impl Iterator<Item = &str> {
        let rulings = self.rulings.iter().chain(&self.answer);
        rulings.flat_map(|ruling| ruling.counters.iter().copied())
    }
}

/// The rulings of one hook after the other, until one denies the packet.
fn pass<'a>(
    judge: &Judge<'a>,
    hooks: &[Hook],
    packet: impl Fn(&Hook) -> evaluate::Packet,
) -> Vec<Ruling<'a>> {
    let mut rulings: Vec<Ruling<'a>> = Vec::new();
    for hook in hooks {
        rulings.push(judge.rule_on(&packet(hook)));
        if rulings.iter().any(Ruling::is_denied) {
            break;
        }
    }
    rulings
}

/// Whether the server answers, once the packet got in, with a reset that belongs to no connection:
/// nobody listens there.
fn is_reset_as_invalid(packet: &Packet, state: States) -> bool {
    state == States::INVALID
        && packet.protocol() == TCP
        && matches!(packet.path, Path::In | Path::Within)
        && flags(packet) & RST == 0
        && !packet.broken
}

/// The reset that answers `packet`, of no connection.
fn reset_of(packet: &Packet, hook: Hook) -> evaluate::Packet {
    let there = seen(packet, hook, States::INVALID, None);
    let ports = there.ports.map(|(from, to)| (to, from));
    evaluate::Packet { source: there.destination, destination: there.source, ports, ..there }
}

fn flags(packet: &Packet) -> u8 {
    if packet.protocol() == TCP { packet.content.header[13] } else { 0 }
}

/// The packet as a base chain sees it.
pub(crate) fn seen(
    packet: &Packet,
    hook: Hook,
    state: States,
    user: Option<u32>,
) -> evaluate::Packet {
    let protocol = packet.protocol();
    let is_icmp = [ICMP, ICMPV6].contains(&protocol);
    evaluate::Packet {
        interface: if packet.path == Path::Within { LOOPBACK } else { LOOPBACK + 1 },
        ports: packet.ports(),
        icmp_type: is_icmp.then(|| packet.content.header[0]),
        hop_limit: packet.hop_limit,
        state,
        user,
        is_from_own: is_own(packet.source),
        tcp_flags: flags(packet),
        ..evaluate::Packet::first(hook, packet.source, packet.target, protocol)
    }
}

/// The error that refuses an untracked packet: connection tracking knows nothing that it could
/// belong to.
fn error_about(packet: &Packet) -> evaluate::Packet {
    let (protocol, kind) = if packet.source.is_ipv4() { (ICMP, 3) } else { (ICMPV6, 1) };
    evaluate::Packet {
        interface: if packet.path == Path::In { LOOPBACK + 1 } else { LOOPBACK },
        icmp_type: Some(kind),
        state: States::INVALID,
        ..evaluate::Packet::first(Hook::Output, packet.target, packet.source, protocol)
    }
}
