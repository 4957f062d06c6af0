//! The table at a glance: enough to tell whether it still is what was committed, at a cost that
//! doesn't grow with its sets.

use crate::connection::{Connection, Generation};
use crate::dump::Attempt;
use crate::error::Error;
use crate::ownership::Ownership;
use crate::socket::Consistency;
use nix::errno::Errno;
use ruleset::{Elements, Ruleset, Set, SetSpec, TABLE_COMMENT, Table};
use std::collections::BTreeMap;

/// What is known of the table without reading its sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSummary {
    /// The comment in its userdata.
    pub comment: Option<String>,
    /// `NFT_TABLE_F_…`
    pub flags: u32,
    /// The port of the netlink socket that owns it.
    pub owner: Option<u32>,
    /// What tierwall noted in it (`Table::state`).
    pub state: Option<String>,
    /// The number of its chains.
    pub chains: usize,
    /// The number of its rules.
    pub rules: usize,
    /// How its sets and maps are stored, by name.
    pub sets: BTreeMap<String, SetSpec>,
}

impl TableSummary {
    /// Whether the table bears our mark.
    pub fn is_ours(&self) -> bool {
        self.comment.as_deref() == Some(TABLE_COMMENT)
    }

    /// The table with its sets and nothing else, not even their elements: what a compiler has to
    /// know of an earlier one.
    pub fn outline(&self) -> Ruleset {
        let sets = self.sets.iter().map(|(name, spec)| {
            let elements = Elements::empty(spec);
            (name.clone(), Set { spec: spec.clone(), elements })
        });
        let (comment, sets) = (self.comment.clone(), sets.collect());
        Ruleset { table: Some(Table { comment, sets, ..Table::default() }) }
    }

    /// Whose it is, seen from the connection with this [port](Connection::port).
    pub fn ownership(&self, port: u32) -> Ownership {
        Ownership::of(self.flags, self.owner, port)
    }
}

impl Connection {
    /// Reads what there is to know of the table `inet filter` without reading its sets, and the
    /// generation that this is of.
    ///
    /// # Errors
    /// As [`dump`](Self::dump).
    pub fn summary(&mut self) -> Result<(Option<TableSummary>, Generation), Error> {
        self.steadily(|connection, generation| {
            let Some(head) = connection.table()? else {
                return Ok(Attempt::Read((None, generation)));
            };
            let (mut chains, mut rules, mut sets) = (0, 0, BTreeMap::new());
            let answers = [
                connection.chains(|_| chains += 1)?,
                connection.rules(|_| rules += 1)?,
                connection.sets(|name, spec| drop(sets.insert(name, spec)))?,
            ];
            if answers.contains(&Consistency::Interrupted) {
                return Ok(Attempt::Disturbed);
            }
            let state = connection.state()?;
            let (comment, flags, owner) = (head.comment, head.flags, head.owner);
            let summary = TableSummary { comment, flags, owner, state, chains, rules, sets };
            Ok(Attempt::Read((Some(summary), generation)))
        })
    }

    /// Reads the timed sets of the table `inet filter`, of which there are few elements: what the
    /// fingerprint in its state leaves out, since it changes by itself.
    ///
    /// # Errors
    /// As [`dump`](Self::dump).
    pub fn timed_sets(&mut self) -> Result<(BTreeMap<String, Set>, Generation), Error> {
        self.steadily(|connection, generation| {
            let mut sets = BTreeMap::new();
            let consistency = connection.sets(|name, spec| {
                let elements = Elements::empty(&spec);
                if elements.are_timed() {
                    sets.insert(name, Set { spec, elements });
                }
            });
            match consistency {
                Ok(Consistency::Consistent) => {}
                Ok(Consistency::Interrupted) => return Ok(Attempt::Disturbed),
                // There is no table.
                Err(Error::Refused { errno: Errno::ENOENT, .. }) => {}
                Err(error) => return Err(error),
            }
            for (name, set) in &mut sets {
                connection.fill(name, set, usize::MAX)?;
            }
            Ok(Attempt::Read((sets, generation)))
        })
    }
}
