//! From the JSON of `nft -j list ruleset` to a [`Listing`] (libnftables-json(5)).
//!
//! Objects that aren't known are passed over where they filter nothing (counters, quotas), and
//! statements that aren't known are kept as text: what a rule says is never lost, at worst it isn't
//! understood.

use crate::words::{limit, log, number, selector, set_to, update, value, words};
use ruleset::listing::{
    Domain, ListedBase, ListedChain, ListedElement, ListedRule, ListedSet, ListedTable, Listing,
    Operand, Refusal, Selector, Step, TableFamily, Value, VerdictMap,
};
use ruleset::{Family, Verdict};
use serde_json::Value as Json;
use std::net::IpAddr;

/// Why a text is no listing.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is no JSON.
    #[error("this is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// It is another JSON.
    #[error("this is not what `nft -j list ruleset` prints: there is no list `nftables`")]
    NotNft,
    /// An object is not as it is documented.
    #[error("object {number} of the list `nftables`, a {kind}, has no {missing}")]
    Object {
        /// Counted from 1.
        number: usize,
        /// What it calls itself.
        kind: String,
        /// What is not there.
        missing: &'static str,
    },
}

/// Reads what `nft -j list ruleset` prints.
///
/// # Errors
/// When the text is something else.
pub fn parse(text: &str) -> Result<Listing, ParseError> {
    listing(&serde_json::from_str(text).map_err(ParseError::NotJson)?)
}

/// The same with the host's own addresses, if what `ip -j address` prints comes with it, in front or
/// behind.
///
/// # Errors
/// When there is neither.
pub fn parse_host(text: &str) -> Result<(Listing, Vec<IpAddr>), ParseError> {
    let (mut found, mut own) = (None, Vec::new());
    for json in serde_json::Deserializer::from_str(text).into_iter::<Json>() {
        match json.map_err(ParseError::NotJson)? {
            Json::Array(links) => own.extend(links.iter().flat_map(addresses)),
            json if found.is_none() => found = Some(listing(&json)?),
            _ => return Err(ParseError::NotNft),
        }
    }
    Ok((found.ok_or(ParseError::NotNft)?, own))
}

/// The addresses of an interface that others can send to.
fn addresses(link: &Json) -> Vec<IpAddr> {
    let all = link.get("addr_info").and_then(Json::as_array).map_or(&[][..], Vec::as_slice);
    let word =
        |address: &Json, key: &str| address.get(key).and_then(Json::as_str).map(str::to_owned);
    let global = all.iter().filter(|address| word(address, "scope").as_deref() == Some("global"));
    global.filter_map(|address| word(address, "local")?.parse().ok()).collect()
}

fn listing(json: &Json) -> Result<Listing, ParseError> {
    let objects = json.get("nftables").and_then(Json::as_array).ok_or(ParseError::NotNft)?;
    let mut listing = Listing::default();
    for (index, object) in objects.iter().enumerate() {
        let Some((kind, body)) = object.as_object().and_then(|object| object.iter().next()) else {
            continue;
        };
        object_into(&mut listing, kind, body).map_err(|missing| ParseError::Object {
            number: index + 1,
            kind: kind.clone(),
            missing,
        })?;
    }
    Ok(listing)
}

/// Adds an object. What it should have and hasn't is the error.
fn object_into(listing: &mut Listing, kind: &str, body: &Json) -> Result<(), &'static str> {
    match kind {
        "table" => {
            table(listing, required(body, "family")?, required(body, "name")?);
        }
        "chain" => {
            let chain = chain(body)?;
            let table = table_of(listing, body)?;
            table.chains.push(chain);
        }
        "set" | "map" => {
            let name = required(body, "name")?.to_owned();
            let set = set(body);
            table_of(listing, body)?.sets.insert(name, set);
        }
        "rule" => {
            let chain = required(body, "chain")?;
            let table = table_of(listing, body)?;
            // nft 1.0.6 doesn't say that a set is dynamic.
            for name in filled(body) {
                if let Some(set) = table.sets.get_mut(name) {
                    set.dynamic = true;
                }
            }
            let chain = table.chains.iter_mut().find(|known| known.name == chain);
            chain.ok_or("chain that was listed before")?.rules.push(rule(body));
        }
        _ => {}
    }
    Ok(())
}

fn required<'a>(body: &'a Json, key: &'static str) -> Result<&'a str, &'static str> {
    body.get(key).and_then(Json::as_str).ok_or(key)
}

fn table_of<'l>(
    listing: &'l mut Listing,
    body: &Json,
) -> Result<&'l mut ListedTable, &'static str> {
    Ok(table(listing, required(body, "family")?, required(body, "table")?))
}

/// The table, made where it is named for the first time.
fn table<'l>(listing: &'l mut Listing, family: &str, name: &str) -> &'l mut ListedTable {
    let family = TableFamily::named(family);
    let known = listing.tables.iter().position(|t| t.family == family && t.name == name);
    let index = known.unwrap_or_else(|| {
        listing.tables.push(ListedTable::new(family, name));
        listing.tables.len() - 1
    });
    &mut listing.tables[index]
}

fn chain(body: &Json) -> Result<ListedChain, &'static str> {
    let text = |key| body.get(key).and_then(Json::as_str);
    let base = text("hook").map(|hook| ListedBase {
        kind: text("type").unwrap_or("filter").to_owned(),
        hook: hook.to_owned(),
        priority: body.get("prio").and_then(Json::as_i64).unwrap_or(0).clamp(-9999, 9999) as i32,
        accepts: text("policy") != Some("drop"),
    });
    Ok(ListedChain { name: required(body, "name")?.to_owned(), base, rules: Vec::new() })
}

fn set(body: &Json) -> ListedSet {
    let domains = match body.get("type") {
        Some(Json::Array(types)) => types.iter().flat_map(domains).collect(),
        Some(one) => domains(one),
        None => vec![Domain::Other],
    };
    let flag = |name: &str| match body.get("flags") {
        Some(Json::Array(flags)) => flags.iter().any(|flag| flag == name),
        Some(flag) => flag == name,
        None => false,
    };
    let elements = body.get("elem").and_then(Json::as_array).map(Vec::as_slice);
    let elements = elements.unwrap_or_default().iter().map(|json| element(&domains, json));
    ListedSet {
        elements: elements.collect(),
        dynamic: flag("dynamic"),
        other_map: body.get("map").is_some_and(|map| map != "verdict"),
        domains,
    }
}

/// The domains of a set's type, or of what `typeof` names.
fn domains(json: &Json) -> Vec<Domain> {
    match json {
        Json::String(name) => vec![match name.as_str() {
            "ipv4_addr" => Domain::Address(Family::V4),
            "ipv6_addr" => Domain::Address(Family::V6),
            "inet_service" => Domain::Port,
            "inet_proto" => Domain::Protocol,
            "icmp_type" => Domain::IcmpType(Family::V4),
            "icmpv6_type" => Domain::IcmpType(Family::V6),
            "ct_state" => Domain::CtState,
            "uid" => Domain::Uid,
            "ifname" | "iface_index" => Domain::Interface,
            "mark" => Domain::Mark,
            "nf_proto" => Domain::NfProto,
            _ => Domain::Other,
        }],
        Json::Object(object) => match object.get("typeof") {
            Some(typeof_) => selectors(typeof_).iter().map(Selector::domain).collect(),
            None => selectors(json).iter().map(Selector::domain).collect(),
        },
        _ => vec![Domain::Other],
    }
}

fn element(domains: &[Domain], json: &Json) -> ListedElement {
    if let Json::Array(pair) = json
        && let [key, data] = pair.as_slice()
    {
        return ListedElement { verdict: verdict(data), ..element(domains, key) };
    }
    let inner = json.get("elem");
    let timed = inner.is_some_and(|inner| inner.get("expires").is_some());
    let key = inner.and_then(|inner| inner.get("val")).unwrap_or(json);
    ListedElement { key: key_parts(domains, key), verdict: None, timed }
}

/// The sets that a rule adds to.
fn filled(rule: &Json) -> impl Iterator<Item = &str> {
    let steps = rule.get("expr").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let sets = steps.iter().filter_map(|step| step.get("set")?.get("set")?.as_str());
    sets.filter_map(|name| name.strip_prefix('@'))
}

fn rule(body: &Json) -> ListedRule {
    let comment = body.get("comment").and_then(Json::as_str).map(str::to_owned);
    let steps = body.get("expr").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let family = body.get("family").and_then(Json::as_str).unwrap_or_default();
    let family = TableFamily::named(family);
    let step = |json: &Json| match step(json) {
        Step::Reject(refusal) => Step::Reject(refusal.in_table(&family)),
        step => step,
    };
    ListedRule { comment, steps: steps.iter().map(step).collect() }
}

fn step(json: &Json) -> Step {
    let other = || Step::Other(words(json));
    let Some((kind, body)) = json.as_object().and_then(|object| object.iter().next()) else {
        return other();
    };
    match kind.as_str() {
        "match" => matching(body).unwrap_or_else(other),
        "vmap" => dispatch(body).unwrap_or_else(other),
        "counter" => Step::Counter,
        "log" => Step::Log(log(body)),
        "limit" => Step::Limit(limit(body)),
        "mangle" => Step::Other(set_to(body)),
        "set" => Step::Other(update(body)),
        "reject" => Step::Reject(refusal(body)),
        _ => verdict(json).map_or_else(other, Step::Verdict),
    }
}

fn matching(body: &Json) -> Option<Step> {
    let (left, right) = (body.get("left")?, body.get("right")?);
    let operator = body.get("op").and_then(Json::as_str).unwrap_or("==");
    if let Some(step) = masked(left, operator, right) {
        return Some(step);
    }
    let negated = match operator {
        "==" | "in" => false,
        "!=" => true,
        operator => {
            if let Some(step) = ordered(left, operator, right) {
                return Some(step);
            }
            let text = format!("{} {operator} {}", words(left), words(right));
            return Some(Step::Other(text));
        }
    };
    let selectors = selectors(left);
    let domains: Vec<Domain> = selectors.iter().map(Selector::domain).collect();
    let operand = match right {
        Json::String(name) if name.starts_with('@') => Operand::Named(name[1..].to_owned()),
        _ => Operand::Keys(set_of(right).iter().map(|key| key_parts(&domains, key)).collect()),
    };
    Some(Step::Match { selectors, negated, operand })
}

/// `meta mark & 0xff == 7`, and flags, which are asked for bit by bit.
fn masked(left: &Json, operator: &str, right: &Json) -> Option<Step> {
    let (selector, mask, value, negated) = match left.get("&").and_then(Json::as_array) {
        Some(operands) => {
            let [field, mask] = operands.as_slice() else { return None };
            let selector = selector(field);
            let (mask, value) = (bits(selector.domain(), mask)?, bits(selector.domain(), right)?);
            (selector, mask, value, operator == "!=")
        }
        None => {
            let selector = selector(left);
            let Domain::Flags(_) = selector.domain() else { return None };
            let mask = bits(selector.domain(), right)?;
            match operator {
                "in" => (selector, mask, 0, true),
                "!" => (selector, mask, 0, false),
                _ => return None,
            }
        }
    };
    let value = selector.domain().masked(mask, value, negated);
    let operand = Operand::Keys(vec![vec![value]]);
    Some(Step::Match { selectors: vec![selector], negated: false, operand })
}

/// A number, or the bits of a list of flags.
fn bits(domain: Domain, json: &Json) -> Option<u128> {
    match json {
        Json::Array(flags) => {
            flags.iter().try_fold(0, |bits, flag| Some(bits | number(domain, flag)?))
        }
        one => number(domain, one),
    }
}

/// `tcp dport > 1023`, as the range that it is.
fn ordered(left: &Json, operator: &str, right: &Json) -> Option<Step> {
    let selector = selector(left);
    let number = number(selector.domain(), right)?;
    let max = match selector.domain() {
        Domain::Port => 0xffff,
        Domain::Uid => u32::MAX.into(),
        _ => return None,
    };
    let (first, last) = match operator {
        "<" => (0, number.checked_sub(1)?),
        "<=" => (0, number),
        ">" => (number + 1, max),
        ">=" => (number, max),
        _ => return None,
    };
    let keys = vec![vec![Value::Range(first, last)]];
    Some(Step::Match { selectors: vec![selector], negated: false, operand: Operand::Keys(keys) })
}

/// The elements of an anonymous set; one for what is none. States stand in a plain list.
fn set_of(json: &Json) -> &[Json] {
    match json.get("set").unwrap_or(json) {
        Json::Array(elements) => elements,
        one => std::slice::from_ref(one),
    }
}

fn dispatch(body: &Json) -> Option<Step> {
    let selectors = selectors(body.get("key")?);
    let domains: Vec<Domain> = selectors.iter().map(Selector::domain).collect();
    let map = match body.get("data")? {
        Json::String(name) => VerdictMap::Named(name.strip_prefix('@')?.to_owned()),
        data => {
            let entries = data.get("set")?.as_array()?.iter();
            let entry = |json: &Json| {
                let element = element(&domains, json);
                Some((element.key, element.verdict?))
            };
            VerdictMap::Entries(entries.map(entry).collect::<Option<_>>()?)
        }
    };
    Some(Step::Dispatch { selectors, map })
}

fn selectors(json: &Json) -> Vec<Selector> {
    match json.get("concat").and_then(Json::as_array) {
        Some(parts) => parts.iter().map(selector).collect(),
        None => vec![selector(json)],
    }
}

fn key_parts(domains: &[Domain], json: &Json) -> Vec<Value> {
    // An element may be wrapped to carry a comment.
    let json = json.get("elem").and_then(|inner| inner.get("val")).unwrap_or(json);
    let domain = |index: usize| domains.get(index).copied().unwrap_or(Domain::Other);
    match json.get("concat").and_then(Json::as_array) {
        Some(parts) => {
            parts.iter().enumerate().map(|(index, part)| value(domain(index), part)).collect()
        }
        None => vec![value(domain(0), json)],
    }
}

fn verdict(json: &Json) -> Option<Verdict> {
    let (kind, body) = json.as_object()?.iter().next()?;
    let target = || body.get("target").and_then(Json::as_str).map(str::to_owned);
    match kind.as_str() {
        "accept" => Some(Verdict::Accept),
        "drop" => Some(Verdict::Drop),
        "return" => Some(Verdict::Return),
        "jump" => target().map(Verdict::Jump),
        "goto" => target().map(Verdict::Goto),
        _ => None,
    }
}

fn refusal(body: &Json) -> Refusal {
    let text = |key| body.get(key).and_then(Json::as_str);
    let kind = text("type").unwrap_or_default();
    let family = match kind {
        "icmp" => Some(Family::V4),
        "icmpv6" => Some(Family::V6),
        _ => None,
    };
    let how = [kind, text("expr").unwrap_or_default()].join(" ").trim().to_owned();
    Refusal { family, how }
}
