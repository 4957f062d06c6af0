//! Random values for property tests.

use crate::lower::load;
use proptest::prelude::*;
use ruleset::{
    AddressRange, AddressSet, Elements, Family, Field, Flags, Interval, KeyType, Lifetime, Limit,
    Log, LogTarget, Reject, SetSpec, Statement, States, TimedSet, Transport, Value, Verdict,
};

fn family() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::BOTH.to_vec())
}

fn any_field() -> impl Strategy<Value = Field> {
    let transport = || prop::sample::select(Transport::ALL.to_vec());
    prop_oneof![
        Just(Field::Iif),
        Just(Field::Oif),
        Just(Field::L4Proto),
        Just(Field::SkUid),
        Just(Field::HopLimit),
        Just(Field::NfProto),
        Just(Field::PacketType),
        Just(Field::IifKind),
        Just(Field::SourceType),
        Just(Field::CtDirection),
        Just(Field::SocketWildcard),
        family().prop_map(Field::Saddr),
        family().prop_map(Field::Daddr),
        transport().prop_map(Field::Sport),
        transport().prop_map(Field::Dport),
        family().prop_map(Field::IcmpType),
    ]
}

fn any_match() -> impl Strategy<Value = Statement> {
    let number = (any_field(), any::<u128>()).prop_map(|(field, number)| {
        let width = 8 * load(field).length;
        let number = if width == 128 { number } else { number % (1 << width) };
        Statement::matches(field, number)
    });
    let prefix = (family(), any::<bool>(), any::<u128>(), any::<u8>()).prop_map(
        |(family, source, number, length)| {
            let field = if source { Field::Saddr(family) } else { Field::Daddr(family) };
            let width = 8 * load(field).length as u8;
            let length = 1 + length % (width - 1);
            let all = u128::MAX >> (128 - width);
            let address = number & all & (all << (width - length));
            Statement::Match { field, value: Value::Prefix { address, length } }
        },
    );
    let flags = any::<[u8; 2]>().prop_map(|[set, mask]| {
        let value = Value::Flags(Flags { set: set & mask, mask });
        Statement::Match { field: Field::TcpFlags, value }
    });
    prop_oneof![number, prefix, flags, any::<u32>().prop_map(|m| Statement::states(States(m)))]
}

fn any_limit() -> impl Strategy<Value = Limit> {
    (1u64..1000, 1u32..1000).prop_map(|(rate, burst)| Limit { rate, burst })
}

pub(crate) fn any_statement() -> impl Strategy<Value = Statement> {
    let group = (any::<u16>(), any::<u16>(), any::<u32>())
        .prop_map(|(group, threshold, snaplen)| LogTarget::Group { group, threshold, snaplen });
    let log = ("[a-z ]{1,20}", prop_oneof![Just(LogTarget::Kernel), group])
        .prop_map(|(prefix, target)| Statement::Log(Log { prefix, target }));
    let verdict = prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        "[a-z]{1,8}".prop_map(Verdict::Jump),
        "[a-z]{1,8}".prop_map(Verdict::Goto),
    ];
    prop_oneof![
        6 => any_match(),
        2 => (any_field(), "[a-z]{1,8}").prop_map(|(f, s)| Statement::lookup(f, s)),
        2 => (any_field(), "[a-z]{1,8}").prop_map(|(f, s)| Statement::dispatch(f, s)),
        1 => "[a-z]{1,8}".prop_map(Statement::Counter),
        1 => any_limit().prop_map(Statement::Limit),
        1 => (any_field(), "[a-z]{1,8}", any_limit())
            .prop_map(|(field, set, limit)| Statement::Over { field, set, limit }),
        1 => log,
        1 => Just(Statement::Reject(Reject::TcpReset)),
        1 => Just(Statement::Reject(Reject::AdminProhibited)),
        1 => verdict.prop_map(Statement::Verdict),
    ]
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        "[a-z]{1,8}".prop_map(Verdict::Jump),
        "[a-z]{1,8}".prop_map(Verdict::Goto),
    ]
}

fn any_key() -> impl Strategy<Value = KeyType> {
    prop_oneof![
        family().prop_map(KeyType::Address),
        Just(KeyType::Port),
        Just(KeyType::Protocol),
        Just(KeyType::Uid),
    ]
}

fn any_spec() -> impl Strategy<Value = SetSpec> {
    (any_key(), any::<[bool; 3]>(), prop::option::of(100_000u32..1 << 20)).prop_map(
        |(key, [map, interval, timeout], size)| SetSpec {
            key,
            map,
            interval: interval && key != KeyType::Uid,
            timeout,
            size,
            dynamic: None,
            foreign: Vec::new(),
        },
    )
}

/// Disjoint intervals of `spec`, single where it is exact, from points that cut the key space.
fn intervals(spec: &SetSpec, mut points: Vec<u128>) -> Vec<Interval> {
    let max = spec.key.max();
    points
        .iter_mut()
        .for_each(|point| *point = if max == u128::MAX { *point } else { *point % (max + 1) });
    points.extend([0, max]);
    points.sort_unstable();
    points.dedup();
    if !spec.interval {
        return points.into_iter().map(Interval::single).collect();
    }
    points.chunks_exact(2).map(|pair| Interval { first: pair[0], last: pair[1] }).collect()
}

/// A specification and elements of its kind.
pub(crate) fn any_set() -> impl Strategy<Value = (SetSpec, Elements)> {
    let points = prop::collection::vec(any::<u128>(), 0..20);
    (any_spec(), points, any_verdict(), any::<bool>()).prop_map(|(spec, points, verdict, empty)| {
        let mut intervals = intervals(&spec, points);
        if empty {
            intervals.clear();
        }
        let elements = match Elements::empty(&spec) {
            Elements::Ipv4(_) => Elements::Ipv4(addresses(&intervals)),
            Elements::Ipv6(_) => Elements::Ipv6(addresses(&intervals)),
            Elements::TimedIpv4(_) => Elements::TimedIpv4(timed(&intervals)),
            Elements::TimedIpv6(_) => Elements::TimedIpv6(timed(&intervals)),
            Elements::Keys(_) => Elements::Keys(intervals.into_iter().collect()),
            _ => {
                let verdicts = intervals.into_iter().map(|interval| (interval, verdict.clone()));
                Elements::Verdicts(verdicts.collect())
            }
        };
        (spec, elements)
    })
}

/// Lifetimes of which something is left at the beginning of 1970.
fn timed<A: ruleset::Address>(intervals: &[Interval]) -> TimedSet<A> {
    let elements = (1..).zip(intervals).map(|(number, interval)| {
        let range = AddressRange {
            first: A::from_number(interval.first),
            last: A::from_number(interval.last),
        };
        (range, Lifetime { until: number * number, timeout: number * 3 })
    });
    TimedSet::new(elements.collect())
}

fn addresses<A: ruleset::Address>(intervals: &[Interval]) -> AddressSet<A> {
    intervals
        .iter()
        .map(|interval| AddressRange {
            first: A::from_number(interval.first),
            last: A::from_number(interval.last),
        })
        .collect()
}
