//! Words of the `nft` language: numbers behind names, and JSON as it would read in a rule.

use ruleset::listing::{
    Domain, Names, Selector, Value, duration_words, icmp_types, limit_words, log_words, size_words,
};
use ruleset::{Family, States, Transport};
use serde_json::Value as Json;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The number of a protocol's name.
pub(crate) fn protocol(name: &str) -> Option<u8> {
    let known = Names::Protocol.number(name).and_then(|number| u8::try_from(number).ok());
    known.or_else(|| policy::protocol_number(name)).or_else(|| name.parse().ok())
}

/// The number of an ICMP type's name.
pub(crate) fn icmp_type(family: Family, name: &str) -> Option<u8> {
    icmp_types(family).iter().find(|(word, _)| *word == name).map(|(_, number)| *number)
}

/// JSON in the words of a rule, as far as that can be guessed: for people to read.
pub(crate) fn words(json: &Json) -> String {
    match json {
        Json::Null => String::new(),
        Json::Bool(_) | Json::Number(_) => json.to_string(),
        Json::String(text) => text.clone(),
        Json::Array(parts) => joined(parts, ","),
        Json::Object(object) => match object.iter().next() {
            Some((kind, body)) => object_words(kind, body),
            None => String::new(),
        },
    }
}

fn object_words(kind: &str, body: &Json) -> String {
    let text = |key: &str| body.get(key).map(words).unwrap_or_default();
    let operands =
        |with: &str| body.as_array().map_or_else(|| words(body), |all| joined(all, with));
    match kind {
        "payload" if body.get("protocol").is_some() => {
            format!("{} {}", text("protocol"), text("field"))
        }
        "payload" => format!("@{},{},{}", text("base"), text("offset"), text("len")),
        // nft has no `meta` in front of these.
        "meta" if text("key").ends_with("group") => text("key"),
        "meta" => format!("meta {}", text("key")),
        "ct" if body.get("dir").is_some() => format!("ct {} {}", text("dir"), text("key")),
        "ct" => format!("ct {}", text("key")),
        "fib" => {
            let flags = body.get("flags").and_then(Json::as_array);
            let flags = flags.map_or_else(|| text("flags"), |flags| joined(flags, " . "));
            format!("fib {flags} {}", text("result"))
        }
        "exthdr" if body.get("field").is_some() => format!("{} {}", text("name"), text("field")),
        "exthdr" | "tcp option" | "ip option" => {
            format!("{kind} {} {}", text("name"), text("field")).trim_end().to_owned()
        }
        "match" => {
            let operator = text("op");
            let operator = if operator == "==" || operator == "in" { "" } else { &operator };
            let parts = [text("left"), operator.to_owned(), text("right")];
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        }
        "&" | "|" | "^" | "<<" | ">>" => operands(&format!(" {kind} ")),
        "set" if body.is_array() => format!("{{ {} }}", operands(", ")),
        "set" => update(body),
        "concat" => operands(" . "),
        "range" => operands("-"),
        "prefix" => format!("{}/{}", text("addr"), text("len")),
        "elem" => match body.get("timeout").and_then(Json::as_u64) {
            Some(seconds) => {
                format!("{} timeout {}", text("val"), duration_words(seconds.saturating_mul(1000)))
            }
            None => text("val"),
        },
        "mangle" => set_to(body),
        "limit" => limit(body),
        "log" => log(body),
        "ct count" => format!("ct count {}{}", over(body), text("val")),
        "quota" => format!("quota {}{}", over(body), size_words(bytes(body, "val", "val_unit"))),
        "xt" => "a match or target of iptables".to_owned(),
        _ => format!("{kind} {}", words(body)).trim_end().to_owned(),
    }
}

fn joined(parts: &[Json], with: &str) -> String {
    parts.iter().map(words).collect::<Vec<_>>().join(with)
}

fn over(body: &Json) -> &'static str {
    let is_over = body.get("inv").and_then(Json::as_bool).unwrap_or_default();
    if is_over { "over " } else { "" }
}

/// A size, with its unit beside it.
fn bytes(body: &Json, size: &str, unit: &str) -> u64 {
    let size = body.get(size).and_then(Json::as_u64).unwrap_or_default();
    let factor = match body.get(unit).and_then(Json::as_str) {
        Some("kbytes") => 1 << 10,
        Some("mbytes") => 1 << 20,
        _ => 1,
    };
    size.saturating_mul(factor)
}

/// `limit rate over 10/minute burst 20 packets`
pub(crate) fn limit(body: &Json) -> String {
    let per = body.get("per").and_then(Json::as_str).unwrap_or("second");
    let is_bytes = body.get("rate_unit").is_some_and(|unit| unit != "packets");
    let rate = bytes(body, "rate", "rate_unit");
    let burst = bytes(body, "burst", "burst_unit");
    limit_words(!over(body).is_empty(), is_bytes, rate, per, burst)
}

/// `meta mark set 0x00000007`
pub(crate) fn set_to(body: &Json) -> String {
    let none = Json::Null;
    let target = selector(body.get("key").unwrap_or(&none));
    let domain = target.domain();
    let to = domain.text(&value(domain, body.get("value").unwrap_or(&none)));
    format!("{target} set {to}")
}

/// `add @set { ip saddr limit rate over 10/minute }`
pub(crate) fn update(body: &Json) -> String {
    let text = |key: &str| body.get(key).map(words).unwrap_or_default();
    let statements = body.get("stmt").and_then(Json::as_array).map(Vec::as_slice);
    let mut element = text("elem");
    for statement in statements.unwrap_or_default() {
        element += &format!(" {}", words(statement));
    }
    format!("{} {} {{ {element} }}", text("op"), text("set"))
}

/// `log prefix "ssh " level info`
pub(crate) fn log(body: &Json) -> String {
    let option = |name: &'static str| Some((name, words(body.get(name)?)));
    let mut options: Vec<(&str, String)> =
        ["group", "snaplen", "queue-threshold", "level"].into_iter().filter_map(option).collect();
    let flags: Vec<String> = match body.get("flags") {
        Some(Json::Array(flags)) => flags.iter().map(words).collect(),
        Some(flag) => vec![words(flag)],
        None => vec![],
    };
    // Both of TCP are one.
    let (first, second) = ("tcp sequence".to_owned(), "tcp options".to_owned());
    let has_both = flags.contains(&first) && flags.contains(&second);
    for flag in flags.into_iter().filter(|flag| !(has_both && *flag == second)) {
        let is_first = has_both && flag == first;
        options.push(("flags", if is_first { "tcp sequence,options".to_owned() } else { flag }));
    }
    log_words(body.get("prefix").and_then(Json::as_str), &options)
}

/// What stands on the left of a match.
pub(crate) fn selector(json: &Json) -> Selector {
    let other = || Selector::Other(words(json));
    let part = |outer: &str, inner: &str| json.get(outer)?.get(inner)?.as_str();
    if let Some(key) = part("meta", "key") {
        return match key {
            "l4proto" => Selector::L4Proto,
            "nfproto" => Selector::NfProto,
            "iif" => Selector::Iif,
            "iifname" => Selector::IifName,
            "oif" => Selector::Oif,
            "oifname" => Selector::OifName,
            "skuid" => Selector::SkUid,
            _ => other(),
        };
    }
    if part("ct", "key") == Some("state") {
        return Selector::CtState;
    }
    let (Some(protocol), Some(field)) = (part("payload", "protocol"), part("payload", "field"))
    else {
        return other();
    };
    let transport = Transport::ALL.into_iter().find(|transport| transport.name() == protocol);
    match (protocol, field) {
        ("ip", "saddr") => Selector::Saddr(Family::V4),
        ("ip", "daddr") => Selector::Daddr(Family::V4),
        ("ip", "protocol") => Selector::Protocol(Family::V4),
        ("ip6", "saddr") => Selector::Saddr(Family::V6),
        ("ip6", "daddr") => Selector::Daddr(Family::V6),
        ("ip6", "nexthdr") => Selector::Protocol(Family::V6),
        ("ip6", "hoplimit") => Selector::HopLimit,
        ("icmp", "type") => Selector::IcmpType(Family::V4),
        ("icmpv6", "type") => Selector::IcmpType(Family::V6),
        ("th", "sport") => Selector::Sport(None),
        ("th", "dport") => Selector::Dport(None),
        (_, "sport") if transport.is_some() => Selector::Sport(transport),
        (_, "dport") if transport.is_some() => Selector::Dport(transport),
        _ => other(),
    }
}

/// What stands on its right, or in a set.
pub(crate) fn value(domain: Domain, json: &Json) -> Value {
    let word = || Value::Word(words(json));
    if let Some(is_there) = json.as_bool() {
        return Value::Word(if is_there { "exists" } else { "missing" }.to_owned());
    }
    if let Some([first, last]) = json.get("range").and_then(Json::as_array).map(Vec::as_slice) {
        return match (number(domain, first), number(domain, last)) {
            (Some(first), Some(last)) if first <= last => Value::Range(first, last),
            _ => word(),
        };
    }
    if let Some(prefix) = json.get("prefix") {
        return prefix_value(domain, prefix).unwrap_or_else(word);
    }
    number(domain, json).map_or_else(word, Value::number)
}

fn prefix_value(domain: Domain, json: &Json) -> Option<Value> {
    let Domain::Address(family) = domain else { return None };
    let width = if family == Family::V4 { 32 } else { 128 };
    let length = u32::try_from(json.get("len")?.as_u64()?).ok().filter(|l| *l <= width)?;
    // Ones where the host is.
    let host = if length == 0 { u128::MAX >> (128 - width) } else { (1 << (width - length)) - 1 };
    let address = number(domain, json.get("addr")?)?;
    Some(Value::Range(address & !host, address | host))
}

pub(crate) fn number(domain: Domain, json: &Json) -> Option<u128> {
    if let Some(number) = json.as_u64() {
        return Some(number.into());
    }
    let text = json.as_str()?;
    match domain {
        Domain::Address(Family::V4) => Some(u32::from(text.parse::<Ipv4Addr>().ok()?).into()),
        Domain::Address(Family::V6) => Some(text.parse::<Ipv6Addr>().ok()?.into()),
        Domain::Protocol => protocol(text).map(u128::from),
        Domain::IcmpType(family) => icmp_type(family, text).map(u128::from),
        Domain::CtState => state(text).map(u128::from),
        Domain::NfProto => match text {
            "ipv4" => Some(2),
            "ipv6" => Some(10),
            _ => None,
        },
        Domain::Named(names) | Domain::Flags(names) => names.number(text),
        Domain::Hour => hour(text),
        Domain::Port | Domain::Uid | Domain::Mark | Domain::Other => text.parse().ok(),
        Domain::Interface => None,
    }
}

/// Seconds since midnight of `08:00` or `08:00:30`.
fn hour(text: &str) -> Option<u128> {
    let mut parts = text.split(':').map(|part| part.parse::<u128>().ok());
    let (hours, minutes) = (parts.next()??, parts.next()??);
    let seconds = parts.next().unwrap_or(Some(0))?;
    let is_time = hours < 24 && minutes < 60 && seconds < 60 && parts.next().is_none();
    is_time.then_some(hours * 3600 + minutes * 60 + seconds)
}

fn state(name: &str) -> Option<u32> {
    let all =
        [States::INVALID, States::ESTABLISHED, States::RELATED, States::NEW, States::UNTRACKED];
    all.into_iter().find(|state| state.names().eq([name])).map(|state| state.0)
}
