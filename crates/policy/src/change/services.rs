//! The services of two reaches as numbered pieces, so that each service is all of a piece or nothing
//! of it.

use crate::model::Service;
use ruleset::Transport;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Every service there is, cut where one of those that are compared begins or ends.
#[derive(Debug)]
pub(super) struct Axis {
    pieces: Vec<Piece>,
    /// The pieces of protocols whose ports are told apart.
    ports: BTreeMap<Transport, Range<usize>>,
    protocols: BTreeMap<u8, usize>,
}

#[derive(Debug, Clone, Copy)]
enum Piece {
    /// From the first port to the last. Port 0, which no service names, is of the protocol.
    Ports(Transport, u16, u16),
    Protocol(u8),
    /// All protocols that nobody names.
    Others,
}

impl Axis {
    pub(super) fn of<'s>(services: impl IntoIterator<Item = &'s Service>) -> Self {
        let mut starts: BTreeMap<Transport, BTreeSet<u32>> = BTreeMap::new();
        let mut named: BTreeSet<u8> = BTreeSet::new();
        for Service { any: _, protocols, ports } in services {
            named.extend(protocols);
            for (transport, ranges) in ports {
                let starts = starts.entry(*transport).or_insert_with(|| BTreeSet::from([0]));
                for range in ranges {
                    starts.extend([(*range.start()).into(), u32::from(*range.end()) + 1]);
                }
            }
        }
        let mut axis =
            Self { pieces: Vec::new(), ports: BTreeMap::new(), protocols: BTreeMap::new() };
        for (transport, mut starts) in starts {
            let end = u32::from(u16::MAX) + 1;
            starts.insert(end);
            let first = axis.pieces.len();
            for (start, next) in starts.iter().zip(starts.iter().skip(1)) {
                // Both lie within a range of ports.
                axis.pieces.push(Piece::Ports(transport, *start as u16, (next - 1) as u16));
            }
            axis.ports.insert(transport, first..axis.pieces.len());
            named.remove(&transport.protocol());
        }
        for protocol in named {
            axis.protocols.insert(protocol, axis.pieces.len());
            axis.pieces.push(Piece::Protocol(protocol));
        }
        axis.pieces.push(Piece::Others);
        axis
    }

    pub(super) fn len(&self) -> usize {
        self.pieces.len()
    }

    /// The pieces that `service`, one of those compared, is made of.
    pub(super) fn pieces(&self, service: &Service) -> BTreeSet<usize> {
        let Service { any, protocols, ports } = service;
        if *any {
            return (0..self.len()).collect();
        }
        let mut pieces = BTreeSet::new();
        for protocol in protocols {
            let by_port = Transport::of_protocol(*protocol).and_then(|t| self.ports.get(&t));
            pieces.extend(by_port.cloned().into_iter().flatten());
            pieces.extend(self.protocols.get(protocol));
        }
        for (transport, ranges) in ports {
            let Some(all) = self.ports.get(transport) else { continue };
            for range in ranges {
                let below = |at: u16| {
                    let is_below =
                        |piece: &Piece| matches!(piece, Piece::Ports(_, first, _) if *first < at);
                    all.start + self.pieces[all.clone()].partition_point(is_below)
                };
                let end = range.end().checked_add(1).map_or(all.end, below);
                pieces.extend(below(*range.start())..end);
            }
        }
        pieces
    }

    /// What `pieces` are called. `may` says which others may be named as well without making the
    /// sentence wrong, where that makes it shorter.
    pub(super) fn words(
        &self,
        pieces: &BTreeSet<usize>,
        may: impl Fn(usize) -> bool,
    ) -> Vec<String> {
        let fits = |piece: &usize| pieces.contains(piece) || may(*piece);
        let others = self.len() - 1;
        if !pieces.contains(&others) {
            return self.service(pieces, fits).names();
        }
        let missing: BTreeSet<usize> = (0..others).filter(|piece| !fits(piece)).collect();
        match missing.is_empty() {
            true => vec!["any".into()],
            false => vec![format!("any except {}", self.service(&missing, |_| false))],
        }
    }

    fn service(&self, pieces: &BTreeSet<usize>, fits: impl Fn(&usize) -> bool) -> Service {
        let mut service = Service::default();
        let mut whole = BTreeSet::new();
        for (transport, all) in &self.ports {
            let some = pieces.range(all.clone()).next().is_some();
            if some && all.clone().all(|piece| pieces.contains(&piece) || fits(&piece)) {
                service.protocols.insert(transport.protocol());
                whole.insert(*transport);
            }
        }
        for piece in pieces {
            match self.pieces[*piece] {
                Piece::Ports(transport, ..) if whole.contains(&transport) => {}
                Piece::Ports(transport, first, last) => {
                    service.ports.entry(transport).or_default().push(first..=last);
                }
                Piece::Protocol(protocol) => {
                    service.protocols.insert(protocol);
                }
                Piece::Others => service.any = true,
            }
        }
        service.in_order()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Service {
        text.parse().expect("a service")
    }

    fn axis(all: &[&str]) -> Axis {
        Axis::of(&all.iter().map(|text| service(text)).collect::<Vec<_>>())
    }

    #[test]
    fn a_service_is_its_pieces() {
        let all = ["tcp/22", "tcp/1-100", "tcp", "udp", "gre", "any", "udp/65535", "tcp/22,gre"];
        let axis = axis(&all);
        for text in all {
            let pieces = axis.pieces(&service(text));
            assert_eq!(
                axis.words(&pieces, |_| false).join(","),
                text.replace("tcp/22,gre", "gre,tcp/22")
            );
        }
    }

    #[test]
    fn what_is_left_of_all_is_named_by_what_is_missing() {
        let axis = axis(&["any", "tcp/22", "udp"]);
        let without = |text: &str| {
            let without = axis.pieces(&service(text));
            &axis.pieces(&service("any")) - &without
        };
        assert_eq!(axis.words(&without("tcp/22"), |_| false), ["any except tcp/22"]);
        assert_eq!(axis.words(&without("udp"), |_| false), ["any except udp"]);
        assert_eq!(axis.words(&without("udp"), |_| true), ["any"]);
    }
}
