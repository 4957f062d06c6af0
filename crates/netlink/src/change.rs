//! What one notification says: which object of which table was added or deleted.
//!
//! A transaction can have millions of these. [`Changes`] keeps a few and counts the others, and
//! allocates nothing for those it doesn't keep.

use crate::attribute::{Attribute, Malformed, Table as Fields};
use crate::connection::nft;
use crate::message::Message;
use crate::refusal::Verb;
use crate::uapi::*;
use ruleset::TABLE;
use std::fmt;

/// How many changes of a transaction are kept.
const MOST_KEPT: usize = 64;

/// An object that was added to a table or deleted from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The table's family, as `nft` names it.
    pub family: &'static str,
    /// The table.
    pub table: String,
    /// Whether that is the table `inet filter`.
    pub ours: bool,
    /// [`Verb::Add`] or [`Verb::Delete`]. A chain's or table's change is announced as an addition
    /// too.
    pub verb: Verb,
    /// What was added or deleted.
    pub object: Object,
}

/// What a table has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Object {
    /// The table itself.
    Table,
    Chain(String),
    /// A rule, by its chain and the kernel's number for it.
    Rule {
        chain: String,
        handle: u64,
    },
    Set(String),
    /// Elements of a set. The end of an interval is not counted.
    Elements {
        set: String,
        count: usize,
    },
    /// A counter, quota or the like.
    Stateful(String),
    FlowTable(String),
}

/// `delete rule in chain input (handle 12) of inet filter`
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, verb, object, .. } = self;
        match object {
            Object::Table => write!(f, "{verb} table {family} {table}"),
            object => write!(f, "{verb} {object} of {family} {table}"),
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table => f.write_str("table"),
            Self::Chain(chain) => write!(f, "chain {chain}"),
            Self::Rule { chain, handle } => write!(f, "rule in chain {chain} (handle {handle})"),
            Self::Set(set) => write!(f, "set {set}"),
            Self::Elements { set, count: 1 } => write!(f, "an element of set {set}"),
            Self::Elements { set, count } => write!(f, "{count} elements of set {set}"),
            Self::Stateful(name) => write!(f, "object {name}"),
            Self::FlowTable(name) => write!(f, "flow table {name}"),
        }
    }
}

/// The changes of a transaction so far.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) kept: Vec<Change>,
    /// How many more there were.
    pub(crate) more: usize,
    /// Whether any was of our table.
    pub(crate) ours: bool,
}

impl Changes {
    /// Takes one message of a notification. Kinds that are newer than this crate are left out.
    pub(crate) fn note(&mut self, message: &Message<'_>) -> Result<(), Malformed> {
        let Some((verb, kind)) = action(message.kind) else { return Ok(()) };
        let fields = message.table::<20>()?;
        let family = family(message.payload.first().copied());
        // Every kind of object has the name of its table first.
        let table = fields.require(NFTA_TABLE_NAME)?;
        let ours = family == "inet" && table.is_text(TABLE);
        self.ours |= ours;
        let elements = kind == NFT_MSG_DELSETELEM;
        let count = if elements { count(&fields)? } else { 1 };
        if elements {
            let set = fields.require(NFTA_SET_ELEM_LIST_SET)?;
            let same = |change: &&mut Change| {
                change.verb == verb && change.family == family && table.is_text(&change.table)
            };
            for change in self.kept.iter_mut().filter(same) {
                if let Object::Elements { set: name, count: sum } = &mut change.object
                    && set.is_text(name)
                {
                    *sum += count;
                    return Ok(());
                }
            }
        }
        if self.kept.len() >= MOST_KEPT {
            self.more += count;
            return Ok(());
        }
        let object = object(kind, &fields, count)?;
        self.kept.push(Change { family, table: table.text(), ours, verb, object });
        Ok(())
    }
}

/// What is done to which kind of object, by the name of the message that deletes it; none for kinds
/// that are no change of an object.
fn action(kind: u16) -> Option<(Verb, u16)> {
    const OBJECTS: [[u16; 3]; 7] = [
        [NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_DESTROYTABLE],
        [NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN, NFT_MSG_DESTROYCHAIN],
        [NFT_MSG_NEWRULE, NFT_MSG_DELRULE, NFT_MSG_DESTROYRULE],
        [NFT_MSG_NEWSET, NFT_MSG_DELSET, NFT_MSG_DESTROYSET],
        [NFT_MSG_NEWSETELEM, NFT_MSG_DELSETELEM, NFT_MSG_DESTROYSETELEM],
        [NFT_MSG_NEWOBJ, NFT_MSG_DELOBJ, NFT_MSG_DESTROYOBJ],
        [NFT_MSG_NEWFLOWTABLE, NFT_MSG_DELFLOWTABLE, NFT_MSG_DESTROYFLOWTABLE],
    ];
    let kinds = OBJECTS.iter().find(|kinds| kinds.iter().any(|known| nft(*known) == kind))?;
    let verb = if nft(kinds[0]) == kind { Verb::Add } else { Verb::Delete };
    Some((verb, kinds[1]))
}

/// `NFPROTO_…`, as `nft` names them.
fn family(number: Option<u8>) -> &'static str {
    match number {
        Some(NFPROTO_INET) => "inet",
        Some(NFPROTO_IPV4) => "ip",
        Some(NFPROTO_IPV6) => "ip6",
        Some(NFPROTO_ARP) => "arp",
        Some(NFPROTO_NETDEV) => "netdev",
        Some(NFPROTO_BRIDGE) => "bridge",
        _ => "unknown",
    }
}

fn object(kind: u16, fields: &Fields<'_, 20>, count: usize) -> Result<Object, Malformed> {
    let name = |kind| Ok(fields.require(kind)?.text());
    Ok(match kind {
        NFT_MSG_DELTABLE => Object::Table,
        NFT_MSG_DELCHAIN => Object::Chain(name(NFTA_CHAIN_NAME)?),
        NFT_MSG_DELRULE => Object::Rule {
            chain: name(NFTA_RULE_CHAIN)?,
            handle: fields.require(NFTA_RULE_HANDLE)?.u64()?,
        },
        NFT_MSG_DELSET => Object::Set(name(NFTA_SET_NAME)?),
        NFT_MSG_DELSETELEM => Object::Elements { set: name(NFTA_SET_ELEM_LIST_SET)?, count },
        NFT_MSG_DELFLOWTABLE => Object::FlowTable(name(NFTA_FLOWTABLE_NAME)?),
        _ => Object::Stateful(name(NFTA_OBJ_NAME)?),
    })
}

/// The number of elements in a message, without those that end an interval.
fn count(fields: &Fields<'_, 20>) -> Result<usize, Malformed> {
    let Some(list) = fields.get(NFTA_SET_ELEM_LIST_ELEMENTS) else { return Ok(0) };
    let mut count = 0;
    for element in list.nested() {
        let flags = element?.nested().flatten().find(|part| part.kind == NFTA_SET_ELEM_FLAGS);
        let flags = flags.map_or(Ok(0), Attribute::u32)?;
        count += usize::from(flags & NFT_SET_ELEM_INTERVAL_END == 0);
    }
    Ok(count)
}
