//! The tables of others, read for people: every rule in the words that there are for it.
//!
//! Where [`dump`](crate::Connection::dump) reads our own table to compare it, and keeps as bytes what
//! ours never has, this reads any table of the families `inet`, `ip` and `ip6` into a
//! [`Listing`], as `nft` would list it: `rule` turns registers into matches, `set` pairs the ends
//! of intervals. Nothing is left out: what isn't understood is a step with its expression's name.

mod field;
mod rule;
mod set;
#[cfg(test)]
mod tests;

use crate::attribute::Attribute;
use crate::connection::{Connection, nft};
use crate::dump::Attempt;
use crate::error::Error;
use crate::socket::Consistency;
use crate::uapi::*;
use crate::userdata;
use rule::RuleReader;
use ruleset::listing::{ListedBase, ListedChain, ListedTable, Listing, TableFamily};
use set::{RawSet, raw_element};
use std::collections::BTreeMap;

const FAMILIES: [(u8, TableFamily); 3] = [
    (NFPROTO_INET, TableFamily::Inet),
    (NFPROTO_IPV4, TableFamily::Ip),
    (NFPROTO_IPV6, TableFamily::Ip6),
];

impl Connection {
    /// Lists the tables of which `wanted` is true; of the others, only that they are there.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when others change the ruleset faster than it can be read.
    pub fn listing(
        &mut self,
        wanted: impl Fn(&TableFamily, &str) -> bool,
    ) -> Result<Listing, Error> {
        self.steadily(|connection, _| {
            let mut listing = Listing::default();
            for (number, family) in FAMILIES {
                let mut names = Vec::new();
                let consistency =
                    connection.list_of("tables", NFT_MSG_GETTABLE, number, &[], |message| {
                        if message.kind == nft(NFT_MSG_NEWTABLE) {
                            let fields = message.table::<12>()?;
                            names.push(fields.require(NFTA_TABLE_NAME)?.text());
                        }
                        Ok(())
                    })?;
                if consistency == Consistency::Interrupted {
                    return Ok(Attempt::Disturbed);
                }
                for name in names {
                    let mut table = ListedTable::new(family.clone(), &name);
                    if wanted(&family, &name) && !connection.list_table(number, &mut table)? {
                        return Ok(Attempt::Disturbed);
                    }
                    listing.tables.push(table);
                }
            }
            Ok(Attempt::Read(listing))
        })
    }

    /// Fills a table. Whether nothing changed meanwhile.
    fn list_table(&mut self, family: u8, table: &mut ListedTable) -> Result<bool, Error> {
        let name = table.name.clone();
        let mut is_steady = true;
        let mut note = |consistency| is_steady &= consistency == Consistency::Consistent;
        note(self.list_of("chains", NFT_MSG_GETCHAIN, family, &[], |message| {
            let fields = message.table::<16>()?;
            let is_here = fields.require(NFTA_CHAIN_TABLE)?.is_text(&name);
            if message.kind == nft(NFT_MSG_NEWCHAIN) && is_here {
                let policy = fields.get(NFTA_CHAIN_POLICY).map(Attribute::u32).transpose()?;
                let base = match fields.get(NFTA_CHAIN_HOOK) {
                    None => None,
                    Some(hook) => {
                        let hook = hook.table::<8>()?;
                        Some(ListedBase {
                            kind: fields
                                .get(NFTA_CHAIN_TYPE)
                                .map(Attribute::text)
                                .unwrap_or_default(),
                            hook: hook_name(hook.require(NFTA_HOOK_HOOKNUM)?.u32()?),
                            priority: hook.u32_or_zero(NFTA_HOOK_PRIORITY)? as i32,
                            accepts: policy.is_none_or(|code| code as i32 != NF_DROP),
                        })
                    }
                };
                let name = fields.require(NFTA_CHAIN_NAME)?.text();
                table.chains.push(ListedChain { name, base, rules: Vec::new() });
            }
            Ok(())
        })?);
        let sets = self.raw_sets(family, &name, &mut note)?;
        let mut dynamic = Vec::new();
        note(self.list_of(
            "rules",
            NFT_MSG_GETRULE,
            family,
            &[(NFTA_RULE_TABLE, &name)],
            |message| {
                let fields = message.table::<16>()?;
                let is_here = fields.require(NFTA_RULE_TABLE)?.is_text(&name);
                if message.kind == nft(NFT_MSG_NEWRULE) && is_here {
                    let chain = fields.require(NFTA_RULE_CHAIN)?.text();
                    let mut reader = RuleReader::new(&table.family, &sets);
                    if let Some(list) = fields.get(NFTA_RULE_EXPRESSIONS) {
                        for expression in list.nested() {
                            reader.expression(expression?)?;
                        }
                    }
                    let userdata = fields.get(NFTA_RULE_USERDATA);
                    let comment = userdata.and_then(|data| userdata::text(data, userdata::COMMENT));
                    let (rule, fills) = reader.finish(comment);
                    dynamic.extend(fills);
                    let chain = table.chains.iter_mut().find(|known| known.name == chain);
                    if let Some(chain) = chain {
                        chain.rules.push(rule);
                    }
                }
                Ok(())
            },
        )?);
        for (name, set) in sets.into_iter().filter(|(_, set)| !set.is_anonymous) {
            let dynamic = dynamic.contains(&name);
            table.sets.insert(name, set.listed(dynamic));
        }
        Ok(is_steady)
    }

    /// The sets of a table, anonymous ones too, with their elements as the kernel has them.
    fn raw_sets(
        &mut self,
        family: u8,
        table: &str,
        note: &mut impl FnMut(Consistency),
    ) -> Result<BTreeMap<String, RawSet>, Error> {
        let mut sets = BTreeMap::new();
        let select = [(NFTA_SET_TABLE, table)];
        note(self.list_of("sets", NFT_MSG_GETSET, family, &select, |message| {
            let fields = message.table()?;
            let is_here = fields.require(NFTA_SET_TABLE)?.is_text(table);
            if message.kind == nft(NFT_MSG_NEWSET) && is_here {
                sets.insert(fields.require(NFTA_SET_NAME)?.text(), RawSet::decode(&fields)?);
            }
            Ok(())
        })?);
        for (name, set) in &mut sets {
            let select = [(NFTA_SET_ELEM_LIST_TABLE, table), (NFTA_SET_ELEM_LIST_SET, name)];
            note(self.list_of("elements", NFT_MSG_GETSETELEM, family, &select, |message| {
                let fields = message.table::<8>()?;
                if let Some(list) = fields.get(NFTA_SET_ELEM_LIST_ELEMENTS) {
                    for element in list.nested() {
                        set.elements.push(raw_element(element?)?);
                    }
                }
                Ok(())
            })?);
        }
        Ok(sets)
    }
}

/// The hooks of the families `inet`, `ip` and `ip6` (`enum nf_inet_hooks`).
fn hook_name(number: u32) -> String {
    const HOOKS: [&str; 6] = ["prerouting", "input", "forward", "output", "postrouting", "ingress"];
    let known = HOOKS.get(number as usize).copied();
    known.map_or_else(|| format!("hook {number}"), str::to_owned)
}
