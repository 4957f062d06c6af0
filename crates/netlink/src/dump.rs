//! Reading the table `inet filter` back from the kernel.
//!
//! A dump is many requests. Element dumps don't say when the ruleset changed during them, so the
//! generation before and after decides whether all of it is of one state; if not, it is read again,
//! a bounded number of times.

use crate::attribute::Malformed;
use crate::collect::{Collector, Obstacle};
use crate::connection::{Connection, Generation, nft};
use crate::error::Error;
use crate::message::Message;
use crate::rule::DumpedRule;
use crate::set;
use crate::socket::Consistency;
use crate::state;
use crate::table::{ChainHead, ObjectHead, TableHead};
use crate::uapi::*;
use nix::errno::Errno;
use ruleset::{Chain, Elements, Ruleset, STATE_SET, Set, TABLE, Table};
use std::collections::BTreeMap;

/// How often a dump is begun before giving up.
const ATTEMPTS: usize = 8;

/// The table in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelTable {
    /// What is in it.
    pub ruleset: Ruleset,
    /// What the kernel calls its rules.
    pub handles: Handles,
    /// The generation that it was read of.
    pub generation: Generation,
    /// The port of the netlink socket that owns the table.
    pub owner: Option<u32>,
    /// `NFT_TABLE_F_…`; 0 also where there is no table.
    pub flags: u32,
}

/// The kernel's handles of rules, by chain and place in the chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Handles {
    rules: BTreeMap<String, Vec<u64>>,
}

impl Handles {
    /// The handle of the rule at `index` in a chain.
    pub fn rule(&self, chain: &str, index: usize) -> Option<u64> {
        self.rules.get(chain)?.get(index).copied()
    }

    fn push(&mut self, chain: &str, handle: u64) {
        match self.rules.get_mut(chain) {
            Some(rules) => rules.push(handle),
            None => {
                self.rules.insert(chain.to_owned(), vec![handle]);
            }
        }
    }
}

/// What one attempt came to.
pub(crate) enum Attempt<T> {
    Read(T),
    /// The ruleset changed meanwhile.
    Disturbed,
}

impl Connection {
    /// Reads the table `inet filter`.
    ///
    /// Large sets are slow to read, at a cost that grows with the square of their size: seconds at
    /// 300,000 intervals.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when others change the ruleset faster than it can be read.
    pub fn dump(&mut self) -> Result<KernelTable, Error> {
        self.steadily(|connection, generation| connection.dump_once(generation, usize::MAX))
    }

    /// The same without the sets that hold more than `limit` elements: of those,
    /// [`Elements::Unread`] is all that is said, and reading them ends there.
    ///
    /// # Errors
    /// As [`dump`](Self::dump).
    pub fn dump_up_to(&mut self, limit: usize) -> Result<KernelTable, Error> {
        self.steadily(|connection, generation| connection.dump_once(generation, limit))
    }

    /// Reads only the handles of the rules of `inet filter`, which every commit of rules changes.
    ///
    /// # Errors
    /// As [`dump`](Self::dump).
    pub fn handles(&mut self) -> Result<(Handles, Generation), Error> {
        self.steadily(|connection, generation| {
            let mut handles = Handles::default();
            let consistency = connection.rules(|rule| handles.push(&rule.chain, rule.handle))?;
            Ok(match consistency {
                Consistency::Consistent => Attempt::Read((handles, generation)),
                Consistency::Interrupted => Attempt::Disturbed,
            })
        })
    }

    /// Packets and bytes that each named counter of `inet filter` has counted.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and when the kernel can't be asked.
    pub fn counters(&mut self) -> Result<BTreeMap<String, (u64, u64)>, Error> {
        let mut counters = BTreeMap::new();
        self.objects(|object| {
            if let ObjectHead::Counter { name, packets, bytes, .. } = object {
                counters.insert(name, (packets, bytes));
            }
        })?;
        Ok(counters)
    }

    pub(crate) fn steadily<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self, Generation) -> Result<Attempt<T>, Error>,
    ) -> Result<T, Error> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            let result = attempt(self, before);
            let unchanged = self.generation()? == before;
            match result {
                Ok(Attempt::Read(value)) if unchanged => return Ok(value),
                // Something that was listed first may be gone when it is asked for by name.
                Err(error) if unchanged => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Err(Error::Unsteady { what: "the ruleset", attempts: ATTEMPTS })
    }

    fn dump_once(
        &mut self,
        generation: Generation,
        limit: usize,
    ) -> Result<Attempt<KernelTable>, Error> {
        let Some(head) = self.table()? else {
            return Ok(Attempt::Read(KernelTable {
                ruleset: Ruleset::default(),
                handles: Handles::default(),
                generation,
                owner: None,
                flags: 0,
            }));
        };
        let mut table = Table { comment: head.comment.clone(), ..Table::default() };
        table.foreign.extend(head.foreign());
        let mut disturbed = false;
        let mut note = |consistency| disturbed |= consistency == Consistency::Interrupted;

        note(self.chains(|chain| {
            table.foreign.extend(chain.foreign);
            table.chains.insert(chain.name, Chain { base: chain.base, rules: Vec::new() });
        })?);
        note(self.objects(|object| match object {
            ObjectHead::Counter { name, comment, .. } => {
                if let Some(comment) = comment {
                    table.foreign.insert(format!("counter {name}: comment {comment:?}"));
                }
                table.counters.insert(name);
            }
            ObjectHead::Foreign(what) => {
                table.foreign.insert(what);
            }
        })?);
        note(self.flow_tables(|name| {
            table.foreign.insert(format!("flowtable {name}"));
        })?);
        let mut handles = Handles::default();
        note(self.rules(|DumpedRule { chain, handle, rule }| {
            handles.push(&chain, handle);
            table.chains.entry(chain).or_default().rules.push(rule);
        })?);
        note(self.sets(|name, spec| {
            let elements = Elements::empty(&spec);
            table.sets.insert(name, Set { spec, elements });
        })?);
        if disturbed {
            return Ok(Attempt::Disturbed);
        }
        if table.sets.get(STATE_SET).is_some_and(|set| set.spec == state::spec()) {
            // Where it holds anything else, it stays a set like any other.
            table.state = self.state()?;
            if table.state.is_some() {
                table.sets.remove(STATE_SET);
            }
        }
        let is_ours = table.is_ours();
        for (name, set) in &mut table.sets {
            match set.spec.dynamic {
                Some(_) if is_ours => continue,
                // What somebody else's holds is read, since it may have to be saved.
                Some(seconds) => {
                    set.spec.dynamic = None;
                    let timeout = format!("a default timeout of {} ms", seconds * 1000);
                    set.spec.foreign.extend(["the flag dynamic".to_owned(), timeout]);
                    set.elements = Elements::empty(&set.spec);
                }
                None => {}
            }
            self.fill(name, set, limit)?;
        }
        Ok(Attempt::Read(KernelTable {
            ruleset: Ruleset { table: Some(table) },
            handles,
            generation,
            owner: head.owner,
            flags: head.flags,
        }))
    }

    pub(crate) fn table(&mut self) -> Result<Option<TableHead>, Error> {
        let mut head = None;
        let answer =
            self.get("the table", NFT_MSG_GETTABLE, &[(NFTA_TABLE_NAME, TABLE)], |message| {
                if message.kind == nft(NFT_MSG_NEWTABLE) {
                    head = Some(TableHead::decode(&message.table()?)?);
                }
                Ok(())
            });
        match answer {
            Ok(_) => Ok(head),
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The kernel lists the chains of all tables of the family.
    pub(crate) fn chains(&mut self, mut take: impl FnMut(ChainHead)) -> Result<Consistency, Error> {
        self.list("chains", NFT_MSG_GETCHAIN, &[], |message| {
            let fields = message.table()?;
            if message.kind == nft(NFT_MSG_NEWCHAIN)
                && fields.require(NFTA_CHAIN_TABLE)?.is_text(TABLE)
            {
                take(ChainHead::decode(&fields)?);
            }
            Ok(())
        })
    }

    pub(crate) fn rules(&mut self, mut take: impl FnMut(DumpedRule)) -> Result<Consistency, Error> {
        self.list("rules", NFT_MSG_GETRULE, &[(NFTA_RULE_TABLE, TABLE)], |message| {
            let fields = message.table()?;
            if message.kind == nft(NFT_MSG_NEWRULE)
                && fields.require(NFTA_RULE_TABLE)?.is_text(TABLE)
            {
                take(DumpedRule::decode(&fields)?);
            }
            Ok(())
        })
    }

    fn objects(&mut self, mut take: impl FnMut(ObjectHead)) -> Result<Consistency, Error> {
        self.list("objects", NFT_MSG_GETOBJ, &[(NFTA_OBJ_TABLE, TABLE)], |message| {
            let fields = message.table()?;
            if message.kind == nft(NFT_MSG_NEWOBJ) && fields.require(NFTA_OBJ_TABLE)?.is_text(TABLE)
            {
                take(ObjectHead::decode(&fields)?);
            }
            Ok(())
        })
    }

    fn flow_tables(&mut self, mut take: impl FnMut(String)) -> Result<Consistency, Error> {
        let select = [(NFTA_FLOWTABLE_TABLE, TABLE)];
        self.list("flow tables", NFT_MSG_GETFLOWTABLE, &select, |message| {
            let fields = message.table::<8>()?;
            if message.kind == nft(NFT_MSG_NEWFLOWTABLE)
                && fields.require(NFTA_FLOWTABLE_TABLE)?.is_text(TABLE)
            {
                take(fields.require(NFTA_FLOWTABLE_NAME)?.text());
            }
            Ok(())
        })
    }

    pub(crate) fn sets(
        &mut self,
        mut take: impl FnMut(String, ruleset::SetSpec),
    ) -> Result<Consistency, Error> {
        self.list("sets", NFT_MSG_GETSET, &[(NFTA_SET_TABLE, TABLE)], |message| {
            let fields = message.table()?;
            if message.kind == nft(NFT_MSG_NEWSET) && fields.require(NFTA_SET_TABLE)?.is_text(TABLE)
            {
                let (name, spec) = set::decode(&fields)?;
                take(name, spec);
            }
            Ok(())
        })
    }

    /// Reads the elements of a set: again, as opaque ones, where they turn out to be such as ours
    /// never are.
    pub(crate) fn fill(&mut self, name: &str, set: &mut Set, limit: usize) -> Result<(), Error> {
        let what = match self.elements(name, set, limit)? {
            Ok(elements) => {
                set.elements = elements;
                return Ok(());
            }
            Err(Obstacle::Foreign(what)) => what,
            Err(Obstacle::Malformed) => return Err(Error::Malformed { what: "elements" }),
        };
        set.spec.foreign.push(what);
        let opaque = self.elements(name, set, usize::MAX)?;
        set.elements = opaque.map_err(|_| Error::Malformed { what: "elements" })?;
        Ok(())
    }

    fn elements(
        &mut self,
        name: &str,
        set: &Set,
        limit: usize,
    ) -> Result<Result<Elements, Obstacle>, Error> {
        let select = [(NFTA_SET_ELEM_LIST_TABLE, TABLE), (NFTA_SET_ELEM_LIST_SET, name)];
        let mut collector = Collector::new(&set.spec);
        let mut obstacle = None;
        let (mut too_many, points) = (false, if set.spec.interval { 2 } else { 1 });
        let take = |message: Message<'_>| {
            let fields = message.table::<8>()?;
            let list = fields.get(NFTA_SET_ELEM_LIST_ELEMENTS);
            let wanted = message.kind == nft(NFT_MSG_NEWSETELEM) && obstacle.is_none();
            if let Some(list) = list.filter(|_| wanted) {
                obstacle = collector.take(list).err();
            }
            too_many = collector.len() / points > limit;
            // Leaves the rest.
            if too_many { Err(Malformed) } else { Ok(()) }
        };
        let answer = match limit {
            usize::MAX => self.list("elements", NFT_MSG_GETSETELEM, &select, take),
            // What is left unread of a dump goes with its socket.
            _ => Self::open()?.list("elements", NFT_MSG_GETSETELEM, &select, take),
        };
        if too_many && obstacle.is_none() {
            return Ok(Ok(Elements::Unread));
        }
        answer?;
        Ok(match obstacle {
            Some(obstacle) => Err(obstacle),
            None => collector.finish(),
        })
    }
}
