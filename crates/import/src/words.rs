//! Words of the `nft` language: numbers behind names, and JSON as it would read in a rule.

use ruleset::Family;
use ruleset::listing::icmp_types;
use serde_json::Value as Json;

/// The number of a protocol's name.
pub(crate) fn protocol(name: &str) -> Option<u8> {
    policy::protocol_number(name).or_else(|| name.parse().ok())
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
        "meta" => format!("meta {}", text("key")),
        "ct" => format!("ct {}", text("key")),
        "fib" => {
            let flags = body.get("flags").and_then(Json::as_array);
            let flags = flags.map_or_else(|| text("flags"), |flags| joined(flags, " . "));
            format!("fib {flags} {}", text("result"))
        }
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
        "set" => format!("{} {} {{ {} }}", text("op"), text("set"), text("elem")),
        "concat" => operands(" . "),
        "range" => operands("-"),
        "prefix" => format!("{}/{}", text("addr"), text("len")),
        "elem" => text("val"),
        "mangle" => format!("{} set {}", text("key"), text("value")),
        "ct count" => format!("ct count {}", text("val")),
        "xt" => "a match or target of iptables".to_owned(),
        _ => format!("{kind} {}", words(body)).trim_end().to_owned(),
    }
}

fn joined(parts: &[Json], with: &str) -> String {
    parts.iter().map(words).collect::<Vec<_>>().join(with)
}
