//! A policy to start from, out of tables that people wrote.
//!
//! ```text
//! nft -j list ruleset ─ parse ─┐
//!                              ├─► Listing ─ walk ─► items ─ draft ─► entries ─ write ─► policy text
//! kernel ─ netlink ────────────┘
//! ```
//!
//! [`draft()`] unrolls the chains of input and output, and says with allows what they let through.
//! It never says more without a mark: what it can't say becomes a comment where the rule was, and
//! is counted in the [`Summary`]. The text it gives is a policy without errors, whatever the
//! tables say. No I/O.

#[cfg(test)]
mod agreement;
mod alike;
mod built_in;
mod condition;
mod draft;
mod elsewhere;
mod entry;
mod hook;
mod intervals;
mod json;
mod owner;
mod region;
mod service;
#[cfg(test)]
mod tests;
mod tier;
mod walk;
mod words;
mod write;
mod zones;

pub use json::{ParseError, parse, parse_host};
pub use walk::TooLong;

use condition::{Names, set_id};
use draft::entries;
use elsewhere::{Host, opened};
use entry::Entry;
use hook::Hooks;
use intervals::Intervals;
use owner::Owner;
use ruleset::Family;
use ruleset::listing::{ListedTable, Listing, TableFamily};
use std::fmt;
use std::net::IpAddr;
use tier::{Tier, Tiers, stem};
use write::Part;

/// What to import, and for whom.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// This server's tier: one of the tables' sets, or a new one.
    pub role: Option<String>,
    /// The name of a new tier for it, unless `role` says another.
    pub host: Option<String>,
    /// Its addresses; none where they aren't known.
    pub addresses: Vec<IpAddr>,
    /// Where the listing is from, for the heading.
    pub source: String,
    /// The other tables of its listing, which nobody asked for.
    pub unread: Vec<TableName>,
}

/// A table's name, as the command line spells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// Its family.
    pub family: TableFamily,
    /// Its name.
    pub name: String,
}

impl std::str::FromStr for TableName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (family, name) =
            text.split_once(['/', ' ']).ok_or("write FAMILY/NAME, such as ip/filter")?;
        match TableFamily::named(family) {
            TableFamily::Other(_) => Err("the family is inet, ip or ip6".into()),
            _ if name.is_empty() => Err("write FAMILY/NAME, such as ip/filter".into()),
            family => Ok(Self { family, name: name.to_owned() }),
        }
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.family, self.name)
    }
}

/// A policy to start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The policy file.
    pub text: String,
    /// What became of the rules.
    pub summary: Summary,
}

/// What became of the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The allows.
    pub allows: usize,
    /// Rules that tierwall needs no allow for.
    pub built_in: usize,
    /// What isn't in the policy, with the reason.
    pub not_imported: Vec<(String, String)>,
    /// Allows, and built-in traffic, that let through more than the tables did.
    pub wider: usize,
}

impl Summary {
    /// Whether the policy says all that the tables did.
    pub fn is_whole(&self) -> bool {
        self.not_imported.is_empty() && self.wider == 0
    }
}

/// Why there is no draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// The table isn't in the listing.
    #[error("there is no table {wanted}")]
    NoTable {
        /// The table.
        wanted: TableName,
        /// Those that there are.
        found: Vec<String>,
    },
    /// The tables filter neither input nor output.
    #[error("these tables have no chain of type filter on input or output")]
    NothingFiltered,
    /// The role can't be a tier's name.
    #[error("`{0}` can't be the name of a tier")]
    BadRole(String),
    /// A chain has no end.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// The tables to import, of those in a listing.
///
/// # Errors
/// When one isn't there.
pub fn choose(listing: Listing, wanted: &[TableName]) -> Result<Vec<ListedTable>, DraftError> {
    let mut chosen = Vec::new();
    for name in wanted {
        let is_it = |table: &&ListedTable| table.family == name.family && table.name == name.name;
        let table = listing.tables.iter().find(is_it).cloned();
        let none = || DraftError::NoTable {
            wanted: name.clone(),
            found: listing.tables.iter().map(|t| format!("{}/{}", t.family, t.name)).collect(),
        };
        chosen.push(table.ok_or_else(none)?);
    }
    Ok(chosen)
}

/// Writes a policy that lets through what the tables do.
///
/// # Errors
/// When they filter nothing, or nobody can follow their jumps.
pub fn draft(tables: &[ListedTable], options: &Options) -> Result<Draft, DraftError> {
    merge(&[(tables, options)])
}

/// The same for the tables of several hosts: one policy, with a tier for each host, or for those that
/// have the same rules.
///
/// # Errors
/// As [`draft()`] of any of them.
pub fn merge(hosts: &[(&[ListedTable], &Options)]) -> Result<Draft, DraftError> {
    let (mut names, mut first) = (Names::default(), 0);
    let (mut hooks, mut owners) = (Vec::new(), Vec::new());
    for (tables, options) in hosts {
        if let Some(role) = options.role.as_ref().filter(|role| !policy::is_name(role)) {
            return Err(DraftError::BadRole(role.clone()));
        }
        let of_host = Hooks::new(tables, first, &mut names)?;
        if of_host.sides.iter().all(|side| side.chains.is_empty()) {
            return Err(DraftError::NothingFiltered);
        }
        hooks.push(of_host);
        let role = options.role.as_ref();
        let sets = role.map(|role| sets_of_role(tables, first, role)).unwrap_or_default();
        owners.push(Owner { addresses: options.addresses.clone(), sets });
        first += tables.len();
    }
    let drafted = hooks.iter().zip(&owners).map(|(hooks, owner)| entries(hooks, owner, &names));
    let entries: Vec<Vec<Entry>> = drafted.collect();
    let tables: Vec<&[ListedTable]> = hosts.iter().map(|(tables, _)| *tables).collect();
    let mut tiers = Tiers::new(&tables, &entries);
    let ends: Vec<Host<'_>> = hosts
        .iter()
        .enumerate()
        .map(|(at, (_, options))| Host {
            name: &options.source,
            hooks: &hooks[at],
            entries: &entries[at],
            owner: &owners[at],
        })
        .collect();
    let mut parts = Vec::new();
    for group in alike::groups(&hooks, &entries, &tiers) {
        let options: Vec<&Options> = group.iter().map(|host| hosts[*host].1).collect();
        let owners: Vec<&Owner> = group.iter().map(|host| &owners[*host]).collect();
        let Some(host) = group.first() else { continue };
        let mut entries = entries[*host].clone();
        for entry in &mut entries {
            if let Entry::Allow(allow) = entry {
                let words = tiers.words(&allow.peers);
                let named = tiers.list.iter().filter(|tier| words.contains(&tier.name));
                allow.elsewhere = opened(allow, &named.collect::<Vec<_>>(), &group, &ends);
            }
        }
        parts.push(Part {
            hosts: options.iter().map(|options| options.source.as_str()).collect(),
            role: role(&mut tiers, &owners, &options, hosts.len() > 1),
            hooks: &hooks[*host],
            entries,
        });
    }
    let sources: Vec<&str> = hosts.iter().map(|(_, options)| options.source.as_str()).collect();
    let mut listed: Vec<String> = Vec::new();
    for table in tables.iter().copied().flatten() {
        let name = format!("table {} {}", table.family, table.name);
        if !listed.contains(&name) {
            listed.push(name);
        }
    }
    let timed: usize = tiers.list.iter().map(|tier| tier.timed).sum();
    let mut summary = summary(parts.iter().flat_map(Part::all));
    if timed > 0 {
        let members = format!("{timed} member{} of sets", if timed == 1 { "" } else { "s" });
        summary.not_imported.push((members, "they end by themselves".into()));
    }
    let source = &sources.join(", ");
    let mut unread: Vec<String> = Vec::new();
    for table in hosts.iter().flat_map(|(_, options)| &options.unread) {
        let table = table.to_string();
        if !unread.contains(&table) {
            unread.push(table);
        }
    }
    let policy =
        write::Policy { source, tables: listed, unread, tiers: &tiers, names: &names, parts };
    let text = policy.text();
    Ok(Draft { text, summary })
}

/// The sets that are the role by their name, as they stand or without the mark of a family.
fn sets_of_role(
    tables: &[ListedTable],
    first: usize,
    role: &str,
) -> std::collections::BTreeSet<String> {
    let mut sets = std::collections::BTreeSet::new();
    for (number, table) in (first..).zip(tables) {
        for name in table.sets.keys() {
            let id = set_id(number, name);
            if name == role || Family::BOTH.iter().any(|family| stem(&id, *family) == role) {
                sets.insert(id);
            }
        }
    }
    sets
}

/// The tiers of a server, or of servers with the same rules: those of the role's sets, among `several`
/// hosts the one that is made of their addresses, or a new one.
fn role(tiers: &mut Tiers, owners: &[&Owner], options: &[&Options], several: bool) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for id in owners.iter().flat_map(|owner| &owner.sets) {
        if let Some(tier) = tiers.of_set(id).filter(|tier| !known.iter().any(|k| k == tier)) {
            known.push(tier.to_owned());
        }
    }
    let [v4, v6] = Family::BOTH.map(|family| {
        let ranges = owners.iter().map(|owner| owner.ranges(family));
        ranges.fold(Intervals::default(), |all, ranges| all.union(&ranges))
    });
    if let [first, ..] = known.as_slice() {
        // On other servers they are how this one is known as a member.
        let held = |family| {
            let of = tiers.list.iter().filter(|tier| known.contains(&tier.name));
            of.fold(Intervals::default(), |all, tier| all.union(tier.ranges(family)))
        };
        let missing = [v4.minus(&held(Family::V4)), v6.minus(&held(Family::V6))];
        if missing.iter().any(|ranges| !ranges.is_empty())
            && let Some(tier) = tiers.list.iter_mut().find(|tier| tier.name == *first)
        {
            let [v4, v6] = &missing;
            (tier.v4, tier.v6) = (tier.v4.union(v4), tier.v6.union(v6));
            tier.note =
                Some("With this server's own addresses, which the table's set lacks.".into());
        }
        return known;
    }
    let unknown: Vec<&str> = owners
        .iter()
        .zip(options)
        .filter(|(owner, _)| owner.addresses.is_empty())
        .map(|(_, options)| options.source.as_str())
        .collect();
    if several && unknown.is_empty() {
        let is_it = |tier: &&Tier| tier.timed == 0 && (&tier.v4, &tier.v6) == (&v4, &v6);
        if let Some(tier) = tiers.list.iter().find(is_it) {
            return vec![tier.name.clone()];
        }
    }
    let given = options.first().and_then(|options| options.role.clone());
    let named = given.or_else(|| alike::name(options));
    let name = tiers.free(named.as_deref().unwrap_or("server"));
    let note = match (several, unknown.is_empty()) {
        (false, true) => {
            "This server alone. Where a tier holds it, name that one in `role` and in the allows."
                .to_owned()
        }
        (false, false) => "This server: write its addresses here.".to_owned(),
        (true, true) => "These servers, by their own addresses.".to_owned(),
        (true, false) => {
            let plain = |source: &&str| source.replace(policy::is_invisible, "?");
            let unknown: Vec<String> = unknown.iter().map(plain).collect();
            format!("Write the addresses here of {}.", unknown.join(", "))
        }
    };
    tiers.list.push(Tier { name: name.clone(), v4, v6, sets: vec![], timed: 0, note: Some(note) });
    vec![name]
}

fn summary<'e>(entries: impl Iterator<Item = &'e Entry>) -> Summary {
    let mut summary = Summary::default();
    for entry in entries {
        match entry {
            Entry::Allow(allow) => {
                summary.allows += 1;
                summary.wider += usize::from(allow.is_wider());
            }
            Entry::BuiltIn { wider, .. } => {
                summary.built_in += 1;
                summary.wider += usize::from(*wider);
            }
            Entry::Lost(lost) => summary.not_imported.push((lost.rule.clone(), lost.why.clone())),
            Entry::Chain(_) | Entry::Denied { .. } | Entry::Dead { .. } => {}
        }
    }
    summary
}
