//! Lints: a policy that is right, but probably not what was meant.

use crate::diagnostic::{Diagnostic, Diagnostics, Label};
use crate::model::{Allow, Endpoint, Policy, RoleSetting, Service, Tier};
use crate::quoting::quote;
use crate::world;
use ruleset::{Address, AddressSet, Transport};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Reports what is suspicious about a policy without errors, for every server alike.
pub(crate) fn lint(policy: &Policy) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    empty_tiers(policy, &mut diagnostics);
    unused_tiers(policy, &mut diagnostics);
    covered_allows(policy, &mut diagnostics);
    world::lint(policy, &mut diagnostics);
    udp_lite(policy, &mut diagnostics);
    diagnostics
}

fn is_empty(tier: &Tier) -> bool {
    tier.v4.is_empty() && tier.v6.is_empty()
}

/// A tier without members that an allow names.
fn empty_tiers(policy: &Policy, diagnostics: &mut Diagnostics) {
    for (name, tier) in policy.tiers.iter().filter(|(_, tier)| is_empty(tier)) {
        let names_it =
            |allow: &&Allow| allow.from.tiers.contains(name) || allow.to.tiers.contains(name);
        let Some(allow) = policy.allows.iter().find(names_it) else { continue };
        let message = format!("the tier {} is empty, but an allow names it", quote(name));
        let label = Label::at(tier.location.clone(), "");
        let diagnostic = Diagnostic::warning("empty-tier", label, message)
            .related(Label::at(allow.location.clone(), "named here"))
            .hint("add its members, or remove it".to_owned());
        diagnostics.push(diagnostic);
    }
}

/// A tier that neither an allow nor the role names. `"*"` stands for all of them.
fn unused_tiers(policy: &Policy, diagnostics: &mut Diagnostics) {
    let sides = || policy.allows.iter().flat_map(|allow| [&allow.from, &allow.to]);
    if sides().any(|side| side.every_server) {
        return;
    }
    let mut used: BTreeSet<&String> = sides().flat_map(|side| &side.tiers).collect();
    if let RoleSetting::Tiers { tiers, .. } = &policy.role {
        used.extend(tiers);
    }
    for (name, tier) in policy.tiers.iter().filter(|(name, _)| !used.contains(name)) {
        let message = format!("nobody uses the tier {}", quote(name));
        let label = Label::at(tier.location.clone(), "");
        let diagnostic = Diagnostic::warning("unused-tier", label, message)
            .hint("name it in an allow, or remove it".to_owned());
        diagnostics.push(diagnostic);
    }
}

/// An allow of UDP-Lite. Before rules see them, connection tracking judges its packets' checksums, and
/// finds those wrong that came over a network (measured on Linux 6.18): all of them are invalid.
fn udp_lite(policy: &Policy, diagnostics: &mut Diagnostics) {
    let opens = |allow: &&Allow| {
        allow.service.ports.contains_key(&Transport::UdpLite)
            || allow.service.protocols.contains(&Transport::UdpLite.protocol())
    };
    for allow in policy.allows.iter().filter(opens) {
        let message = "UDP-Lite from other hosts is dropped as invalid, whatever this allow opens";
        let hint = "connection tracking refuses its checksums: use UDP, or set the sysctl \
                    net.netfilter.nf_conntrack_checksum=0";
        let label = Label::at(allow.location.clone(), "");
        let diagnostic = Diagnostic::warning("udp-lite", label, message);
        diagnostics.push(diagnostic.hint(hint.to_owned()));
    }
}

/// An allow that changes nothing, since another one lets through all that it does. Of two that
/// cover each other the later is reported.
fn covered_allows(policy: &Policy, diagnostics: &mut Diagnostics) {
    let covers = Covers { policy };
    let hulls: Vec<Hull> = policy.allows.iter().map(|allow| covers.hull(allow)).collect();
    let is_covered = |inner: usize, outer: usize| {
        hulls[outer].may_cover(&hulls[inner])
            && covers.allow(&policy.allows[outer], &policy.allows[inner])
    };
    for (index, allow) in policy.allows.iter().enumerate() {
        let covering = (0..policy.allows.len()).find(|other| {
            let is_later = *other > index;
            *other != index && is_covered(index, *other) && !(is_later && is_covered(*other, index))
        });
        let Some(other) = covering.map(|other| &policy.allows[other]) else { continue };
        let key = other.key.to_string();
        let message = format!("this allow opens nothing that {} doesn't", quote(&key));
        let label = Label::at(allow.location.clone(), "");
        let diagnostic = Diagnostic::warning("covered-allow", label, message)
            .related(Label::at(other.location.clone(), "the wider one"))
            .hint("remove one of the two".to_owned());
        diagnostics.push(diagnostic);
    }
}

/// Borders of what an allow is about: one covers another only if its borders are as wide. Each of
/// thousands of allows is held against each, so most answers must cost nothing.
struct Hull {
    /// Protocol and port.
    service: Span<(u8, u16)>,
    /// IP version and address, where the allow makes a server open connections.
    to: Span<(u8, u128)>,
    /// The same, where it makes one accept them.
    from: Span<(u8, u128)>,
    opens: bool,
    accepts: bool,
}

/// The lowest and the highest of something.
#[derive(Clone, Copy)]
struct Span<T>(T, T);

impl<T: Ord + Copy> Span<T> {
    fn holds(&self, other: &Self) -> bool {
        self.0 <= other.0 && other.1 <= self.1
    }

    /// The span of all these; none of none.
    fn around(all: impl Iterator<Item = Self>) -> Option<Self> {
        all.reduce(|a, b| Self(a.0.min(b.0), a.1.max(b.1)))
    }
}

impl Hull {
    fn may_cover(&self, inner: &Self) -> bool {
        self.service.holds(&inner.service)
            && (!inner.opens || self.opens && self.to.holds(&inner.to))
            && (!inner.accepts || self.accepts && self.from.holds(&inner.from))
    }
}

/// What it takes for one thing to cover another.
struct Covers<'p> {
    policy: &'p Policy,
}

impl Covers<'_> {
    fn hull(&self, allow: &Allow) -> Hull {
        let Service { any, protocols, ports } = &allow.service;
        let whole = protocols.iter().map(|number| Span((*number, 0), (*number, u16::MAX)));
        let ports = ports.iter().filter_map(|(transport, ranges)| {
            let number = transport.protocol();
            Some(Span((number, *ranges.first()?.start()), (number, *ranges.last()?.end())))
        });
        let everything = any.then_some(Span((0, 0), (u8::MAX, u16::MAX)));
        let nothing = Span((0, 1), (0, 1));
        Hull {
            service: Span::around(everything.into_iter().chain(whole).chain(ports))
                .unwrap_or(nothing),
            to: self.address_hull(&allow.to),
            from: self.address_hull(&allow.from),
            opens: acts(&allow.from),
            accepts: acts(&allow.to),
        }
    }

    fn address_hull(&self, side: &Endpoint) -> Span<(u8, u128)> {
        fn of<A: Address>(set: &AddressSet<A>) -> Option<Span<(u8, u128)>> {
            let (first, last) = (set.first()?.first, set.last()?.last);
            Some(Span((A::BITS, first.to_number()), (A::BITS, last.to_number())))
        }
        if side.any {
            return Span((0, 0), (u8::MAX, u128::MAX));
        }
        let is_named = |name: &String| side.every_server || side.tiers.contains(name);
        let tiers = self.policy.tiers.iter().filter(|(name, _)| is_named(name));
        let borders = tiers.flat_map(|(_, tier)| [of(&tier.v4), of(&tier.v6)]);
        let borders = borders.chain([of(&side.v4), of(&side.v6)]).flatten();
        // No address at all is held by everything.
        Span::around(borders).unwrap_or(Span((u8::MAX, u128::MAX), (0, 0)))
    }

    /// Whether every server that acts on `inner` lets the same through by `outer`, on each side.
    fn allow(&self, outer: &Allow, inner: &Allow) -> bool {
        let accepts = acts(&inner.to);
        let opens = acts(&inner.from);
        let users = outer.users.is_empty()
            || !inner.users.is_empty() && inner.users.iter().all(|user| has_user(outer, user));
        (!accepts || acts_for(&outer.to, &inner.to))
            && (!opens || acts_for(&outer.from, &inner.from) && users)
            && service(&outer.service, &inner.service)
            && (!accepts || self.peer(&outer.from, &inner.from))
            && (!opens || self.peer(&outer.to, &inner.to))
    }

    /// Whether `outer` holds every address of `inner`.
    fn peer(&self, outer: &Endpoint, inner: &Endpoint) -> bool {
        if outer.any || inner.any {
            return outer.any;
        }
        let tiers = match (outer.every_server, inner.every_server) {
            (true, _) => Vec::new(),
            (false, true) => self.policy.tiers.iter().collect(),
            (false, false) => {
                let named = inner.tiers.difference(&outer.tiers);
                named.filter_map(|name| self.policy.tiers.get_key_value(name)).collect()
            }
        };
        let tiers: Vec<&Tier> = tiers.into_iter().map(|(_, tier)| tier).collect();
        tiers.iter().all(|tier| hold(self.v4(outer), &tier.v4) && hold(self.v6(outer), &tier.v6))
            && hold(self.v4(outer), &inner.v4)
            && hold(self.v6(outer), &inner.v6)
    }

    fn v4<'a>(
        &'a self,
        side: &'a Endpoint,
    ) -> impl Iterator<Item = &'a AddressSet<Ipv4Addr>> + Clone {
        std::iter::once(&side.v4).chain(self.tiers(side).map(|tier| &tier.v4))
    }

    fn v6<'a>(
        &'a self,
        side: &'a Endpoint,
    ) -> impl Iterator<Item = &'a AddressSet<Ipv6Addr>> + Clone {
        std::iter::once(&side.v6).chain(self.tiers(side).map(|tier| &tier.v6))
    }

    /// The tiers that an endpoint means: those named, or all.
    fn tiers<'a>(&'a self, side: &'a Endpoint) -> impl Iterator<Item = &'a Tier> + Clone {
        let all = side.every_server.then(|| self.policy.tiers.values());
        let named = side.tiers.iter().filter_map(|name| self.policy.tiers.get(name));
        all.into_iter().flatten().chain(named)
    }
}

/// Whether the sets together hold every address of `inner`.
fn hold<'a, A: Address>(
    outer: impl Iterator<Item = &'a AddressSet<A>> + Clone,
    inner: &AddressSet<A>,
) -> bool {
    if inner.is_empty() || outer.clone().any(|set| set.covers(inner)) {
        return true;
    }
    // Each range of `inner` may lie in another set, or across the border of two. Its ends are
    // looked for first: to merge the sets costs more.
    let has = |address| outer.clone().any(|set| set.contains(address));
    inner.ranges().all(|range| has(range.first) && has(range.last))
        && outer.clone().fold(AddressSet::default(), |all, set| all.union(set)).covers(inner)
}

fn acts(side: &Endpoint) -> bool {
    side.every_server || !side.tiers.is_empty()
}

/// Whether every server that `inner` means is meant by `outer`.
fn acts_for(outer: &Endpoint, inner: &Endpoint) -> bool {
    outer.every_server || !inner.every_server && inner.tiers.is_subset(&outer.tiers)
}

/// Whether an allow is for a user, wherever the file names it.
fn has_user(allow: &Allow, user: &crate::model::User) -> bool {
    use crate::model::User::{Name, Uid};
    allow.users.iter().any(|own| match (own, user) {
        (Uid(own), Uid(user)) => own == user,
        (Name { name: own, .. }, Name { name: user, .. }) => own == user,
        _ => false,
    })
}

fn service(outer: &Service, inner: &Service) -> bool {
    if outer.any || inner.any {
        return outer.any;
    }
    inner.protocols.is_subset(&outer.protocols)
        && inner.ports.iter().all(|(transport, ranges)| {
            outer.protocols.contains(&transport.protocol())
                || outer.ports.get(transport).is_some_and(|outer| {
                    ranges.iter().all(|range| {
                        let wider = |o: &std::ops::RangeInclusive<u16>| {
                            o.start() <= range.start() && range.end() <= o.end()
                        };
                        outer.iter().any(wider)
                    })
                })
        })
}
