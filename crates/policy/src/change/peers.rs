//! Addresses in the words of a policy: tiers if they are that, and whatever else there is.

use crate::addresses::Addresses;
use std::cmp::Reverse;
use std::fmt;

/// Tiers named in a line; those beyond are counted.
const TIERS_SHOWN: usize = 8;

/// The other side of what was opened or closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peers {
    /// Whether these are all addresses but those that are named.
    pub all_but: bool,
    /// Tiers.
    pub tiers: Vec<String>,
    /// Addresses besides them.
    pub addresses: Addresses,
}

/// What sets of addresses are called.
pub(super) type Names<'a> = [(&'a str, &'a Addresses)];

impl Peers {
    /// A tier whose members aren't known.
    pub(super) fn tier(name: &str) -> Self {
        Self { tiers: vec![name.into()], ..Self::default() }
    }

    /// The shortest that names all of `all` and nothing that isn't in `may`, and the addresses that
    /// it names. The first names are for those, the others for what is left out.
    pub(super) fn of(
        all: &Addresses,
        may: &Addresses,
        [names, others]: [&Names<'_>; 2],
    ) -> (Self, Addresses) {
        let every = Addresses::every();
        if may.covers(&every) {
            return (Self { all_but: true, ..Self::default() }, every);
        }
        let plain = Self::cover(all, all, names);
        if plain.0.parts() == 1 {
            return plain;
        }
        let wide = Self::cover(all, may, names);
        let (but, rest) = Self::cover(&every.minus(may), &every.minus(all), others);
        let but = (Self { all_but: true, ..but }, every.minus(&rest));
        [plain, wide, but].into_iter().min_by_key(|(peers, _)| peers.parts()).unwrap_or_default()
    }

    fn cover(all: &Addresses, may: &Addresses, names: &Names<'_>) -> (Self, Addresses) {
        let mut fitting: Vec<&(&str, &Addresses)> =
            names.iter().filter(|(_, set)| set.intersects(all) && may.covers(set)).collect();
        if fitting.len() > 1 {
            fitting.sort_by_cached_key(|(_, set)| Reverse(set.sizes()));
        }
        let (mut left, mut tiers, mut named) = (all.clone(), Vec::new(), Vec::new());
        for (name, set) in fitting {
            if set.intersects(&left) {
                left = left.minus(set);
                tiers.push((*name).to_owned());
                named.push((*set).clone());
            }
        }
        tiers.sort();
        named.push(left.clone());
        (Self { all_but: false, tiers, addresses: left }, named.into_iter().collect())
    }

    /// How long it is, as a reader counts.
    fn parts(&self) -> usize {
        let Self { all_but, tiers, addresses } = self;
        usize::from(*all_but) + tiers.len() + addresses.v4.len() + addresses.v6.len()
    }

    /// All of them, one word each; a single one if these are all but some.
    pub fn names(&self) -> Vec<String> {
        match self.all_but {
            true => vec![self.to_string()],
            false => self.tiers.iter().cloned().chain(self.addresses.ranges()).collect(),
        }
    }
}

/// The first few, and how many more there are.
impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { all_but, tiers, addresses } = self;
        let mut words: Vec<String> = tiers.iter().take(TIERS_SHOWN).cloned().collect();
        if let more @ 1.. = tiers.len() - words.len() {
            words.push(format!("{more} more tiers"));
        }
        if !addresses.is_empty() {
            words.push(addresses.to_string());
        }
        match all_but {
            true if words.is_empty() => return f.write_str("any"),
            true => f.write_str("any except ")?,
            false => {}
        }
        f.write_str(&words.join(", "))
    }
}
