//! Rendering as libnftables JSON (libnftables-json(5)): what `nft -j -f` accepts, in the shape
//! that `nft -j list table` prints, less handles.

use crate::address::{Address, AddressRange};
use crate::address_set::AddressSet;
use crate::known::Flags;
use crate::render::{icmp_type_name, interface_kind, named_number};
use crate::statement::{
    Family, Field, Limit, LogTarget, Reject, Statement, Value as MatchValue, Verdict,
};
use crate::table::{
    Chain, Elements, Interval, KeyType, Rule, Ruleset, STATE_SET, Set, TABLE, Table,
};
use crate::timed::{Lifetime, TimedSet};
use serde_json::{Map, Value, json};
use std::net::{Ipv4Addr, Ipv6Addr};

const FAMILY: &str = "inet";

impl Ruleset {
    /// A script for `nft -j -f` that replaces the table with this one, in one transaction.
    pub fn to_nft_json(&self) -> Value {
        let table = json!({ "table": { "family": FAMILY, "name": TABLE } });
        let mut commands = vec![json!({ "add": table }), json!({ "delete": table })];
        commands.extend(self.objects().into_iter().map(|object| json!({ "add": object })));
        json!({ "nftables": commands })
    }

    /// The objects in the shape of a listing, one each: table, counters, sets, chains, rules.
    pub fn objects(&self) -> Vec<Value> {
        self.table.as_ref().map(Table::objects).unwrap_or_default()
    }
}

impl Table {
    fn objects(&self) -> Vec<Value> {
        let mut table = object(&[("family", json!(FAMILY)), ("name", json!(TABLE))]);
        if let Some(comment) = &self.comment {
            table.insert("comment".into(), json!(comment));
        }
        let mut objects = vec![json!({ "table": table })];
        objects.extend(self.counters.iter().map(|counter| {
            let counter = named(counter, &[("packets", json!(0)), ("bytes", json!(0))]);
            json!({ "counter": counter })
        }));
        // A map's elements name chains, so chains come first.
        let chains = self.chains_in_order();
        objects.extend(chains.iter().map(|(name, chain)| chain_object(name, chain)));
        objects.extend(self.sets.iter().map(|(name, set)| set_object(name, set)));
        if let Some(state) = &self.state {
            let element = json!({ "elem": { "val": 0, "comment": state } });
            let entries = [("type", json!("mark")), ("elem", json!([element]))];
            objects.push(json!({ "set": named(STATE_SET, &entries) }));
        }
        objects.extend(
            chains
                .iter()
                .flat_map(|(name, chain)| chain.rules.iter().map(|rule| rule_object(name, rule))),
        );
        objects
    }
}

fn object(entries: &[(&str, Value)]) -> Map<String, Value> {
    entries.iter().map(|(key, value)| ((*key).into(), value.clone())).collect()
}

fn named(name: &str, entries: &[(&str, Value)]) -> Map<String, Value> {
    let mut named =
        object(&[("family", json!(FAMILY)), ("name", json!(name)), ("table", json!(TABLE))]);
    named.extend(object(entries));
    named
}

fn chain_object(name: &str, chain: &Chain) -> Value {
    let mut chain_object = named(name, &[]);
    if let Some(base) = &chain.base {
        chain_object.extend(object(&[
            ("type", json!(base.kind)),
            ("hook", json!(base.hook.to_string())),
            ("prio", json!(base.priority)),
            ("policy", json!(base.policy.to_string())),
        ]));
    }
    json!({ "chain": chain_object })
}

fn set_object(name: &str, set: &Set) -> Value {
    let mut set_object = named(name, &[("type", json!(set.spec.key.to_string()))]);
    if set.spec.map {
        set_object.insert("map".into(), json!("verdict"));
    }
    if let Some(size) = set.spec.size {
        set_object.insert("size".into(), json!(size));
    }
    // Of a dynamic set's flag, `nft` 1.0.6 knows no word here: it sees it in the rules.
    let flags: Vec<&str> = [(set.spec.interval, "interval"), (set.spec.timeout, "timeout")]
        .into_iter()
        .filter_map(|(present, flag)| present.then_some(flag))
        .collect();
    if !flags.is_empty() {
        set_object.insert("flags".into(), json!(flags));
    }
    if let Some(seconds) = set.spec.dynamic {
        set_object.insert("timeout".into(), json!(seconds));
    }
    let elements = elements(set.spec.key, &set.elements);
    if !elements.is_empty() {
        set_object.insert("elem".into(), Value::Array(elements));
    }
    json!({ if set.spec.map { "map" } else { "set" }: set_object })
}

fn elements(key: KeyType, elements: &Elements) -> Vec<Value> {
    match elements {
        Elements::Ipv4(set) => addresses(set),
        Elements::Ipv6(set) => addresses(set),
        Elements::TimedIpv4(set) => timed(set),
        Elements::TimedIpv6(set) => timed(set),
        Elements::Keys(keys) => {
            keys.iter().map(|interval| interval_value(key, *interval)).collect()
        }
        Elements::Verdicts(verdicts) => verdicts
            .iter()
            .map(|(interval, to)| json!([interval_value(key, *interval), verdict(to)]))
            .collect(),
        Elements::Opaque(_) | Elements::Dynamic | Elements::Unread => Vec::new(),
    }
}

fn addresses<A: Address>(set: &AddressSet<A>) -> Vec<Value> {
    set.ranges().map(|range| address_range(&range)).collect()
}

fn timed<A: Address>(set: &TimedSet<A>) -> Vec<Value> {
    let element = |(range, lifetime): (_, Option<&Lifetime>)| match lifetime {
        None => address_range(range),
        Some(lifetime) => json!({ "elem": {
            "val": address_range(range),
            "timeout": lifetime.timeout,
            "comment": lifetime.comment(),
        } }),
    };
    set.elements().map(element).collect()
}

fn address_range<A: Address>(range: &AddressRange<A>) -> Value {
    match range.prefix_length() {
        Some(length) if length == A::BITS => json!(range.first.to_string()),
        Some(length) => json!({ "prefix": { "addr": range.first.to_string(), "len": length } }),
        None => json!({ "range": [range.first.to_string(), range.last.to_string()] }),
    }
}

fn interval_value(key: KeyType, interval: Interval) -> Value {
    let Interval { first, last } = interval;
    match key {
        KeyType::Address(Family::V4) => address_range(&AddressRange {
            first: Ipv4Addr::from_number(first),
            last: Ipv4Addr::from_number(last),
        }),
        KeyType::Address(Family::V6) => address_range(&AddressRange {
            first: Ipv6Addr::from_number(first),
            last: Ipv6Addr::from_number(last),
        }),
        // Protocols too: their names need /etc/protocols, which a minimal system lacks.
        _ if first == last => number(first),
        _ => json!({ "range": [number(first), number(last)] }),
    }
}

/// JSON numbers end at 64 bits; what is longer is an address, and those have their own form.
fn number(number: u128) -> Value {
    u64::try_from(number).map_or_else(|_| json!(number.to_string()), |number| json!(number))
}

fn verdict(verdict: &Verdict) -> Value {
    match verdict {
        Verdict::Accept => json!({ "accept": null }),
        Verdict::Drop => json!({ "drop": null }),
        Verdict::Return => json!({ "return": null }),
        Verdict::Jump(chain) => json!({ "jump": { "target": chain } }),
        Verdict::Goto(chain) => json!({ "goto": { "target": chain } }),
    }
}

fn rule_object(chain: &str, rule: &Rule) -> Value {
    let statements: Vec<Value> = rule.statements.iter().map(statement).collect();
    let mut rule_object = object(&[
        ("family", json!(FAMILY)),
        ("table", json!(TABLE)),
        ("chain", json!(chain)),
        ("expr", Value::Array(statements)),
    ]);
    if !rule.comment.is_empty() {
        rule_object.insert("comment".into(), json!(rule.comment));
    }
    json!({ "rule": rule_object })
}

fn statement(statement: &Statement) -> Value {
    match statement {
        Statement::Match { field, value } => {
            let op = if matches!(value, MatchValue::States(_)) { "in" } else { "==" };
            let left = match value {
                MatchValue::Flags(Flags { mask, .. }) => {
                    json!({ "&": [left(*field), flags(*mask)] })
                }
                _ => left(*field),
            };
            json!({ "match": { "op": op, "left": left, "right": right(*field, *value) } })
        }
        Statement::Lookup { field, set } => {
            json!({ "match": { "op": "==", "left": left(*field), "right": format!("@{set}") } })
        }
        Statement::Dispatch { field, map } => {
            json!({ "vmap": { "key": left(*field), "data": format!("@{map}") } })
        }
        Statement::Counter(name) => json!({ "counter": name }),
        Statement::Limit(limit) => {
            json!({ "limit": { "rate": limit.rate, "burst": limit.burst, "per": "second" } })
        }
        Statement::Over { field, set, limit: Limit { rate, burst } } => {
            let limit = json!({ "rate": rate, "burst": burst, "per": "second", "inv": true });
            let elem = left(*field);
            let set = format!("@{set}");
            json!({ "set": { "op": "add", "elem": elem, "set": set, "stmt": [{ "limit": limit }] } })
        }
        Statement::Log(log) => match log.target {
            LogTarget::Kernel => json!({ "log": { "prefix": log.prefix, "level": "info" } }),
            LogTarget::Group { group, threshold, snaplen } => {
                let mut inner = object(&[("prefix", json!(log.prefix)), ("group", json!(group))]);
                if snaplen > 0 {
                    inner.insert("snaplen".into(), json!(snaplen));
                }
                if threshold > 0 {
                    inner.insert("queue-threshold".into(), json!(threshold));
                }
                json!({ "log": inner })
            }
        },
        Statement::Reject(Reject::TcpReset) => json!({ "reject": { "type": "tcp reset" } }),
        Statement::Reject(Reject::AdminProhibited) => {
            json!({ "reject": { "type": "icmpx", "expr": "admin-prohibited" } })
        }
        Statement::Verdict(to) => verdict(to),
        Statement::Opaque(opaque) => json!({ "xt": { "type": "opaque", "name": opaque.name } }),
    }
}

/// One by its name, several as a list of names.
fn flags(flags: u8) -> Value {
    let names: Vec<&str> = Flags::names(flags).collect();
    match names[..] {
        [] => json!(0),
        [name] => json!(name),
        _ => json!(names),
    }
}

fn left(field: Field) -> Value {
    let payload = |protocol: &str, field: &str| json!({ "payload": { "protocol": protocol, "field": field } });
    match field {
        Field::CtState => json!({ "ct": { "key": "state" } }),
        Field::Iif => json!({ "meta": { "key": "iif" } }),
        Field::Oif => json!({ "meta": { "key": "oif" } }),
        Field::L4Proto => json!({ "meta": { "key": "l4proto" } }),
        Field::SkUid => json!({ "meta": { "key": "skuid" } }),
        Field::Saddr(Family::V4) => payload("ip", "saddr"),
        Field::Saddr(Family::V6) => payload("ip6", "saddr"),
        Field::Daddr(Family::V4) => payload("ip", "daddr"),
        Field::Daddr(Family::V6) => payload("ip6", "daddr"),
        Field::Sport(transport) => payload(transport.name(), "sport"),
        Field::Dport(transport) => payload(transport.name(), "dport"),
        Field::IcmpType(Family::V4) => payload("icmp", "type"),
        Field::IcmpType(Family::V6) => payload("icmpv6", "type"),
        Field::HopLimit => payload("ip6", "hoplimit"),
        Field::NfProto => json!({ "meta": { "key": "nfproto" } }),
        Field::PacketType => json!({ "meta": { "key": "pkttype" } }),
        Field::IifKind => json!({ "meta": { "key": "iifkind" } }),
        Field::SourceType => json!({ "fib": { "result": "type", "flags": ["saddr"] } }),
        Field::CtDirection => json!({ "ct": { "key": "direction" } }),
        Field::TcpFlags => payload("tcp", "flags"),
        Field::SocketWildcard => json!({ "socket": { "key": "wildcard" } }),
    }
}

fn right(field: Field, value: MatchValue) -> Value {
    match (field, value) {
        (_, MatchValue::States(states)) => {
            let names: Vec<&str> = states.names().collect();
            match names[..] {
                [name] => json!(name),
                _ => json!(names),
            }
        }
        (Field::Saddr(family) | Field::Daddr(family), MatchValue::Number(address)) => {
            interval_value(KeyType::Address(family), Interval::single(address))
        }
        (Field::Saddr(family) | Field::Daddr(family), MatchValue::Prefix { address, length }) => {
            let address = match family {
                Family::V4 => Ipv4Addr::from_number(address).to_string(),
                Family::V6 => Ipv6Addr::from_number(address).to_string(),
            };
            json!({ "prefix": { "addr": address, "len": length } })
        }
        (_, MatchValue::Flags(Flags { set, .. })) => flags(set),
        (Field::Iif | Field::Oif, MatchValue::Number(1)) => json!("lo"),
        (Field::IifKind, MatchValue::Number(kind)) => json!(interface_kind(kind)),
        (Field::IcmpType(family), MatchValue::Number(kind)) => match icmp_type_name(family, kind) {
            Some(name) => json!(name),
            None => number(kind),
        },
        (field, MatchValue::Number(value)) => match named_number(field, value) {
            Some(name) => json!(name),
            None => number(value),
        },
        (_, MatchValue::Prefix { address, length }) => {
            json!({ "prefix": { "addr": number(address), "len": length } })
        }
    }
}
