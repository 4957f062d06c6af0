//! What suggestions have to open, read from the denials alone: written without a look at how
//! suggestions are made, and without the evaluator.

use policy::explain::Server;
use policy::model::{Policy, Tier};
use policy::suggest::{Denial, SCAN};
use policy::{Fate, Wanted};
use ruleset::{Address, AddressSet, Hook};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// A new connection as this server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    pub(crate) hook: Hook,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) wanted: Wanted,
    /// On output.
    pub(crate) user: Option<u32>,
}

impl From<&Denial> for Flow {
    fn from(denial: &Denial) -> Self {
        let Denial { mark, source, destination, wanted, user, .. } = *denial;
        Self { hook: mark.hook, source, destination, wanted, user }
    }
}

/// A tier, or one address.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Word {
    Tier(String),
    Address(IpAddr),
}

/// A denial that an allow can be written for.
#[derive(Debug)]
struct Said {
    flow: Flow,
    from: Word,
    to: Word,
    is_stranger: bool,
    is_scan: bool,
}

/// What a sample of denials asks for.
pub(crate) struct Spec<'a> {
    policy: &'a Policy,
    server: &'a Server,
    said: Vec<Said>,
    /// Whether what looks like an attack is to be opened too.
    with_doubtful: bool,
}

impl<'a> Spec<'a> {
    /// Of denials that the policy doesn't let through.
    pub(crate) fn new(
        policy: &'a Policy,
        server: &'a Server,
        denials: &[Denial],
        with_doubtful: bool,
    ) -> Self {
        let mut spec = Self { policy, server, said: Vec::new(), with_doubtful };
        let can_be =
            denials.iter().filter(|d| matches!(d.mark.fate, Fate::Denied | Fate::WouldDeny));
        spec.said = can_be.filter_map(|denial| spec.say(denial.into())).collect();
        for index in 0..spec.said.len() {
            let peer = |said: &Said| match said.flow.hook {
                Hook::Input => said.flow.source,
                _ => said.flow.destination,
            };
            let own = &spec.said[index];
            let same = spec
                .said
                .iter()
                .filter(|said| said.flow.hook == own.flow.hook && peer(said) == peer(own));
            let tried: BTreeSet<Wanted> = same.map(|said| said.flow.wanted).collect();
            spec.said[index].is_scan = tried.len() > SCAN;
        }
        spec
    }

    fn say(&self, flow: Flow) -> Option<Said> {
        let Wanted { protocol, detail } = flow.wanted;
        let has_ports = [6, 17, 33, 132, 136].contains(&protocol);
        let is_icmp = [1, 58].contains(&protocol);
        // Protocols whose numbers are ports that everybody knows.
        let is_port = policy::protocol_word(protocol).is_none();
        if is_icmp || (has_ports && detail.unwrap_or(0) == 0) || (!has_ports && is_port) {
            return None;
        }
        let (own, peer) = match flow.hook {
            Hook::Input => (flow.destination, flow.source),
            Hook::Output => (flow.source, flow.destination),
            _ => return None,
        };
        let is_own = self.server.addresses.contains(flow.source);
        if [own, peer].iter().any(|a| a.to_canonical() != *a) || flow.hook == Hook::Input && is_own
        {
            return None;
        }
        let mine = |name: &String| self.server.role.tiers.contains(name);
        let own =
            self.narrowest(own, |name, tier| mine(name) && tier.holds(own)).or_else(|| {
                let any = flow.hook == Hook::Output || !self.server.role.auto;
                self.narrowest(own, |name, _| any && mine(name))
            })?;
        let own = Word::Tier(own);
        let peer = match self.narrowest(peer, |_, tier| tier.holds(peer)) {
            Some(tier) => Word::Tier(tier),
            None => Word::Address(peer),
        };
        let is_stranger = flow.hook == Hook::Input && matches!(peer, Word::Address(_));
        let (from, to) = if flow.hook == Hook::Input { (peer, own) } else { (own, peer) };
        Some(Said { flow, from, to, is_stranger, is_scan: false })
    }

    /// Of the tiers that are groups and not the world.
    fn narrowest(&self, address: IpAddr, fits: impl Fn(&String, &Tier) -> bool) -> Option<String> {
        let sizes = |tier: &Tier| (size(&tier.v4), size(&tier.v6));
        let is_group = |tier: &Tier| sizes(tier).0 < 1 << 31 && sizes(tier).1 < 1 << 125;
        let tiers =
            self.policy.tiers.iter().filter(|(name, tier)| is_group(tier) && fits(name, tier));
        let order = |tier: &Tier| match (sizes(tier), address.is_ipv4()) {
            ((v4, v6), true) => (v4, v6),
            ((v4, v6), false) => (v6, v4),
        };
        tiers.min_by_key(|(name, tier)| (order(tier), *name)).map(|(name, _)| name.clone())
    }

    fn counts(&self, said: &Said) -> bool {
        self.with_doubtful || !(said.is_stranger || said.is_scan)
    }

    /// Whether a flow of the sample is to pass.
    pub(crate) fn asks_for(&self, flow: &Flow) -> bool {
        self.said.iter().any(|said| said.flow == *flow && self.counts(said))
    }

    /// Whether a flow of the sample says that `flow` may pass.
    pub(crate) fn opens(&self, flow: &Flow) -> bool {
        let told = self.said.iter().filter(|said| self.counts(said));
        told.filter(|said| said.flow.wanted == flow.wanted).any(|said| match flow.hook {
            Hook::Input => {
                let own = self.is_own(&said.to)
                    && (!self.server.role.auto || self.means(&said.to, flow.destination));
                own && self.means(&said.from, flow.source)
            }
            Hook::Output => {
                let ends = self.is_own(&said.from) && self.means(&said.to, flow.destination);
                ends && self.has_user(said, flow.user)
            }
            _ => false,
        })
    }

    /// Whether the user of an outgoing flow is one of those of whom `said` tells.
    fn has_user(&self, said: &Said, user: Option<u32>) -> bool {
        if said.flow.hook == Hook::Output {
            return said.flow.user.is_none() || said.flow.user == user;
        }
        let is_doubtful = |said: &Said| (said.is_stranger, said.is_scan);
        let sent = self.said.iter().filter(|sent| {
            sent.flow.hook == Hook::Output
                && (&sent.from, &sent.to, sent.flow.wanted)
                    == (&said.from, &said.to, said.flow.wanted)
                && (is_doubtful(sent) == (false, false) || is_doubtful(sent) == is_doubtful(said))
        });
        let users: BTreeSet<Option<u32>> = sent.map(|sent| sent.flow.user).collect();
        users.is_empty() || users.contains(&None) || user.is_some() && users.contains(&user)
    }

    /// Whether a word stands for this server.
    fn is_own(&self, word: &Word) -> bool {
        matches!(word, Word::Tier(tier) if self.server.role.tiers.contains(tier))
    }

    fn means(&self, word: &Word, address: IpAddr) -> bool {
        match word {
            Word::Tier(tier) => self.policy.tiers[tier].holds(address),
            Word::Address(own) => *own == address,
        }
    }
}

fn size<A: Address>(set: &AddressSet<A>) -> u128 {
    set.ranges().map(|r| (r.last.to_number() - r.first.to_number()).saturating_add(1)).sum()
}
