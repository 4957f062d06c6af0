//! A kernel error in the words of the plan: which operation on which object, and where in it.

use crate::attribute::{Attribute, Attributes};
use crate::batch::{Batch, Origin};
use crate::collect;
use crate::message::{FAMILY_HEADER, HEADER, KernelError};
use crate::uapi::*;
use nix::errno::Errno;
use ruleset::{Operation, Plan, SetSpec};
use std::fmt;

/// What was to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Verb {
    Add,
    Delete,
    Change,
    /// To make an orphan one's own.
    Adopt,
    /// The batch as a whole, which passed message by message.
    Commit,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::Delete => "delete",
            Self::Change => "change",
            Self::Adopt => "adopt",
            Self::Commit => "commit",
        })
    }
}

/// An operation that the kernel refused. Nothing of its batch was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What was to be done.
    pub verb: Verb,
    /// With what: `chain in.web`, `elements of set web_v4`, `a rule of chain input`.
    pub object: String,
    /// The comment of a rule that was to be added: the policy's key.
    pub rule: Option<String>,
    /// The kernel's error.
    pub errno: Errno,
    /// What in the object the kernel objects to, where it says so.
    pub place: Option<Place>,
    /// The kernel's words, where it has any.
    pub message: Option<String>,
    /// How many more messages of the batch were refused.
    pub more: usize,
}

/// A part of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where its attribute stands in the message, in bytes (`NLMSGERR_ATTR_OFFS`).
    pub offset: usize,
    /// What it is: `its name`, `element 10.0.0.1`, `expression 4 (immediate)`.
    pub what: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the kernel refused to {} {}", self.verb, self.object)?;
        if let Some(rule) = &self.rule {
            write!(f, ", {rule:?}")?;
        }
        if let Some(place) = &self.place {
            write!(f, ", because of {}", place.what)?;
        }
        write!(f, ": {} ({:?})", self.errno.desc().to_lowercase(), self.errno)?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        if let Some(hint) = self.hint() {
            write!(f, "; {hint}")?;
        }
        match self.more {
            0 => Ok(()),
            1 => write!(f, " (and one more message was refused)"),
            more => write!(f, " (and {more} more messages were refused)"),
        }
    }
}

impl Refusal {
    /// What an error number means here, where its text misleads.
    fn hint(&self) -> Option<&'static str> {
        let elements = self.object.starts_with("elements");
        match self.errno {
            Errno::EPERM => Some("the table is owned by another program"),
            Errno::EEXIST if elements => Some("an element overlaps one that is there"),
            Errno::EOPNOTSUPP if self.verb == Verb::Adopt => {
                Some("only a table that had an owner before can be adopted")
            }
            Errno::ENOENT if elements && self.verb == Verb::Delete => {
                Some("an element is not there")
            }
            Errno::ENFILE if elements => Some("the set is full"),
            Errno::EBUSY if self.verb == Verb::Delete => Some("something refers to it"),
            _ => None,
        }
    }

    /// Explains an error about the message with a sequence number; of a plan whose batch this is.
    pub(crate) fn new(
        plan: &Plan,
        batch: &Batch,
        sequence: u32,
        error: KernelError,
        more: usize,
    ) -> Self {
        let mut refusal = Self {
            verb: Verb::Commit,
            object: "the batch".to_owned(),
            rule: None,
            errno: Errno::from_raw(error.errno),
            place: None,
            message: error.text,
            more,
        };
        let Some((message, origin)) = batch.message(sequence) else { return refusal };
        let Origin::Operation(index) = origin else {
            (refusal.verb, refusal.object) = (Verb::Adopt, "the table".to_owned());
            return refusal;
        };
        let Some(operation) = plan.operations.get(index) else { return refusal };
        (refusal.verb, refusal.object) = describe(operation);
        if let Operation::InsertRule { rule, .. } = operation {
            refusal.rule = Some(rule.comment.clone());
        }
        refusal.place = error.offset.and_then(|offset| {
            let what = place(message, offset, operation)?;
            Some(Place { offset, what })
        });
        refusal
    }
}

fn describe(operation: &Operation) -> (Verb, String) {
    match operation {
        Operation::DeleteTable => (Verb::Delete, "the table".to_owned()),
        Operation::AddTable { .. } => (Verb::Add, "the table".to_owned()),
        Operation::AddCounter { counter } => (Verb::Add, format!("counter {counter}")),
        Operation::DeleteCounter { counter } => (Verb::Delete, format!("counter {counter}")),
        Operation::AddChain { chain, .. } => (Verb::Add, format!("chain {chain}")),
        Operation::DeleteChain { chain } => (Verb::Delete, format!("chain {chain}")),
        Operation::SetPolicy { chain, .. } => {
            (Verb::Change, format!("the policy of chain {chain}"))
        }
        Operation::SetState { .. } => (Verb::Change, "the state of the table".to_owned()),
        Operation::AddSet { set, .. } => (Verb::Add, format!("set {set}")),
        Operation::DeleteSet { set } => (Verb::Delete, format!("set {set}")),
        Operation::AddElements { set, .. } => (Verb::Add, format!("elements of set {set}")),
        Operation::DeleteElements { set, .. } => (Verb::Delete, format!("elements of set {set}")),
        Operation::FlushSet { set } => (Verb::Delete, format!("all elements of set {set}")),
        Operation::InsertRule { chain, .. } => (Verb::Add, format!("a rule of chain {chain}")),
        Operation::DeleteRule { chain, index } => {
            (Verb::Delete, format!("rule {index} of chain {chain}"))
        }
    }
}

/// What stands at `offset` in a message of ours.
fn place(message: &[u8], offset: usize, operation: &Operation) -> Option<String> {
    let start = HEADER + FAMILY_HEADER;
    let (_, attribute, at) = attribute_at(message.get(start..)?, start, offset)?;
    match (operation, attribute.kind) {
        (
            Operation::AddElements { spec, .. } | Operation::DeleteElements { spec, .. },
            NFTA_SET_ELEM_LIST_ELEMENTS,
        ) => element_at(attribute, at, offset, spec),
        (Operation::InsertRule { .. }, NFTA_RULE_EXPRESSIONS) => {
            let (index, element, _) = attribute_at(attribute.payload, at, offset)?;
            let name = element.table::<3>().ok()?.get(NFTA_EXPR_NAME)?.text();
            Some(format!("expression {} ({name})", index + 1))
        }
        (_, kind) => top_level(operation, kind).map(str::to_owned),
    }
}

fn element_at(list: Attribute<'_>, at: usize, offset: usize, spec: &SetSpec) -> Option<String> {
    let (_, element, _) = attribute_at(list.payload, at, offset)?;
    collect::describe(element, spec)
}

/// The attribute that spans `offset`: its index, itself, and where its payload starts. `start` is
/// where `bytes` stand in the message.
fn attribute_at(
    bytes: &[u8],
    start: usize,
    offset: usize,
) -> Option<(usize, Attribute<'_>, usize)> {
    let mut attributes = Attributes::new(bytes);
    let mut index = 0;
    let mut at = start;
    while let Some(Ok(attribute)) = attributes.next() {
        let end = start + bytes.len() - attributes.remaining();
        if (at..end).contains(&offset) {
            return Some((index, attribute, at + 4));
        }
        (index, at) = (index + 1, end);
    }
    None
}

fn top_level(operation: &Operation, kind: u16) -> Option<&'static str> {
    match operation {
        Operation::DeleteTable | Operation::AddTable { .. } => match kind {
            NFTA_TABLE_NAME => Some("its name"),
            NFTA_TABLE_FLAGS => Some("its flags"),
            _ => None,
        },
        Operation::AddChain { .. }
        | Operation::DeleteChain { .. }
        | Operation::SetPolicy { .. } => match kind {
            NFTA_CHAIN_TABLE => Some("its table"),
            NFTA_CHAIN_NAME => Some("its name"),
            NFTA_CHAIN_HOOK => Some("its hook"),
            NFTA_CHAIN_POLICY => Some("its policy"),
            NFTA_CHAIN_TYPE => Some("its type"),
            _ => None,
        },
        Operation::InsertRule { .. } | Operation::DeleteRule { .. } => match kind {
            NFTA_RULE_TABLE => Some("its table"),
            NFTA_RULE_CHAIN => Some("its chain"),
            NFTA_RULE_HANDLE => Some("its handle"),
            NFTA_RULE_POSITION => Some("its place"),
            _ => None,
        },
        Operation::AddElements { .. }
        | Operation::DeleteElements { .. }
        | Operation::FlushSet { .. } => match kind {
            NFTA_SET_ELEM_LIST_TABLE => Some("its table"),
            NFTA_SET_ELEM_LIST_SET => Some("its set"),
            _ => None,
        },
        Operation::SetState { .. } => None,
        Operation::AddSet { .. } | Operation::DeleteSet { .. } => match kind {
            NFTA_SET_TABLE => Some("its table"),
            NFTA_SET_NAME => Some("its name"),
            NFTA_SET_FLAGS => Some("its flags"),
            NFTA_SET_DESC => Some("its size"),
            _ => None,
        },
        Operation::AddCounter { .. } | Operation::DeleteCounter { .. } => match kind {
            NFTA_OBJ_TABLE => Some("its table"),
            NFTA_OBJ_NAME => Some("its name"),
            _ => None,
        },
    }
}
