//! Who reaches whom on what under the policy as a whole: party by party, with the allows behind it.
//!
//! A connection between two servers of the policy passes two ends: the sender's must open it and the
//! receiver's accept it. One allow that names both does both; where two allows do it together
//! (`"*"` may open tcp/443 to `"any"`, and the web tier accepts it from `"any"`), the relation
//! holds what both have in common, of services and of addresses. What isn't in a tier is no server
//! of the policy: there only the other end counts. A side whose mode is off lets everything through,
//! one that observes counts as it would be enforced.
//!
//! This is the one view that no server has of itself, so it is made of the policy and not of a
//! table; a property test holds it against the tables of both ends
//! ([`explain`](Policy::explain)).

use crate::addresses::Addresses;
use crate::model::{Allow, Endpoint, Mode, Policy, Service, User};
use crate::role::tiers_of;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// One who opens connections, or to whom they are opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// The tier, the addresses, or `any`.
    pub name: String,
    /// What it is.
    pub kind: PartyKind,
    /// Its addresses; none for those that are in no tier and that no allow names.
    pub addresses: Option<Addresses>,
    /// The tiers that a server of it is in.
    tiers: BTreeSet<String>,
}

/// What a party is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartyKind {
    /// A tier.
    Tier,
    /// Addresses that an allow names and that aren't all in tiers, or one that somebody asked for.
    Addresses,
    /// All others.
    Any,
}

/// Something that gets through, from one party to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage<'p> {
    /// On what.
    pub service: Service,
    /// By whose programs, where not by everybody's.
    pub users: &'p [User],
    /// Those who send it, where these aren't all.
    pub from: Portion,
    /// Those who receive it, where these aren't all.
    pub to: Portion,
    /// What opens it at the sender's end.
    pub opened_by: Gate<'p>,
    /// What accepts it at the receiver's end.
    pub accepted_by: Gate<'p>,
}

/// How much of a party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Portion {
    /// All of it.
    All,
    /// These only; at least one.
    Some(Addresses),
}

/// What lets something through at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate<'p> {
    /// An allow.
    Allow(&'p Allow),
    /// The side is off.
    Off,
    /// It is no server of this policy.
    NoServer,
}

/// What gets from some parties to others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation<'p> {
    /// Those who send.
    pub senders: Vec<Party>,
    /// Those who receive.
    pub receivers: Vec<Party>,
    cells: Vec<Vec<Passage<'p>>>,
}

impl Party {
    fn tier(policy: &Policy, name: &str) -> Self {
        let addresses = policy.tiers.get(name).map(Addresses::of_tier).unwrap_or_default();
        let tiers = BTreeSet::from([name.to_owned()]);
        Self { name: name.into(), kind: PartyKind::Tier, addresses: Some(addresses), tiers }
    }

    /// One host by its address, with the tiers that hold it.
    pub fn host(policy: &Policy, address: IpAddr) -> Self {
        let tiers = tiers_of(policy, &[address]);
        let addresses = Some(Addresses::single(address));
        Self { name: address.to_string(), kind: PartyKind::Addresses, addresses, tiers }
    }

    /// A tier, or a host by its address; none where it is neither.
    pub fn named(policy: &Policy, text: &str) -> Option<Self> {
        match policy.tiers.contains_key(text) {
            true => Some(Self::tier(policy, text)),
            false => Some(Self::host(policy, text.parse().ok()?)),
        }
    }

    /// Everybody that the policy tells apart: each tier, addresses that allows name beside them, and
    /// all others.
    pub fn all(policy: &Policy) -> Vec<Self> {
        let mut parties: Vec<Self> =
            policy.tiers.keys().map(|name| Self::tier(policy, name)).collect();
        let in_tiers = Addresses::of_all_tiers(policy);
        for side in policy.allows.iter().flat_map(|allow| [&allow.from, &allow.to]) {
            let addresses = Addresses::of_literals(side);
            let is_known =
                |party: &Self| party.addresses.as_ref().is_some_and(|own| own.covers(&addresses));
            if !addresses.is_empty()
                && !in_tiers.covers(&addresses)
                && !parties.iter().any(is_known)
            {
                let (name, kind) = (addresses.to_string(), PartyKind::Addresses);
                let (addresses, tiers) = (Some(addresses), BTreeSet::new());
                parties.push(Self { name, kind, addresses, tiers });
            }
        }
        parties.push(Self {
            name: "any".into(),
            kind: PartyKind::Any,
            addresses: None,
            tiers: BTreeSet::new(),
        });
        parties
    }

    /// Whether it is a server that loads the policy.
    pub fn is_server(&self) -> bool {
        !self.tiers.is_empty()
    }

    /// The tiers that its servers are in.
    pub fn tiers(&self) -> impl Iterator<Item = &String> {
        self.tiers.iter()
    }

    /// How much of it a side of an allow means as the server that acts.
    fn own(&self, policy: &Policy, side: &Endpoint) -> Option<Portion> {
        if side.every_server || !side.tiers.is_disjoint(&self.tiers) {
            return Some(Portion::All);
        }
        self.portion(&Addresses::default(), side.tiers.iter(), policy)
    }

    /// How much of it a side of an allow means as the other side.
    fn peer(&self, policy: &Policy, side: &Endpoint) -> Option<Portion> {
        let all_tiers = side.every_server && self.is_server();
        if side.any || all_tiers || !side.tiers.is_disjoint(&self.tiers) {
            return Some(Portion::All);
        }
        let literals = Addresses::of_literals(side);
        match side.every_server {
            true => self.portion(&literals, policy.tiers.keys(), policy),
            false => self.portion(&literals, side.tiers.iter(), policy),
        }
    }

    /// How much of it is in `more` or one of `tiers`.
    fn portion<'t>(
        &self,
        more: &Addresses,
        tiers: impl Iterator<Item = &'t String>,
        policy: &Policy,
    ) -> Option<Portion> {
        let own = self.addresses.as_ref()?;
        let tiers = tiers.filter_map(|name| policy.tiers.get(name)).map(Addresses::of_tier);
        let common: Addresses = std::iter::once(more.clone())
            .chain(tiers)
            .filter(|set| set.intersects(own))
            .map(|set| own.meet(&set))
            .collect();
        match common.is_empty() {
            true => None,
            false if common.covers(own) => Some(Portion::All),
            false => Some(Portion::Some(common)),
        }
    }
}

/// One end of a passage: what lets it through, on what, from and to how much of each party.
struct Opening<'p> {
    gate: Gate<'p>,
    service: Service,
    users: &'p [User],
    from: Portion,
    to: Portion,
}

impl<'p> Relation<'p> {
    /// Of everybody that the policy tells apart.
    pub fn of(policy: &'p Policy) -> Self {
        Self::between(policy, Party::all(policy), Party::all(policy))
    }

    /// Of these.
    pub fn between(policy: &'p Policy, senders: Vec<Party>, receivers: Vec<Party>) -> Self {
        Self::of_ends(policy, senders, receivers, true)
    }

    /// What receivers would accept, whether or not the sender's own server opens it.
    pub fn accepted(policy: &'p Policy, senders: Vec<Party>, receivers: Vec<Party>) -> Self {
        Self::of_ends(policy, senders, receivers, false)
    }

    fn of_ends(
        policy: &'p Policy,
        senders: Vec<Party>,
        receivers: Vec<Party>,
        is_sender_asked: bool,
    ) -> Self {
        let sending = |party: &Party| {
            let ends = Ends::of(policy, party, |allow| &allow.from);
            Ends { is_server: ends.is_server && is_sender_asked, ..ends }
        };
        let sending: Vec<Ends> = senders.iter().map(sending).collect();
        let receiving: Vec<Ends> =
            receivers.iter().map(|party| Ends::of(policy, party, |allow| &allow.to)).collect();
        let cells = sending
            .iter()
            .flat_map(|from| receiving.iter().map(move |to| passages(policy, from, to)));
        let cells = cells.collect();
        Self { senders, receivers, cells }
    }

    /// What gets from one to the other, by their places in the lists. Passages may overlap.
    pub fn passages(&self, from: usize, to: usize) -> &[Passage<'p>] {
        self.cells.get(from * self.receivers.len() + to).map_or(&[], Vec::as_slice)
    }

    /// Every pair that something gets through.
    pub fn pairs(&self) -> impl Iterator<Item = (&Party, &Party, &[Passage<'p>])> {
        let pairs = self.senders.iter().enumerate().flat_map(move |(from, sender)| {
            let cells = self.receivers.iter().enumerate();
            cells.map(move |(to, receiver)| (sender, receiver, self.passages(from, to)))
        });
        pairs.filter(|(_, _, passages)| !passages.is_empty())
    }
}

/// What one side of each allow means of a party, which is asked once and not for each pair.
struct Ends {
    is_server: bool,
    /// As the server that acts, by the allow's index, where it does at all.
    own: Vec<(usize, Portion)>,
    /// As the other side, of every allow.
    peer: Vec<Option<Portion>>,
}

impl Ends {
    fn of(policy: &Policy, party: &Party, side: fn(&Allow) -> &Endpoint) -> Self {
        let sides = || policy.allows.iter().map(side).enumerate();
        let own = sides().filter_map(|(index, side)| Some((index, party.own(policy, side)?)));
        Self {
            is_server: party.is_server(),
            own: own.collect(),
            peer: sides().map(|(_, side)| party.peer(policy, side)).collect(),
        }
    }
}

fn passages<'p>(policy: &'p Policy, from: &Ends, to: &Ends) -> Vec<Passage<'p>> {
    if !from.is_server && !to.is_server {
        return Vec::new();
    }
    let everything = |gate| Opening {
        gate,
        service: Service { any: true, ..Service::default() },
        users: &[],
        from: Portion::All,
        to: Portion::All,
    };
    let opens = |(index, from): &(usize, Portion)| {
        let (allow, to) = (&policy.allows[*index], to.peer[*index].clone()?);
        let (gate, service) = (Gate::Allow(allow), allow.service.clone());
        Some(Opening { gate, service, users: &allow.users, from: from.clone(), to })
    };
    let accepts = |(index, to): &(usize, Portion)| {
        let (allow, from) = (&policy.allows[*index], from.peer[*index].clone()?);
        let (gate, service) = (Gate::Allow(allow), allow.service.clone());
        Some(Opening { gate, service, users: &[], from, to: to.clone() })
    };
    let opened: Vec<Opening<'p>> = match policy.mode.output {
        _ if !from.is_server => vec![everything(Gate::NoServer)],
        Mode::Off => vec![everything(Gate::Off)],
        _ => from.own.iter().filter_map(opens).collect(),
    };
    let accepted: Vec<Opening<'p>> = match policy.mode.input {
        _ if !to.is_server => vec![everything(Gate::NoServer)],
        Mode::Off => vec![everything(Gate::Off)],
        _ => to.own.iter().filter_map(accepts).collect(),
    };
    let mut passages = Vec::new();
    for opening in &opened {
        passages.extend(accepted.iter().filter_map(|accept| opening.through(accept)));
    }
    passages
}

impl<'p> Opening<'p> {
    /// What passes this end and that one.
    fn through(&self, accept: &Self) -> Option<Passage<'p>> {
        let service = self.service.meet(&accept.service);
        if service.is_empty() {
            return None;
        }
        Some(Passage {
            service,
            users: self.users,
            from: self.from.meet(&accept.from)?,
            to: self.to.meet(&accept.to)?,
            opened_by: self.gate,
            accepted_by: accept.gate,
        })
    }
}

impl Portion {
    fn meet(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::All, other) => Some(other.clone()),
            (own, Self::All) => Some(own.clone()),
            (Self::Some(own), Self::Some(other)) => {
                Some(own.meet(other)).filter(|both| !both.is_empty()).map(Self::Some)
            }
        }
    }

    /// Whether it is all.
    pub fn is_all(&self) -> bool {
        *self == Self::All
    }
}

impl Passage<'_> {
    /// Whether every member may send it to every member, by whatever program.
    pub fn is_for_all(&self) -> bool {
        self.from.is_all() && self.to.is_all() && self.users.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, load_text};
    use std::path::Path;

    fn policy(text: &str) -> Policy {
        let options = Options { check_permissions: false, ..Options::default() };
        load_text(Path::new("tierwall.toml"), text, &options).policy.expect("a policy")
    }

    const TIERS: &str = "[tiers]\nweb = [\"10.0.0.1-10.0.0.9\"]\napp = [\"10.0.1.1\"]\n";

    fn allow(from: &str, to: &str, service: &str) -> String {
        format!("[[allow]]\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"{service}\"\n")
    }

    /// One line for each pair.
    fn lines(text: &str) -> Vec<String> {
        let policy = policy(text);
        let relation = Relation::of(&policy);
        let pairs = relation.pairs().map(|(from, to, passages)| {
            let services = passages.iter().map(|passage| match passage.is_for_all() {
                true => passage.service.to_string(),
                false => format!("{} in part", passage.service),
            });
            let services: Vec<String> = services.collect();
            format!("{} > {}: {}", from.name, to.name, services.join("; "))
        });
        pairs.collect()
    }

    #[test]
    fn one_allow_opens_both_ends() {
        let text = TIERS.to_owned() + &allow("web", "app", "tcp/80");
        assert_eq!(lines(&text), ["web > app: tcp/80"]);
    }

    #[test]
    fn two_allows_open_what_they_have_in_common() {
        let text =
            TIERS.to_owned() + &allow("any", "app", "tcp/1-100") + &allow("*", "any", "tcp/50-200");
        assert_eq!(
            lines(&text),
            [
                "app > app: tcp/50-100",
                "app > any: tcp/50-200",
                "web > app: tcp/50-100",
                "web > any: tcp/50-200",
                "any > app: tcp/1-100",
            ]
        );
    }

    #[test]
    fn any_gives_nobody_egress() {
        let text = TIERS.to_owned() + &allow("any", "app", "tcp/80");
        assert_eq!(lines(&text), ["any > app: tcp/80"]);
        let off = format!("mode = {{ input = \"enforce\", output = \"off\" }}\n{text}");
        assert_eq!(
            lines(&off),
            [
                "app > app: tcp/80",
                "app > any: any",
                "web > app: tcp/80",
                "web > any: any",
                "any > app: tcp/80"
            ]
        );
    }

    #[test]
    fn addresses_of_a_tier_make_it_a_part() {
        let text = TIERS.to_owned() + &allow("app", "10.0.0.1", "tcp/80");
        // The web server itself accepts from no literal side of its own.
        assert_eq!(lines(&text), Vec::<String>::new());
        let text =
            TIERS.to_owned() + &allow("10.0.0.1", "app", "tcp/80") + &allow("web", "any", "tcp/80");
        assert_eq!(lines(&text), ["web > app: tcp/80 in part", "web > any: tcp/80"]);
    }

    #[test]
    fn addresses_beside_tiers_are_parties() {
        let text = TIERS.to_owned() + &allow("app", "198.51.100.4", "tcp/443");
        assert_eq!(lines(&text), ["app > 198.51.100.4: tcp/443"]);
    }

    #[test]
    fn a_host_is_in_every_tier_that_holds_it() {
        let text = TIERS.to_owned() + "both = [\"10.0.0.5\"]\n" + &allow("both", "app", "tcp/22");
        let policy = policy(&text);
        let of = |address: &str| {
            let host = Party::named(&policy, address).expect("a host");
            let relation = Relation::between(&policy, vec![host], Party::all(&policy));
            relation.pairs().count()
        };
        assert_eq!((of("10.0.0.5"), of("10.0.0.6")), (1, 0));
        assert_eq!(lines(&text), ["both > app: tcp/22", "web > app: tcp/22 in part"]);
    }
}
