//! Services: literals such as `tcp/22`, and the names that `[services]` gives to them.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{List, ServiceText, Text};
use crate::gap::Gaps;
use crate::model::Service;
use crate::name;
use crate::port::{self, Part, PartError};
use crate::protocol;
use crate::quoting::quote;
use ruleset::Transport;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// Over how many levels names of services may lead to other names.
const DEEPEST: usize = 16;

/// Services that many know by a name, for the hint on one that is not defined.
const WELL_KNOWN: [(&str, &str); 18] = [
    ("ssh", "tcp/22"),
    ("smtp", "tcp/25"),
    ("dns", "udp/53"),
    ("domain", "udp/53"),
    ("http", "tcp/80"),
    ("ntp", "udp/123"),
    ("snmp", "udp/161"),
    ("ldap", "tcp/389"),
    ("https", "tcp/443"),
    ("syslog", "udp/514"),
    ("ldaps", "tcp/636"),
    ("nfs", "tcp/2049"),
    ("mysql", "tcp/3306"),
    ("rdp", "tcp/3389"),
    ("postgres", "tcp/5432"),
    ("postgresql", "tcp/5432"),
    ("redis", "tcp/6379"),
    ("wireguard", "udp/51820"),
];

/// The definitions of `[services]` in all files.
pub(crate) struct Services<'d> {
    definitions: BTreeMap<&'d str, &'d ServiceText>,
    /// What has been resolved; none where there was an error, which has been reported.
    resolved: BTreeMap<&'d str, Option<Resolved>>,
}

/// What a service means, and over how many levels its names lead to others.
#[derive(Clone, Default)]
struct Resolved {
    service: Service,
    levels: usize,
}

impl<'d> Services<'d> {
    /// Checks the names and resolves every definition.
    pub(crate) fn new(
        texts: impl IntoIterator<Item = &'d ServiceText>,
        gaps: &Gaps,
        diagnostics: &mut Diagnostics,
    ) -> Self {
        let mut services = Self { definitions: BTreeMap::new(), resolved: BTreeMap::new() };
        let mut names = Vec::new();
        for text in texts {
            check_name(&text.name, diagnostics);
            match services.definitions.entry(&text.name.value) {
                Entry::Vacant(entry) => {
                    names.push(*entry.key());
                    entry.insert(text);
                }
                Entry::Occupied(entry) => {
                    let first = &entry.get().name;
                    diagnostics.push(defined_twice("service", &text.name, first));
                }
            }
        }
        for name in names {
            services.named(name, &mut Vec::new(), gaps, diagnostics);
        }
        services
    }

    /// What each name means, of those without an error.
    pub(crate) fn by_name(&self) -> BTreeMap<String, Service> {
        let resolved = self.resolved.iter();
        resolved
            .filter_map(|(name, known)| Some(((*name).to_owned(), known.as_ref()?.service.clone())))
            .collect()
    }

    /// The names that are defined.
    fn names(&self) -> impl Iterator<Item = &'d str> + Clone {
        self.definitions.keys().copied()
    }

    /// What the `service` of an allow opens. None where there was an error.
    pub(crate) fn resolve(
        &mut self,
        texts: &'d List<Text>,
        gaps: &Gaps,
        diagnostics: &mut Diagnostics,
    ) -> Option<Service> {
        self.parts(texts, &mut Vec::new(), gaps, diagnostics).map(|resolved| resolved.service)
    }

    /// What `services` of `[guard]` means: `tcp/22` where nothing is said, nothing where the list is
    /// empty.
    pub(crate) fn guarded(
        &mut self,
        texts: Option<&'d List<Text>>,
        gaps: &Gaps,
        diagnostics: &mut Diagnostics,
    ) -> Service {
        let Some(texts) = texts else {
            let ssh = (Transport::Tcp, vec![22..=22]);
            return Service { ports: BTreeMap::from([ssh]), ..Service::default() };
        };
        if texts.is_empty() {
            return Service::default();
        }
        let service = self.resolve(texts, gaps, diagnostics).unwrap_or_default();
        let is_tcp = service.ports.keys().all(|transport| *transport == Transport::Tcp);
        if service.any || !service.protocols.is_empty() || !is_tcp {
            let message = "sessions that are guarded are TCP connections";
            let diagnostic = Diagnostic::error("bad-setting", texts.place.label(), message);
            diagnostics.push(diagnostic.hint("write services = [\"tcp/22\"]".to_owned()));
        }
        service
    }

    fn parts(
        &mut self,
        texts: &'d List<Text>,
        path: &mut Vec<&'d str>,
        gaps: &Gaps,
        diagnostics: &mut Diagnostics,
    ) -> Option<Resolved> {
        let Resolved { mut service, mut levels } = Resolved::default();
        let mut is_whole = texts.is_whole && !texts.items.is_empty();
        for text in &texts.items {
            let part = match text.value.parse() {
                Ok(Part::Name) => self.reference(text, path, gaps, diagnostics).map(|named| {
                    levels = levels.max(named.levels + 1);
                    named.service
                }),
                Ok(part) => Some(part.into_service()),
                Err(error) => {
                    diagnostics.push(bad_part(text, &error));
                    None
                }
            };
            match part {
                Some(part) => port::append(&mut service, part),
                None => is_whole = false,
            }
        }
        port::merge(&mut service);
        is_whole.then_some(Resolved { service, levels })
    }

    fn reference(
        &mut self,
        text: &'d Text,
        path: &mut Vec<&'d str>,
        gaps: &Gaps,
        diagnostics: &mut Diagnostics,
    ) -> Option<Resolved> {
        let name = text.value.as_str();
        if let Some(first) = path.iter().position(|open| *open == name) {
            let names: Vec<String> =
                path[first..].iter().chain([&name]).map(|name| quote(name)).collect();
            let message = match names.len() {
                2 => format!("the service {} names itself", names[0]),
                _ => format!("these services name each other: {}", names.join(" → ")),
            };
            let diagnostic = Diagnostic::error("service-loop", text.place.label(), message);
            diagnostics.push(diagnostic.hint("write the ports of one of them".to_owned()));
            return None;
        }
        let too_deep = || {
            let message = format!("services name each other over {DEEPEST} levels");
            Diagnostic::error("service-loop", text.place.label(), message)
        };
        if path.len() > DEEPEST {
            diagnostics.push(too_deep());
            return None;
        }
        if !self.definitions.contains_key(name) {
            if !gaps.may_define(name) {
                diagnostics.push(self.unknown(text, diagnostics));
            }
            return None;
        }
        let named = self.named(name, path, gaps, diagnostics)?;
        // What was resolved before isn't on the path. An allow is no level.
        if !path.is_empty() && named.levels >= DEEPEST {
            diagnostics.push(too_deep());
            return None;
        }
        Some(named)
    }

    /// The definition of a name that is defined.
    fn named(
        &mut self,
        name: &'d str,
        path: &mut Vec<&'d str>,
        gaps: &Gaps,
        diagnostics: &mut Diagnostics,
    ) -> Option<Resolved> {
        if let Some(known) = self.resolved.get(name) {
            return known.clone();
        }
        let definition = *self.definitions.get(name)?;
        if definition.parts.is_empty() {
            let message = format!("the service {} holds nothing", quote(name));
            let place = definition.parts.place.label();
            let diagnostic = Diagnostic::error("empty-list", place, message);
            diagnostics
                .push(diagnostic.hint("write at least one port, such as \"tcp/22\"".to_owned()));
        }
        path.push(name);
        let resolved = self.parts(&definition.parts, path, gaps, diagnostics);
        path.pop();
        self.resolved.insert(name, resolved.clone());
        resolved
    }

    /// As `unknown_tier` of allows.
    fn unknown(&self, text: &Text, others: &Diagnostics) -> Diagnostic {
        let name = text.value.as_str();
        let message = format!("no service or protocol is named {}", quote(name));
        let unknown = Diagnostic::error("unknown-service", text.place.label(), message);
        if others.is_full() {
            return unknown;
        }
        let known = self.names().chain(protocol::names());
        let hint = match name::closest(name, known) {
            Some(meant) => Some(format!("did you mean {}?", quote(meant))),
            None => WELL_KNOWN
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, literal)| format!("define it: {name} = \"{literal}\" in [services]"))
                .or_else(|| name::suggest(name, self.names(), "defined services")),
        };
        let hint = hint.unwrap_or_else(|| {
            "write a port such as \"tcp/443\", or define the name in [services]".into()
        });
        unknown.hint(hint)
    }
}

fn bad_part(text: &Text, error: &PartError) -> Diagnostic {
    Diagnostic::error(error.code(), text.place.label(), error.to_string()).hint(error.hint())
}

fn check_name(name: &Text, diagnostics: &mut Diagnostics) {
    let word = &name.value;
    if let Err(error) = name::check(word) {
        let message = format!("the service name {} {error}", quote(word));
        let diagnostic = Diagnostic::error("bad-name", name.place.label(), message);
        diagnostics.push(diagnostic.hint(error.hint().to_owned()));
    } else if let Some(number) = protocol::number(word) {
        let message = format!("{} is already the name of an IP protocol", quote(word));
        let hint = format!("service = \"{word}\" means protocol {number}: choose another name");
        let diagnostic = Diagnostic::error("bad-name", name.place.label(), message);
        diagnostics.push(diagnostic.hint(hint));
    }
}

/// A name that two files, or two tables of one, define.
pub(crate) fn defined_twice(kind: &str, second: &Text, first: &Text) -> Diagnostic {
    let message = format!("the {kind} {} is defined twice", quote(&second.value));
    Diagnostic::error("duplicate-key", second.place.label(), message)
        .related(first.place.labelled("first defined here"))
        .hint("join the two, or rename one".to_owned())
}

#[cfg(test)]
mod tests {
    use super::DEEPEST;
    use crate::{Options, load_text};
    use std::path::Path;

    /// What is wrong with a chain of names over so many levels, whose lines stand in this order.
    fn diagnostics(levels: usize, order: impl Fn(&usize) -> usize) -> Vec<String> {
        let mut names: Vec<usize> = (0..levels).collect();
        names.sort_by_key(order);
        let lines: String = names.iter().map(|at| format!("s{at} = \"s{}\"\n", at + 1)).collect();
        let text = format!(
            "role = \"web\"\n[tiers]\nweb = [\"10.0.0.1\"]\n[[allow]]\nfrom = \"any\"\nto = \"web\"\n\
             service = \"s0\"\n[services]\n{lines}s{levels} = \"tcp/1\"\n"
        );
        let loaded = load_text(Path::new("t.toml"), text, &Options::default());
        assert_eq!(loaded.policy.is_some(), !loaded.diagnostics.has_errors());
        loaded.diagnostics.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_lead_as_deep_whatever_the_order_of_their_lines() {
        let orders: [fn(&usize) -> usize; 4] =
            [|at| *at, |at| 99 - at, |at| (at * 7) % 19, |at| (at + 9) % 19];
        for order in orders {
            assert_eq!(diagnostics(DEEPEST, order), [""; 0]);
            let told = diagnostics(DEEPEST + 1, order);
            assert!(matches!(&told[..], [one] if one.contains("over 16 levels")), "{told:?}");
        }
    }
}
