//! Connections that connection tracking forgot, taken up again.
//!
//! Entries are lost: to short timeouts, a full table, a flush. Who sends next decides what the
//! kernel sees. If it is the side that opened the connection, its packet is like the first one, and
//! the dispatch lets it through. If it is the other side, the packet is new and goes the wrong way:
//! from the port of a service to that of a client. The allows of the other direction are then asked
//! about it, with source and destination exchanged.
//!
//! Only what can't open a connection is let through so. Of TCP that is a bare acknowledgement, and
//! on input one for a socket that is bound to an address, as that of every connection is. A datagram
//! looks like any other: a service may send to its own peers, and nobody may send to this server
//! because of the port it comes from.

use super::base::built_in;
use super::copies::{Copies, reversed};
use super::dispatch::Dispatch;
use super::{Compiler, Side};
use crate::model::Mode;
use ruleset::{Elements, Field, Flags, Interval, Rule, Statement, Transport, Value, Verdict};

/// Their packets are rare, so the copies do without short cuts.
const COPIES: Copies =
    Copies { prefix: "again", change: |statement| Some(reversed(statement)), short_cuts: false };

/// In the comments of the rules.
const WHAT: &str = "connections taken up again";

/// The ports that the kernel gives to programs that ask for none
/// (`net.ipv4.ip_local_port_range`).
const EPHEMERAL: Interval = Interval { first: 32_768, last: 60_999 };

impl Compiler<'_> {
    /// The rules of `side` for what belongs to connections that began on the other side, whose
    /// dispatch is given, unless it isn't filtered.
    pub(super) fn again(
        &mut self,
        side: Side,
        (other_mode, other): (Mode, Option<&Dispatch>),
    ) -> Vec<Rule> {
        let condition = within_a_connection(side);
        let rule = |end: Statement| {
            built_in(WHAT, condition.iter().cloned().chain([end]).collect::<Vec<_>>())
        };
        let mut rules = Vec::new();
        for service in other.into_iter().flat_map(|other| &other.services) {
            let [Statement::Dispatch { field, map }] = &service.statements[..] else { continue };
            match field {
                Field::Dport(Transport::Tcp) => {
                    let map = self.copy_ports(COPIES, map, |_| true);
                    let by_port = |map| Statement::dispatch(Field::Sport(Transport::Tcp), map);
                    rules.extend(map.map(|map| rule(by_port(map))));
                }
                Field::Dport(Transport::Udp) if side == Side::Output => {
                    let map = self.copy_ports(COPIES, map, is_of_a_service);
                    let by_port = |map| Statement::dispatch(Field::Sport(Transport::Udp), map);
                    rules.extend(map.map(|map| built_in("late answers", [by_port(map)])));
                }
                Field::L4Proto => {
                    let chain = self.target_of(map, Transport::Tcp);
                    let chain = chain.map(|chain| self.copy_chain(COPIES, &chain));
                    rules.extend(chain.map(|chain| rule(Statement::jump(chain))));
                }
                _ => {}
            }
        }
        let any = other.and_then(|other| other.any.as_ref());
        for chain in any.into_iter().flat_map(Rule::targets) {
            let chain = self.copy_chain(COPIES, chain);
            rules.push(rule(Statement::jump(chain)));
        }
        if other_mode != Mode::Enforce {
            // Everybody may open a connection there.
            rules.push(rule(Statement::Verdict(Verdict::Accept)));
        }
        rules
    }

    /// Where a map of protocols leads to.
    pub(super) fn target_of(&self, map: &str, transport: Transport) -> Option<String> {
        let Elements::Verdicts(verdicts) = &self.table.sets.get(map)?.elements else { return None };
        let verdict = verdicts.get(&Interval::single(transport.protocol().into()))?;
        verdict.target().map(str::to_owned)
    }
}

/// What a TCP packet within a connection is like, and none that opens one.
fn within_a_connection(side: Side) -> Vec<Statement> {
    let flags = Flags { set: Flags::ACK, mask: Flags::SYN | Flags::RST | Flags::ACK };
    let flags = Statement::Match { field: Field::TcpFlags, value: Value::Flags(flags) };
    match side {
        // A local socket sent it.
        Side::Output => vec![flags],
        Side::Input => vec![flags, Statement::matches(Field::SocketWildcard, 0)],
    }
}

/// A port that a service was given on purpose: every program may come by one of a range of
/// ephemeral ports, and what it sends is no answer.
pub(super) fn is_of_a_service(ports: Interval) -> bool {
    let is_ephemeral = ports.first <= EPHEMERAL.last && ports.last >= EPHEMERAL.first;
    ports.first == ports.last || !is_ephemeral
}
