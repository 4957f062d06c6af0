//! Evaluation: the verdict of a table on a packet, and the rule that gave it.
//!
//! This is nf_tables' own walk (kernel `nft_do_chain`) over values: rules in order, jumps with a
//! stack, the policy of the base chain at the end. Rate limits let every packet through, since a
//! value has no clock; in our tables they stand only before logs. What counts behind a limit is left
//! out, since nobody can tell. For the same reason no element has expired: who wants to know drops
//! those first ([`Table::expire`]).

use crate::known::{Flags, LOCAL, PACKET_HOST, VRF};
use crate::statement::{Family, Field, Reject, Statement, States, Transport, Value, Verdict};
use crate::table::{Elements, Hook, Interval, Policy, Table};
use std::net::{IpAddr, SocketAddr};

/// The interface index of `lo`, the first interface of every network namespace.
pub const LOOPBACK: u32 = 1;

/// The hop limit that hosts send with, unless a protocol asks for another (RFC 1700).
const HOP_LIMIT: u8 = 64;

/// The kernel's limit of nested jumps (`NFT_JUMP_STACK_SIZE`).
const STACK_LIMIT: usize = 16;

/// A packet as a base chain sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// Where it is seen.
    pub hook: Hook,
    /// The interface index it came in by, or goes out by; 1 is `lo`.
    pub interface: u32,
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes to; of the same family as the source.
    pub destination: IpAddr,
    /// The transport protocol (IANA number).
    pub protocol: u8,
    /// Ports, where the protocol has any.
    pub ports: Option<(u16, u16)>,
    /// The ICMP or ICMPv6 type, for those protocols.
    pub icmp_type: Option<u8>,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// The state of its connection.
    pub state: States,
    /// The user whose socket sent it, or on input the user of the connection's socket, which the
    /// kernel knows beforehand of TCP only (`net.ipv4.tcp_early_demux`).
    pub user: Option<u32>,
    /// Whether the side that didn't begin the connection sent it.
    pub is_reply: bool,
    /// The flags of a TCP segment ([`Flags`]); of other protocols they mean nothing.
    pub tcp_flags: u8,
    /// Whether the source is an address of this server; it matters on input only.
    pub is_from_own: bool,
    /// Whether it came in by a VRF, the device of a routing table.
    pub is_in_vrf: bool,
    /// What the socket is bound to that it is for; input only.
    pub socket: Option<Binding>,
}

/// What a socket is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Binding {
    /// To a local address, as that of every connection is.
    Address,
    /// To a port of all addresses.
    Wildcard,
}

impl Packet {
    /// The first packet between two addresses, seen at `hook`, without ports: what a field says
    /// where nothing else is known. Of TCP it opens a connection. It takes some interface that isn't
    /// `lo`; tables of ours don't tell those apart.
    pub fn first(hook: Hook, source: IpAddr, destination: IpAddr, protocol: u8) -> Self {
        Self {
            hook,
            interface: LOOPBACK + 1,
            source,
            destination,
            protocol,
            ports: None,
            icmp_type: None,
            hop_limit: HOP_LIMIT,
            state: States::NEW,
            user: None,
            is_reply: false,
            tcp_flags: Flags::SYN,
            is_from_own: false,
            is_in_vrf: false,
            socket: None,
        }
    }

    /// The first packet of a new connection from `source` to `destination`, seen at `hook`. A
    /// dual-stack socket's view of an IPv4 address (`::ffff:10.0.0.1`) is taken for that address.
    /// Between addresses that are the same, or of which one is a loopback address, it takes `lo`,
    /// else some other interface; tables of ours don't tell those apart. No user is known.
    pub fn opening(
        hook: Hook,
        transport: Transport,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Self {
        let ports = (source.port(), destination.port());
        let (source, destination) = (source.ip().to_canonical(), destination.ip().to_canonical());
        let within = source == destination || source.is_loopback() || destination.is_loopback();
        Self {
            interface: if within { LOOPBACK } else { LOOPBACK + 1 },
            ports: Some(ports),
            ..Self::first(hook, source, destination, transport.protocol())
        }
    }
}

/// A place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleRef<'a> {
    /// The chain.
    pub chain: &'a str,
    /// The rule's index in it.
    pub index: usize,
    /// The rule's comment.
    pub comment: &'a str,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passes.
    Accept,
    /// It disappears.
    Drop,
    /// It is answered with an error.
    Reject(Reject),
}

/// The verdict on a packet and how it came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation<'a> {
    /// The verdict.
    pub outcome: Outcome,
    /// The rule that gave it; none where the chain's policy did, or no chain is hooked there.
    pub rule: Option<RuleRef<'a>>,
    /// The rules that led to it, from the base chain's on: each jumped to the chain of the next.
    pub via: Vec<RuleRef<'a>>,
    /// The counters the packet counted in, in order, but for those behind a rate limit.
    pub counters: Vec<&'a str>,
    /// The rules with a log statement that it matched.
    pub logged: Vec<RuleRef<'a>>,
}

impl Table {
    /// The verdict on `packet`.
    pub fn evaluate(&self, packet: &Packet) -> Evaluation<'_> {
        let mut evaluation = Evaluation {
            outcome: Outcome::Accept,
            rule: None,
            via: Vec::new(),
            counters: Vec::new(),
            logged: Vec::new(),
        };
        let base = self.chains.iter().find_map(|(name, chain)| {
            chain.base.as_ref().filter(|base| base.hook == packet.hook).map(|base| (name, base))
        });
        if let Some((name, base)) = base {
            let mut walk = Walk { table: self, packet, evaluation: &mut evaluation };
            match walk.chain(name, 0) {
                End::Decided(outcome) => evaluation.outcome = outcome,
                End::Exhausted => {
                    evaluation.outcome = match base.policy {
                        Policy::Accept => Outcome::Accept,
                        Policy::Drop => Outcome::Drop,
                    };
                }
            }
        }
        evaluation
    }
}

/// How a chain ended.
enum End {
    Decided(Outcome),
    /// By its last rule or a return.
    Exhausted,
}

/// What a statement did.
enum Step<'a> {
    Next,
    NoMatch,
    Verdict(&'a Verdict),
    Reject(Reject),
}

struct Walk<'a, 'e> {
    table: &'a Table,
    packet: &'e Packet,
    evaluation: &'e mut Evaluation<'a>,
}

impl<'a> Walk<'a, '_> {
    fn chain(&mut self, name: &'a str, depth: usize) -> End {
        let Some(chain) = self.table.chains.get(name) else { return End::Exhausted };
        for (index, rule) in chain.rules.iter().enumerate() {
            let place = RuleRef { chain: name, index, comment: &rule.comment };
            let limited = rule.statements.iter().position(|s| matches!(s, Statement::Limit(_)));
            for (step, statement) in rule.statements.iter().enumerate() {
                if limited.is_some_and(|limit| limit < step)
                    && matches!(statement, Statement::Counter(_))
                {
                    continue;
                }
                match self.statement(statement, place) {
                    Step::Next => {}
                    Step::NoMatch => break,
                    Step::Reject(reject) => {
                        self.evaluation.rule = Some(place);
                        return End::Decided(Outcome::Reject(reject));
                    }
                    Step::Verdict(verdict) => match self.verdict(verdict, place, depth) {
                        Some(end) => return end,
                        None => break,
                    },
                }
            }
        }
        End::Exhausted
    }

    /// How `verdict` ends the chain; none where evaluation goes on with its next rule.
    fn verdict(&mut self, verdict: &'a Verdict, place: RuleRef<'a>, depth: usize) -> Option<End> {
        match verdict {
            Verdict::Accept | Verdict::Drop => {
                self.evaluation.rule = Some(place);
                let outcome =
                    if *verdict == Verdict::Accept { Outcome::Accept } else { Outcome::Drop };
                Some(End::Decided(outcome))
            }
            Verdict::Return => Some(End::Exhausted),
            // The kernel refuses tables that nest deeper.
            Verdict::Jump(_) | Verdict::Goto(_) if depth >= STACK_LIMIT => Some(End::Exhausted),
            Verdict::Jump(target) => match self.lead(place, target, depth) {
                End::Exhausted => None,
                decided @ End::Decided(_) => Some(decided),
            },
            Verdict::Goto(target) => Some(self.lead(place, target, depth)),
        }
    }

    /// Evaluates the chain that the rule at `place` leads to. What was decided there keeps the way.
    fn lead(&mut self, place: RuleRef<'a>, target: &'a str, depth: usize) -> End {
        self.evaluation.via.push(place);
        let end = self.chain(target, depth + 1);
        if let End::Exhausted = end {
            self.evaluation.via.pop();
        }
        end
    }

    fn statement(&mut self, statement: &'a Statement, place: RuleRef<'a>) -> Step<'a> {
        let matched = match statement {
            Statement::Match { field, value } => self.matches(*field, *value),
            Statement::Lookup { field, set } => {
                let found =
                    |key| self.table.sets.get(set).is_some_and(|set| set.elements.contains(key));
                self.packet.field(*field).is_some_and(found)
            }
            Statement::Dispatch { field, map } => {
                let table = self.table;
                let elements = table.sets.get(map).map(|map| &map.elements);
                let verdict = self.packet.field(*field).and_then(|key| elements?.verdict(key));
                return verdict.map_or(Step::NoMatch, Step::Verdict);
            }
            Statement::Counter(name) => {
                self.evaluation.counters.push(name);
                true
            }
            Statement::Limit(_) => true,
            Statement::Over { .. } => false,
            Statement::Log(_) => {
                self.evaluation.logged.push(place);
                true
            }
            Statement::Reject(Reject::TcpReset) if self.packet.protocol != 6 => false,
            Statement::Reject(reject) => return Step::Reject(*reject),
            Statement::Verdict(verdict) => return Step::Verdict(verdict),
            // Unknown: never taken for a match.
            Statement::Opaque(_) => false,
        };
        if matched { Step::Next } else { Step::NoMatch }
    }

    fn matches(&self, field: Field, value: Value) -> bool {
        match (field, value) {
            (Field::CtState, Value::States(states)) => states.intersects(self.packet.state),
            (_, Value::Number(number)) => self.packet.field(field) == Some(number),
            (_, Value::Prefix { address, length }) => {
                let width = if self.packet.source.is_ipv4() { 32 } else { 128 };
                let host_bits = u32::from(width - length.min(width));
                let network = |number: u128| number.checked_shr(host_bits).unwrap_or(0);
                self.packet.field(field).is_some_and(|own| network(own) == network(address))
            }
            (Field::TcpFlags, Value::Flags(Flags { set, mask })) => {
                self.packet.field(field).is_some_and(|own| own & u128::from(mask) == set.into())
            }
            (_, Value::States(_) | Value::Flags(_)) => false,
        }
    }
}

impl Packet {
    /// The packet's field as a number; none where it has no such field.
    fn field(&self, field: Field) -> Option<u128> {
        let number = |address: IpAddr, family: Family| match address {
            IpAddr::V4(address) if family == Family::V4 => Some(address.to_bits().into()),
            IpAddr::V6(address) if family == Family::V6 => Some(address.to_bits()),
            _ => None,
        };
        let ports =
            |transport: Transport| self.ports.filter(|_| self.protocol == transport.protocol());
        match field {
            Field::CtState => Some(self.state.0.into()),
            Field::Iif => (self.hook != Hook::Output).then_some(self.interface.into()),
            Field::Oif => (self.hook != Hook::Input).then_some(self.interface.into()),
            Field::L4Proto => Some(self.protocol.into()),
            Field::SkUid => self.user.map(u128::from),
            Field::Saddr(family) => number(self.source, family),
            Field::Daddr(family) => number(self.destination, family),
            Field::Sport(transport) => ports(transport).map(|(source, _)| source.into()),
            Field::Dport(transport) => ports(transport).map(|(_, destination)| destination.into()),
            Field::IcmpType(family) => {
                let protocol = if family == Family::V4 { 1 } else { 58 };
                self.icmp_type.filter(|_| self.protocol == protocol).map(u128::from)
            }
            Field::HopLimit => self.source.is_ipv6().then_some(self.hop_limit.into()),
            Field::NfProto => Some(if self.source.is_ipv6() { 10 } else { 2 }),
            Field::PacketType => Some(packet_type(self.destination)),
            Field::IifKind => (self.hook != Hook::Output && self.is_in_vrf).then_some(VRF),
            Field::SourceType => Some(if self.is_from_own { LOCAL } else { UNICAST }),
            Field::CtDirection => {
                let is_tracked = !self.state.intersects(States::UNTRACKED_OR_INVALID);
                is_tracked.then_some(self.is_reply.into())
            }
            Field::TcpFlags => (self.protocol == 6).then_some(self.tcp_flags.into()),
            Field::SocketWildcard => {
                let socket = self.socket.filter(|_| self.hook == Hook::Input);
                socket.map(|binding| u128::from(binding == Binding::Wildcard))
            }
        }
    }
}

/// `RTN_UNICAST`
const UNICAST: u128 = 1;

/// By the destination alone: to the address of a subnet's broadcast it would be another.
fn packet_type(destination: IpAddr) -> u128 {
    match destination {
        IpAddr::V4(address) if address.is_broadcast() => 1,
        address if address.is_multicast() => 2,
        _ => PACKET_HOST,
    }
}

impl Elements {
    /// Whether `key` is in the set.
    pub fn contains(&self, key: u128) -> bool {
        match self {
            Self::Ipv4(set) => u32::try_from(key).is_ok_and(|key| set.contains(key.into())),
            Self::Ipv6(set) => set.contains(key.into()),
            Self::TimedIpv4(set) => u32::try_from(key).is_ok_and(|key| set.contains(key.into())),
            Self::TimedIpv6(set) => set.contains(key.into()),
            Self::Keys(keys) => {
                let mut up_to = keys.range(..=Interval { first: key, last: u128::MAX });
                up_to.next_back().is_some_and(|interval| key <= interval.last)
            }
            Self::Verdicts(_) => self.verdict(key).is_some(),
            Self::Opaque(_) | Self::Dynamic | Self::Unread => false,
        }
    }

    /// The verdict that the map holds for `key`.
    pub fn verdict(&self, key: u128) -> Option<&Verdict> {
        let Self::Verdicts(verdicts) = self else { return None };
        let mut up_to = verdicts.range(..=Interval { first: key, last: u128::MAX });
        let (interval, verdict) = up_to.next_back()?;
        (key <= interval.last).then_some(verdict)
    }
}
