//! From expressions back to statements: the inverse of [`lower`](crate::lower).
//!
//! At each place the longest reading wins: a statement with the dependencies in front of it, if
//! they are exactly those that lowering it here would write, else the statement alone, else the
//! expression as [`Statement::Opaque`]. What another program wrote is thus read as far as it means
//! the same, and kept where it doesn't.
//!
//! Two writings that compile to the same expressions read back as the shorter one, which is the
//! one `nft` prints: `tcp dport 22`, not `meta l4proto tcp tcp dport 22`. Only `reject with tcp
//! reset` stays without the `meta l4proto tcp` that `nft` prints before it.

use crate::expression::{Decoded, Expression, Payload};
use crate::lower::{Context, Dependency, Load, PORT_PAIR, load};
use crate::uapi::*;
use ruleset::{Family, Field, Flags, Reject, Statement, States, Transport, Value};

/// At most a family and a protocol, of two expressions each.
const LONGEST_DEPENDENCIES: usize = 4;

/// The statements of a rule.
pub(crate) fn lift(decoded: Vec<Decoded>) -> Vec<Statement> {
    let expressions: Vec<_> = decoded.iter().map(|one| one.expression.clone()).collect();
    let mut raw = decoded.into_iter().map(|one| one.raw);
    let mut statements = Vec::new();
    let mut context = Context::default();
    let mut at = 0;
    while at < expressions.len() {
        let rest = &expressions[at..];
        let read = (0..=LONGEST_DEPENDENCIES)
            .rev()
            .step_by(2)
            .find_map(|length| read(rest, length, &mut context));
        let length = match read {
            Some((read, length)) => {
                read.iter().for_each(|statement| context.note(statement));
                statements.extend(read);
                raw.by_ref().nth(length - 1);
                length
            }
            None => {
                statements.extend(raw.next().map(Statement::Opaque));
                1
            }
        };
        at += length;
    }
    statements
}

/// Reads dependencies of `length` expressions and the statements that imply them, with the number
/// of expressions read. The context changes only on success.
fn read(
    expressions: &[Expression],
    length: usize,
    context: &mut Context,
) -> Option<(Vec<Statement>, usize)> {
    let (front, rest) = expressions.split_at_checked(length)?;
    let dependencies: Vec<_> = front
        .chunks_exact(2)
        .map(|pair| Dependency::of(&pair[0], &pair[1]))
        .collect::<Option<_>>()?;
    let mut after = *context;
    dependencies.iter().for_each(|dependency| after.learn(*dependency));
    let (statements, body) = statement(rest, &after)?;
    if context.missing(statements.first()?) != dependencies {
        return None;
    }
    *context = after;
    Some((statements, length + body))
}

/// The statement (or the two of a port pair) that the expressions begin with, and their number.
fn statement(expressions: &[Expression], context: &Context) -> Option<(Vec<Statement>, usize)> {
    let single = match expressions.first()? {
        Expression::Verdict(verdict) => Statement::Verdict(verdict.clone()),
        Expression::Counter(name) => Statement::Counter(name.clone()),
        Expression::Limit(limit) => Statement::Limit(*limit),
        Expression::Log(log) => Statement::Log(log.clone()),
        Expression::Reject(reject @ Reject::AdminProhibited) => Statement::Reject(*reject),
        Expression::Reject(reject @ Reject::TcpReset) => {
            // Without the dependency it would refuse packets of other protocols in silence.
            let is_tcp = context.protocol == Some(Transport::Tcp.protocol());
            is_tcp.then_some(Statement::Reject(*reject))?
        }
        _ => return port_pair(expressions, context).or_else(|| field(expressions, context)),
    };
    Some((vec![single], 1))
}

fn port_pair(expressions: &[Expression], context: &Context) -> Option<(Vec<Statement>, usize)> {
    let transport = Transport::of_protocol(context.protocol?)?;
    match expressions {
        [PORT_PAIR, Expression::Compare { equal: true, bytes }, ..] => {
            let &[s0, s1, d0, d1] = bytes.as_slice() else { return None };
            let port = |bytes| u128::from(u16::from_be_bytes(bytes));
            let sport = Statement::matches(Field::Sport(transport), port([s0, s1]));
            let dport = Statement::matches(Field::Dport(transport), port([d0, d1]));
            Some((vec![sport, dport], 2))
        }
        _ => None,
    }
}

fn field(expressions: &[Expression], context: &Context) -> Option<(Vec<Statement>, usize)> {
    let (loaded, rest) = expressions.split_first()?;
    let field = field_of(loaded, context)?;
    let load = load(field);
    let whole = *loaded == load.expression;
    let (statement, consumed) = match rest {
        [Expression::Lookup(set), ..] if whole => (Statement::lookup(field, set), 1),
        [Expression::Dispatch(map), ..] if whole => (Statement::dispatch(field, map), 1),
        [Expression::Over { set, limit }, ..] if whole => {
            (Statement::Over { field, set: set.clone(), limit: *limit }, 1)
        }
        [Expression::Mask(mask), Expression::Compare { equal: false, bytes }, ..]
            if field == Field::CtState =>
        {
            let mask = u32::from_ne_bytes(mask.as_slice().try_into().ok()?);
            (*bytes == load.bytes(0)).then_some((Statement::states(States(mask)), 2))?
        }
        [Expression::Mask(mask), Expression::Compare { equal: true, bytes }, ..]
            if field == Field::TcpFlags =>
        {
            let (&[mask], &[set]) = (mask.as_slice(), bytes.as_slice()) else { return None };
            let value = Value::Flags(Flags { set, mask });
            (set & !mask == 0).then_some((Statement::Match { field, value }, 2))?
        }
        [Expression::Mask(mask), Expression::Compare { equal: true, bytes }, ..] if whole => {
            (prefix(field, &load, mask, bytes)?, 2)
        }
        [Expression::Compare { equal: true, bytes }, ..]
            if !matches!(field, Field::CtState | Field::TcpFlags) =>
        {
            (equal(field, &load, loaded, bytes)?, 1)
        }
        _ => return None,
    };
    Some((vec![statement], 1 + consumed))
}

/// The field that is loaded, given what the rule has made sure of.
fn field_of(loaded: &Expression, context: &Context) -> Option<Field> {
    let transport = || Transport::of_protocol(context.protocol?);
    match *loaded {
        Expression::Conntrack(NFT_CT_STATE) => Some(Field::CtState),
        Expression::Meta(NFT_META_IIF) => Some(Field::Iif),
        Expression::Meta(NFT_META_OIF) => Some(Field::Oif),
        Expression::Meta(NFT_META_SKUID) => Some(Field::SkUid),
        Expression::Meta(NFT_META_L4PROTO) => Some(Field::L4Proto),
        Expression::Meta(NFT_META_NFPROTO) => Some(Field::NfProto),
        Expression::Meta(NFT_META_PKTTYPE) => Some(Field::PacketType),
        Expression::Meta(NFT_META_IIFKIND) => Some(Field::IifKind),
        Expression::Conntrack(NFT_CT_DIRECTION) => Some(Field::CtDirection),
        Expression::SourceType => Some(Field::SourceType),
        Expression::Socket(NFT_SOCKET_WILDCARD) => Some(Field::SocketWildcard),
        Expression::Payload(Payload { base: NFT_PAYLOAD_NETWORK_HEADER, offset, length }) => {
            match (context.family?, offset, length) {
                (Family::V4, 12, 1..=4) => Some(Field::Saddr(Family::V4)),
                (Family::V4, 16, 1..=4) => Some(Field::Daddr(Family::V4)),
                (Family::V6, 8, 1..=16) => Some(Field::Saddr(Family::V6)),
                (Family::V6, 24, 1..=16) => Some(Field::Daddr(Family::V6)),
                (Family::V6, 7, 1) => Some(Field::HopLimit),
                _ => None,
            }
        }
        Expression::Payload(Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset, length }) => {
            match (offset, length, context.protocol?) {
                (0, 2, _) => transport().map(Field::Sport),
                (2, 2, _) => transport().map(Field::Dport),
                (0, 1, 1) => Some(Field::IcmpType(Family::V4)),
                (0, 1, 58) => Some(Field::IcmpType(Family::V6)),
                (13, 1, 6) => Some(Field::TcpFlags),
                _ => None,
            }
        }
        _ => None,
    }
}

/// An equality with the whole field, or with its first bytes: a prefix.
fn equal(field: Field, load: &Load, loaded: &Expression, bytes: &[u8]) -> Option<Statement> {
    let loaded = match loaded {
        Expression::Payload(payload) => payload.length as usize,
        _ => load.length,
    };
    if bytes.len() != loaded {
        return None;
    }
    if loaded == load.length {
        return Some(Statement::matches(field, load.number(bytes)));
    }
    let address = load.number(bytes) << (8 * (load.length - loaded));
    let value = Value::Prefix { address, length: (8 * loaded) as u8 };
    Some(Statement::Match { field, value })
}

fn prefix(field: Field, load: &Load, mask: &[u8], bytes: &[u8]) -> Option<Statement> {
    if !matches!(field, Field::Saddr(_) | Field::Daddr(_))
        || mask.len() != load.length
        || bytes.len() != load.length
    {
        return None;
    }
    let width = 8 * load.length as u32;
    // A contiguous mask: ones, then zeros.
    let ones = (load.number(mask) << (128 - width)).leading_ones();
    let contiguous = load.number(mask).count_ones() == ones && (1..width).contains(&ones);
    let address = load.number(bytes);
    let value = Value::Prefix { address, length: ones as u8 };
    (contiguous && address & !load.number(mask) == 0).then_some(Statement::Match { field, value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary::any_statement;
    use crate::lower::lower;
    use proptest::prelude::*;
    use ruleset::Opaque;

    fn decoded(expressions: Vec<Expression>) -> Vec<Decoded> {
        let raw =
            |expression: &Expression| Opaque { name: format!("{expression:?}"), data: Vec::new() };
        expressions
            .into_iter()
            .map(|expression| Decoded { raw: raw(&expression), expression })
            .collect()
    }

    fn round_trip(statements: &[Statement]) -> Vec<Statement> {
        lift(decoded(lower(statements).expect("can be lowered")))
    }

    fn port(number: u128) -> Statement {
        Statement::matches(Field::Dport(Transport::Tcp), number)
    }

    const PROTOCOL: Statement = Statement::Match { field: Field::L4Proto, value: Value::Number(6) };

    #[test]
    fn an_implied_protocol_is_absorbed_only_next_to_what_implies_it() {
        assert_eq!(round_trip(&[PROTOCOL, port(22)]), [port(22)]);
        let apart = [PROTOCOL, Statement::states(States::NEW), port(22)];
        assert_eq!(round_trip(&apart), apart);
        let reset = Statement::Reject(Reject::TcpReset);
        let resets = [reset.clone()];
        assert_eq!(round_trip(&[PROTOCOL, reset.clone()]), resets);
        assert_eq!(round_trip(&[port(22), reset.clone()]), [port(22), reset]);
    }

    #[test]
    fn dependencies_are_written_once() {
        let statements = [
            Statement::lookup(Field::Saddr(Family::V4), "web_v4"),
            Statement::matches(Field::Daddr(Family::V4), 0x0a00_0001),
            Statement::matches(Field::IcmpType(Family::V4), 8),
        ];
        let expressions = lower(&statements).expect("can be lowered");
        let metas = expressions.iter().filter(|e| matches!(e, Expression::Meta(_))).count();
        assert_eq!(metas, 2);
        assert_eq!(round_trip(&statements), statements);
    }

    #[test]
    fn a_family_that_stands_alone_is_read_and_learned() {
        let mut expressions = Dependency::Family(Family::V4).expressions().to_vec();
        expressions.extend(lower(&[Statement::states(States::NEW)]).expect("can be lowered"));
        expressions.push(load(Field::Saddr(Family::V4)).expression);
        expressions.push(Expression::Lookup("web_v4".into()));
        expressions.push(Expression::Unknown);
        let statements = lift(decoded(expressions));
        assert_eq!(statements[0], Statement::matches(Field::NfProto, 2));
        assert_eq!(statements[1], Statement::states(States::NEW));
        assert_eq!(statements[2], Statement::lookup(Field::Saddr(Family::V4), "web_v4"));
        assert!(matches!(statements[3], Statement::Opaque(_)));
    }

    #[test]
    fn a_reset_of_any_protocol_is_not_ours() {
        let statements = lift(decoded(vec![Expression::Reject(Reject::TcpReset)]));
        assert!(matches!(statements[..], [Statement::Opaque(_)]));
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let prefix =
            |field, length| Statement::Match { field, value: Value::Prefix { address: 0, length } };
        let flags =
            |field, set, mask| Statement::Match { field, value: Value::Flags(Flags { set, mask }) };
        for statement in [
            port(65536),
            Statement::matches(Field::L4Proto, 256),
            Statement::matches(Field::CtState, 2),
            Statement::Match { field: Field::Iif, value: Value::States(States::NEW) },
            prefix(Field::Saddr(Family::V4), 0),
            prefix(Field::Saddr(Family::V4), 32),
            prefix(Field::Dport(Transport::Tcp), 8),
            Statement::matches(Field::TcpFlags, 2),
            flags(Field::TcpFlags, 2, 16),
            flags(Field::L4Proto, 2, 2),
            Statement::Opaque(Opaque { name: "masq".into(), data: Vec::new() }),
        ] {
            assert!(lower(std::slice::from_ref(&statement)).is_err(), "{statement:?}");
        }
    }

    proptest! {
        #[test]
        fn lift_is_the_inverse_of_lower(statements in prop::collection::vec(any_statement(), 0..8)) {
            let read = round_trip(&statements);
            prop_assert!(read.iter().all(|s| !matches!(s, Statement::Opaque(_))), "{read:?}");
            // A protocol match that the next statement implies is absorbed by it; nothing else is.
            let absorbed = |pair: &[Statement]| match &pair[0] {
                Statement::Match { field: Field::NfProto, .. } => {
                    let missing = Context::default().missing(&pair[1]);
                    missing.iter().any(|one| matches!(one, Dependency::Family(_)))
                }
                Statement::Match { field: Field::L4Proto, value: Value::Number(protocol) } => {
                    Context::default().missing(&pair[1]).ends_with(
                        &[Dependency::Protocol(*protocol as u8)])
                }
                _ => false,
            };
            if !statements.windows(2).any(absorbed) {
                prop_assert_eq!(&read, &statements);
            }
            prop_assert_eq!(lower(&read), lower(&statements));
        }
    }
}
