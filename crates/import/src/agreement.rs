//! A policy lets through what its tables did, packet by packet, or says where it doesn't.
//!
//! The tables are walked here rule by rule, as the kernel does it, and not in regions: two readings
//! that know nothing of each other.

use crate::condition::Names;
use crate::hook::Hooks;
use crate::{Draft, Options, draft};
use policy::judge::By;
use policy::model::Modes;
use policy::{Host, Judge, compile, role_of};
use proptest::prelude::*;
use ruleset::evaluate::{Outcome, Packet};
use ruleset::listing::{
    Domain, ListedBase, ListedChain, ListedElement, ListedRule, ListedSet, ListedTable, Operand,
    Refusal, Selector, Step, TableFamily, Value, VerdictMap,
};
use ruleset::{Family, Hook, Transport, Verdict};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Peers are `BASE` and the fifteen after it, in both families.
const V4: u128 = 0x0a00_0000;
const V6: u128 = 0xfd00 << 112;
/// This server's own address.
const OWN: u128 = 0xc8;

/// What a packet has that a [`Packet`] hasn't.
#[derive(Debug, Clone, Copy)]
struct Rest {
    is_below_limit: bool,
    has_mark: bool,
}

/// The kernel's walk through a table.
struct Walk<'t> {
    table: &'t ListedTable,
    packet: &'t Packet,
    rest: Rest,
    /// The rule that accepted the packet, in the chain that is walked.
    by: Cell<Option<&'t ListedRule>>,
}

/// Where a rule leads.
enum End {
    Accept,
    Deny,
    /// To the next rule of the chain.
    Next,
    /// Out of the chain.
    Leave,
}

impl<'t> Walk<'t> {
    /// The rules that let the packet pass, one of each chain on its hook: none is that chain's
    /// policy. None where one denies it.
    fn passed_by(&self) -> Option<Vec<Option<&'t ListedRule>>> {
        if !self.table.family.addresses().contains(&Family::of(self.packet.source)) {
            return Some(vec![]);
        }
        let hook = if self.packet.hook == Hook::Input { "input" } else { "output" };
        let chains = self.table.chains.iter().filter_map(|chain| {
            let base = chain.base.as_ref()?;
            (base.hook == hook).then_some((chain, base))
        });
        let passed = chains.map(|(chain, base)| {
            self.by.set(None);
            match self.chain(chain) {
                End::Accept => Some(self.by.get()),
                End::Deny => None,
                End::Next | End::Leave => base.accepts.then_some(None),
            }
        });
        passed.collect()
    }

    fn chain(&self, chain: &'t ListedChain) -> End {
        for rule in &chain.rules {
            match self.rule(rule) {
                End::Next => {}
                End::Leave => return End::Next,
                end => return end,
            }
        }
        End::Next
    }

    fn rule(&self, rule: &'t ListedRule) -> End {
        for step in &rule.steps {
            match step {
                Step::Match { selectors, negated, operand } => {
                    if self.is_in(selectors, operand) == *negated {
                        return End::Next;
                    }
                    let Some(_) = self.key(selectors) else { return End::Next };
                }
                Step::Dispatch { selectors, map } => {
                    let VerdictMap::Entries(entries) = map else { return End::Next };
                    let Some(key) = self.key(selectors) else { return End::Next };
                    let entry = entries.iter().find(|(values, _)| holds(values, &key));
                    if let Some((_, verdict)) = entry {
                        return self.verdict(verdict, rule);
                    }
                }
                Step::Limit(_) if !self.rest.is_below_limit => return End::Next,
                Step::Reject(Refusal { .. }) => return End::Deny,
                Step::Verdict(verdict) => return self.verdict(verdict, rule),
                Step::Counter | Step::Log(_) | Step::Limit(_) | Step::Other(_) => {}
            }
        }
        End::Next
    }

    fn verdict(&self, verdict: &'t Verdict, rule: &'t ListedRule) -> End {
        let follow = |name: &str| self.table.chain(name).map_or(End::Next, |c| self.chain(c));
        match verdict {
            Verdict::Accept => {
                self.by.set(Some(rule));
                End::Accept
            }
            Verdict::Drop => End::Deny,
            Verdict::Return => End::Leave,
            Verdict::Jump(name) => follow(name),
            Verdict::Goto(name) => match follow(name) {
                End::Next | End::Leave => End::Leave,
                end => end,
            },
        }
    }

    fn is_in(&self, selectors: &[Selector], operand: &Operand) -> bool {
        let Some(key) = self.key(selectors) else { return false };
        match operand {
            Operand::Keys(keys) => keys.iter().any(|values| holds(values, &key)),
            Operand::Named(name) => {
                let set = self.table.sets.get(name);
                set.is_some_and(|set| set.elements.iter().any(|e| holds(&e.key, &key)))
            }
        }
    }

    fn key(&self, selectors: &[Selector]) -> Option<Vec<Value>> {
        selectors.iter().map(|selector| self.value(selector)).collect()
    }

    /// What the packet has there; none where it hasn't that header.
    fn value(&self, selector: &Selector) -> Option<Value> {
        let packet = self.packet;
        let family = Family::of(packet.source);
        let transport = Transport::of_protocol(packet.protocol);
        let port = |wanted: &Option<Transport>, port: u16| {
            (wanted.is_none() || *wanted == transport).then_some(u128::from(port))
        };
        Some(Value::number(match selector {
            Selector::CtState => packet.state.0.into(),
            Selector::Iif | Selector::IifName | Selector::Oif | Selector::OifName => {
                return Some(Value::Word("eth0".into()));
            }
            Selector::L4Proto => packet.protocol.into(),
            Selector::Protocol(f) => (*f == family).then_some(packet.protocol.into())?,
            Selector::NfProto => {
                if family == Family::V4 {
                    2
                } else {
                    10
                }
            }
            Selector::Saddr(f) => (*f == family).then_some(bits(packet.source))?,
            Selector::Daddr(f) => (*f == family).then_some(bits(packet.destination))?,
            Selector::Sport(t) => port(t, packet.ports?.0)?,
            Selector::Dport(t) => port(t, packet.ports?.1)?,
            Selector::SkUid => packet.user?.into(),
            Selector::Other(_) => self.rest.has_mark.into(),
            Selector::IcmpType(_) | Selector::HopLimit => return None,
        }))
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn holds(values: &[Value], key: &[Value]) -> bool {
    values.len() == key.len()
        && values.iter().zip(key).all(|(value, part)| match (value, part) {
            (Value::Range(first, last), Value::Range(number, _)) => {
                (first..=last).contains(&number)
            }
            (value, part) => value == part,
        })
}

fn address(family: Family, low: u128) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from_bits((V4 | low) as u32).into(),
        Family::V6 => Ipv6Addr::from_bits(V6 | low).into(),
    }
}

fn any_family() -> impl Strategy<Value = Family> {
    prop::sample::select(Family::BOTH.to_vec())
}

fn range(base: u128, width: u128) -> impl Strategy<Value = Value> {
    (0..width, 0..width).prop_map(move |(a, b)| Value::Range(base + a.min(b), base + a.max(b)))
}

fn addresses(family: Family) -> BoxedStrategy<Value> {
    range(if family == Family::V4 { V4 } else { V6 }, 16).boxed()
}

fn one(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Operand> {
    prop::collection::vec(value.prop_map(|value| vec![value]), 1..3).prop_map(Operand::Keys)
}

fn any_match() -> impl Strategy<Value = Step> {
    let of =
        |selector: Selector, operand: BoxedStrategy<Operand>, negated: f64| {
            (operand, prop::bool::weighted(negated)).prop_map(move |(operand, negated)| {
                Step::Match { selectors: vec![selector.clone()], negated, operand }
            })
        };
    let transport = prop::sample::select(vec![Some(Transport::Tcp), Some(Transport::Udp), None]);
    let named = |name: &str| Just(Operand::Named(name.to_owned()));
    prop_oneof![
        6 => any_family().prop_flat_map(move |family| {
            let set = if family == Family::V4 { "s_v4" } else { "s_v6" };
            let operand = prop_oneof![2 => one(addresses(family)), 1 => named(set)].boxed();
            prop_oneof![
                5 => of(Selector::Saddr(family), operand.clone(), 0.2),
                3 => of(Selector::Daddr(family), operand, 0.2),
            ]
        }),
        6 => transport.prop_flat_map(move |transport| {
            let operand = prop_oneof![3 => one(range(20, 6)), 1 => named("ports")].boxed();
            of(Selector::Dport(transport), operand, 0.2)
        }),
        1 => of(Selector::Sport(Some(Transport::Tcp)), one(range(1000, 2)).boxed(), 0.2),
        2 => of(Selector::L4Proto, one(prop::sample::select(vec![6u128, 17, 47])
            .prop_map(Value::number)).boxed(), 0.1),
        1 => of(Selector::NfProto, one(Just(Value::number(2))).boxed(), 0.3),
        1 => of(Selector::CtState, one(prop::sample::select(vec![8u128, 1, 2])
            .prop_map(Value::number)).boxed(), 0.2),
        1 => of(Selector::SkUid, one(range(0, 3)).boxed(), 0.2),
        1 => of(Selector::IifName, one(prop::sample::select(vec!["lo", "eth0"])
            .prop_map(|name| Value::Word(name.into()))).boxed(), 0.2),
        1 => of(Selector::Other("meta mark".into()), one(Just(Value::number(1))).boxed(), 0.2),
        1 => Just(Step::Limit("limit rate 1/second".into())),
        1 => (addresses(Family::V4), range(20, 6)).prop_map(|(peer, port)| Step::Match {
            selectors: vec![Selector::Saddr(Family::V4), Selector::Dport(Some(Transport::Tcp))],
            negated: false,
            operand: Operand::Keys(vec![vec![peer, port]]),
        }),
    ]
}

/// `chains` are those that may be jumped to.
fn any_rule(chains: &'static [&'static str]) -> impl Strategy<Value = ListedRule> {
    let mut verdicts = vec![Verdict::Accept, Verdict::Accept, Verdict::Accept, Verdict::Drop];
    verdicts.push(Verdict::Return);
    verdicts.extend(chains.iter().map(|name| Verdict::Jump((*name).to_owned())));
    verdicts.extend(chains.iter().map(|name| Verdict::Goto((*name).to_owned())));
    let verdict = prop::sample::select(verdicts);
    let ports = prop::sample::subsequence(vec![20u128, 21, 22, 23], 1..4);
    let map = (ports, prop::collection::vec(verdict.clone(), 4)).prop_map(|(ports, verdicts)| {
        let keys = ports.into_iter().map(|port| vec![Value::number(port)]);
        Step::Dispatch {
            selectors: vec![Selector::Dport(Some(Transport::Tcp))],
            map: VerdictMap::Entries(keys.zip(verdicts).collect()),
        }
    });
    let reject = Just(Step::Reject(Refusal { family: None, how: "icmpx".into() }));
    let end = prop_oneof![8 => verdict.prop_map(Step::Verdict), 1 => map, 1 => reject];
    (prop::collection::vec(any_match(), 0..4), end).prop_map(|(mut steps, end)| {
        steps.push(end);
        ListedRule { comment: None, steps }
    })
}

fn any_set(domain: Domain, value: BoxedStrategy<Value>) -> impl Strategy<Value = ListedSet> {
    let element =
        value.prop_map(|value| ListedElement { key: vec![value], verdict: None, timed: false });
    prop::collection::vec(element, 0..3).prop_map(move |elements| ListedSet {
        domains: vec![domain],
        elements,
        dynamic: false,
        other_map: false,
    })
}

/// `hooks` are those of its base chains.
fn any_table(
    family: impl Strategy<Value = TableFamily>,
    hooks: &'static [&'static str],
) -> impl Strategy<Value = ListedTable> {
    let base = |(number, hook): (usize, &&'static str)| {
        let (name, hook) = (format!("{hook}{number}"), (*hook).to_owned());
        let rules = prop::collection::vec(any_rule(&["one", "two"]), 0..6);
        (any::<bool>(), -1..2i32, rules).prop_map(move |(accepts, priority, rules)| {
            let (kind, hook) = ("filter".to_owned(), hook.clone());
            let base = Some(ListedBase { kind, hook, priority, accepts });
            ListedChain { name: name.clone(), base, rules }
        })
    };
    let plain = |name: &'static str, chains| {
        prop::collection::vec(any_rule(chains), 0..4).prop_map(|rules| ListedChain {
            name: name.to_owned(),
            base: None,
            rules,
        })
    };
    let sets = (
        any_set(Domain::Address(Family::V4), addresses(Family::V4)),
        any_set(Domain::Address(Family::V6), addresses(Family::V6)),
        any_set(Domain::Port, range(20, 6).boxed()),
    );
    let bases: Vec<_> = hooks.iter().enumerate().map(base).collect();
    (family, bases, plain("one", &["two"]), plain("two", &[]), sets).prop_map(
        |(family, mut chains, one, two, (v4, v6, ports))| {
            chains.extend([one, two]);
            let sets = [("s_v4", v4), ("s_v6", v6), ("ports", ports)];
            let sets = sets.map(|(name, set)| (name.to_owned(), set));
            ListedTable { family, name: "filter".into(), sets: sets.into(), chains }
        },
    )
}

/// One table with a chain a hook; one with two on input; or several, of families that overlap or
/// don't.
fn any_tables() -> impl Strategy<Value = Vec<ListedTable>> {
    let of = |families: &'static [TableFamily]| prop::sample::select(families);
    let first = |hooks| any_table(Just(TableFamily::Inet), hooks);
    let more = any_table(of(&[TableFamily::Inet, TableFamily::Ip, TableFamily::Ip6]), &["input"]);
    prop_oneof![
        2 => first(&["input", "output"]).prop_map(|table| vec![table]),
        1 => first(&["input", "input"]).prop_map(|table| vec![table]),
        2 => (first(&["input"]), prop::collection::vec(more, 1..3)).prop_map(|(table, mut more)| {
            more.insert(0, table);
            more
        }),
    ]
}

fn any_packet() -> impl Strategy<Value = (Packet, Rest)> {
    let protocol = prop::sample::select(vec![6u8, 6, 6, 17, 17, 47]);
    let place = (any::<bool>(), any_family(), 0u128..17);
    let what = (protocol, 999u16..1003, 19u16..28, 0u32..4);
    (place, what, any::<bool>(), any::<bool>()).prop_map(
        |((is_input, family, peer), (protocol, client, port, user), is_below_limit, has_mark)| {
            let (own, peer) = (address(family, OWN), address(family, peer));
            let packet = Packet {
                ports: Transport::of_protocol(protocol).map(|_| (client, port)),
                user: (!is_input).then_some(user),
                ..match is_input {
                    true => Packet::first(Hook::Input, peer, own, protocol),
                    false => Packet::first(Hook::Output, own, peer, protocol),
                }
            };
            (packet, Rest { is_below_limit, has_mark })
        },
    )
}

/// Whether a text is of this rule, or of an entry of its map.
fn is_of(text: &str, rule: &ListedRule) -> bool {
    let before = |step: &Step| !matches!(step, Step::Dispatch { .. });
    let steps: Vec<Step> = rule.steps.iter().take_while(|step| before(step)).cloned().collect();
    let is_whole = steps.len() == rule.steps.len();
    let rule = ListedRule { comment: None, steps }.to_string();
    if is_whole { text.ends_with(&rule) } else { text.contains(&rule) }
}

/// Whether the allow at this line is marked.
fn is_marked(text: &str, line: usize) -> bool {
    text.lines().nth(line - 2).is_some_and(|before| before.starts_with("# WIDER"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]

    #[test]
    fn what_passes_is_the_same_or_said_to_differ(
        tables in any_tables(),
        packets in prop::collection::vec(any_packet(), 40),
    ) {
        let options = Options { source: "a test".into(), ..Options::default() };
        let Draft { text, summary } = draft(&tables, &options).expect("small");
        let loading = policy::Options { check_permissions: false, ..policy::Options::default() };
        let mut policy =
            policy::load_text(Path::new("/p"), text.as_str(), &loading).policy.expect("good");
        // A draft only observes what the tables enforce.
        let hooks = Hooks::new(&tables, 0, &mut Names::default()).expect("small");
        let [input, output] = [&hooks.sides[0], &hooks.sides[1]].map(|side| side.mode);
        policy.mode = Modes { input, output };
        let role = role_of(&policy, &[]);
        let users = BTreeMap::new();
        let compiled = compile(&policy, Host { role: &role, users: &users, previous: None });
        let judge = Judge::new(&policy, &compiled);
        for (packet, rest) in &packets {
            let walks = tables.iter().map(|table| {
                Walk { table, packet, rest: *rest, by: Cell::new(None) }.passed_by()
            });
            let passed_by: Option<Vec<_>> = walks.collect();
            let before = passed_by.is_some();
            // Of a rule that let it pass, or of a chain's policy.
            let is_lost = summary.not_imported.iter().any(|(lost, _)| {
                let mut rules = passed_by.iter().flatten().flatten();
                rules.any(|rule| rule.is_none_or(|rule| is_of(lost, rule)))
            });
            let ruling = judge.rule_on(packet);
            let after = ruling.outcome == Outcome::Accept;
            let is_told = match ruling.by {
                _ if before == after => true,
                By::Allow(allow) => is_marked(&text, allow.location.line),
                By::BuiltIn(_) => false,
                By::Closing => is_lost,
                By::Unfiltered => !summary.not_imported.is_empty(),
            };
            prop_assert!(is_told, "{packet:?} {rest:?}\npassed: {before}; now {ruling}\n{text}");
        }
    }
}
