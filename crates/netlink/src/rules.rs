//! The rules of every table, by their handles: what a step of a traced packet refers to.
//!
//! Sets aren't read, however large: this is as quick as the rules are few.

use crate::connection::{Connection, Generation, nft};
use crate::dump::Attempt;
use crate::error::Error;
use crate::message::Message;
use crate::rule::DumpedRule;
use crate::socket::Consistency;
use crate::survey::Family;
use crate::table::{ChainHead, TableHead};
use crate::uapi::*;
use ruleset::{Base, Rule, TABLE, TABLE_COMMENT};
use std::collections::BTreeMap;

/// The rules of every table, at one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllRules {
    /// When that was.
    pub generation: Generation,
    /// The tables by family and name.
    pub tables: BTreeMap<(Family, String), TableRules>,
}

/// The rules of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableRules {
    /// Whether tierwall made it.
    pub ours: bool,
    /// Its chains, by name.
    pub chains: BTreeMap<String, ChainRules>,
}

/// The rules of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainRules {
    /// Hook and policy; none for a chain that is only jumped to.
    pub base: Option<Base>,
    /// The rules in their order, each with the kernel's handle.
    pub rules: Vec<(u64, Rule)>,
}

impl ChainRules {
    /// The rule of that handle, and its place in the chain.
    pub fn rule(&self, handle: u64) -> Option<(usize, &Rule)> {
        let mut rules = self.rules.iter().enumerate();
        rules.find_map(|(index, (own, rule))| (*own == handle).then_some((index, rule)))
    }
}

impl AllRules {
    /// A chain.
    pub fn chain(&self, family: Family, table: &str, chain: &str) -> Option<&ChainRules> {
        self.tables.get(&(family, table.to_owned()))?.chains.get(chain)
    }
}

impl Connection {
    /// Reads the rules of every table, of all families.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when others change the ruleset faster than it can be read.
    pub fn all_rules(&mut self) -> Result<AllRules, Error> {
        self.steadily(Self::all_rules_once)
    }

    fn all_rules_once(&mut self, generation: Generation) -> Result<Attempt<AllRules>, Error> {
        let mut all = AllRules { generation, tables: BTreeMap::new() };
        let mut disturbed = false;
        let mut note = |consistency| disturbed |= consistency == Consistency::Interrupted;
        let every = NFPROTO_UNSPEC;
        let family = |message: &Message<'_>| message.payload.first().map(|byte| Family::of(*byte));
        note(self.list_of("tables", NFT_MSG_GETTABLE, every, &[], |message| {
            if let (true, Some(family)) = (message.kind == nft(NFT_MSG_NEWTABLE), family(&message))
            {
                let fields = message.table()?;
                let name = fields.require(NFTA_TABLE_NAME)?.text();
                let comment = TableHead::decode(&fields)?.comment;
                let ours = (family, name.as_str()) == (Family::Inet, TABLE)
                    && comment.as_deref() == Some(TABLE_COMMENT);
                all.tables.insert((family, name), TableRules { ours, ..TableRules::default() });
            }
            Ok(())
        })?);
        note(self.list_of("chains", NFT_MSG_GETCHAIN, every, &[], |message| {
            if let (true, Some(family)) = (message.kind == nft(NFT_MSG_NEWCHAIN), family(&message))
            {
                let fields = message.table()?;
                let table = (family, fields.require(NFTA_CHAIN_TABLE)?.text());
                let head = ChainHead::decode(&fields)?;
                // Made since the tables were listed: then it is all read again.
                if let Some(table) = all.tables.get_mut(&table) {
                    let chain = ChainRules { base: head.base, rules: Vec::new() };
                    table.chains.insert(head.name, chain);
                }
            }
            Ok(())
        })?);
        note(self.list_of("rules", NFT_MSG_GETRULE, every, &[], |message| {
            if let (true, Some(family)) = (message.kind == nft(NFT_MSG_NEWRULE), family(&message)) {
                let fields = message.table()?;
                let table = (family, fields.require(NFTA_RULE_TABLE)?.text());
                let DumpedRule { chain, handle, rule } = DumpedRule::decode(&fields)?;
                let chains = all.tables.get_mut(&table).map(|table| &mut table.chains);
                if let Some(chain) = chains.and_then(|chains| chains.get_mut(&chain)) {
                    chain.rules.push((handle, rule));
                }
            }
            Ok(())
        })?);
        Ok(if disturbed { Attempt::Disturbed } else { Attempt::Read(all) })
    }
}
