//! A plan: the operations that turn one ruleset into another.

use crate::{Base, Elements, Rule, SetSpec};

/// Operations in an order that the kernel accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The operations.
    pub operations: Vec<Operation>,
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Operation {
    /// The whole table, with all in it.
    DeleteTable,
    AddTable {
        comment: Option<String>,
    },
    AddCounter {
        counter: String,
    },
    AddChain {
        chain: String,
        base: Option<Base>,
    },
    DeleteElements {
        set: String,
        spec: SetSpec,
        elements: Elements,
    },
    /// `index` in the chain as it was before the plan.
    DeleteRule {
        chain: String,
        index: usize,
    },
    DeleteSet {
        set: String,
    },
    AddSet {
        set: String,
        spec: SetSpec,
    },
    AddElements {
        set: String,
        spec: SetSpec,
        elements: Elements,
    },
    /// Before this rule of the old chain (never one that the plan deletes); none: append.
    InsertRule {
        chain: String,
        before: Option<usize>,
        rule: Rule,
    },
    /// The base with its new policy.
    SetPolicy {
        chain: String,
        base: Base,
    },
    DeleteChain {
        chain: String,
    },
    DeleteCounter {
        counter: String,
    },
}
