//! The base chains: what every server needs, and the end of what no allow lets through.
//!
//! docs/traffic.md describes each built-in rule, and a test stands behind each of its lines.
//! Switching a side between enforce and observe changes only the rules here that would drop, and
//! the chain's policy.

use super::dispatch::Dispatch;
use super::labels::BUILT_IN;
use super::log::Cause;
use super::{Compiler, Side};
use crate::model::{DenyAction, Forward, Mode};
use ruleset::evaluate::LOOPBACK;
use ruleset::known::{LOCAL, NFPROTO_IPV6, PACKET_HOST, VRF};
use ruleset::{
    Base, Family, Field, Flags, Hook, Policy, Reject, Rule, Statement, States, Transport, Value,
    Verdict,
};

const ICMP: u128 = 1;
const TCP: u128 = 6;
const ICMPV6: u128 = 58;

/// RFC 792: destination unreachable (with fragmentation needed), time exceeded, parameter
/// problem, echo request.
const ICMP_TYPES: [u128; 4] = [3, 11, 12, 8];

/// RFC 4443: destination unreachable, packet too big, time exceeded, parameter problem, echo
/// request.
const ICMPV6_TYPES: [u128; 5] = [1, 2, 3, 4, 128];

/// RFC 2710 and RFC 3810: multicast listener query, report, done, and version 2 report.
const MLD_TYPES: [u128; 4] = [130, 131, 132, 143];

/// RFC 4861: router solicitation and advertisement, neighbour solicitation and advertisement.
const NEIGHBOUR_TYPES: [u128; 4] = [133, 134, 135, 136];

const REDIRECT: u128 = 5;
const REDIRECT_V6: u128 = 137;

/// `fe80::/10`
const LINK_LOCAL: Value = Value::Prefix { address: 0xfe80 << 112, length: 10 };

impl Compiler<'_> {
    /// The base chain of a side; `again` stands right before its end.
    pub(super) fn base_chain(
        &mut self,
        side: Side,
        mode: Mode,
        dispatch: &Dispatch,
        again: Vec<Rule>,
    ) {
        let related = format!("{}_related", side.name());
        let invalid = format!("{}_invalid", side.name());
        let icmp = format!("{}_icmp", side.name());
        let icmpv6 = format!("{}_icmpv6", side.name());
        let loopback = match side {
            Side::Input => Field::Iif,
            Side::Output => Field::Oif,
        };
        let accept = Statement::Verdict(Verdict::Accept);
        let goto = |chain: &String| Statement::Verdict(Verdict::Goto(chain.clone()));
        let asked = match side {
            Side::Input => None,
            Side::Output => self.asked(dispatch, &again),
        };
        let mut rules = Vec::from_iter(asked);
        rules.extend([
            built_in("established", [Statement::states(States::ESTABLISHED), accept.clone()]),
            built_in("related", [Statement::states(States::RELATED), goto(&related)]),
            built_in("invalid", [Statement::states(States::INVALID), goto(&invalid)]),
            built_in("loopback", [Statement::matches(loopback, LOOPBACK.into()), accept]),
            built_in("ICMP", [Statement::matches(Field::L4Proto, ICMP), Statement::jump(&icmp)]),
            built_in(
                "ICMPv6",
                [Statement::matches(Field::L4Proto, ICMPV6), Statement::jump(&icmpv6)],
            ),
        ]);
        rules.extend(self.own_source(side));
        rules.extend(dispatch.services.iter().cloned());
        rules.extend(dhcp_client(side));
        rules.extend(dispatch.any.clone());
        rules.extend(again);
        let deny = match side {
            Side::Input => self.policy.deny.input,
            Side::Output => self.policy.deny.output,
        };
        rules.extend(self.closing(side.hook(), mode, deny));

        let base = Base::filter(side.hook(), chain_policy(mode));
        self.add_chain(side.name(), Some(base), rules);
        self.add_chain(&related, None, Self::related(side));
        let rules = self.invalid(side, mode);
        self.add_chain(&invalid, None, rules);
        let rules = self.never(side, mode);
        self.add_chain(&never_chain(side), None, rules);
        self.add_chain(&icmp, None, Self::icmp(side));
        self.add_chain(&icmpv6, None, Self::icmpv6(side));
    }

    /// What is routed through this server. Forward follows input's mode.
    pub(super) fn forward(&mut self) {
        let mode = self.policy.mode.input;
        match self.policy.forward {
            _ if mode == Mode::Off => {}
            Forward::Unmanaged => {}
            Forward::Accept => {
                self.add_chain(
                    "forward",
                    Some(Base::filter(Hook::Forward, Policy::Accept)),
                    vec![],
                );
            }
            Forward::Drop => {
                let rules = self.closing(Hook::Forward, mode, DenyAction::Drop);
                let base = Base::filter(Hook::Forward, chain_policy(mode));
                self.add_chain("forward", Some(base), rules);
            }
        }
    }

    /// Both counters of `what` exist in either mode, so that a switch of modes adds no object.
    fn counter(&mut self, what: &str, mode: Mode) -> Statement {
        let denied = format!("denied.{what}");
        let would = format!("would-deny.{what}");
        let counter = Statement::counter(if mode == Mode::Observe { &would } else { &denied });
        self.table.counters.extend([denied, would]);
        counter
    }

    /// What comes from outside with an address of this server's as its source. Of IPv4 the kernel
    /// drops it by itself ("martian source"); of IPv6 it doesn't, and the server would be a peer of
    /// its own tier. Neighbour discovery has passed by now: a duplicate address must be noticed. A
    /// VRF has addresses of its own, which may be others' elsewhere.
    fn own_source(&mut self, side: Side) -> Option<Rule> {
        if side == Side::Output {
            return None;
        }
        let chain = format!("{}_own_source", side.name());
        let vrf = Statement::matches(Field::IifKind, VRF);
        let rules = vec![
            built_in("not in a VRF", [vrf, Statement::Verdict(Verdict::Return)]),
            built_in("no own address from outside", [goto_never(side)]),
        ];
        self.add_chain(&chain, None, rules);
        let statements = [
            Statement::matches(Field::NfProto, NFPROTO_IPV6),
            Statement::matches(Field::PacketType, PACKET_HOST),
            Statement::matches(Field::SourceType, LOCAL),
            Statement::jump(&chain),
        ];
        Some(built_in("own address from outside", statements))
    }

    /// Logs, then counts and drops. A reset answers what opens a connection, and nothing within
    /// one: the connection may be one that connection tracking forgot.
    fn closing(&mut self, hook: Hook, mode: Mode, deny: DenyAction) -> Vec<Rule> {
        let counter = self.counter(&hook.to_string(), mode);
        let mut rules = vec![self.log(hook, Cause::Denied, mode)];
        match (mode, deny) {
            (Mode::Observe | Mode::Off, _) => {
                rules.push(built_in("count what would be denied", [counter]));
            }
            (Mode::Enforce, DenyAction::Drop) => {
                rules.push(built_in("drop", [counter, Statement::Verdict(Verdict::Drop)]));
            }
            (Mode::Enforce, DenyAction::Reject) => {
                let mask = Flags::FIN | Flags::SYN | Flags::RST | Flags::ACK;
                let value = Value::Flags(Flags { set: Flags::SYN, mask });
                let opening = Statement::Match { field: Field::TcpFlags, value };
                let reset = Statement::Reject(Reject::TcpReset);
                rules.push(built_in("reject", [opening, counter.clone(), reset]));
                let tcp = Statement::matches(Field::L4Proto, TCP);
                let drop = Statement::Verdict(Verdict::Drop);
                rules.push(built_in("drop", [tcp, counter.clone(), drop]));
                let prohibited = Statement::Reject(Reject::AdminProhibited);
                rules.push(built_in("reject", [counter, prohibited]));
            }
        }
        rules
    }

    /// ICMP errors about a connection that exists, and connections that a helper expects. A
    /// redirect may be related too (ICMPv6 ones since Linux 6.2), and is never accepted.
    fn related(side: Side) -> Vec<Rule> {
        let mut rules = Family::BOTH.map(|family| no_redirects(side, family)).to_vec();
        rules.push(built_in("related", [Statement::Verdict(Verdict::Accept)]));
        rules
    }

    fn invalid(&mut self, side: Side, mode: Mode) -> Vec<Rule> {
        let counter = format!("invalid.{}", side.name());
        self.table.counters.insert(counter.clone());
        self.dropping(side, Cause::Invalid, mode, Statement::Counter(counter))
    }

    /// What no allow may let through. It is not refused: errors are not answered with errors.
    fn never(&mut self, side: Side, mode: Mode) -> Vec<Rule> {
        let counter = self.counter(side.name(), mode);
        self.dropping(side, Cause::Denied, mode, counter)
    }

    /// Logs, then counts and drops.
    fn dropping(&mut self, side: Side, cause: Cause, mode: Mode, counter: Statement) -> Vec<Rule> {
        let verdict = match mode {
            Mode::Enforce => Verdict::Drop,
            Mode::Observe | Mode::Off => Verdict::Accept,
        };
        let count = built_in(cause.name(), [counter, Statement::Verdict(verdict)]);
        vec![self.log(side.hook(), cause, mode), count]
    }

    fn icmp(side: Side) -> Vec<Rule> {
        let mut rules = vec![no_redirects(side, Family::V4)];
        rules.extend(ICMP_TYPES.map(|kind| accept_icmp("ICMP", Family::V4, kind)));
        rules
    }

    fn icmpv6(side: Side) -> Vec<Rule> {
        let mut rules = vec![no_redirects(side, Family::V6)];
        // Hop limit 255 proves that no router forwarded the packet (RFC 4861, 7.1).
        rules.extend(NEIGHBOUR_TYPES.into_iter().flat_map(|kind| {
            let message = Statement::matches(Field::IcmpType(Family::V6), kind);
            let near = Statement::matches(Field::HopLimit, 255);
            let accept = Statement::Verdict(Verdict::Accept);
            [
                built_in("neighbour discovery", [message.clone(), near, accept]),
                built_in("no neighbour discovery from elsewhere", [message, goto_never(side)]),
            ]
        }));
        rules.extend(ICMPV6_TYPES.map(|kind| accept_icmp("ICMPv6", Family::V6, kind)));
        rules.extend(MLD_TYPES.map(|kind| accept_icmp("multicast listeners", Family::V6, kind)));
        rules
    }
}

fn chain_policy(mode: Mode) -> Policy {
    match mode {
        Mode::Enforce => Policy::Drop,
        Mode::Observe | Mode::Off => Policy::Accept,
    }
}

pub(super) fn built_in(what: &str, statements: impl IntoIterator<Item = Statement>) -> Rule {
    Rule::new(format!("{BUILT_IN}{what}"), statements.into_iter().collect())
}

/// The chain of what no allow may let through.
fn never_chain(side: Side) -> String {
    format!("{}_never", side.name())
}

pub(super) fn goto_never(side: Side) -> Statement {
    Statement::Verdict(Verdict::Goto(never_chain(side)))
}

fn no_redirects(side: Side, family: Family) -> Rule {
    let kind = match family {
        Family::V4 => REDIRECT,
        Family::V6 => REDIRECT_V6,
    };
    let redirect = Statement::matches(Field::IcmpType(family), kind);
    built_in("no redirects", [redirect, goto_never(side)])
}

fn accept_icmp(what: &str, family: Family, kind: u128) -> Rule {
    let matches = Statement::matches(Field::IcmpType(family), kind);
    built_in(what, [matches, Statement::Verdict(Verdict::Accept)])
}

/// DHCP (RFC 2131) and DHCPv6 (RFC 8415) as a client. Answers come from a server the request was
/// not addressed to, so they are not established. A DHCPv6 client asks from its link-local address,
/// and the answer goes there; it may come from any address that the server has.
pub(super) fn dhcp_client(side: Side) -> [Rule; 2] {
    let ports = |source, destination| {
        [
            Statement::matches(Field::Sport(Transport::Udp), source),
            Statement::matches(Field::Dport(Transport::Udp), destination),
        ]
    };
    let accept = [Statement::Verdict(Verdict::Accept)];
    let (v4, v6, client) = match side {
        Side::Input => (ports(67, 68), ports(547, 546), Field::Daddr(Family::V6)),
        Side::Output => (ports(68, 67), ports(546, 547), Field::Saddr(Family::V6)),
    };
    let link_local = Statement::Match { field: client, value: LINK_LOCAL };
    let v6: Vec<Statement> = std::iter::once(link_local).chain(v6).chain(accept.clone()).collect();
    [built_in("DHCP client", v4.into_iter().chain(accept)), built_in("DHCPv6 client", v6)]
}
