//! The graph of tiers: a node for each, and an edge for what the allows say between two of them.
//!
//! It shows the allows as they are written, where the matrix shows what comes of them: an allow of
//! `"*"` is one edge here, and a row of cells there. `"any"`, `"*"` and literal addresses are nodes of
//! their own on either side, so that no way seems to lead through them.

use crate::who_can::size;
use policy::model::{Allow, Endpoint, Policy, Service};
use policy::{Addresses, Labels};
use std::collections::BTreeSet;

/// Nodes and edges, in the order of the policy.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
}

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) name: String,
    /// What stands below the name: how many it is.
    pub(super) note: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeKind {
    Tier,
    /// `"*"`
    EveryServer,
    /// Literal addresses, and `"any"`.
    Addresses,
}

#[derive(Debug)]
pub(super) struct Edge {
    /// Indexes of nodes.
    pub(super) from: usize,
    pub(super) to: usize,
    /// What a label says, a line each.
    pub(super) services: Vec<String>,
    /// The allows behind it, with their places.
    pub(super) allows: Vec<String>,
}

/// On which side of allows a node stands; tiers stand on both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

impl Graph {
    pub(super) fn of(policy: &Policy) -> Self {
        let mut graph = Self::default();
        let named: BTreeSet<&String> = policy
            .allows
            .iter()
            .flat_map(|allow| allow.from.tiers.iter().chain(&allow.to.tiers))
            .collect();
        for (name, tier) in &policy.tiers {
            // One that only "*" means is part of that node.
            if named.contains(name) {
                let note = size(&Addresses::of_tier(tier));
                graph.nodes.push(Node { kind: NodeKind::Tier, name: name.clone(), note });
            }
        }
        let mut places: Vec<(Side, usize)> = Vec::new();
        let mut services: Vec<Service> = Vec::new();
        let labels = Labels::of(&policy.allows);
        let mut order: Vec<usize> = (0..policy.allows.len()).collect();
        order.sort_by_key(|index| labels.slug(*index));
        for allow in order.into_iter().filter_map(|index| policy.allows.get(index)) {
            let senders = graph.nodes_of(&allow.from, Side::From, &mut places);
            let receivers = graph.nodes_of(&allow.to, Side::To, &mut places);
            for from in &senders {
                for to in &receivers {
                    graph.connect(*from, *to, allow, &mut services);
                }
            }
        }
        graph
    }

    /// The nodes of a side of an allow, made where they are missing.
    fn nodes_of(
        &mut self,
        endpoint: &Endpoint,
        side: Side,
        places: &mut Vec<(Side, usize)>,
    ) -> Vec<usize> {
        let mut nodes: Vec<usize> = Vec::new();
        let tiers = endpoint.tiers.iter();
        nodes.extend(tiers.filter_map(|tier| {
            self.nodes.iter().position(|node| node.kind == NodeKind::Tier && node.name == *tier)
        }));
        let literals = Addresses::of_literals(endpoint);
        let mut others: Vec<(NodeKind, String, String)> = Vec::new();
        if endpoint.any {
            let (name, note) = match side {
                Side::From => ("anybody", "any address"),
                Side::To => ("anywhere", "any address"),
            };
            others.push((NodeKind::Addresses, name.into(), note.into()));
        }
        if endpoint.every_server {
            others.push((NodeKind::EveryServer, "every server".into(), "of every tier".into()));
        }
        if !literals.is_empty() {
            let note = if literals.count() == Some(1) { String::new() } else { size(&literals) };
            others.push((NodeKind::Addresses, literals.to_string(), note));
        }
        for (kind, name, note) in others {
            let known = places.iter().find(|(of, index)| {
                *of == side && self.nodes[*index].kind == kind && self.nodes[*index].name == name
            });
            let index = known.map_or(self.nodes.len(), |(_, index)| *index);
            if index == self.nodes.len() {
                places.push((side, index));
                self.nodes.push(Node { kind, name, note });
            }
            nodes.push(index);
        }
        nodes
    }

    fn connect(&mut self, from: usize, to: usize, allow: &Allow, services: &mut Vec<Service>) {
        let place = format!("{} ({})", allow.key, allow.location);
        let known = self.edges.iter().position(|edge| (edge.from, edge.to) == (from, to));
        let index = known.unwrap_or(self.edges.len());
        match known {
            Some(index) => services[index] = services[index].union(&allow.service),
            None => {
                services.push(allow.service.clone());
                self.edges.push(Edge { from, to, services: Vec::new(), allows: Vec::new() });
            }
        }
        let edge = &mut self.edges[index];
        edge.services = services[index].names();
        edge.allows.push(place);
    }
}
