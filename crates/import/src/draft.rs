//! From unrolled chains to what a policy says: the allows of both sides in the order of their
//! rules, and a word about each rule that became none.
//!
//! An allow never lets through more than the tables did, or it is marked. What is dropped in front
//! of an accept, or by another chain of the hook, is taken out of it where that is exact and short,
//! and else noted with a number at both places.

use crate::built_in;
use crate::condition::{Direction, Names};
use crate::entry::{Allow, Elsewhere, Entry, Lost};
use crate::hook::{Hooks, Side, Unrolled};
use crate::owner::Owner;
use crate::region::{Addresses, Beyond, Region};
use crate::service::words;
use crate::walk::{Action, Item};
use ruleset::Family;
use std::collections::BTreeSet;

/// An accept with drops taken out may come to as many allows.
const MOST_PARTS: usize = 4;
/// And name as many addresses that its rule didn't.
const MOST_RANGES: usize = 6;

/// Everything about the hooks of both sides, in order.
pub(crate) fn entries(hooks: &Hooks, owner: &Owner, names: &Names) -> Vec<Entry> {
    let mut entries = Vec::new();
    for side in &hooks.sides {
        let mut drafting = Drafting {
            side,
            owner,
            names,
            accepted: vec![],
            said: vec![],
            denials: vec![],
            entries: vec![],
        };
        for chain in &side.chains {
            drafting.chain(chain);
        }
        entries.extend(drafting.finish(entries_numbered(&entries)));
    }
    join_families(&mut entries);
    entries
}

/// How many numbers are taken.
fn entries_numbered(entries: &[Entry]) -> usize {
    let numbered = |entry: &&Entry| matches!(entry, Entry::Lost(Lost { number: Some(_), .. }));
    entries.iter().filter(numbered).count()
}

/// A drop or reject that packets met before, or meet in another chain.
struct Denial {
    region: Region,
    /// Its entry.
    at: usize,
}

struct Drafting<'a> {
    side: &'a Side,
    owner: &'a Owner,
    names: &'a Names,
    /// What was surely accepted before.
    accepted: Vec<Region>,
    /// What of that the policy says.
    said: Vec<Region>,
    denials: Vec<Denial>,
    entries: Vec<Entry>,
}

impl Drafting<'_> {
    fn chain(&mut self, chain: &Unrolled) {
        if !chain.items.is_empty() {
            self.entries.push(Entry::Chain(chain.title.clone()));
        }
        if chain.yields().next().is_some() && chain.closes() {
            self.second(chain);
        }
        let has_accepts = chain.has_accepts();
        for item in &chain.items {
            match item.action {
                Action::Log => {}
                Action::Other => {
                    let why = reasons(&item.regions);
                    self.entries.push(Entry::lost(&item.text, why));
                }
                Action::Drop | Action::Reject => {
                    self.denial(item, |family| has_accepts && !chain.decides(family));
                }
                Action::Accept => self.accept(item, |family| chain.decides(family)),
            }
        }
    }

    /// A chain that denies what it doesn't name, where another one decides.
    fn second(&mut self, chain: &Unrolled) {
        let why = "two chains of this hook deny what they don't name, a policy has one list; what \
                   both let through is what passed";
        let at = self.entries.len();
        self.entries.push(Entry::lost(&chain.title, why));
        self.denials.extend(chain.yields().map(|family| {
            let mut region = Region::all(family);
            let what = chain.title.clone();
            region.beyond.insert(Beyond { what, why, is_hygiene: false });
            Denial { region, at }
        }));
    }

    /// `is_vague` tells the families in which its chain may have accepted some of this before.
    fn denial(&mut self, item: &Item, is_vague: impl Fn(Family) -> bool) {
        let rule = &item.text;
        if item.regions.iter().all(built_in::dropped) {
            let rule = rule.clone();
            self.entries.push(Entry::BuiltIn { rule, differs: None, wider: false });
            return;
        }
        if item.regions.iter().all(|region| region.beyond.iter().any(|beyond| beyond.is_hygiene)) {
            let why = format!("{}; tierwall drops what is invalid", reasons(&item.regions));
            self.entries.push(Entry::lost(rule, why));
            return;
        }
        let at = self.entries.len();
        let direction = self.side.direction;
        // What of it is of no new connection is no allow's business.
        let regions: Vec<Region> = item
            .regions
            .iter()
            .flat_map(|region| less(region, &self.accepted))
            .filter(|part| part.has_new() && built_in::accepted(part, direction).is_none())
            .collect();
        self.denials.extend(regions.into_iter().map(|mut region| {
            if is_vague(region.family) {
                let (what, why) = (rule.clone(), "another chain of this hook drops it");
                region.beyond.insert(Beyond { what, why, is_hygiene: false });
            }
            Denial { region, at }
        }));
        if item.regions.iter().all(built_in::passes_anyway) {
            let why = "tierwall lets it through on every server";
            self.entries.push(Entry::lost(rule, why));
        } else if self.side.is_open {
            let why =
                "the chain lets through what no rule denies, and a policy denies nothing else";
            self.entries.push(Entry::lost(rule, why));
        } else {
            self.entries.push(Entry::Denied { rule: rule.clone() });
        }
    }

    /// In families other than those that `decides` tells, a chain accepts for itself only.
    fn accept(&mut self, item: &Item, decides: impl Fn(Family) -> bool) {
        let regions = || item.regions.iter().filter(|region| decides(region.family));
        if regions().next().is_none() {
            return;
        }
        let rule = &item.text;
        let (mut built_in, mut lost) = (Vec::new(), Vec::new());
        let mut allows: Vec<Allow> = Vec::new();
        let (mut said, mut is_dead, mut is_repeated) = (Vec::new(), true, false);
        for region in regions() {
            if let Some(known) = built_in::accepted(region, self.side.direction) {
                is_dead = false;
                built_in.push(known);
                continue;
            }
            let (parts, heedless_of) = self.without_denials(region);
            for part in parts {
                is_dead = false;
                match self.obstacle(&part) {
                    None if less(&part, &self.said).is_empty() => is_repeated = true,
                    None => {
                        allows.push(self.allow(&part, item, &heedless_of));
                        said.push(part);
                    }
                    Some(why) => lost.push((why, part)),
                }
            }
        }
        let is_lost = !lost.is_empty();
        // One that is lost in part is told as that.
        if !built_in.is_empty() && !is_lost {
            let widest = built_in.iter().max_by_key(|known| (known.wider, known.differs.is_some()));
            let (differs, wider) = widest.map_or((None, false), |it| (it.differs, it.wider));
            self.entries.push(Entry::BuiltIn { rule: rule.clone(), differs, wider });
        }
        if is_lost {
            let why: BTreeSet<&str> = lost.iter().map(|(why, _)| why.as_str()).collect();
            let mut why = why.into_iter().collect::<Vec<_>>().join("; ");
            if !built_in.is_empty() {
                why += "; the rest is built in";
            }
            let mut nearest: Vec<Allow> =
                lost.iter().filter_map(|(_, part)| self.nearest(part, item)).collect();
            join(&mut nearest);
            self.entries.push(Entry::Lost(Lost { rule: rule.clone(), why, nearest, number: None }));
        }
        self.said.append(&mut said);
        if is_dead || (is_repeated && allows.is_empty() && !is_lost && built_in.is_empty()) {
            self.entries.push(Entry::Dead { rule: rule.clone() });
        }
        join(&mut allows);
        self.entries.extend(allows.into_iter().map(Entry::Allow));
        let direction = self.side.direction;
        let is_sure = |region: &&Region| {
            region.beyond.is_empty() && built_in::accepted(region, direction).is_none()
        };
        self.accepted.extend(regions().filter(is_sure).cloned());
    }

    /// What of a region isn't denied before, and by which denials it may be all the same.
    fn without_denials(&self, region: &Region) -> (Vec<Region>, BTreeSet<usize>) {
        let mut parts = vec![region.clone()];
        let mut heedless_of = BTreeSet::new();
        for Denial { region: denied, at } in &self.denials {
            let less: Option<Vec<Vec<Region>>> =
                parts.iter().map(|part| part.minus(denied)).collect();
            let is_needed = |part: &Region| built_in::accepted(part, self.side.direction).is_none();
            let less: Option<Vec<Region>> =
                less.map(|parts| parts.into_iter().flatten().filter(is_needed).collect());
            match less {
                Some(less) if self.is_short(&less, region) => parts = less,
                _ => {
                    heedless_of.insert(*at);
                }
            }
        }
        (parts, heedless_of)
    }

    fn is_short(&self, parts: &[Region], whole: &Region) -> bool {
        let ranges = |addresses: &Addresses| match addresses.set {
            Some(_) => 0,
            None => addresses.ranges.ranges().len(),
        };
        let count = |region: &Region| ranges(&region.source) + ranges(&region.target);
        parts.len() <= MOST_PARTS
            && parts.iter().all(|part| {
                count(part) <= count(whole) + MOST_RANGES
                    && (self.obstacle(part).is_none() || self.obstacle(whole).is_some())
            })
    }

    /// Why a policy can't say this.
    fn obstacle(&self, region: &Region) -> Option<String> {
        if !region.beyond.is_empty() {
            return Some(reasons(std::slice::from_ref(region)));
        }
        if !region.has_new() {
            return Some("tierwall drops what is invalid, and tracks every connection".into());
        }
        if !region.has_any_client() {
            return Some("an allow can't name a source port".into());
        }
        let (own, peer) = self.sides(region);
        if peer.is_complement_of_set() {
            return Some("an allow can't name everybody but the members of a set".into());
        }
        if !self.owner.is_all_of(own, region.family) {
            return Some(match own.is_group(region.family) {
                true => {
                    "it is for a group of hosts (multicast or broadcast), no address of this server"
                        .into()
                }
                false => "an allow can't name one of this server's own addresses".into(),
            });
        }
        if words(&region.service, self.names).is_none() {
            return Some(match region.is_icmp() {
                true => "a policy names ICMP as a whole, beside what is built in".into(),
                false => "a policy names services, not all but some".into(),
            });
        }
        crate::service::users(&region.users, self.names)
            .is_none()
            .then(|| "an allow names users, not all but some".into())
    }

    /// The region with whatever can't be said left out, where that is an allow.
    fn nearest(&self, region: &Region, item: &Item) -> Option<Allow> {
        let mut region = region.clone();
        let all = Region::all(region.family);
        region.beyond.clear();
        region.client = all.client;
        match self.side.direction {
            Direction::Input => region.target = all.target,
            Direction::Output => region.source = all.source,
        }
        let is_known = built_in::accepted(&region, self.side.direction).is_some();
        (!is_known && self.obstacle(&region).is_none())
            .then(|| self.allow(&region, item, &BTreeSet::new()))
    }

    /// This server's side of the region, and the other.
    fn sides<'r>(&self, region: &'r Region) -> (&'r Addresses, &'r Addresses) {
        match self.side.direction {
            Direction::Input => (&region.target, &region.source),
            Direction::Output => (&region.source, &region.target),
        }
    }

    fn allow(&self, region: &Region, item: &Item, heedless_of: &BTreeSet<usize>) -> Allow {
        let (_, peer) = self.sides(region);
        Allow {
            direction: self.side.direction,
            name: item.comment.clone(),
            peers: BTreeSet::from([(region.family, peer.clone())]),
            service: region.service.clone(),
            users: region.users.clone(),
            heedless_of: heedless_of.clone(),
            elsewhere: Elsewhere::default(),
        }
    }

    /// The entries, with numbers for the denials that allows don't heed.
    fn finish(mut self, mut taken: usize) -> Vec<Entry> {
        let mut numbers = std::collections::BTreeMap::new();
        for entry in &self.entries {
            if let Entry::Allow(allow) = entry {
                for at in &allow.heedless_of {
                    numbers.entry(*at).or_insert(0);
                }
            }
        }
        for (at, number) in &mut numbers {
            taken += 1;
            *number = taken;
            let rule = match &self.entries[*at] {
                Entry::Denied { rule } => {
                    Entry::lost(rule, "a policy denies nothing that is allowed")
                }
                entry => entry.clone(),
            };
            self.entries[*at] = match rule {
                Entry::Lost(lost) => Entry::Lost(Lost { number: Some(taken), ..lost }),
                entry => entry,
            };
        }
        for entry in &mut self.entries {
            if let Entry::Allow(allow) = entry {
                allow.heedless_of = allow.heedless_of.iter().map(|at| numbers[at]).collect();
            }
        }
        self.entries
    }
}

/// What of a region is in none of the others, as far as that is short.
fn less(region: &Region, others: &[Region]) -> Vec<Region> {
    let mut parts = vec![region.clone()];
    for other in others {
        let rest: Option<Vec<Vec<Region>>> = parts.iter().map(|part| part.minus(other)).collect();
        match rest {
            Some(rest) if rest.iter().flatten().count() <= MOST_PARTS => {
                parts = rest.into_iter().flatten().collect();
            }
            _ => {}
        }
    }
    parts
}

fn reasons(regions: &[Region]) -> String {
    let all: BTreeSet<&str> =
        regions.iter().flat_map(|region| &region.beyond).map(|beyond| beyond.why).collect();
    all.into_iter().collect::<Vec<_>>().join("; ")
}

/// Makes few allows of those that one rule came to.
fn join(allows: &mut Vec<Allow>) {
    fold(allows, |a, b| {
        let joins = a.users == b.users && a.peers == b.peers;
        if joins {
            a.service = a.service.union(&b.service);
            a.heedless_of.extend(&b.heedless_of);
        }
        joins
    });
    fold(allows, |a, b| {
        let joins = a.users == b.users && a.service == b.service;
        if joins {
            a.peers.extend(b.peers.iter().cloned());
            a.heedless_of.extend(&b.heedless_of);
        }
        joins
    });
}

/// Takes each into the first that will have it.
fn fold(allows: &mut Vec<Allow>, mut takes: impl FnMut(&mut Allow, &Allow) -> bool) {
    let mut kept: Vec<Allow> = Vec::new();
    for allow in allows.drain(..) {
        if !kept.iter_mut().any(|one| takes(one, &allow)) {
            kept.push(allow);
        }
    }
    *allows = kept;
}

/// Makes one allow of a rule for IPv4 and the one for IPv6 that says the same.
fn join_families(entries: &mut Vec<Entry>) {
    let family = |allow: &Allow| {
        let families: BTreeSet<Family> = allow.peers.iter().map(|(family, _)| *family).collect();
        families.first().copied().filter(|_| families.len() == 1)
    };
    let mut at = 0;
    while at < entries.len() {
        let Entry::Allow(later) = &entries[at] else {
            at += 1;
            continue;
        };
        let later = later.clone();
        let twin = |entry: &Entry| match entry {
            Entry::Allow(one) => {
                one.direction == later.direction
                    && one.service == later.service
                    && one.users == later.users
                    && (one.name == later.name || later.name.is_none() || one.name.is_none())
                    && matches!((family(one), family(&later)), (Some(a), Some(b)) if a != b)
                    && are_twins(one, &later)
            }
            _ => false,
        };
        match entries[..at].iter().position(twin) {
            Some(first) => {
                if let Entry::Allow(one) = &mut entries[first] {
                    one.peers.extend(later.peers);
                    one.heedless_of.extend(later.heedless_of);
                    one.name = one.name.take().or(later.name);
                }
                entries.remove(at);
            }
            None => at += 1,
        }
    }
}

/// Whether the peers are the same ones by another family: everybody, one set by its two names, or
/// addresses.
fn are_twins(one: &Allow, other: &Allow) -> bool {
    let stems = |allow: &Allow| -> Vec<Option<String>> {
        let stem = |(family, peer): &(Family, Addresses)| match &peer.set {
            Some((id, _)) => Some(crate::tier::stem(id, *family)),
            None if peer.is_all(*family) => Some("*".to_owned()),
            None => None,
        };
        allow.peers.iter().map(stem).collect()
    };
    stems(one) == stems(other)
}
