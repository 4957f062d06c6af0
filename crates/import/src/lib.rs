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
mod built_in;
mod condition;
mod draft;
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

pub use json::{ParseError, parse};
pub use walk::TooLong;

use condition::{Names, set_id};
use draft::{Entry, entries};
use hook::Hooks;
use owner::Owner;
use ruleset::Family;
use ruleset::listing::{ListedTable, Listing, TableFamily};
use std::fmt;
use std::net::IpAddr;
use tier::{Tier, Tiers, stem};

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
    /// Allows that let through more than the tables did.
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
    if let Some(role) = options.role.as_ref().filter(|role| !policy::is_name(role)) {
        return Err(DraftError::BadRole(role.clone()));
    }
    let mut names = Names::default();
    let hooks = Hooks::new(tables, &mut names)?;
    if hooks.sides.iter().all(|side| side.chains.is_empty()) {
        return Err(DraftError::NothingFiltered);
    }
    let mut owner = Owner { addresses: options.addresses.clone(), ..Owner::default() };
    if let Some(role) = &options.role {
        owner.sets = sets_of_role(tables, role);
    }
    let entries = entries(&hooks, &owner, &names);
    let mut tiers = Tiers::new(tables, &entries);
    let role = role(&mut tiers, &owner, options);
    let text = write::Policy {
        source: &options.source,
        tables: tables
            .iter()
            .map(|table| format!("table {} {}", table.family, table.name))
            .collect(),
        role: &role,
        hooks: &hooks,
        tiers: &tiers,
        names: &names,
        entries: &entries,
    }
    .text();
    let timed: usize = tiers.list.iter().map(|tier| tier.timed).sum();
    let mut summary = summary(hooks.others.iter().chain(&entries));
    if timed > 0 {
        let members = format!("{timed} member{} of sets", if timed == 1 { "" } else { "s" });
        summary.not_imported.push((members, "they end by themselves".into()));
    }
    Ok(Draft { text, summary })
}

/// The sets that are the role by their name, as they stand or without the mark of a family.
fn sets_of_role(tables: &[ListedTable], role: &str) -> std::collections::BTreeSet<String> {
    let mut sets = std::collections::BTreeSet::new();
    for (number, table) in tables.iter().enumerate() {
        for name in table.sets.keys() {
            let id = set_id(number, name);
            if name == role || Family::BOTH.iter().any(|family| stem(&id, *family) == role) {
                sets.insert(id);
            }
        }
    }
    sets
}

/// The tiers of this server: those of the role's sets, or a new one.
fn role(tiers: &mut Tiers, owner: &Owner, options: &Options) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    for id in &owner.sets {
        if let Some(tier) = tiers.of_set(id).filter(|tier| !known.iter().any(|k| k == tier)) {
            known.push(tier.to_owned());
        }
    }
    if !known.is_empty() {
        return known;
    }
    let wanted = options.role.as_deref().or(options.host.as_deref()).unwrap_or("server");
    let name = tiers.free(wanted);
    let (v4, v6) = (owner.ranges(Family::V4), owner.ranges(Family::V6));
    let is_known = !v4.is_empty() || !v6.is_empty();
    let note = match is_known {
        true => {
            "This server alone. Where a tier holds it, name that one in `role` and in the allows."
        }
        false => "This server: write its addresses here.",
    };
    tiers.list.push(Tier {
        name: name.clone(),
        v4,
        v6,
        sets: vec![],
        timed: 0,
        note: Some(note.into()),
    });
    vec![name]
}

fn summary<'e>(entries: impl Iterator<Item = &'e Entry>) -> Summary {
    let mut summary = Summary::default();
    for entry in entries {
        match entry {
            Entry::Allow(allow) => {
                summary.allows += 1;
                summary.wider += usize::from(!allow.heedless_of.is_empty());
            }
            Entry::BuiltIn { .. } => summary.built_in += 1,
            Entry::Lost(lost) => summary.not_imported.push((lost.rule.clone(), lost.why.clone())),
            Entry::Chain(_) | Entry::Denied { .. } | Entry::Dead { .. } => {}
        }
    }
    summary
}
