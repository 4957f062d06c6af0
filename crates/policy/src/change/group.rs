//! Cells of a difference put together to the fewest rectangles: peers on one axis, services on the
//! other.

use crate::addresses::Addresses;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Above this many different sets of peers they aren't cut at each other's borders.
const CUT_UP_TO: usize = 32;

/// Splits overlapping sets of addresses into disjoint ones, each with the labels of all that hold it.
pub(super) fn blocks<L: Ord + Clone>(
    sets: impl IntoIterator<Item = (BTreeSet<L>, Addresses)>,
) -> Vec<(BTreeSet<L>, Addresses)> {
    let mut blocks: Vec<(BTreeSet<L>, Addresses)> = Vec::new();
    for (labels, mut left) in sets {
        let mut split = Vec::new();
        for (known, block) in &mut blocks {
            let common = block.meet(&left);
            if common.is_empty() {
                continue;
            }
            left = left.minus(&common);
            if common == *block {
                known.extend(labels.iter().cloned());
            } else {
                *block = block.minus(&common);
                split.push((known.union(&labels).cloned().collect(), common));
            }
        }
        blocks.extend(split);
        if !left.is_empty() {
            blocks.push((labels, left));
        }
    }
    blocks
}

/// The addresses at each piece of the services as rectangles, by the services that have the same
/// addresses or by the addresses that have the same services, whichever are fewer.
#[expect(clippy::mutable_key_type, reason = "what an address set caches isn't in its hash")]
pub(super) fn rectangles(cells: BTreeMap<usize, Addresses>) -> Vec<(Addresses, BTreeSet<usize>)> {
    let mut by_addresses: HashMap<Addresses, BTreeSet<usize>> = HashMap::new();
    for (piece, addresses) in cells {
        by_addresses.entry(addresses).or_default().insert(piece);
    }
    let mut by_service: Vec<(Addresses, BTreeSet<usize>)> = by_addresses.into_iter().collect();
    by_service.sort_by(|(_, a), (_, b)| a.cmp(b));
    if !(3..=CUT_UP_TO).contains(&by_service.len()) {
        return by_service;
    }
    let cut =
        blocks(by_service.iter().map(|(addresses, pieces)| (pieces.clone(), addresses.clone())));
    let mut by_peer: BTreeMap<BTreeSet<usize>, Vec<Addresses>> = BTreeMap::new();
    for (pieces, addresses) in cut {
        by_peer.entry(pieces).or_default().push(addresses);
    }
    match by_peer.len() < by_service.len() {
        true => {
            let join = |(pieces, parts): (_, Vec<Addresses>)| (parts.into_iter().collect(), pieces);
            by_peer.into_iter().map(join).collect()
        }
        false => by_service,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Member;

    fn set(members: &str) -> Addresses {
        let member = |text: &str| text.parse::<Member>().expect("a member").into();
        members.split(' ').map(member).collect()
    }

    #[test]
    fn the_way_with_fewer_lines_is_taken() {
        let same = BTreeMap::from([(0, set("10.0.0.1")), (1, set("10.0.0.1"))]);
        assert_eq!(rectangles(same), [(set("10.0.0.1"), BTreeSet::from([0, 1]))]);
        let crossed = BTreeMap::from([
            (0, set("10.0.0.1")),
            (1, set("10.0.0.1 10.0.0.3")),
            (2, set("10.0.0.3")),
        ]);
        let two = rectangles(crossed);
        assert!(two.contains(&(set("10.0.0.1"), BTreeSet::from([0, 1]))), "{two:?}");
        assert!(two.contains(&(set("10.0.0.3"), BTreeSet::from([1, 2]))), "{two:?}");
        assert_eq!(two.len(), 2);
    }
}
