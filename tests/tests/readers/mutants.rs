//! Changes that a reader must notice: one at a time, all over a table and all over a listing.

use ruleset::{
    Address, AddressRange, AddressSet, Elements, Family, Field, Flags, Interval, Policy, Reject,
    Rule, Ruleset, Statement, Table, Value, Verdict,
};
use serde_json::Value as Json;

/// A changed table, and what was changed.
type Mutant = (String, Ruleset);

/// Every table that differs from this one in one thing; of chains only in `wanted` ones.
pub(crate) fn of(ruleset: &Ruleset, wanted: impl Fn(&str) -> bool) -> Vec<Mutant> {
    let mut mutants = Mutants { original: ruleset, made: Vec::new() };
    let table = ruleset.table.as_ref().expect("a table");
    for name in &table.counters {
        mutants.make(format!("no counter {name}"), |table| table.counters.remove(name));
    }
    mutants.make("one more counter".into(), |table| table.counters.insert("another".into()));
    for name in table.sets.keys() {
        mutants.set(name);
    }
    for name in table.chains.keys().filter(|name| wanted(name)) {
        mutants.chain(name);
    }
    mutants.made
}

struct Mutants<'a> {
    original: &'a Ruleset,
    made: Vec<Mutant>,
}

impl Mutants<'_> {
    fn make<T>(&mut self, what: String, change: impl FnOnce(&mut Table) -> T) {
        let mut mutant = self.original.clone();
        change(mutant.table.as_mut().expect("a table"));
        assert!(mutant != *self.original, "{what} is no change");
        self.made.push((what, mutant));
    }

    fn set(&mut self, name: &str) {
        let table = self.original.table.as_ref().expect("a table");
        let set = &table.sets[name];
        self.make(format!("no set {name}"), |table| table.sets.remove(name));
        self.make(format!("{name} renamed"), |table| {
            let set = table.sets.remove(name).expect("the set");
            table.sets.insert(format!("{name}x"), set);
        });
        let mut spec = |what: &str, change: fn(&mut ruleset::SetSpec)| {
            self.make(format!("{name}: {what}"), |table| {
                change(&mut table.sets.get_mut(name).expect("the set").spec)
            });
        };
        spec("interval", |spec| spec.interval = !spec.interval);
        spec("timeout", |spec| spec.timeout = !spec.timeout);
        spec("dynamic", |spec| spec.dynamic = Some(spec.dynamic.unwrap_or(0) + 1));
        spec("size", |spec| spec.size = Some(spec.size.unwrap_or(0) + 1));
        for elements in changed(&set.elements) {
            let what = format!("{name}: {elements:?}");
            self.make(what, |table| table.sets.get_mut(name).expect("the set").elements = elements);
        }
    }

    fn chain(&mut self, name: &str) {
        let chain = &self.original.table.as_ref().expect("a table").chains[name];
        self.make(format!("no chain {name}"), |table| table.chains.remove(name));
        if chain.base.is_some() {
            let mut base = |what: &str, change: fn(&mut ruleset::Base)| {
                self.make(format!("{name}: {what}"), |table| {
                    let chain = table.chains.get_mut(name).expect("the chain");
                    change(chain.base.as_mut().expect("a base chain"));
                });
            };
            base("policy", |base| {
                base.policy = match base.policy {
                    Policy::Accept => Policy::Drop,
                    Policy::Drop => Policy::Accept,
                }
            });
            base("priority", |base| base.priority += 1);
            base("hook", |base| base.hook = ruleset::Hook::Other(4));
        }
        let mut rules = |what: String, change: &dyn Fn(&mut Vec<Rule>)| {
            self.make(format!("{name} {what}"), |table| {
                change(&mut table.chains.get_mut(name).expect("the chain").rules);
            });
        };
        for index in 0..chain.rules.len() {
            rules(format!("without rule {index}"), &|rules| drop(rules.remove(index)));
            rules(format!("rule {index}: comment"), &|rules| rules[index].comment.push('x'));
            rules(format!("rule {index} twice"), &|rules| {
                rules.insert(index, rules[index].clone());
            });
            if chain.rules.get(index + 1).is_some_and(|next| *next != chain.rules[index]) {
                rules(format!("rule {index} later"), &|rules| rules.swap(index, index + 1));
            }
            for (step, statement) in chain.rules[index].statements.iter().enumerate() {
                rules(format!("rule {index} without {statement}"), &|rules| {
                    rules[index].statements.remove(step);
                });
                for other in others(statement) {
                    rules(format!("rule {index}: {other}"), &|rules| {
                        rules[index].statements[step] = other.clone();
                    });
                }
            }
        }
    }
}

/// Statements that are almost the same.
fn others(statement: &Statement) -> Vec<Statement> {
    let with = |change: &dyn Fn(&mut Statement)| {
        let mut other = statement.clone();
        change(&mut other);
        other
    };
    match statement {
        Statement::Match { field, value } => {
            let value = match *value {
                // A text that ends with the first zero.
                Value::Number(kind) if *field == Field::IifKind => Value::Number(kind ^ 2 << 120),
                Value::Number(number) => Value::Number(number ^ 2),
                Value::Prefix { address, length } => Value::Prefix { address, length: length + 1 },
                Value::States(states) => Value::States(ruleset::States(states.0 ^ 8)),
                Value::Flags(Flags { set, mask }) => Value::Flags(Flags { set, mask: mask ^ 8 }),
            };
            vec![Statement::Match { field: *field, value }]
        }
        Statement::Lookup { field, set } => vec![Statement::lookup(*field, format!("{set}x"))],
        Statement::Dispatch { field, map } => {
            vec![Statement::dispatch(*field, format!("{map}x")), Statement::lookup(*field, map)]
        }
        Statement::Counter(name) => vec![Statement::counter(format!("{name}x"))],
        Statement::Limit(_) => vec![
            with(&|other| {
                if let Statement::Limit(limit) = other {
                    limit.rate += 1
                }
            }),
            with(&|other| {
                if let Statement::Limit(limit) = other {
                    limit.burst += 1
                }
            }),
        ],
        Statement::Over { field, set, limit } => {
            let over = |field, set: &str, rate| {
                let limit = ruleset::Limit { rate, ..*limit };
                Statement::Over { field, set: set.into(), limit }
            };
            let other = Field::Daddr(Family::V4);
            vec![
                over(*field, &format!("{set}x"), limit.rate),
                over(*field, set, limit.rate + 1),
                over(
                    if *field == other { Field::Saddr(Family::V4) } else { other },
                    set,
                    limit.rate,
                ),
                Statement::lookup(*field, set),
            ]
        }
        Statement::Log(_) => {
            let group = ruleset::LogTarget::Group { group: 0, threshold: 0, snaplen: 0 };
            vec![
                with(&|other| {
                    if let Statement::Log(log) = other {
                        log.prefix.push('x')
                    }
                }),
                with(&|other| {
                    if let Statement::Log(log) = other {
                        log.target = group
                    }
                }),
            ]
        }
        Statement::Reject(Reject::TcpReset) => vec![Statement::Reject(Reject::AdminProhibited)],
        Statement::Reject(Reject::AdminProhibited) => {
            vec![Statement::Reject(Reject::TcpReset), Statement::Verdict(Verdict::Drop)]
        }
        Statement::Verdict(verdict) => {
            let others = match verdict {
                Verdict::Accept => vec![Verdict::Drop, Verdict::Return],
                Verdict::Drop | Verdict::Return => vec![Verdict::Accept],
                Verdict::Jump(to) => vec![Verdict::Goto(to.clone()), Verdict::Jump("x".into())],
                Verdict::Goto(to) => vec![Verdict::Jump(to.clone()), Verdict::Goto("x".into())],
            };
            others.into_iter().map(Statement::Verdict).collect()
        }
        Statement::Opaque(_) => Vec::new(),
    }
}

/// The elements less one, with one more, with one longer, and with one that leads elsewhere.
fn changed(elements: &Elements) -> Vec<Elements> {
    match elements {
        Elements::Ipv4(set) => changed_addresses(set).into_iter().map(Elements::Ipv4).collect(),
        Elements::Ipv6(set) => changed_addresses(set).into_iter().map(Elements::Ipv6).collect(),
        Elements::Keys(keys) => keys
            .iter()
            .map(|key| Elements::Keys(keys.iter().filter(|other| *other != key).copied().collect()))
            .collect(),
        Elements::Verdicts(verdicts) => {
            let mut changed = Vec::new();
            for (interval, verdict) in verdicts {
                let mut less = verdicts.clone();
                less.remove(interval);
                let mut longer = less.clone();
                let next = Interval { first: interval.first, last: interval.last ^ 1 << 15 };
                longer.insert(next, verdict.clone());
                changed.extend([less, longer]);
                for other in [Verdict::Accept, Verdict::Jump("x".into())] {
                    let mut led = verdicts.clone();
                    led.insert(*interval, other);
                    changed.push(led);
                }
            }
            changed.into_iter().map(Elements::Verdicts).collect()
        }
        Elements::TimedIpv4(_)
        | Elements::TimedIpv6(_)
        | Elements::Opaque(_)
        | Elements::Dynamic
        | Elements::Unread => Vec::new(),
    }
}

fn changed_addresses<A: Address>(set: &AddressSet<A>) -> Vec<AddressSet<A>> {
    let ranges: Vec<_> = set.ranges().collect();
    let mut changed = Vec::new();
    for index in 0..ranges.len().min(2) {
        let mut less = ranges.to_vec();
        let AddressRange { first, last } = less.remove(index);
        changed.push(AddressSet::new(less.clone()));
        // One address more or less, at either end.
        let first_moved = first.previous().or_else(|| first.next());
        let last_moved = last.next().or_else(|| last.previous());
        for range in [(first_moved, Some(last)), (Some(first), last_moved)] {
            if let (Some(first), Some(last)) = range {
                let mut moved = less.clone();
                moved.extend(AddressRange::new(first, last));
                changed.push(AddressSet::new(moved));
            }
        }
    }
    changed.push(set.union(&AddressSet::new(vec![AddressRange::single(A::from_number(7))])));
    changed.retain(|changed| changed != set);
    changed
}

/// Every object of a listing that differs from this one in one value, with the path to it.
pub(crate) fn of_listed(object: &Json) -> Vec<(String, Json)> {
    let mut paths = Vec::new();
    collect(object, String::new(), &mut paths);
    let mutants = paths.into_iter().map(|path| {
        let mut mutant = object.clone();
        let value = mutant.pointer_mut(&path).expect("a path that is there");
        *value = match value {
            Json::Number(number) => Json::from(number.as_u64().unwrap_or(0) + 1),
            Json::String(text) => Json::from(format!("{text}x")),
            Json::Null => Json::from(false),
            _ => Json::Null,
        };
        (path, mutant)
    });
    mutants.collect()
}

/// The paths of all values below `value`.
fn collect(value: &Json, path: String, paths: &mut Vec<String>) {
    match value {
        Json::Object(entries) => {
            for (key, value) in entries {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(value, format!("{path}/{key}"), paths);
            }
        }
        Json::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                collect(value, format!("{path}/{index}"), paths);
            }
        }
        _ => {}
    }
    // What is above is the kind of the object: a listing without one is none.
    if path.matches('/').count() > 1 {
        paths.push(path);
    }
}
