//! Everything on the hooks of this network namespace, whoever made it: the tables of all families,
//! their chains, and what each rule can do with a packet.
//!
//! A rule is read only as far as it decides: where it may send a packet, and whether it applies to
//! every packet. What it matches isn't told. Verdict maps are read for the verdicts in them.
//!
//! Invariant: what isn't understood is taken for a condition, and never for the end of a packet.

mod rule;

use crate::attribute::{Attribute, Malformed};
use crate::connection::{Connection, Generation, nft};
use crate::dump::Attempt;
use crate::error::Error;
use crate::expression::verdict;
use crate::message::Message;
use crate::socket::Consistency;
use crate::table::{ChainHead, TableHead};
use crate::uapi::*;
use ruleset::{Base, States, TABLE, TABLE_COMMENT};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use rule::{Diversion, End, Map, Matches, Rule};

/// How many elements of a verdict map are read: reading takes time that grows with the square of
/// their number, and there are few different verdicts.
const MAP_LIMIT: usize = 20_000;

/// What packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// ARP.
    Arp,
    /// What a bridge passes on.
    Bridge,
    /// What arrives at or leaves an interface.
    Netdev,
    /// Another, by number.
    Other(u8),
}

impl Family {
    pub(crate) fn of(number: u8) -> Self {
        match number {
            NFPROTO_INET => Self::Inet,
            NFPROTO_IPV4 => Self::Ip,
            NFPROTO_IPV6 => Self::Ip6,
            NFPROTO_ARP => Self::Arp,
            NFPROTO_BRIDGE => Self::Bridge,
            NFPROTO_NETDEV => Self::Netdev,
            other => Self::Other(other),
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Inet => NFPROTO_INET,
            Self::Ip => NFPROTO_IPV4,
            Self::Ip6 => NFPROTO_IPV6,
            Self::Arp => NFPROTO_ARP,
            Self::Bridge => NFPROTO_BRIDGE,
            Self::Netdev => NFPROTO_NETDEV,
            Self::Other(number) => number,
        }
    }
}

/// As `nft` writes it.
impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet => f.write_str("inet"),
            Self::Ip => f.write_str("ip"),
            Self::Ip6 => f.write_str("ip6"),
            Self::Arp => f.write_str("arp"),
            Self::Bridge => f.write_str("bridge"),
            Self::Netdev => f.write_str("netdev"),
            Self::Other(number) => write!(f, "family {number}"),
        }
    }
}

/// A table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// The comment in its userdata.
    pub comment: Option<String>,
    /// Whether its hooks are unregistered: it does nothing.
    pub dormant: bool,
    /// The port of the netlink socket that owns it.
    pub owner: Option<u32>,
    /// Its chains, by name.
    pub chains: BTreeMap<String, Chain>,
    /// The ends in the verdict maps that its rules look in; but for what becomes of packets that
    /// connection tracking calls invalid. None in tierwall's own table, whose maps may be large.
    pub maps: BTreeMap<Map, BTreeSet<End>>,
}

impl Table {
    fn is_ours(&self, family: Family, name: &str) -> bool {
        (family, name) == (Family::Inet, TABLE) && self.comment.as_deref() == Some(TABLE_COMMENT)
    }
}

/// A chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain {
    /// Hook and policy; none for a chain that is only jumped to.
    pub base: Option<Base>,
    /// The interfaces that it is bound to; none for all.
    pub devices: Vec<String>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// All tables, by family and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Survey {
    /// The tables.
    pub tables: BTreeMap<(Family, String), Table>,
}

impl Survey {
    /// Whether the table of this family and name is one that tierwall made.
    pub fn is_ours(&self, family: Family, name: &str) -> bool {
        let table = self.tables.get(&(family, name.to_owned()));
        table.is_some_and(|table| table.is_ours(family, name))
    }
}

impl Connection {
    /// Reads what there is to know of all tables.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when others change the ruleset faster than it can be read.
    pub fn survey(&mut self) -> Result<Survey, Error> {
        self.steadily(Self::survey_once)
    }

    fn survey_once(&mut self, _: Generation) -> Result<Attempt<Survey>, Error> {
        let mut survey = Survey::default();
        let mut disturbed = false;
        let mut note = |consistency| disturbed |= consistency == Consistency::Interrupted;
        let all = NFPROTO_UNSPEC;

        note(self.list_of("tables", NFT_MSG_GETTABLE, all, &[], |message| {
            if message.kind == nft(NFT_MSG_NEWTABLE) {
                let fields = message.table()?;
                let TableHead { comment, flags, owner } = TableHead::decode(&fields)?;
                let dormant = flags & NFT_TABLE_F_DORMANT != 0;
                let table = Table { comment, dormant, owner, ..Table::default() };
                let key = (family(&message)?, fields.require(NFTA_TABLE_NAME)?.text());
                survey.tables.insert(key, table);
            }
            Ok(())
        })?);
        note(self.list_of("chains", NFT_MSG_GETCHAIN, all, &[], |message| {
            if message.kind == nft(NFT_MSG_NEWCHAIN) {
                let fields = message.table()?;
                let head = ChainHead::decode(&fields)?;
                let devices = devices(fields.get(NFTA_CHAIN_HOOK))?;
                let chain = Chain { base: head.base, devices, rules: Vec::new() };
                let table = (family(&message)?, fields.require(NFTA_CHAIN_TABLE)?.text());
                // Made since the tables were listed: then it is all read again.
                if let Some(table) = survey.tables.get_mut(&table) {
                    table.chains.insert(head.name, chain);
                }
            }
            Ok(())
        })?);
        note(self.list_of("rules", NFT_MSG_GETRULE, all, &[], |message| {
            if message.kind == nft(NFT_MSG_NEWRULE) {
                let fields = message.table()?;
                let table = (family(&message)?, fields.require(NFTA_RULE_TABLE)?.text());
                let chain = fields.require(NFTA_RULE_CHAIN)?.text();
                if let Some(table) = survey.tables.get_mut(&table)
                    && let Some(chain) = table.chains.get_mut(&chain)
                {
                    chain.rules.push(Rule::decode(&fields)?);
                }
            }
            Ok(())
        })?);
        if disturbed {
            return Ok(Attempt::Disturbed);
        }
        for ((family, name), table) in &mut survey.tables {
            if table.is_ours(*family, name) {
                continue;
            }
            let rules = table.chains.values().flat_map(|chain| &chain.rules);
            let looked_in: BTreeSet<Map> =
                rules.flat_map(|rule| rule.maps.iter().cloned()).collect();
            for map in looked_in {
                let ends = map_ends(*family, name, &map)?;
                table.maps.insert(map, ends);
            }
        }
        Ok(Attempt::Read(survey))
    }
}

/// The ends in a verdict map. It is read through a socket of its own, with which what is left
/// unread of it goes.
fn map_ends(family: Family, table: &str, map: &Map) -> Result<BTreeSet<End>, Error> {
    let select = [(NFTA_SET_ELEM_LIST_TABLE, table), (NFTA_SET_ELEM_LIST_SET, &map.name)];
    let (mut ends, mut count) = (BTreeSet::new(), 0);
    let mut connection = Connection::open()?;
    let take = |message: Message<'_>| {
        let fields = message.table::<8>()?;
        let list = fields.get(NFTA_SET_ELEM_LIST_ELEMENTS);
        let Some(list) = list.filter(|_| message.kind == nft(NFT_MSG_NEWSETELEM)) else {
            return Ok(());
        };
        for element in list.nested() {
            let fields = element?.table::<16>()?;
            count += 1;
            if map.by_state && is_invalid(fields.get(NFTA_SET_ELEM_KEY)) {
                continue;
            }
            ends.extend(fields.get(NFTA_SET_ELEM_DATA).and_then(verdict).map(End::from));
        }
        if count > MAP_LIMIT { Err(Malformed) } else { Ok(()) }
    };
    let answer = connection.list_of("elements", NFT_MSG_GETSETELEM, family.number(), &select, take);
    if count <= MAP_LIMIT {
        answer?;
    }
    Ok(ends)
}

/// Whether an element's key is the state `invalid`.
fn is_invalid(key: Option<Attribute<'_>>) -> bool {
    let value = key.and_then(|key| key.table::<3>().ok()?.get(NFTA_DATA_VALUE));
    value.is_some_and(|value| value.payload == States::INVALID.0.to_ne_bytes())
}

/// The family in a message's `nfgenmsg`.
fn family(message: &Message<'_>) -> Result<Family, Malformed> {
    message.payload.first().map(|number| Family::of(*number)).ok_or(Malformed)
}

fn devices(hook: Option<Attribute<'_>>) -> Result<Vec<String>, Malformed> {
    let Some(hook) = hook else { return Ok(Vec::new()) };
    let hook = hook.table::<8>()?;
    // Where there is one only, the kernel says so in both ways.
    match (hook.get(NFTA_HOOK_DEVS), hook.get(NFTA_HOOK_DEV)) {
        (Some(devices), _) => devices.nested().map(|device| device.map(Attribute::text)).collect(),
        (None, device) => Ok(device.map(Attribute::text).into_iter().collect()),
    }
}
