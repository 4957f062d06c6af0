//! What `nft -j list ruleset` prints and what we say it should, brought to one form.
//!
//! Only this is taken out, and nothing else, so that no real difference is lost: what `nft` says of
//! itself, handles, what counters have counted, the elements that rules add by themselves, which
//! have a rate, and the comment of the table, which `nft` 1.0.6 doesn't print as JSON. The elements of a set are sorted, since their order means nothing; rules
//! keep their order. IPv6 addresses are spelled in one way. Protocols are numbers on both sides: `nft` is asked for them (`-p`), since
//! names depend on `/etc/protocols`.

use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// The arguments for `nft`: numbers for protocols and priorities.
pub(crate) const ARGUMENTS: [&str; 5] = ["-j", "-p", "-y", "list", "ruleset"];

/// A listing without what may differ.
#[derive(Debug, PartialEq)]
pub(crate) struct Listing {
    /// Tables, chains, sets, maps, counters, and what else is listed, by kind and name. Each once,
    /// or there is something wrong.
    objects: BTreeMap<String, Vec<Value>>,
    /// Rules in order, by chain.
    rules: BTreeMap<String, Vec<Value>>,
}

impl Listing {
    /// From the objects of a listing.
    pub(crate) fn new(objects: &[Value]) -> Self {
        let mut listing = Self { objects: BTreeMap::new(), rules: BTreeMap::new() };
        for object in objects {
            listing.add(object);
        }
        listing
    }

    /// From what `nft` prints.
    pub(crate) fn parse(printed: &str) -> Self {
        Self::new(&objects(printed))
    }

    fn add(&mut self, object: &Value) {
        let (kind, content) = match object.as_object().map(|object| object.iter()) {
            Some(mut entries) if entries.len() == 1 => entries.next().expect("one entry"),
            _ => panic!("not an object of a listing: {object}"),
        };
        let mut content = content.as_object().expect("an object has attributes").clone();
        content.remove("handle");
        for key in ["elem", "expr"] {
            content.get_mut(key).into_iter().for_each(respell);
        }
        match kind.as_str() {
            "metainfo" => return,
            "table" => {
                content.remove("comment");
            }
            "counter" => {
                content.remove("packets");
                content.remove("bytes");
            }
            "set" | "map" => {
                if let Some(Value::Array(elements)) = content.get_mut("elem") {
                    elements.retain(|element| element.pointer("/elem/limit").is_none());
                    elements.sort_by_cached_key(Value::to_string);
                    if elements.is_empty() {
                        content.remove("elem");
                    }
                }
            }
            _ => {}
        }
        let named = |key: &str| content.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
        let (place, key) = match kind.as_str() {
            "rule" => (&mut self.rules, named("chain")),
            _ => (&mut self.objects, format!("{kind} {}", named("name"))),
        };
        place.entry(key).or_default().push(Value::Object(content));
    }

    /// What `self` lists and `other` doesn't, and the other way round; empty where they agree.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = different(&self.objects, &other.objects);
        differences.extend(different(&self.rules, &other.rules));
        assert_eq!(differences.is_empty(), self == other, "every difference has words");
        differences
    }
}

/// The objects that `nft -j` prints.
pub(crate) fn objects(printed: &str) -> Vec<Value> {
    let listing: Value = serde_json::from_str(printed).expect("nft prints JSON");
    listing["nftables"].as_array().expect("a list of objects").clone()
}

/// Spells IPv6 addresses as Rust does: `nft` writes `::1.2.3.4` where we write `::102:304`.
fn respell(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Ok(address) = text.parse::<Ipv6Addr>() {
                *text = address.to_string();
            }
        }
        Value::Array(values) => values.iter_mut().for_each(respell),
        Value::Object(entries) => entries.values_mut().for_each(respell),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

type Named = BTreeMap<String, Vec<Value>>;

fn different(left: &Named, right: &Named) -> Vec<String> {
    let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
    names.sort();
    names.dedup();
    let nothing = Vec::new();
    let pairs = names.into_iter().map(|name| {
        (name, left.get(name).unwrap_or(&nothing), right.get(name).unwrap_or(&nothing))
    });
    pairs
        .filter(|(_, left, right)| left != right)
        .map(|(name, left, right)| format!("{name}:\n  < {}\n  > {}", lines(left), lines(right)))
        .collect()
}

fn lines(values: &[Value]) -> String {
    let lines: Vec<String> = values.iter().map(Value::to_string).collect();
    lines.join("\n    ")
}
