//! A plan as one atomic batch of messages: pure encoding, no kernel needed.
//!
//! The whole batch is one buffer and goes to the kernel in one `sendmsg`: a batch is atomic only
//! within one datagram. Each message remembers the operation it came from, so that the kernel's
//! error about a sequence number can be told in the plan's words.

use crate::attribute::put_u32;
use crate::connection::Generation;
use crate::dump::Handles;
use crate::element;
use crate::error::EncodeError;
use crate::lower::lower;
use crate::message;
use crate::object::{Head, Position, Text, Writer};
use crate::ownership::{Hold, OWNED};
use crate::set;
use crate::state;
use crate::uapi::*;
use crate::userdata::{COMMENT_LENGTH, Userdata};
use ruleset::{Operation, Plan, Rule, STATE_SET};
use std::time::Duration;

/// Sequence number of the message that begins a batch; its errors are about the batch as a whole.
pub(crate) const BEGIN: u32 = 0;

/// An encoded batch.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Vec<u8>,
    /// One for each message between begin and end; the first has sequence number 1.
    entries: Vec<Entry>,
    /// Where the message that ends the batch starts.
    end: usize,
    /// Where what is being encoded comes from.
    origin: Origin,
}

/// What a batch says beside its plan.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// How the table is to be held.
    pub hold: Hold,
    /// When it is sent, since 1970 (UTC): what the elements of timed sets have left counts from
    /// here.
    pub now: Duration,
}

/// Where a message comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// [`Hold::Adopt`]
    Adoption,
    /// The operation of the plan with this index.
    Operation(usize),
}

/// A message and where it came from.
#[derive(Debug, Clone, Copy)]
struct Entry {
    start: usize,
    origin: Origin,
}

impl Batch {
    /// Encodes a plan. `handles` are of the table that the plan was made from; with a
    /// `generation`, the kernel commits only if the ruleset is still of that one.
    ///
    /// # Errors
    /// When a name, value or rule is none that the kernel can hold, and when the plan refers to a
    /// rule that `handles` doesn't have.
    pub fn encode(
        plan: &Plan,
        handles: &Handles,
        generation: Option<Generation>,
        terms: &Terms,
    ) -> Result<Self, EncodeError> {
        let origin = Origin::Adoption;
        let mut batch = Self { bytes: Vec::new(), entries: Vec::new(), end: 0, origin };
        append_begin(&mut batch.bytes, BEGIN, generation);
        let mut writer = Writer::new();
        if terms.hold == Hold::Adopt {
            let head = batch.head(NFT_MSG_NEWTABLE, 0);
            writer.table(&mut batch.bytes, head, Some(OWNED), &Userdata::default());
        }
        let mut sets = 0;
        for (index, operation) in plan.operations.iter().enumerate() {
            batch.origin = Origin::Operation(index);
            let makes_set =
                matches!(operation, Operation::AddSet { .. } | Operation::SetState { .. });
            sets += u32::from(makes_set);
            batch.encode_operation(operation, handles, &mut writer, sets, terms)?;
        }
        batch.end = batch.bytes.len();
        let sequence = batch.end_sequence();
        append_end(&mut batch.bytes, sequence);
        Ok(batch)
    }

    /// The batch as it is sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of messages that change something: without those that begin and end the batch.
    pub fn messages(&self) -> usize {
        self.entries.len()
    }

    /// The sequence number of the message that ends the batch.
    pub(crate) fn end_sequence(&self) -> u32 {
        self.entries.len() as u32 + 1
    }

    /// Asks for one acknowledgement, and says of which sequence number: of the end of the batch,
    /// which means that it is committed, or where the kernel doesn't acknowledge that, of the last
    /// message.
    pub(crate) fn acknowledge(&mut self, end: bool) -> u32 {
        let last = self.entries.last().map_or(self.end, |entry| entry.start);
        message::set_flags(&mut self.bytes, last, NLM_F_ACK, !end);
        message::set_flags(&mut self.bytes, self.end, NLM_F_ACK, end);
        if end { self.end_sequence() } else { self.end_sequence() - 1 }
    }

    /// The bytes of a message and where it came from.
    pub(crate) fn message(&self, sequence: u32) -> Option<(&[u8], Origin)> {
        let index = (sequence as usize).checked_sub(1)?;
        let entry = self.entries.get(index)?;
        let next = self.entries.get(index + 1).map_or(self.end, |entry| entry.start);
        Some((&self.bytes[entry.start..next], entry.origin))
    }

    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    pub(crate) fn length(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn reserve(&mut self, additional: usize) {
        self.bytes.reserve(additional);
    }

    /// Opens a message of the operation that is being encoded.
    pub(crate) fn open(&mut self, kind: u16, flags: u16) -> usize {
        let head = self.head(kind, flags);
        let (kind, flags) = (NFNL_SUBSYS_NFTABLES << 8 | kind, NLM_F_REQUEST | flags);
        message::open(&mut self.bytes, kind, flags, head.sequence, (NFPROTO_INET, 0))
    }

    pub(crate) fn close(&mut self, start: usize) {
        message::close(&mut self.bytes, start);
    }

    /// The header of the next message, which is to start here.
    fn head(&mut self, kind: u16, flags: u16) -> Head {
        self.entries.push(Entry { start: self.bytes.len(), origin: self.origin });
        Head { kind, flags, sequence: self.entries.len() as u32 }
    }

    /// Everything is added with EXCL: a plan knows what is there, and where it is mistaken the
    /// kernel is to say so.
    fn encode_operation(
        &mut self,
        operation: &Operation,
        handles: &Handles,
        writer: &mut Writer,
        set_id: u32,
        terms: &Terms,
    ) -> Result<(), EncodeError> {
        const ADD: u16 = NLM_F_CREATE | NLM_F_EXCL;
        match operation {
            Operation::DeleteTable => {
                let head = self.head(NFT_MSG_DELTABLE, 0);
                writer.table(&mut self.bytes, head, None, &Userdata::default());
            }
            Operation::AddTable { comment } => {
                let userdata = comment_userdata(comment.as_deref().unwrap_or_default())?;
                let head = self.head(NFT_MSG_NEWTABLE, ADD);
                let flags = (terms.hold != Hold::Plain).then_some(OWNED);
                writer.table(&mut self.bytes, head, flags, &userdata);
            }
            Operation::AddCounter { counter } => {
                let name = name("counter", counter)?;
                let head = self.head(NFT_MSG_NEWOBJ, ADD);
                writer.counter(&mut self.bytes, head, &name);
            }
            Operation::DeleteCounter { counter } => {
                let name = name("counter", counter)?;
                let head = self.head(NFT_MSG_DELOBJ, 0);
                writer.counter(&mut self.bytes, head, &name);
            }
            Operation::AddChain { chain, base } => {
                let chain = name("chain", chain)?;
                let kind = base.as_ref().map(|base| name("chain type", &base.kind)).transpose()?;
                let base = kind.as_ref().zip(base.as_ref());
                let head = self.head(NFT_MSG_NEWCHAIN, ADD);
                writer.chain(&mut self.bytes, head, &chain, base);
            }
            Operation::SetPolicy { chain, base } => {
                let chain = name("chain", chain)?;
                let head = self.head(NFT_MSG_NEWCHAIN, 0);
                writer.chain_policy(&mut self.bytes, head, &chain, base.policy);
            }
            Operation::DeleteChain { chain } => {
                let chain = name("chain", chain)?;
                let head = self.head(NFT_MSG_DELCHAIN, 0);
                writer.chain(&mut self.bytes, head, &chain, None);
            }
            Operation::AddSet { set, spec } => {
                let set_name = name("set", set)?;
                let described = set::encode(spec, set_id)
                    .map_err(|problem| object_error(format!("set {set}"), problem))?;
                let head = self.head(NFT_MSG_NEWSET, ADD);
                writer.set(&mut self.bytes, head, &set_name, Some(&described));
            }
            Operation::DeleteSet { set } => {
                let set = name("set", set)?;
                let head = self.head(NFT_MSG_DELSET, 0);
                writer.set(&mut self.bytes, head, &set, None);
            }
            Operation::AddElements { set, spec, elements }
            | Operation::DeleteElements { set, spec, elements } => {
                let delete = matches!(operation, Operation::DeleteElements { .. });
                name("set", set)?;
                element::encode(self, set, spec, elements, delete, terms)
                    .map_err(|problem| object_error(format!("elements of set {set}"), problem))?;
            }
            Operation::FlushSet { set } => {
                name("set", set)?;
                element::encode_flush(self, set);
            }
            Operation::SetState { old, new } => {
                let name = name("set", STATE_SET)?;
                if old.is_some() && new.is_none() {
                    let head = self.head(NFT_MSG_DELSET, 0);
                    writer.set(&mut self.bytes, head, &name, None);
                }
                if old.is_none() && new.is_some() {
                    let head = self.head(NFT_MSG_NEWSET, ADD);
                    writer.set(&mut self.bytes, head, &name, Some(&state::set_head(set_id)));
                }
                if let Some(new) = new {
                    state::encode(self, new, old.is_some())?;
                }
            }
            Operation::InsertRule { chain, before, rule } => {
                let handle = |index| handle(handles, chain, index);
                let before = before.map(handle).transpose()?;
                self.encode_rule(chain, before, rule, writer)?;
            }
            Operation::DeleteRule { chain, index } => {
                let position = Position::Itself(handle(handles, chain, *index)?);
                let chain_name = name("chain", chain)?;
                let head = self.head(NFT_MSG_DELRULE, 0);
                let nothing = (&[][..], &Userdata::default());
                writer
                    .rule(&mut self.bytes, head, &chain_name, position, nothing)
                    .map_err(|problem| object_error(format!("chain {chain}"), problem))?;
            }
        }
        Ok(())
    }

    fn encode_rule(
        &mut self,
        chain: &str,
        before: Option<u64>,
        rule: &Rule,
        writer: &mut Writer,
    ) -> Result<(), EncodeError> {
        let chain_name = name("chain", chain)?;
        let userdata = comment_userdata(&rule.comment)?;
        let error = |problem| EncodeError::Rule {
            chain: chain.to_owned(),
            rule: rule.comment.clone(),
            problem,
        };
        let expressions = lower(&rule.statements).map_err(error)?;
        // With APPEND a rule goes behind the one at its position, and to the end without one.
        let (position, flags) = match before {
            Some(handle) => (Position::Before(handle), NLM_F_CREATE),
            None => (Position::End, NLM_F_CREATE | NLM_F_APPEND),
        };
        let head = self.head(NFT_MSG_NEWRULE, flags);
        let content = (expressions.as_slice(), &userdata);
        writer.rule(&mut self.bytes, head, &chain_name, position, content).map_err(error)
    }
}

/// Appends the message that begins a batch.
pub(crate) fn append_begin(bytes: &mut Vec<u8>, sequence: u32, generation: Option<Generation>) {
    let start = message::open(
        bytes,
        NFNL_MSG_BATCH_BEGIN,
        NLM_F_REQUEST,
        sequence,
        (NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES),
    );
    if let Some(generation) = generation {
        put_u32(bytes, NFNL_BATCH_GENID, generation.0);
    }
    message::close(bytes, start);
}

/// Appends the message that ends a batch.
pub(crate) fn append_end(bytes: &mut Vec<u8>, sequence: u32) {
    let start = message::open(
        bytes,
        NFNL_MSG_BATCH_END,
        NLM_F_REQUEST,
        sequence,
        (NFPROTO_UNSPEC, NFNL_SUBSYS_NFTABLES),
    );
    message::close(bytes, start);
}

fn name(what: &'static str, text: &str) -> Result<Text, EncodeError> {
    let error = || EncodeError::Text { what, text: text.to_owned(), limit: NAME_LENGTH };
    Text::new(text, NAME_LENGTH).ok_or_else(error)
}

fn comment_userdata(comment: &str) -> Result<Userdata, EncodeError> {
    Userdata::comment(comment).ok_or_else(|| EncodeError::Text {
        what: "the comment",
        text: comment.to_owned(),
        limit: COMMENT_LENGTH,
    })
}

fn handle(handles: &Handles, chain: &str, index: usize) -> Result<u64, EncodeError> {
    let error = || EncodeError::UnknownRule { chain: chain.to_owned(), index };
    handles.rule(chain, index).ok_or_else(error)
}

fn object_error(object: String, problem: String) -> EncodeError {
    EncodeError::Object { object, problem }
}
