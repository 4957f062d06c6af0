//! Services as sets: what two have in common, what they are together, and how they read.

use crate::model::Service;
use crate::port;
use crate::protocol;
use ruleset::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// One kind of traffic: a protocol, and its destination port where it has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// IANA number.
    pub protocol: u8,
    /// The destination port, of a protocol with ports.
    pub port: Option<u16>,
}

impl Service {
    /// The parts in the words of the policy file: `any`, `gre`, `tcp/80`, `tcp/1000-2000`.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.any.then(|| "any".to_owned()).into_iter().collect();
        names.extend(self.protocols.iter().map(|number| protocol::name(*number)));
        for (transport, ranges) in &self.ports {
            names.extend(ranges.iter().map(|range| match (range.start(), range.end()) {
                (first, last) if first == last => format!("{transport}/{first}"),
                (first, last) => format!("{transport}/{first}-{last}"),
            }));
        }
        names
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        !self.any && self.protocols.is_empty() && self.ports.is_empty()
    }

    /// Whether it holds `point`.
    pub fn holds(&self, point: Point) -> bool {
        let by_port = || {
            let ranges = self.ports.get(&Transport::of_protocol(point.protocol)?)?;
            Some(ranges.iter().any(|range| point.port.is_some_and(|port| range.contains(&port))))
        };
        self.any || self.protocols.contains(&point.protocol) || by_port().unwrap_or(false)
    }

    /// What both hold.
    pub fn meet(&self, other: &Self) -> Self {
        if self.any {
            return other.clone();
        }
        if other.any {
            return self.clone();
        }
        let mut both = Self {
            protocols: self.protocols.intersection(&other.protocols).copied().collect(),
            ..Self::default()
        };
        for (one, another) in [(self, other), (other, self)] {
            for (transport, ranges) in &one.ports {
                let protocol = transport.protocol();
                if another.protocols.contains(&protocol) {
                    both.ports.entry(*transport).or_default().extend(ranges.iter().cloned());
                }
            }
        }
        for (transport, ranges) in &self.ports {
            let others = other.ports.get(transport).into_iter().flatten();
            let common = others.flat_map(|other| {
                ranges.iter().filter_map(|own| {
                    let (first, last) =
                        (*own.start().max(other.start()), *own.end().min(other.end()));
                    (first <= last).then_some(first..=last)
                })
            });
            let common: Vec<RangeInclusive<u16>> = common.collect();
            if !common.is_empty() {
                both.ports.entry(*transport).or_default().extend(common);
            }
        }
        both.in_order()
    }

    /// What either holds.
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        port::append(&mut all, other.clone());
        all.in_order()
    }

    /// Whether all of `other` is within.
    pub fn covers(&self, other: &Self) -> bool {
        other.meet(self) == other.clone().in_order()
    }

    /// Ports merged, and nothing named beside what holds it already.
    pub(crate) fn in_order(mut self) -> Self {
        if self.any {
            return Self { any: true, ..Self::default() };
        }
        let protocols = &self.protocols;
        self.ports.retain(|transport, ranges| {
            !ranges.is_empty() && !protocols.contains(&transport.protocol())
        });
        port::merge(&mut self);
        self
    }

    /// Cut at every border that one of `others` has in it, so that each of them holds all of a
    /// piece or nothing, each with a point in it. What `any` or a protocol with ports means beyond
    /// the others' borders is one piece.
    pub fn pieces<'s>(&self, others: impl IntoIterator<Item = &'s Self>) -> Vec<(Self, Point)> {
        let mut protocols: BTreeSet<u8> = self.protocols.clone();
        let mut borders: BTreeMap<Transport, BTreeSet<u32>> = BTreeMap::new();
        let others: Vec<&Self> = others.into_iter().collect();
        for other in &others {
            protocols.extend(other.protocols.iter().filter(|_| self.any));
            for (transport, ranges) in &other.ports {
                let ends = ranges
                    .iter()
                    .flat_map(|range| [u32::from(*range.start()), u32::from(*range.end()) + 1]);
                borders.entry(*transport).or_default().extend(ends);
            }
        }
        let mut pieces = Vec::new();
        for transport in Transport::ALL {
            let whole = self.any && borders.contains_key(&transport)
                || protocols.remove(&transport.protocol());
            let every = [1..=u16::MAX];
            let ranges = match whole {
                true => &every[..],
                false => self.ports.get(&transport).map_or(&[][..], |ranges| ranges),
            };
            let cuts = borders.get(&transport);
            for range in ranges {
                let (mut first, last) = (u32::from(*range.start()), u32::from(*range.end()));
                while first <= last {
                    let cut = cuts.and_then(|cuts| cuts.range(first + 1..).next().copied());
                    let end = cut.map_or(last, |cut| last.min(cut - 1));
                    // Both lie within a range of ports.
                    let (low, high) = (first as u16, end as u16);
                    let ports = BTreeMap::from([(transport, vec![low..=high])]);
                    let point = Point { protocol: transport.protocol(), port: Some(low) };
                    pieces.push((Self { ports, ..Self::default() }, point));
                    first = end + 1;
                }
            }
        }
        pieces.extend(protocols.into_iter().map(|protocol| {
            let service = Self { protocols: BTreeSet::from([protocol]), ..Self::default() };
            (service, Point { protocol, port: None })
        }));
        pieces
    }
}

/// The parts joined by commas.
impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}

/// Why a text names no service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServiceError {
    message: String,
    /// The way out.
    pub hint: Option<String>,
}

/// Literals, joined by commas: `tcp/22`, `udp/1000-2000`, `gre`, `any`.
impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, ServiceError> {
        let mut service = Self::default();
        for part in text.split(',').map(str::trim) {
            let read: Result<port::Part, _> = part.parse();
            match read {
                Ok(port::Part::Name) => {
                    let message = format!(
                        "{} is neither a port nor an IP protocol",
                        crate::quoting::quote(part)
                    );
                    let hint = "write a port such as tcp/443, or a protocol such as gre".to_owned();
                    return Err(ServiceError { message, hint: Some(hint) });
                }
                Ok(part) => port::append(&mut service, part.into_service()),
                Err(error) => {
                    return Err(ServiceError { message: error.to_string(), hint: error.hint() });
                }
            }
        }
        Ok(service.in_order())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Service {
        text.parse().expect("a service")
    }

    #[test]
    fn reads_as_it_is_written() {
        for text in ["any", "gre", "tcp/80, tcp/443, udp/1000-2000", "esp, tcp/22"] {
            assert_eq!(service(text).to_string(), text);
        }
        assert_eq!(service("tcp/80,tcp"), service("tcp"));
        assert!("https".parse::<Service>().is_err_and(|error| error.hint.is_some()));
        assert!("tcp/0".parse::<Service>().is_err());
    }

    #[test]
    fn meets_ports_with_protocols() {
        let meet = |a: &str, b: &str| service(a).meet(&service(b)).to_string();
        assert_eq!(meet("tcp/1-100", "tcp/50-200,udp/7"), "tcp/50-100");
        assert_eq!(meet("tcp", "tcp/22,udp/53"), "tcp/22");
        assert_eq!(meet("any", "gre,tcp/22"), "gre, tcp/22");
        assert_eq!(meet("tcp/22", "tcp/23"), "");
        assert!(service("tcp").covers(&service("tcp/22")));
        assert!(!service("tcp/22").covers(&service("tcp")));
    }

    #[test]
    fn is_cut_where_others_begin_and_end() {
        let pieces = |whole: &str, others: &[&str]| -> Vec<String> {
            let others: Vec<Service> = others.iter().map(|text| service(text)).collect();
            let pieces = service(whole).pieces(&others);
            for (piece, point) in &pieces {
                assert!(piece.holds(*point));
            }
            pieces.iter().map(|(piece, _)| piece.to_string()).collect()
        };
        assert_eq!(pieces("tcp/10", &["tcp/1-100"]), ["tcp/10"]);
        assert_eq!(
            pieces("tcp/1-100", &["tcp/20-30", "tcp/30"]),
            ["tcp/1-19", "tcp/20-29", "tcp/30", "tcp/31-100"]
        );
        assert_eq!(pieces("gre,udp/1-2", &["tcp/1"]), ["udp/1-2", "gre"]);
        assert_eq!(
            pieces("any", &["udp/53", "gre"]),
            ["udp/1-52", "udp/53", "udp/54-65535", "gre"]
        );
    }
}
