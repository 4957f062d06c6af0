//! Flows put together into as few allows as say exactly the same.
//!
//! 1. What came in and what went out between the same two words is one allow, since an allow is
//!    about both ends. The users who sent it bind it; what came in needs no other.
//! 2. A service between two words goes without saying where a wider suggestion opens it: by
//!    everybody, between wider tiers, without doubt.
//! 3. The services between the same two are one list, and addresses in no tier on the same
//!    services one list too. Never both at once, unless each was seen with each.

use super::place::{Place, Places};
use super::sort::Flow;
use super::{Doubt, Evidence, OtherEnd, Side, Suggestion};
use crate::addresses::Addresses;
use crate::model::{Allow, Endpoint, Policy, Service};
use crate::port;
use crate::reach::Direction;
use crate::service_set::Point;
use ruleset::Transport;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// All of an allow but its service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Words {
    from: Place,
    to: Place,
    user: Option<u32>,
    doubt: Doubt,
}

/// What was seen, by service and words.
type Seen = BTreeMap<Point, BTreeMap<Words, Evidence>>;

pub(super) fn gather<'p>(policy: &'p Policy, flows: &[Flow]) -> Vec<Suggestion<'p>> {
    let wider = wider(&Places::new(policy), flows);
    let mut seen = both_ends(flows);
    seen.values_mut().for_each(|words| drop_narrower(&wider, words));
    let mut suggestions: Vec<Suggestion<'p>> = join(seen);
    for suggestion in &mut suggestions {
        suggestion.other_end = other_end(policy, suggestion);
        for side in [&suggestion.from, &suggestion.to] {
            if let Side::Tier(tier) = side {
                suggestion.evidence.also.remove(tier);
            }
        }
    }
    suggestions.sort_by_key(|suggestion| {
        let Suggestion { doubt, evidence, from, to, user, .. } = suggestion;
        (*doubt, Reverse(evidence.connections()), from.clone(), to.clone(), *user)
    });
    suggestions
}

/// What went out first, then what came in, to the allow that went out between the same two.
fn both_ends(flows: &[Flow]) -> Seen {
    let mut seen = Seen::new();
    for flow in flows.iter().filter(|flow| flow.direction == Direction::Output) {
        let Flow { from, to, user, doubt, .. } = flow;
        let words = Words { from: from.clone(), to: to.clone(), user: *user, doubt: *doubt };
        let words = seen.entry(flow.point).or_default().entry(words);
        words.or_default().add(&flow.evidence);
    }
    let sent = seen.clone();
    for flow in flows.iter().filter(|flow| flow.direction == Direction::Input) {
        let Flow { from, to, doubt, .. } = flow;
        let fits = |words: &&Words| {
            let is_same = (&words.from, &words.to) == (from, to);
            is_same && (words.doubt.is_none() || words.doubt == *doubt)
        };
        let out = sent.get(&flow.point).into_iter().flat_map(BTreeMap::keys).filter(fits);
        // The one without doubt, and by everybody, if there is.
        let words = out.min_by_key(|words| (words.doubt, words.user)).cloned();
        let words = words.unwrap_or_else(|| Words {
            from: from.clone(),
            to: to.clone(),
            user: None,
            doubt: *doubt,
        });
        seen.entry(flow.point).or_default().entry(words).or_default().add(&flow.evidence);
    }
    seen
}

/// The chosen tiers that hold each of them.
fn wider(places: &Places<'_>, flows: &[Flow]) -> BTreeMap<String, Vec<String>> {
    let chosen = flows.iter().flat_map(|flow| [&flow.from, &flow.to]);
    let tiers: BTreeSet<&String> = chosen
        .filter_map(|place| match place {
            Place::Tier(tier) => Some(tier),
            Place::Address(_) => None,
        })
        .collect();
    let around = |inner: &&String| {
        let wider = tiers.iter().filter(|outer| places.is_wider(outer, inner));
        ((*inner).clone(), wider.map(|outer| (*outer).clone()).collect())
    };
    tiers.iter().map(around).collect()
}

/// Takes out the words that others on the same service hold, whose evidence it becomes.
fn drop_narrower(wider: &BTreeMap<String, Vec<String>>, seen: &mut BTreeMap<Words, Evidence>) {
    // A place itself and all that hold it.
    let around = |place: &Place| -> Vec<Place> {
        let wider = match place {
            Place::Tier(tier) => wider.get(tier).map_or(&[][..], |wider| wider),
            Place::Address(_) => &[],
        };
        let wider = wider.iter().map(|tier| Place::Tier(tier.clone()));
        std::iter::once(place.clone()).chain(wider).collect()
    };
    let holders = |words: &Words| -> Vec<Words> {
        let (users, doubts) = ([None, words.user], [Doubt::default(), words.doubt]);
        let mut holders = Vec::new();
        for from in around(&words.from) {
            for to in around(&words.to) {
                for (user, doubt) in users.into_iter().flat_map(|u| doubts.map(|d| (u, d))) {
                    holders.push(Words { from: from.clone(), to: to.clone(), user, doubt });
                }
            }
        }
        holders.retain(|holder| holder != words);
        holders
    };
    let all: BTreeSet<Words> = seen.keys().cloned().collect();
    for words in &all {
        // What holds a holder holds this too: the widest is one that nothing holds.
        let is_widest = |holder: &&Words| !holders(holder).iter().any(|wider| all.contains(wider));
        let held = holders(words).into_iter().filter(|holder| all.contains(holder));
        let held: Vec<Words> = held.collect();
        let Some(holder) = held.iter().find(is_widest) else { continue };
        if let Some(evidence) = seen.remove(words) {
            seen.entry(holder.clone()).or_default().add(&evidence);
        }
    }
}

/// One suggestion for each list of services.
fn join<'p>(seen: Seen) -> Vec<Suggestion<'p>> {
    let mut services: BTreeMap<Words, (BTreeSet<Point>, Evidence)> = BTreeMap::new();
    for (point, words) in seen {
        for (words, evidence) in words {
            let (points, sum) = services.entry(words).or_default();
            points.insert(point);
            sum.add(&evidence);
        }
    }
    // Addresses of the same services, by the side that they are on.
    type Lists = BTreeMap<(Words, BTreeSet<Point>), (Side, Side, Evidence)>;
    let mut lists = Lists::new();
    for (words, (points, evidence)) in services {
        let (from, to) = (side(&words.from), side(&words.to));
        let mut alike = words;
        for place in [&mut alike.from, &mut alike.to] {
            if let Place::Address(address) = place {
                // Any address stands for all of them.
                *address = std::net::Ipv4Addr::UNSPECIFIED.into();
            }
        }
        let new = || (from.clone(), to.clone(), Evidence::default());
        let entry = lists.entry((alike, points)).or_insert_with(new);
        entry.0.extend(from.clone());
        entry.1.extend(to.clone());
        entry.2.add(&evidence);
    }
    let suggestion = |((words, points), (from, to, evidence))| {
        let Words { user, doubt, .. } = words;
        let service = service(points);
        Suggestion { from, to, service, user, doubt, evidence, other_end: None }
    };
    lists.into_iter().map(suggestion).collect()
}

fn side(place: &Place) -> Side {
    match place {
        Place::Tier(tier) => Side::Tier(tier.clone()),
        Place::Address(address) => Side::Addresses(BTreeSet::from([*address])),
    }
}

impl Side {
    fn extend(&mut self, other: Self) {
        if let (Self::Addresses(own), Self::Addresses(other)) = (self, other) {
            own.extend(other);
        }
    }
}

fn service(points: BTreeSet<Point>) -> Service {
    let mut service = Service::default();
    for Point { protocol, port } in points {
        match (Transport::of_protocol(protocol), port) {
            (Some(transport), Some(port)) => {
                service.ports.entry(transport).or_default().push(port..=port);
            }
            _ => drop(service.protocols.insert(protocol)),
        }
    }
    port::merge(&mut service);
    service
}

/// What the servers of the tier on the other side do with it: open it, where it came in here, or
/// accept it, where it went out.
fn other_end<'p>(policy: &'p Policy, suggestion: &Suggestion<'p>) -> Option<OtherEnd<'p>> {
    let (Side::Tier(from), Side::Tier(to)) = (&suggestion.from, &suggestion.to) else {
        return None;
    };
    let mut open = None;
    for side in &suggestion.evidence.sides {
        let does = |allow: &&Allow| {
            let (acts, peer, (acting, other), addresses) = match side {
                Direction::Input => {
                    (&allow.from, &allow.to, (from, to), &suggestion.evidence.destinations)
                }
                Direction::Output => {
                    (&allow.to, &allow.from, (to, from), &suggestion.evidence.sources)
                }
            };
            let literals = Addresses::of_literals(peer);
            (acts.every_server || acts.tiers.contains(acting))
                && (names(peer, other) || addresses.iter().all(|a| literals.contains(*a)))
                && allow.service.covers(&suggestion.service)
        };
        // One for everybody rather than one for some.
        let does = policy.allows.iter().filter(does).min_by_key(|allow| !allow.users.is_empty());
        match does {
            Some(allow) => open = Some(OtherEnd::Open(allow)),
            None => return Some(OtherEnd::Closed),
        }
    }
    open
}

fn names(side: &Endpoint, tier: &str) -> bool {
    side.any || side.every_server || side.tiers.contains(tier)
}
