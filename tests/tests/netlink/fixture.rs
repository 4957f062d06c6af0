//! A table with every kind of statement, set and verdict, and the plan that makes a table.

use netlink::{Connection, Handles, Hold, KernelTable};
use ruleset::known;
use ruleset::{
    AddressRange, AddressSet, Base, Chain, Elements, Family, Field, Flags, Hook, Interval, KeyType,
    Limit, Log, LogTarget, Operation, Plan, Policy, Reject, Rule, Ruleset, Set, SetSpec, Statement,
    States, Table, TimedSet, Transport, Value, Verdict,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{SystemTime, UNIX_EPOCH};
use tierwall_tests::namespace::Namespace;

/// The operations that make `table` where there is none.
pub(crate) fn creation(table: &Table) -> Plan {
    let mut operations = vec![Operation::AddTable { comment: table.comment.clone() }];
    let counters = table.counters.iter();
    operations.extend(counters.map(|counter| Operation::AddCounter { counter: counter.clone() }));
    for (chain, content) in table.chains_in_order() {
        operations.push(Operation::AddChain { chain: chain.clone(), base: content.base.clone() });
    }
    for (set, content) in &table.sets {
        operations.push(Operation::AddSet { set: set.clone(), spec: content.spec.clone() });
        operations.push(Operation::AddElements {
            set: set.clone(),
            spec: content.spec.clone(),
            elements: content.elements.clone(),
        });
    }
    for (chain, content) in table.chains_in_order() {
        operations.extend(content.rules.iter().map(|rule| Operation::InsertRule {
            chain: chain.clone(),
            before: None,
            rule: rule.clone(),
        }));
    }
    Plan { operations }
}

/// Makes `table` in a new namespace and reads it back.
pub(crate) fn committed(table: &Table) -> (Namespace, KernelTable) {
    let namespace = Namespace::new().unwrap();
    let dumped = namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        connection.commit(&creation(table), &Handles::default(), None, Hold::Plain).unwrap();
        connection.dump().unwrap()
    });
    (namespace, dumped)
}

/// Runs one plan against what is in the namespace, and reads the result back.
pub(crate) fn apply(namespace: &Namespace, operations: Vec<Operation>) -> KernelTable {
    namespace.run(|| {
        let mut connection = Connection::open().unwrap();
        let (handles, generation) = connection.handles().unwrap();
        connection.commit(&Plan { operations }, &handles, Some(generation), Hold::Plain).unwrap();
        connection.dump().unwrap()
    })
}

pub(crate) fn ruleset(table: Table) -> Ruleset {
    Ruleset { table: Some(table) }
}

pub(crate) fn range(first: &str, last: &str) -> AddressRange<Ipv4Addr> {
    AddressRange::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
}

pub(crate) fn single(address: &str) -> AddressRange<Ipv4Addr> {
    AddressRange::single(address.parse().unwrap())
}

pub(crate) fn prefix6(address: &str, length: u8) -> AddressRange<Ipv6Addr> {
    AddressRange::prefix(address.parse().unwrap(), length).unwrap()
}

pub(crate) fn v4<const N: usize>(ranges: [AddressRange<Ipv4Addr>; N]) -> AddressSet<Ipv4Addr> {
    AddressSet::new(ranges.to_vec())
}

pub(crate) fn v6<const N: usize>(ranges: [AddressRange<Ipv6Addr>; N]) -> AddressSet<Ipv6Addr> {
    AddressSet::new(ranges.to_vec())
}

pub(crate) fn accept() -> Statement {
    Statement::Verdict(Verdict::Accept)
}

pub(crate) fn tcp(port: u128) -> Statement {
    Statement::matches(Field::Dport(Transport::Tcp), port)
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn keys<const N: usize>(intervals: [(u128, u128); N]) -> BTreeSet<Interval> {
    intervals.into_iter().map(|(first, last)| Interval { first, last }).collect()
}

fn verdicts<const N: usize>(entries: [(u128, u128, Verdict); N]) -> BTreeMap<Interval, Verdict> {
    entries.into_iter().map(|(first, last, verdict)| (Interval { first, last }, verdict)).collect()
}

fn sets() -> BTreeMap<String, Set> {
    let set = |spec, elements| Set { spec, elements };
    let to_ssh = || Verdict::Goto("in.ssh".into());
    let address = KeyType::Address;
    let sets = [
        (
            "web_v4",
            Set::ipv4(v4([
                single("10.0.0.1"),
                range("10.0.0.10", "10.0.0.19"),
                range("10.1.0.0", "10.1.255.255"),
                single("255.255.255.255"),
            ])),
        ),
        ("web_v6", Set::ipv6(v6([prefix6("2001:db8::", 32), prefix6("ff00::", 8)]))),
        (
            "web_v4_hosts",
            set(
                SetSpec::exact(address(Family::V4), Some(1024)),
                Elements::Ipv4(v4([range("10.9.0.1", "10.9.0.3"), single("10.9.1.1")])),
            ),
        ),
        (
            "web_v4_timed",
            set(
                SetSpec::intervals(address(Family::V4)).into_timed(),
                Elements::TimedIpv4(TimedSet::default()),
            ),
        ),
        ("everywhere_v6", Set::ipv6(v6([AddressRange::ALL]))),
        ("nowhere_v4", Set::ipv4(v4([]))),
        (
            "users",
            set(SetSpec::exact(KeyType::Uid, None), Elements::Keys(keys([(33, 33), (1000, 1000)]))),
        ),
        (
            "ports",
            set(
                SetSpec::intervals(KeyType::Port),
                Elements::Keys(keys([(0, 0), (80, 90), (91, 91), (65000, 65535)])),
            ),
        ),
        (
            "protocols",
            set(
                SetSpec::exact(KeyType::Protocol, None),
                Elements::Keys(keys([(47, 47), (50, 50)])),
            ),
        ),
        (
            "input_tcp",
            set(
                SetSpec::intervals(KeyType::Port).into_map(),
                Elements::Verdicts(verdicts([
                    (22, 22, to_ssh()),
                    (1000, 1999, Verdict::Jump("in.ssh".into())),
                    (2000, 2000, Verdict::Return),
                    (60000, 65535, Verdict::Drop),
                ])),
            ),
        ),
        (
            "input_udp",
            set(
                SetSpec::exact(KeyType::Port, Some(16)).into_map(),
                Elements::Verdicts(verdicts([(53, 53, Verdict::Accept)])),
            ),
        ),
        (
            "from",
            set(
                SetSpec::intervals(address(Family::V4)).into_map(),
                Elements::Verdicts(verdicts([(0x0a00_0000, 0x0aff_ffff, to_ssh())])),
            ),
        ),
        ("input.logged_v4", Set::dynamic(address(Family::V4), 1000, 90)),
        ("input.logged_v6", Set::dynamic(address(Family::V6), 65_536, 3600)),
        (
            "from6",
            set(
                SetSpec::exact(address(Family::V6), None).into_map(),
                Elements::Verdicts(verdicts([(1, 1, to_ssh())])),
            ),
        ),
    ];
    sets.into_iter().map(|(name, set)| (name.to_owned(), set)).collect()
}

fn prefix(field: Field, address: u128, length: u8) -> Statement {
    Statement::Match { field, value: Value::Prefix { address, length } }
}

fn flags(set: u8, mask: u8) -> Statement {
    Statement::Match { field: Field::TcpFlags, value: Value::Flags(Flags { set, mask }) }
}

fn over(field: Field, set: &str, rate: u64) -> Statement {
    Statement::Over { field, set: set.into(), limit: Limit { rate, burst: 7 } }
}

/// Each kind of match and lookup, one a rule.
fn matches() -> Vec<Vec<Statement>> {
    use Family::{V4, V6};
    let states = |a: States, b: States| Statement::states(States(a.0 | b.0));
    let udp = |field: fn(Transport) -> Field, port| Statement::matches(field(Transport::Udp), port);
    let db8 = 0x2001_0db8 << 96;
    vec![
        vec![states(States::ESTABLISHED, States::RELATED)],
        vec![Statement::states(States::INVALID)],
        vec![states(States::NEW, States::UNTRACKED)],
        vec![Statement::matches(Field::Iif, 1)],
        vec![Statement::matches(Field::Oif, 1)],
        vec![Statement::matches(Field::L4Proto, 47)],
        vec![Statement::matches(Field::SkUid, 1000)],
        vec![Statement::lookup(Field::SkUid, "users")],
        vec![Statement::lookup(Field::L4Proto, "protocols")],
        vec![Statement::matches(Field::Saddr(V4), 0x0a00_0001)],
        vec![Statement::matches(Field::Daddr(V6), db8 + 1)],
        vec![prefix(Field::Saddr(V4), 0x0a00_0000, 8)],
        vec![prefix(Field::Daddr(V4), 0x0a80_0000, 9)],
        vec![prefix(Field::Saddr(V6), db8, 32)],
        vec![prefix(Field::Daddr(V6), db8, 33)],
        vec![Statement::lookup(Field::Saddr(V4), "web_v4"), tcp(80)],
        vec![tcp(443), Statement::lookup(Field::Saddr(V6), "web_v6")],
        vec![
            Statement::lookup(Field::Saddr(V4), "web_v4_hosts"),
            Statement::lookup(Field::Daddr(V4), "web_v4_timed"),
        ],
        vec![Statement::lookup(Field::Daddr(V6), "everywhere_v6")],
        vec![Statement::lookup(Field::Dport(Transport::Sctp), "ports")],
        vec![Statement::matches(Field::Sport(Transport::Dccp), 5)],
        vec![Statement::matches(Field::Dport(Transport::UdpLite), 6)],
        vec![udp(Field::Sport, 67), udp(Field::Dport, 68)],
        vec![udp(Field::Dport, 546), udp(Field::Sport, 547)],
        vec![Statement::matches(Field::IcmpType(V4), 8)],
        vec![Statement::matches(Field::IcmpType(V6), 128)],
        vec![
            Statement::matches(Field::IcmpType(V6), 135),
            Statement::matches(Field::HopLimit, 255),
        ],
        vec![
            Statement::matches(Field::L4Proto, 58),
            Statement::matches(Field::IcmpType(V6), 136),
            Statement::matches(Field::HopLimit, 255),
        ],
        vec![Statement::matches(Field::L4Proto, 6), Statement::states(States::NEW), tcp(8080)],
        vec![
            Statement::matches(Field::NfProto, known::NFPROTO_IPV6),
            Statement::matches(Field::PacketType, known::PACKET_HOST),
            Statement::matches(Field::SourceType, known::LOCAL),
        ],
        vec![Statement::matches(Field::IifKind, known::VRF)],
        vec![
            Statement::states(States::ESTABLISHED),
            Statement::matches(Field::CtDirection, known::ORIGINAL),
            Statement::lookup(Field::Dport(Transport::Udp), "ports"),
        ],
        vec![
            flags(Flags::ACK, Flags::SYN | Flags::RST | Flags::ACK),
            Statement::matches(Field::SocketWildcard, 0),
            Statement::matches(Field::Sport(Transport::Tcp), 80),
        ],
        vec![flags(Flags::SYN, Flags::FIN | Flags::SYN | Flags::RST | Flags::ACK)],
        vec![Statement::Limit(Limit { rate: 10, burst: 5 })],
        vec![Statement::Limit(Limit { rate: 1000, burst: 20 })],
        vec![over(Field::Saddr(V4), "input.logged_v4", 100)],
        vec![tcp(514), over(Field::Daddr(V6), "input.logged_v6", 1)],
    ]
}

/// Each kind of dispatch and end, one a rule.
fn ends() -> Vec<Vec<Statement>> {
    use Family::{V4, V6};
    let group = |threshold, snaplen| LogTarget::Group { group: 5, threshold, snaplen };
    let log = |prefix: &str, target| Statement::Log(Log { prefix: prefix.into(), target });
    vec![
        vec![Statement::dispatch(Field::Dport(Transport::Tcp), "input_tcp")],
        vec![Statement::dispatch(Field::Dport(Transport::Udp), "input_udp")],
        vec![Statement::dispatch(Field::Saddr(V4), "from")],
        vec![tcp(5432), Statement::dispatch(Field::Daddr(V6), "from6")],
        vec![log("tierwall kernel ", LogTarget::Kernel)],
        vec![log("tierwall in ", group(100, 128))],
        vec![log("", group(0, 0))],
        vec![Statement::Limit(Limit { rate: 10, burst: 20 }), log("x", group(100, 0))],
        vec![Statement::counter("denied"), Statement::Reject(Reject::TcpReset)],
        vec![tcp(113), Statement::Reject(Reject::TcpReset)],
        vec![Statement::Reject(Reject::AdminProhibited)],
        vec![Statement::jump("in.ssh")],
        vec![Statement::Verdict(Verdict::Goto("in.ssh".into()))],
        vec![Statement::Verdict(Verdict::Return)],
        vec![Statement::Verdict(Verdict::Drop)],
    ]
}

/// A table with everything that tierwall writes.
pub(crate) fn everything() -> Table {
    let mut table = Table::new();
    table.counters = ["denied", "web_app"].map(str::to_owned).into();
    table.sets = sets();
    let matching = matches().into_iter().enumerate().map(|(number, mut statements)| {
        statements.push(Statement::counter("web_app"));
        statements.push(accept());
        Rule::new(format!("match {number}"), statements)
    });
    let ending = ends().into_iter().enumerate();
    let ending = ending.map(|(number, statements)| Rule::new(format!("end {number}"), statements));
    let base = |hook, policy| Some(Base::filter(hook, policy));
    let chains = [
        ("input", base(Hook::Input, Policy::Drop), ending.collect()),
        ("output", base(Hook::Output, Policy::Accept), Vec::new()),
        (
            "forward",
            Some(Base { priority: -5, ..Base::filter(Hook::Forward, Policy::Drop) }),
            vec![Rule::new("x".repeat(128), vec![accept()]), Rule::new("", vec![accept()])],
        ),
        ("in.ssh", None, matching.collect()),
    ];
    table.chains = chains
        .into_iter()
        .map(|(name, base, rules)| (name.to_owned(), Chain { base, rules }))
        .collect();
    table
}

/// Sends datagrams of 38 bytes to a socket of this host, over `lo`.
pub(crate) fn send_to_self(count: usize) {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..count {
        sender.send_to(&[0; 10], receiver.local_addr().unwrap()).unwrap();
    }
}

/// A small table: a base chain, a chain, a set in use, a counter.
pub(crate) fn small() -> Table {
    let mut table = Table::new();
    table.counters = ["web".to_owned()].into();
    table.sets = [("web_v4".to_owned(), Set::ipv4(v4([single("10.0.0.1")])))].into();
    let rule = |comment: &str, port| {
        let from = Statement::lookup(Field::Saddr(Family::V4), "web_v4");
        Rule::new(comment, vec![from, tcp(port), Statement::counter("web"), accept()])
    };
    let input = Chain {
        base: Some(Base::filter(Hook::Input, Policy::Drop)),
        rules: vec![rule("a", 1), rule("b", 2), rule("c", 3)],
    };
    let other = Chain { base: None, rules: vec![rule("d", 4)] };
    table.chains = [("input".to_owned(), input), ("other".to_owned(), other)].into();
    table
}
