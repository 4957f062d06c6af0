//! A suggestion as it is written in a policy file.

use super::{Side, Suggestion};
use crate::allow::is_user_name;
use crate::model::Service;
use ruleset::Transport;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The longest line, unless a word is longer.
const WIDTH: usize = 96;

impl Suggestion<'_> {
    /// The allow. `services` are the names that the policy has for services, `user` what this server
    /// calls the user.
    pub fn to_toml(&self, services: &BTreeMap<String, Service>, user: Option<&str>) -> String {
        let mut text = format!(
            "[[allow]]\nfrom    = {}\nto      = {}\nservice = {}\n",
            list(&self.from.words()),
            list(&self.to.words()),
            list(&self.service.words(services))
        );
        if let Some(uid) = self.user {
            text += &match user.filter(|name| is_user_name(name)) {
                Some(name) => format!("user    = {}\n", quoted(name)),
                None => format!("user    = {uid}\n"),
            };
        }
        text
    }
}

impl Side {
    /// As an allow names it.
    pub fn words(&self) -> Vec<String> {
        match self {
            Self::Tier(tier) => vec![tier.clone()],
            Self::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Service {
    /// In the words of an allow: names that stand for nothing beyond it, the largest first, then
    /// what they don't say.
    pub fn words(&self, services: &BTreeMap<String, Self>) -> Vec<String> {
        let mut rest = self.clone();
        let mut words = Vec::new();
        let mut named: Vec<(&String, &Self)> = services
            .iter()
            .filter(|(_, named)| !named.is_empty() && !named.any && self.covers(named))
            .collect();
        named.sort_by_key(|(name, named)| (Reverse(named.size()), *name));
        for (name, named) in named {
            if rest.covers(named) {
                words.push(name.clone());
                rest = rest.minus(named);
            }
        }
        words.extend(rest.names());
        words
    }

    /// Ports and protocols in it.
    fn size(&self) -> usize {
        let ports = self.ports.values().flatten();
        self.protocols.len() + ports.map(ExactSizeIterator::len).sum::<usize>()
    }

    /// What `other` doesn't hold, of services without `any`, where each protocol is in the one form in
    /// both: whole, or by its ports.
    fn minus(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        rest.protocols.retain(|protocol| !other.protocols.contains(protocol));
        for (transport, gone) in &other.ports {
            let ranges = rest.ports.get(transport).into_iter().flatten().cloned();
            let left = gone.iter().fold(ranges.collect(), without);
            rest.ports.insert(*transport, left);
        }
        rest.ports.retain(|_: &Transport, ranges| !ranges.is_empty());
        rest
    }
}

/// The ports of `ranges` that aren't in `gone`.
fn without(
    ranges: Vec<RangeInclusive<u16>>,
    gone: &RangeInclusive<u16>,
) -> Vec<RangeInclusive<u16>> {
    let split = |range: RangeInclusive<u16>| {
        let (first, last) = (*range.start(), *range.end());
        let before = gone.start().checked_sub(1).map(|end| first..=last.min(end));
        let behind = gone.end().checked_add(1).map(|start| first.max(start)..=last);
        [before, behind].into_iter().flatten().filter(|part| !part.is_empty())
    };
    ranges.into_iter().flat_map(split).collect()
}

/// One string, or a list of them on as many lines as it takes.
fn list(items: &[String]) -> String {
    let quoted: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    if let [one] = &quoted[..] {
        return one.clone();
    }
    let line = format!("[{}]", quoted.join(", "));
    if line.len() + "service = ".len() <= WIDTH {
        return line;
    }
    let mut text = String::from("[");
    let mut width = WIDTH;
    for item in &quoted {
        if width + item.len() + 2 > WIDTH {
            text += "\n   ";
            width = 3;
        }
        text += &format!(" {item},");
        width += item.len() + 2;
    }
    text + "\n]"
}

/// A basic string of TOML, of text without control characters.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn services(definitions: &[(&str, &str)]) -> BTreeMap<String, Service> {
        let service = |text: &str| text.parse().expect("a service");
        definitions.iter().map(|(name, text)| ((*name).to_owned(), service(text))).collect()
    }

    #[test]
    fn a_name_is_used_only_where_it_says_nothing_more() {
        let services = services(&[
            ("web", "tcp/80,tcp/443"),
            ("https", "tcp/443"),
            ("dns", "tcp/53,udp/53"),
            ("tunnel", "gre,udp/4500"),
            ("everything", "any"),
            ("all-tcp", "tcp"),
        ]);
        let words =
            |text: &str| text.parse::<Service>().expect("a service").words(&services).join(" ");
        assert_eq!(words("tcp/80,tcp/443"), "web");
        assert_eq!(words("tcp/443"), "https");
        assert_eq!(words("tcp/80"), "tcp/80");
        assert_eq!(words("tcp/53,tcp/80-81,tcp/443,udp/53"), "dns web tcp/81");
        assert_eq!(words("udp/53"), "udp/53");
        assert_eq!(words("gre,udp/4500,udp/4499"), "tunnel udp/4499");
        assert_eq!(words("gre,tcp/1-65535"), "web gre tcp/1-79 tcp/81-442 tcp/444-65535");
    }

    #[test]
    fn long_lists_are_wrapped_and_names_escaped() {
        let many: Vec<String> = (0..20).map(|index| format!("198.51.100.{index}")).collect();
        let text = list(&many);
        assert!(text.lines().count() > 3 && text.lines().all(|line| line.len() <= WIDTH), "{text}");
        let read: toml::Table = toml::from_str(&format!("a = {text}\n")).expect("TOML");
        assert_eq!(read["a"].as_array().map(Vec::len), Some(20));
        assert_eq!(quoted("CORP\\ann"), r#""CORP\\ann""#);
    }
}
