//! What a step of a rule makes of the packets that came to it.

use crate::intervals::Intervals;
use crate::region::{
    Addresses, Beyond, LOOPBACK, NETWORK, Region, USERS, ports, protocol, protocols_of, states,
    width,
};
use ruleset::listing::{Domain, ListedSet, ListedTable, Operand, Selector, Value};
use ruleset::{Family, States};
use std::collections::BTreeMap;

/// The most regions that one rule may come to. A set of pairs of thousands of elements is no
/// policy.
const LARGEST: usize = 512;

/// The sides that a policy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Input,
    Output,
}

/// What conditions are read with: the table's sets, and what its rules gave names to.
#[derive(Debug)]
pub(crate) struct Context<'l> {
    pub(crate) table: &'l ListedTable,
    /// The table's place among those that are imported: it tells sets of one name apart.
    pub(crate) number: usize,
    pub(crate) direction: Direction,
}

/// Names met on the way, for all tables.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Users by name; each gets a number above all user ids.
    users: Vec<String>,
    /// What a named set of ports opened, and the set's name.
    pub(crate) services: BTreeMap<Intervals, String>,
}

impl Names {
    fn user(&mut self, name: &str) -> u128 {
        let known = self.users.iter().position(|user| user == name);
        let index = known.unwrap_or_else(|| {
            self.users.push(name.to_owned());
            self.users.len() - 1
        });
        (1 << 32) | index as u128
    }

    fn service(&mut self, services: Intervals, set: &str) {
        let mut name = set.to_owned();
        for number in 2.. {
            if !self.services.values().any(|taken| *taken == name) {
                break;
            }
            name = format!("{set}-{number}");
        }
        self.services.entry(services).or_insert(name);
    }

    /// The name behind the number of a user.
    pub(crate) fn of_user(&self, number: u128) -> Option<&str> {
        let index = usize::try_from(number.checked_sub(1 << 32)?).ok()?;
        self.users.get(index).map(String::as_str)
    }
}

/// A set as regions know it: unique among all tables.
pub(crate) fn set_id(table: usize, name: &str) -> String {
    format!("{table}/{name}")
}

/// The packets of `reach` that match.
pub(crate) fn matching(
    reach: &[Region],
    selectors: &[Selector],
    negated: bool,
    operand: &Operand,
    context: &Context<'_>,
    names: &mut Names,
) -> Vec<Region> {
    let text = |what: String, why| {
        let mut reach = reach.to_vec();
        reach.iter_mut().for_each(|region| {
            region.beyond.insert(Beyond { what: what.clone(), why, is_hygiene: false });
        });
        reach
    };
    let (keys, set) = match operand {
        Operand::Keys(keys) => (keys.clone(), None),
        Operand::Named(name) => match context.table.sets.get(name) {
            Some(set) if set.dynamic => {
                return text(format!("@{name}"), "packets add to this set");
            }
            Some(set) => (keys_of(set), Some(name.as_str())),
            None => return text(format!("@{name}"), "this set isn't listed"),
        },
    };
    let conditions = match selectors {
        [selector] => {
            let values: Vec<&Value> = keys.iter().filter_map(|key| key.first()).collect();
            single(selector, &values, negated, set, context, names)
        }
        _ if negated => return text(concatenated(selectors), "a negated concatenation"),
        _ if keys.len() > LARGEST => {
            return text(concatenated(selectors), "the set has too many elements");
        }
        _ => keys.iter().flat_map(|key| product(selectors, key, context, names)).collect(),
    };
    let both = |a: &Region| conditions.iter().filter_map(|b| a.intersection(b)).collect::<Vec<_>>();
    reach.iter().flat_map(both).collect()
}

/// The keys of a set that are there to stay.
fn keys_of(set: &ListedSet) -> Vec<Vec<Value>> {
    set.elements.iter().filter(|element| !element.timed).map(|e| e.key.clone()).collect()
}

fn concatenated(selectors: &[Selector]) -> String {
    selectors.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

/// A key of several parts: all of them hold.
fn product(
    selectors: &[Selector],
    key: &[Value],
    context: &Context<'_>,
    names: &mut Names,
) -> Vec<Region> {
    let mut regions = everything();
    for (selector, value) in selectors.iter().zip(key) {
        let part = single(selector, &[value], false, None, context, names);
        regions = regions
            .iter()
            .flat_map(|a| part.iter().filter_map(|b| a.intersection(b)).collect::<Vec<_>>())
            .collect();
    }
    regions
}

fn everything() -> Vec<Region> {
    Family::BOTH.map(Region::all).to_vec()
}

fn all_beyond(what: String, why: &'static str, is_hygiene: bool) -> Vec<Region> {
    let mut regions = everything();
    for region in &mut regions {
        region.beyond.insert(Beyond { what: what.clone(), why, is_hygiene });
    }
    regions
}

/// The regions of `selector values`.
fn single(
    selector: &Selector,
    values: &[&Value],
    negated: bool,
    set: Option<&str>,
    context: &Context<'_>,
    names: &mut Names,
) -> Vec<Region> {
    let domain = selector.domain();
    let what = || condition_text(selector, domain, values, negated, set);
    let interface = match selector {
        Selector::Iif | Selector::IifName => Some(Direction::Input),
        Selector::Oif | Selector::OifName => Some(Direction::Output),
        _ => None,
    };
    if let Some(side) = interface {
        let fits = context.direction == side;
        return match fits {
            true => interfaces(values, negated, &what()),
            false => all_beyond(what(), "the other side's interface", false),
        };
    }
    if let Selector::HopLimit | Selector::Other(_) = selector {
        let (why, is_hygiene) = reason(selector);
        return all_beyond(what(), why, is_hygiene);
    }
    if *selector == Selector::SkUid && context.direction == Direction::Input {
        return all_beyond(what(), "a user binds the sender's side only", false);
    }
    let Some(numbers) = numbers(domain, values, names) else {
        return all_beyond(what(), "a value that isn't known", false);
    };
    let chosen = |max: u128| match negated {
        true => Intervals::all(max).minus(&numbers),
        false => numbers.intersection(&Intervals::all(max)),
    };
    let mut regions = everything();
    let only = |regions: &mut Vec<Region>, family| regions.retain(|r| r.family == family);
    match selector {
        Selector::Saddr(family) | Selector::Daddr(family) => {
            only(&mut regions, *family);
            let set = set.map(|name| (set_id(context.number, name), negated));
            let addresses = Addresses { ranges: chosen(width(*family)), set };
            for region in &mut regions {
                match selector {
                    Selector::Saddr(_) => region.source = addresses.clone(),
                    _ => region.target = addresses.clone(),
                }
            }
        }
        Selector::NfProto => {
            let number = |family| if family == Family::V4 { 2 } else { 10 };
            let chosen = chosen(255);
            let is_chosen = |family| {
                let number = number(family);
                chosen.intersects(&Intervals::range(number, number))
            };
            regions.retain(|region| is_chosen(region.family));
        }
        Selector::L4Proto | Selector::Protocol(_) => {
            if let Selector::Protocol(family) = selector {
                only(&mut regions, *family);
            }
            let spans = chosen(255);
            let span = |(first, last): &(u128, u128)| (first << 16, last << 16 | 0xffff);
            let spans = Intervals::new(spans.ranges().iter().map(span).collect());
            regions.iter_mut().for_each(|region| region.service = spans.clone());
        }
        Selector::IcmpType(family) => {
            only(&mut regions, *family);
            let base = protocol(if *family == Family::V4 { 1 } else { 58 }).0;
            let chosen = chosen(255);
            let types = chosen.ranges().iter().map(|(a, b)| (base | a, base | b));
            let types = Intervals::new(types.collect());
            regions.iter_mut().for_each(|region| region.service = types.clone());
        }
        Selector::Dport(transport) => {
            let services = ports(*transport, &chosen(0xffff));
            if let (Some(name), false) = (set, negated) {
                names.service(services.clone(), name);
            }
            regions.iter_mut().for_each(|region| region.service = services.clone());
        }
        Selector::Sport(transport) => {
            let clients = ports(*transport, &chosen(0xffff));
            for region in &mut regions {
                region.service = protocols_of(&clients);
                region.client = clients.clone();
            }
        }
        Selector::CtState => {
            let mask = numbers.ranges().iter().fold(0, |mask, (first, _)| mask | *first as u32);
            let bits = states(States(mask));
            for region in &mut regions {
                region.states = match negated {
                    true => region.states.minus(&bits),
                    false => bits.clone(),
                };
            }
        }
        Selector::SkUid => {
            let chosen = chosen(USERS);
            regions.iter_mut().for_each(|region| region.users = chosen.clone());
        }
        Selector::Iif | Selector::IifName | Selector::Oif | Selector::OifName => {}
        Selector::HopLimit | Selector::Other(_) => {}
    }
    regions
}

fn interfaces(values: &[&Value], negated: bool, what: &str) -> Vec<Region> {
    let is_loopback = |value: &&&Value| matches!(value, Value::Word(name) if name == "lo");
    let has_loopback = values.iter().any(|value| is_loopback(&value));
    let has_others = values.iter().any(|value| !is_loopback(&value));
    let mut regions = Vec::new();
    let mut add = |interface: u128, beyond: bool| {
        for mut region in everything() {
            region.interface = Intervals::range(interface, interface);
            if beyond {
                let (what, why) = (what.to_owned(), "an allow can't name an interface");
                region.beyond.insert(Beyond { what, why, is_hygiene: false });
            }
            regions.push(region);
        }
    };
    if has_loopback != negated {
        add(LOOPBACK, false);
    }
    if has_others || negated {
        add(NETWORK, has_others);
    }
    regions
}

/// The numbers of the values; none where a word stands for none that is known.
fn numbers(domain: Domain, values: &[&Value], names: &mut Names) -> Option<Intervals> {
    let one = |value: &&Value| match value {
        // Masks are no numbers to be merged.
        Value::Range(first, last) if domain == Domain::CtState && first != last => None,
        Value::Range(first, last) => Some((*first, *last)),
        Value::Word(name) if domain == Domain::Uid => {
            let number = names.user(name);
            Some((number, number))
        }
        Value::Word(_) => None,
    };
    let ranges: Vec<(u128, u128)> = values.iter().map(one).collect::<Option<_>>()?;
    if domain == Domain::CtState {
        let mask = ranges.iter().fold(0, |mask, (first, _)| mask | first);
        return Some(Intervals::range(mask, mask));
    }
    Some(Intervals::new(ranges))
}

fn condition_text(
    selector: &Selector,
    domain: Domain,
    values: &[&Value],
    negated: bool,
    set: Option<&str>,
) -> String {
    let operator = if negated { "!= " } else { "" };
    let right = match (set, values) {
        (Some(name), _) => format!("@{name}"),
        (None, [one]) => domain.text(one),
        (None, _) => {
            let texts: Vec<String> = values.iter().map(|value| domain.text(value)).collect();
            format!("{{ {} }}", texts.join(", "))
        }
    };
    format!("{selector} {operator}{right}")
}

/// Why a policy can't ask for this, and whether it needn't.
fn reason(selector: &Selector) -> (&'static str, bool) {
    let Selector::Other(text) = selector else { return ("the hop limit", true) };
    let starts = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    if starts(&["tcp flags", "ip frag-off", "frag", "exthdr", "tcp option", "ip option"]) {
        return ("a check of malformed packets", true);
    }
    if starts(&["fib"]) {
        return ("a check of routes", true);
    }
    if starts(&["meta mark", "ct mark", "socket mark"]) {
        return ("an allow can't name a mark", false);
    }
    if starts(&["ct status", "ct original", "ct reply", "ct direction"]) {
        return ("an allow can't name what was translated", false);
    }
    if starts(&["meta skgid"]) {
        return ("an allow can't name a group of users", false);
    }
    if starts(&["meta pkttype"]) {
        return (
            "an allow can't ask whether a packet is for this host alone or for a group",
            false,
        );
    }
    if starts(&["meta hour", "meta day", "meta time"]) {
        return ("an allow can't name a time of day", false);
    }
    ("no allow can ask for this", false)
}
