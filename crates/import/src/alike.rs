//! Which of several hosts have the same rules, and what they are called together.

use crate::Options;
use crate::entry::{Allow, Entry, Lost};
use crate::hook::Hooks;
use crate::tier::Tiers;

/// The hosts by number, in groups that have the same entries and deny alike; in order.
pub(crate) fn groups(hooks: &[Hooks], entries: &[Vec<Entry>], tiers: &Tiers) -> Vec<Vec<usize>> {
    let told: Vec<Vec<Entry>> = entries.iter().map(|entries| by_tier(entries, tiers)).collect();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for host in 0..hooks.len() {
        let is_alike = |group: &&mut Vec<usize>| {
            group.first().is_some_and(|one| {
                told[*one] == told[host] && deny_alike(&hooks[*one], &hooks[host])
            })
        };
        match groups.iter_mut().find(is_alike) {
            Some(group) => group.push(host),
            None => groups.push(vec![host]),
        }
    }
    groups
}

fn deny_alike(one: &Hooks, other: &Hooks) -> bool {
    let sides = |hooks: &Hooks| -> Vec<_> {
        hooks.sides.iter().map(|side| (side.mode, side.deny, side.is_open)).collect()
    };
    (sides(one), one.forward, &one.others) == (sides(other), other.forward, &other.others)
}

/// The entries with tiers for sets, which have other names on each host.
fn by_tier(entries: &[Entry], tiers: &Tiers) -> Vec<Entry> {
    let mut entries = entries.to_vec();
    for entry in &mut entries {
        let allows: &mut [Allow] = match entry {
            Entry::Allow(allow) => std::slice::from_mut(allow),
            Entry::Lost(Lost { nearest, .. }) => nearest,
            _ => continue,
        };
        for allow in allows {
            let peers = std::mem::take(&mut allow.peers).into_iter().map(|(family, mut peer)| {
                if let Some((id, _)) = &mut peer.set
                    && let Some(tier) = tiers.of_set(id)
                {
                    *id = tier.to_owned();
                }
                (family, peer)
            });
            allow.peers = peers.collect();
        }
    }
    entries
}

/// What the names of all have in front of their numbers, or the name of the first.
pub(crate) fn name(options: &[&Options]) -> Option<String> {
    let names: Vec<&str> =
        options.iter().map(|options| options.host.as_deref()).collect::<Option<_>>()?;
    let (first, others) = names.split_first()?;
    if others.is_empty() {
        return Some((*first).to_owned());
    }
    let stem = |name: &str| {
        let cut = name.trim_end_matches(|c: char| c.is_ascii_digit());
        cut.trim_end_matches(['-', '_', '.']).to_owned()
    };
    let common = stem(first);
    let is_common = !common.is_empty() && others.iter().all(|name| stem(name) == common);
    Some(if is_common { common } else { (*first).to_owned() })
}
