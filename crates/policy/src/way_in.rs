//! Ways in: the allows by which somebody may come in to administer a server.
//!
//! A text without any locks everybody out, whoever is in while it is applied. An allow counts if it
//! can let anybody in at all; whether anybody comes that way isn't known.

use crate::addresses::Addresses;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::model::{Allow, Endpoint, Mode, Policy, Service, Tier};
use crate::role::Role;
use ruleset::{Address, AddressRange, AddressSet, Transport};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How many allows or services a message names.
const NAMED: usize = 4;

/// A server, as far as ways into it go.
#[derive(Debug, Clone, Copy)]
pub struct Entered<'a> {
    /// Its part in the policy.
    pub role: &'a Role,
    /// Its own addresses; empty where they aren't known.
    pub own: &'a [IpAddr],
}

/// That a text takes the last way in on the services that the server is administered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostWayIn {
    services: Vec<String>,
    /// The last ways in, by their keys; none where everybody got in, since nothing was denied.
    before: Vec<String>,
    /// What those who came in by them may still reach, in words.
    other: Vec<String>,
}

impl fmt::Display for LostWayIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, before, other } = self;
        write!(
            f,
            "this would take the last way in: no allow lets anybody in on {}, by which \
             `[guard] services` says that this server is administered",
            services.join(", ")
        )?;
        match before.as_slice() {
            [] => f.write_str("; until now nothing is denied")?,
            before => write!(f, "; until now {} does", some(before))?,
        }
        f.write_str("\n  hint: allow it")?;
        if !other.is_empty() {
            write!(f, ", or name the port of sshd in `[guard] services`: {}", some(other))?;
        }
        f.write_str(
            "; `services = []` says that nobody has to get in, `--force` applies this text once",
        )
    }
}

impl Policy {
    /// The allows by which somebody else may come in to `server` on one of the TCP ports of
    /// `services`, whatever the mode.
    pub fn ways_in<'p>(&'p self, services: &Service, server: Entered<'_>) -> Vec<&'p Allow> {
        let others = Others::of(server.own);
        let is_way = |allow: &&Allow| {
            !allow.service.meet(services).is_empty() && self.lets_in(allow, server, &others)
        };
        self.allows.iter().filter(is_way).collect()
    }

    /// Whether nobody may come in to administer `server`: input denies what no allow lets in, and
    /// none does on `[guard] services`. Where that list is empty, nobody has to.
    pub fn has_no_way_in(&self, server: Entered<'_>) -> bool {
        self.mode.input == Mode::Enforce
            && !self.guarded.is_empty()
            && self.ways_in(&self.guarded, server).is_empty()
    }

    /// What the step from `before` to this policy takes, if that is the last way in. `before` is
    /// asked for this policy's services too.
    pub fn lost_way_in(
        &self,
        server: Entered<'_>,
        before: &Self,
        server_before: Entered<'_>,
    ) -> Option<LostWayIn> {
        if !self.has_no_way_in(server) {
            return None;
        }
        let ways = before.ways_in(&before.guarded.union(&self.guarded), server_before);
        if ways.is_empty() && before.mode.input == Mode::Enforce {
            return None;
        }
        // What everybody may reach is no service for administrators.
        let is_admin = |from: &Endpoint| {
            ways.iter().any(|way| (way.from.any || !from.any) && before.overlap(way, self, from))
        };
        let services = self.guarded.names();
        let keys = ways.iter().map(|allow| allow.key.to_string()).collect();
        let before = if before.mode.input == Mode::Enforce { keys } else { Vec::new() };
        let other = self.other_ways_in(server, is_admin);
        Some(LostWayIn { services, before, other })
    }

    /// On what else the peers that `is_meant` are let in, in words.
    fn other_ways_in(
        &self,
        server: Entered<'_>,
        is_meant: impl Fn(&Endpoint) -> bool,
    ) -> Vec<String> {
        let mut tcp = Service::default();
        tcp.ports.insert(Transport::Tcp, vec![1..=u16::MAX]);
        let ways = self.ways_in(&tcp, server).into_iter().filter(|allow| is_meant(&allow.from));
        let told = ways.map(|allow| {
            let on = allow.service.meet(&tcp).names();
            let (from, place) = (peers(&allow.from), &allow.location);
            format!("{from} may reach {} ({place})", some(&on))
        });
        told.collect()
    }

    /// Whether a peer of the allow `way` of this policy is one of the peers `from` of `other`.
    fn overlap(&self, way: &Allow, other: &Self, from: &Endpoint) -> bool {
        let all = |policy: &Self, side: &Endpoint| -> Addresses {
            let tiers = policy.tiers_meant(side).map(Addresses::of_tier);
            tiers.chain([Addresses::of_literals(side)]).collect()
        };
        way.from.any
            || from.any
            || !way.from.tiers.is_disjoint(&from.tiers)
            || all(self, &way.from).intersects(&all(other, from))
    }

    fn tiers_meant<'p>(&'p self, side: &'p Endpoint) -> impl Iterator<Item = &'p Tier> {
        let meant = |name: &String| side.every_server || side.tiers.contains(name);
        self.tiers.iter().filter(move |(name, _)| meant(name)).map(|(_, tier)| tier)
    }

    /// Whether `allow` lets somebody else in to `server`.
    fn lets_in(&self, allow: &Allow, server: Entered<'_>, others: &Others) -> bool {
        let Entered { role, own } = server;
        let acting: BTreeSet<&String> = role.tiers.intersection(&allow.to.tiers).collect();
        if !allow.to.every_server && acting.is_empty() {
            return false;
        }
        // Under `auto` an allow is for the addresses that its tiers hold, and they are of a family.
        let confined = role.auto && !allow.to.every_server && !own.is_empty();
        let holds = |address: &&IpAddr| {
            let tiers = acting.iter().filter_map(|name| self.tiers.get(*name));
            !confined || tiers.into_iter().any(|tier| tier.holds(address.to_canonical()))
        };
        let of_family = |v4: bool| !confined || own.iter().filter(holds).any(|a| a.is_ipv4() == v4);
        let from = &allow.from;
        let mut tiers = self.tiers_meant(from);
        let (v4, v6) = (of_family(true), of_family(false));
        (from.any && (v4 || v6))
            || v4 && others.v4_in(&from.v4)
            || v6 && others.v6_in(&from.v6)
            || tiers.any(|tier| v4 && others.v4_of(tier) || v6 && others.v6_of(tier))
    }
}

/// Warns of a policy that lets nobody in to administer `server`.
pub fn check_way_in(policy: &Policy, server: Entered<'_>) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    if policy.has_no_way_in(server) {
        let services = policy.guarded.names().join(", ");
        let message = format!(
            "no allow lets anybody in on {services}, by which `[guard] services` says that this \
             server is administered"
        );
        let other = policy.other_ways_in(server, |_| true);
        let hint = match other.is_empty() {
            true => "allow it; `services = []` says that nobody has to get in".to_owned(),
            false => format!(
                "allow it, or name the port of sshd in `[guard] services`: {}; `services = []` \
                 says that nobody has to get in",
                some(&other)
            ),
        };
        diagnostics.push(Diagnostic::warning("no-way-in", None, message).hint(hint));
    }
    diagnostics
}

/// Warns of ports that sshd listens on and `[guard] services` doesn't name, where it names any.
pub fn check_sshd(policy: &Policy, ports: &BTreeSet<u16>) -> Diagnostics {
    let mut diagnostics = Diagnostics::default();
    let is_guarded = |port: u16| {
        let ranges = policy.guarded.ports.get(&Transport::Tcp);
        ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&port)))
    };
    let words = |ports: &[String]| ports.join(", ");
    let missing = ports.iter().filter(|port| !is_guarded(**port));
    let missing: Vec<String> = missing.map(|port| format!("tcp/{port}")).collect();
    if !missing.is_empty() && !policy.guarded.is_empty() && policy.mode.input != Mode::Off {
        let message = format!(
            "sshd listens on {}, which `[guard] services` doesn't name: sessions there aren't \
             guarded",
            words(&missing)
        );
        let quoted: Vec<String> = ports.iter().map(|port| format!("\"tcp/{port}\"")).collect();
        let hint = format!("name where sshd listens: services = [{}]", words(&quoted));
        diagnostics.push(Diagnostic::warning("unguarded-sshd", None, message).hint(hint));
    }
    diagnostics
}

/// Everybody but a server itself.
struct Others {
    v4: AddressSet<Ipv4Addr>,
    v6: AddressSet<Ipv6Addr>,
}

impl Others {
    fn of(own: &[IpAddr]) -> Self {
        let own: Addresses = own.iter().copied().map(Addresses::single).collect();
        let loopback = AddressRange {
            first: Ipv4Addr::new(127, 0, 0, 0),
            last: Ipv4Addr::new(127, 255, 255, 255),
        };
        Self {
            v4: own.v4.union(&AddressSet::new(vec![loopback])),
            v6: own.v6.union(&AddressSet::new(vec![AddressRange::single(Ipv6Addr::LOCALHOST)])),
        }
    }

    fn v4_in(&self, set: &AddressSet<Ipv4Addr>) -> bool {
        reaches_beyond(&self.v4, set.ranges())
    }

    fn v6_in(&self, set: &AddressSet<Ipv6Addr>) -> bool {
        reaches_beyond(&self.v6, set.ranges())
    }

    /// For good or for a time.
    fn v4_of(&self, tier: &Tier) -> bool {
        let timed = tier.timed.v4.elements().map(|(range, _)| *range);
        self.v4_in(&tier.v4) || reaches_beyond(&self.v4, timed)
    }

    fn v6_of(&self, tier: &Tier) -> bool {
        let timed = tier.timed.v6.elements().map(|(range, _)| *range);
        self.v6_in(&tier.v6) || reaches_beyond(&self.v6, timed)
    }
}

/// Whether one of the ranges has an address beyond `own`: mostly the first has.
fn reaches_beyond<A: Address>(
    own: &AddressSet<A>,
    mut ranges: impl Iterator<Item = AddressRange<A>>,
) -> bool {
    ranges.any(|range| !own.covers(&AddressSet::new(vec![range])))
}

/// The other side of an allow, as a policy names it.
fn peers(side: &Endpoint) -> String {
    let Endpoint { any, every_server, tiers, v4, v6 } = side;
    let words = [(*any, "any"), (*every_server, "*")].into_iter().filter(|(is, _)| *is);
    let words = words.map(|(_, word)| word.to_owned());
    let literals = v4.ranges().map(|range| range.to_string());
    let literals = literals.chain(v6.ranges().map(|range| range.to_string()));
    // Of many, as many as are shown and one.
    let all: Vec<String> =
        words.chain(tiers.iter().cloned()).chain(literals).take(NAMED + 1).collect();
    match all.len() > NAMED {
        true => format!("{} and others", all[..NAMED].join(", ")),
        false => all.join(", "),
    }
}

/// The first of them.
fn some(all: &[String]) -> String {
    let shown = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AddedMember, Options, load_text};
    use std::path::Path;

    const OWN: &str = "10.0.1.20";

    fn policy(text: &str) -> Policy {
        load_text(Path::new("t.toml"), text, &Options::default()).policy.expect("a good policy")
    }

    fn own() -> Vec<IpAddr> {
        vec![OWN.parse().expect("an address")]
    }

    /// The role of this server, which has that address.
    fn app() -> Role {
        Role { tiers: ["app".to_owned()].into(), auto: true }
    }

    /// Whether somebody gets in by an allow with these lines, where `app` is this server alone and
    /// nobody is in `empty`.
    fn is_way(allow: &str) -> bool {
        let policy = policy(&format!(
            "[tiers]\nadmin = [\"10.0.0.5\"]\napp = [\"{OWN}\"]\nempty = []\nsix = \
             [\"2001:db8::1\"]\n[[allow]]\n{allow}"
        ));
        let role = app();
        !policy.has_no_way_in(Entered { role: &role, own: &own() })
    }

    #[test]
    fn a_way_in_is_what_may_let_somebody_else_in() {
        let on = |from: &str, to: &str, service: &str| {
            is_way(&format!("from = {from}\nto = {to}\nservice = {service}\n"))
        };
        assert!(on("\"admin\"", "\"app\"", "\"tcp/22\""));
        assert!(on("\"any\"", "\"*\"", "\"any\""));
        assert!(on("\"*\"", "\"app\"", "\"tcp\""));
        assert!(on("\"192.0.2.0/24\"", "\"app\"", "\"tcp/1-100\""));
        assert!(on("[\"empty\", \"admin\"]", "\"app\"", "[\"tcp/80\", \"tcp/22\"]"));
        // Bound to a user of the sender's, it is one all the same.
        assert!(is_way("from = \"admin\"\nto = \"app\"\nservice = \"tcp/22\"\nuser = \"root\"\n"));
        // Nobody, this server itself, another service, another server, another family.
        assert!(!on("\"empty\"", "\"app\"", "\"tcp/22\""));
        assert!(!on("\"app\"", "\"app\"", "\"tcp/22\""));
        assert!(!on(&format!("[\"{OWN}\", \"127.0.0.1\", \"::1\"]"), "\"app\"", "\"tcp/22\""));
        assert!(!on("\"any\"", "\"app\"", "[\"udp/22\", \"tcp/2222\"]"));
        assert!(!on("\"any\"", "\"admin\"", "\"tcp/22\""));
        assert!(!on("\"six\"", "\"app\"", "\"tcp/22\""));
        assert!(on("\"six\"", "\"*\"", "\"tcp/22\""));
    }

    #[test]
    fn who_is_a_member_for_a_time_may_come_in() {
        for (member, is_v4) in [("10.0.0.7", true), ("2001:db8::7", false)] {
            let text = format!("[tiers]\nempty = []\napp = []\n{}", {
                "[[allow]]\nfrom = \"empty\"\nto = \"*\"\nservice = \"tcp/22\"\n"
            });
            let (mut policy, role) = (policy(&text), app());
            let server = Entered { role: &role, own: &[] };
            assert!(policy.has_no_way_in(server));
            let added = AddedMember { tier: "empty", member, added: 1, until: Some(61) };
            policy = policy.with_added([added]);
            let timed = &policy.tiers["empty"].timed;
            assert_eq!((timed.v4.is_empty(), timed.v6.is_empty()), (!is_v4, is_v4));
            assert!(!policy.has_no_way_in(server), "{member}");
        }
    }

    fn lost(before: &str, after: &str) -> Option<String> {
        let of = |text: &str| {
            policy(&format!(
                "{text}[tiers]\nadmin = [\"10.0.0.5\"]\napp = [\"{OWN}\"]\nweb = [\"10.0.2.0/24\"]\n"
            ))
        };
        let (before, after, own) = (of(before), of(after), own());
        let (old, new) = (app(), app());
        let (old, new) = (Entered { role: &old, own: &own }, Entered { role: &new, own: &own });
        after.lost_way_in(new, &before, old).map(|lost| lost.to_string())
    }

    fn allow(from: &str, service: &str) -> String {
        format!("[[allow]]\nfrom = \"{from}\"\nto = \"app\"\nservice = \"{service}\"\n")
    }

    #[test]
    fn the_last_way_in_is_lost_once_and_the_other_ports_of_administrators_are_named() {
        let ssh = allow("admin", "tcp/22");
        let web = allow("web", "tcp/80");
        let told = lost(&ssh, &web).expect("lost");
        assert!(told.contains("on tcp/22") && told.contains("admin -> app tcp/22"), "{told}");
        assert!(!told.contains("tcp/80"), "web's are no administrators: {told}");
        let told = lost(&ssh, &format!("{web}{}", allow("admin", "tcp/2222"))).expect("lost");
        assert!(told.contains("admin may reach tcp/2222 (t.toml:5)"), "{told}");
        // One of several is none too many.
        let both = format!("{ssh}{}", allow("web", "tcp/22"));
        assert_eq!(lost(&both, &ssh), None);
        // What never was there isn't lost.
        assert_eq!(lost(&web, &web), None);
        assert_eq!(lost(&web, ""), None);
    }

    #[test]
    fn the_services_and_the_mode_say_what_is_a_way_in() {
        let ssh = allow("admin", "tcp/22");
        let guard =
            |services: &str, rest: &str| format!("{rest}[guard]\nservices = [{services}]\n");
        assert_eq!(lost(&ssh, &guard("", "")), None, "nobody has to get in");
        assert!(lost(&guard("", &ssh), "").is_some(), "of the services that are named now");
        assert!(lost(&ssh, &guard("\"tcp/2222\"", &ssh)).is_some());
        let moved = format!("{ssh}{}", allow("admin", "tcp/2222"));
        assert_eq!(lost(&ssh, &guard("\"tcp/2222\"", &moved)), None);
        let observe = "mode = \"observe\"\n";
        assert_eq!(lost(&ssh, observe), None);
        let told = lost(observe, "").expect("everybody got in");
        assert!(told.contains("nothing is denied"), "{told}");
    }

    #[test]
    fn a_port_of_sshd_that_is_not_guarded_is_warned_of() {
        let policy = |guard: &str| policy(&format!("[tiers]\napp = [\"{OWN}\"]\n{guard}"));
        let told = |guard: &str, ports: &[u16]| {
            check_sshd(&policy(guard), &ports.iter().copied().collect()).render(crate::Style::Plain)
        };
        let both = told("", &[22, 2222]);
        assert!(both.contains("tcp/2222, which"), "{both}");
        assert!(both.contains("services = [\"tcp/22\", \"tcp/2222\"]"), "{both}");
        assert_eq!(told("", &[22]), "");
        assert_eq!(told("[guard]\nservices = [\"tcp/2000-3000\"]\n", &[2222]), "");
        assert_eq!(told("[guard]\nservices = []\n", &[2222]), "", "nobody has to get in");
    }

    #[test]
    fn a_policy_without_one_is_warned_of() {
        let text = format!("[tiers]\napp = [\"{OWN}\"]\n{}", allow("any", "tcp/80"));
        let policy = policy(&text);
        let role = app();
        let told = check_way_in(&policy, Entered { role: &role, own: &own() });
        let told = told.render(crate::Style::Plain);
        assert!(told.contains("warning: ") && told.contains("any may reach tcp/80"), "{told}");
    }
}
