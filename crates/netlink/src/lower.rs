//! From statements to expressions: what `nft` 1.0.6 compiles them to, expression for expression
//! (`nft --debug=netlink` shows it), so that `nft list ruleset` prints them back as they were.
//!
//! A field of a header implies that the packet has that header. The matches that make sure of it
//! (`meta nfproto`, `meta l4proto`) are written before the first field that needs them, and once in
//! a rule. [`Context`] keeps what a rule has made sure of so far; lifting uses the same one, which
//! makes the two inverse.

use crate::expression::{Expression, Payload};
use crate::uapi::*;
use ruleset::{Family, Field, Flags, Reject, Statement, States, Transport, Value};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// `IFNAMSIZ`
const IFKIND_LENGTH: usize = 16;

/// How a field gets into the register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) expression: Expression,
    /// In bytes.
    pub(crate) length: usize,
    /// Packet fields are in network byte order, the kernel's own numbers in that of the host.
    pub(crate) host_order: bool,
}

impl Load {
    /// A value of the field as the bytes in the register.
    pub(crate) fn bytes(&self, number: u128) -> Vec<u8> {
        key_bytes(number, self.length, self.host_order)
    }

    /// The value that the bytes in the register are.
    pub(crate) fn number(&self, bytes: &[u8]) -> u128 {
        key_number(bytes, self.host_order)
    }
}

/// The lower `length` bytes of a number, as the kernel compares them.
pub(crate) fn key_bytes(number: u128, length: usize, host_order: bool) -> Vec<u8> {
    let all = number.to_be_bytes();
    let mut bytes = all[all.len() - length.min(all.len())..].to_vec();
    if host_order && cfg!(target_endian = "little") {
        bytes.reverse();
    }
    bytes
}

/// The number that at most 16 bytes are.
pub(crate) fn key_number(bytes: &[u8], host_order: bool) -> u128 {
    let shift = |number: u128, byte: &u8| (number << 8) | u128::from(*byte);
    if host_order && cfg!(target_endian = "little") {
        bytes.iter().rev().fold(0, shift)
    } else {
        bytes.iter().fold(0, shift)
    }
}

/// How `field` is loaded.
pub(crate) fn load(field: Field) -> Load {
    let host = |expression| Load { expression, length: 4, host_order: true };
    let byte = |expression| Load { expression, length: 1, host_order: false };
    let packet = |base, offset, length: u32| Load {
        expression: Expression::Payload(Payload { base, offset, length }),
        length: length as usize,
        host_order: false,
    };
    let network = |offset, length| packet(NFT_PAYLOAD_NETWORK_HEADER, offset, length);
    let transport = |offset, length| packet(NFT_PAYLOAD_TRANSPORT_HEADER, offset, length);
    match field {
        Field::CtState => host(Expression::Conntrack(NFT_CT_STATE)),
        Field::Iif => host(Expression::Meta(NFT_META_IIF)),
        Field::Oif => host(Expression::Meta(NFT_META_OIF)),
        Field::SkUid => host(Expression::Meta(NFT_META_SKUID)),
        Field::L4Proto => byte(Expression::Meta(NFT_META_L4PROTO)),
        Field::NfProto => byte(Expression::Meta(NFT_META_NFPROTO)),
        Field::PacketType => byte(Expression::Meta(NFT_META_PKTTYPE)),
        Field::IifKind => {
            Load { length: IFKIND_LENGTH, ..byte(Expression::Meta(NFT_META_IIFKIND)) }
        }
        Field::SourceType => host(Expression::SourceType),
        Field::CtDirection => byte(Expression::Conntrack(NFT_CT_DIRECTION)),
        Field::SocketWildcard => byte(Expression::Socket(NFT_SOCKET_WILDCARD)),
        Field::Saddr(Family::V4) => network(12, 4),
        Field::Daddr(Family::V4) => network(16, 4),
        Field::Saddr(Family::V6) => network(8, 16),
        Field::Daddr(Family::V6) => network(24, 16),
        Field::HopLimit => network(7, 1),
        Field::Sport(_) => transport(0, 2),
        Field::Dport(_) => transport(2, 2),
        Field::IcmpType(_) => transport(0, 1),
        Field::TcpFlags => transport(13, 1),
    }
}

/// A match that a field implies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dependency {
    /// `meta nfproto`
    Family(Family),
    /// `meta l4proto`
    Protocol(u8),
}

impl Dependency {
    /// The two expressions that it consists of.
    pub(crate) fn expressions(self) -> [Expression; 2] {
        let (key, byte) = match self {
            Self::Family(Family::V4) => (NFT_META_NFPROTO, NFPROTO_IPV4),
            Self::Family(Family::V6) => (NFT_META_NFPROTO, NFPROTO_IPV6),
            Self::Protocol(protocol) => (NFT_META_L4PROTO, protocol),
        };
        [Expression::Meta(key), Expression::Compare { equal: true, bytes: vec![byte] }]
    }

    /// The dependency that two expressions are.
    pub(crate) fn of(load: &Expression, compare: &Expression) -> Option<Self> {
        match (load, compare) {
            (Expression::Meta(key), Expression::Compare { equal: true, bytes }) => {
                match (*key, bytes.as_slice()) {
                    (NFT_META_NFPROTO, [NFPROTO_IPV4]) => Some(Self::Family(Family::V4)),
                    (NFT_META_NFPROTO, [NFPROTO_IPV6]) => Some(Self::Family(Family::V6)),
                    (NFT_META_L4PROTO, [protocol]) => Some(Self::Protocol(*protocol)),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

/// What a rule has made sure of about the packet, up to some expression.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) family: Option<Family>,
    pub(crate) protocol: Option<u8>,
}

impl Context {
    pub(crate) fn learn(&mut self, dependency: Dependency) {
        match dependency {
            Dependency::Family(family) => self.family = Some(family),
            Dependency::Protocol(protocol) => self.protocol = Some(protocol),
        }
    }

    /// What `statement` implies and the rule has not made sure of yet, in `nft`'s order.
    pub(crate) fn missing(&self, statement: &Statement) -> Vec<Dependency> {
        match statement {
            Statement::Match { field, .. }
            | Statement::Lookup { field, .. }
            | Statement::Dispatch { field, .. }
            | Statement::Over { field, .. } => self.missing_for(*field),
            Statement::Reject(Reject::TcpReset) => {
                self.protocol_unless_known(Transport::Tcp.protocol())
            }
            _ => Vec::new(),
        }
    }

    fn missing_for(&self, field: Field) -> Vec<Dependency> {
        match field {
            Field::CtState
            | Field::Iif
            | Field::Oif
            | Field::L4Proto
            | Field::SkUid
            | Field::NfProto
            | Field::PacketType
            | Field::IifKind
            | Field::SourceType
            | Field::CtDirection
            | Field::SocketWildcard => Vec::new(),
            Field::TcpFlags => self.protocol_unless_known(Transport::Tcp.protocol()),
            Field::Saddr(family) | Field::Daddr(family) => self.family_unless_known(family),
            Field::HopLimit => self.family_unless_known(Family::V6),
            Field::Sport(transport) | Field::Dport(transport) => {
                self.protocol_unless_known(transport.protocol())
            }
            Field::IcmpType(family) => {
                let protocol = if family == Family::V4 { ICMP } else { ICMPV6 };
                // Where the rule names the protocol itself, `nft` doesn't add the family.
                if self.protocol == Some(protocol) {
                    return Vec::new();
                }
                let mut missing = self.family_unless_known(family);
                missing.push(Dependency::Protocol(protocol));
                missing
            }
        }
    }

    fn family_unless_known(&self, family: Family) -> Vec<Dependency> {
        if self.family == Some(family) { Vec::new() } else { vec![Dependency::Family(family)] }
    }

    fn protocol_unless_known(&self, protocol: u8) -> Vec<Dependency> {
        if self.protocol == Some(protocol) {
            Vec::new()
        } else {
            vec![Dependency::Protocol(protocol)]
        }
    }

    /// Takes note of what an explicit `meta l4proto` or `meta nfproto` makes sure of.
    pub(crate) fn note(&mut self, statement: &Statement) {
        let Statement::Match { field, value: Value::Number(number) } = statement else { return };
        match field {
            Field::L4Proto => self.protocol = u8::try_from(*number).ok(),
            Field::NfProto => {
                let is = |family: &u8| u128::from(*family) == *number;
                let known = [(NFPROTO_IPV4, Family::V4), (NFPROTO_IPV6, Family::V6)];
                let family = known.into_iter().find(|(number, _)| is(number));
                self.family = family.map(|(_, family)| family);
            }
            _ => {}
        }
    }
}

/// The expressions of a rule.
///
/// # Errors
/// In words, when a value doesn't fit its field or the rule has an opaque statement.
pub(crate) fn lower(statements: &[Statement]) -> Result<Vec<Expression>, String> {
    let mut expressions = Vec::new();
    let mut context = Context::default();
    let mut rest = statements;
    while let Some((statement, after)) = rest.split_first() {
        for dependency in context.missing(statement) {
            expressions.extend(dependency.expressions());
            context.learn(dependency);
        }
        context.note(statement);
        if let Some((ports, after)) = port_pair(rest) {
            expressions.extend(ports);
            rest = after;
            continue;
        }
        lower_one(statement, &mut expressions)?;
        rest = after;
    }
    Ok(expressions)
}

/// `sport` right before `dport` is one load of four bytes, as `nft` merges adjacent fields that fit
/// a 32-bit register (`payload_can_merge` in its `payload.c`).
fn port_pair(statements: &[Statement]) -> Option<([Expression; 2], &[Statement])> {
    let [
        Statement::Match { field: Field::Sport(of), value: Value::Number(sport) },
        Statement::Match { field: Field::Dport(to), value: Value::Number(dport) },
        rest @ ..,
    ] = statements
    else {
        return None;
    };
    let (sport, dport) = (u16::try_from(*sport).ok()?, u16::try_from(*dport).ok()?);
    let bytes = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    let pair = [PORT_PAIR, Expression::Compare { equal: true, bytes }];
    (of == to).then_some((pair, rest))
}

/// Source and destination port in one load.
pub(crate) const PORT_PAIR: Expression =
    Expression::Payload(Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 0, length: 4 });

fn lower_one(statement: &Statement, expressions: &mut Vec<Expression>) -> Result<(), String> {
    match statement {
        Statement::Match { field, value } => lower_match(*field, *value, expressions)?,
        Statement::Lookup { field, set } => {
            expressions.push(load(*field).expression);
            expressions.push(Expression::Lookup(set.clone()));
        }
        Statement::Dispatch { field, map } => {
            expressions.push(load(*field).expression);
            expressions.push(Expression::Dispatch(map.clone()));
        }
        Statement::Over { field, set, limit } => {
            expressions.push(load(*field).expression);
            expressions.push(Expression::Over { set: set.clone(), limit: *limit });
        }
        Statement::Counter(name) => expressions.push(Expression::Counter(name.clone())),
        Statement::Limit(limit) => expressions.push(Expression::Limit(*limit)),
        Statement::Log(log) => expressions.push(Expression::Log(log.clone())),
        Statement::Reject(reject) => expressions.push(Expression::Reject(*reject)),
        Statement::Verdict(verdict) => expressions.push(Expression::Verdict(verdict.clone())),
        Statement::Opaque(opaque) => {
            return Err(format!("tierwall never writes the expression `{}`", opaque.name));
        }
    }
    Ok(())
}

fn lower_match(
    field: Field,
    value: Value,
    expressions: &mut Vec<Expression>,
) -> Result<(), String> {
    let load = load(field);
    match value {
        Value::States(States(mask)) if field == Field::CtState => {
            let zero = load.bytes(0);
            expressions.push(load.expression);
            expressions.push(Expression::Mask(mask.to_ne_bytes().to_vec()));
            expressions.push(Expression::Compare { equal: false, bytes: zero });
        }
        Value::Flags(Flags { set, mask }) if field == Field::TcpFlags && set & !mask == 0 => {
            expressions.push(load.expression);
            expressions.push(Expression::Mask(vec![mask]));
            expressions.push(Expression::Compare { equal: true, bytes: vec![set] });
        }
        Value::Number(number) if !matches!(field, Field::CtState | Field::TcpFlags) => {
            if load.length < 16 && number >> (8 * load.length) != 0 {
                return Err(format!("{number} is too large for {field}"));
            }
            let bytes = load.bytes(number);
            expressions.push(load.expression);
            expressions.push(Expression::Compare { equal: true, bytes });
        }
        Value::Prefix { address, length }
            if matches!(field, Field::Saddr(_) | Field::Daddr(_))
                && (1..8 * load.length).contains(&length.into()) =>
        {
            expressions.extend(lower_prefix(&load, address, length.into()));
        }
        _ => return Err(format!("{field} can't be compared with {value:?}")),
    }
    Ok(())
}

/// A prefix of whole bytes is a shorter load, any other a mask.
fn lower_prefix(load: &Load, address: u128, length: usize) -> Vec<Expression> {
    let mut bytes = load.bytes(address);
    if let (Expression::Payload(payload), true) = (&load.expression, length.is_multiple_of(8)) {
        bytes.truncate(length / 8);
        let shorter = Payload { length: bytes.len() as u32, ..*payload };
        return vec![Expression::Payload(shorter), Expression::Compare { equal: true, bytes }];
    }
    let mask = load.bytes(u128::MAX << (8 * load.length - length));
    vec![
        load.expression.clone(),
        Expression::Mask(mask),
        Expression::Compare { equal: true, bytes },
    ]
}
