//! Rules as the kernel dumps them.

use crate::attribute::{Malformed, Table};
use crate::expression;
use crate::lift::lift;
use crate::uapi::*;
use crate::userdata;
use ruleset::Rule;

/// A rule with where it is.
#[derive(Debug, Clone)]
pub(crate) struct DumpedRule {
    pub(crate) chain: String,
    pub(crate) handle: u64,
    pub(crate) rule: Rule,
}

impl DumpedRule {
    pub(crate) fn decode(fields: &Table<'_, 16>) -> Result<Self, Malformed> {
        let expressions = match fields.get(NFTA_RULE_EXPRESSIONS) {
            Some(list) => expression::decode(list)?,
            None => Vec::new(),
        };
        let userdata = fields.get(NFTA_RULE_USERDATA);
        let comment = userdata.and_then(|data| userdata::text(data, userdata::COMMENT));
        Ok(Self {
            chain: fields.require(NFTA_RULE_CHAIN)?.text(),
            handle: fields.require(NFTA_RULE_HANDLE)?.u64()?,
            rule: Rule { comment: comment.unwrap_or_default(), statements: lift(expressions) },
        })
    }
}
