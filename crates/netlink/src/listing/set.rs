//! Sets of others, named and anonymous, with any keys.

use crate::attribute::{Attribute, Malformed, Table};
use crate::expression::verdict;
use crate::listing::field::{hex, interface, number};
use crate::uapi::*;
use ruleset::listing::{Domain, ListedElement, ListedSet, Value};
use ruleset::{Family, Verdict};

/// The bits of one part in the type of a concatenation (`TYPE_BITS` of nft's `datatype.h`).
const TYPE_BITS: u32 = 6;
const NFTA_SET_ELEM_KEY_END: u16 = 10;

/// A set as the kernel has it.
#[derive(Debug)]
pub(super) struct RawSet {
    pub(super) is_anonymous: bool,
    is_interval: bool,
    is_dynamic: bool,
    is_other_map: bool,
    key_type: u32,
    pub(super) key_length: usize,
    pub(super) elements: Vec<RawElement>,
}

/// An element as the kernel has it.
#[derive(Debug)]
pub(super) struct RawElement {
    /// None for what stands for every other key.
    key: Option<Vec<u8>>,
    /// The highest key, part by part.
    last: Option<Vec<u8>>,
    /// Whether it ends an interval instead of beginning one.
    is_end: bool,
    is_timed: bool,
    verdict: Option<Verdict>,
}

/// How one part of a key is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) domain: Domain,
    /// In bytes, without what fills it up to four.
    pub(super) length: usize,
    pub(super) is_host: bool,
}

impl RawSet {
    pub(super) fn decode(fields: &Table<'_, 20>) -> Result<Self, Malformed> {
        let flags = fields.u32_or_zero(NFTA_SET_FLAGS)?;
        let data_type = fields.u32_or_zero(NFTA_SET_DATA_TYPE)?;
        let is_map = flags & (NFT_SET_MAP | NFT_SET_OBJECT) != 0;
        Ok(Self {
            is_anonymous: flags & NFT_SET_ANONYMOUS != 0,
            is_interval: flags & NFT_SET_INTERVAL != 0,
            is_dynamic: flags & NFT_SET_EVAL != 0,
            is_other_map: is_map && data_type != NFT_DATA_VERDICT,
            key_type: fields.u32_or_zero(NFTA_SET_KEY_TYPE)?,
            key_length: fields.require(NFTA_SET_KEY_LEN)?.u32()? as usize,
            elements: Vec::new(),
        })
    }

    /// The parts of its keys, as its type says.
    fn parts(&self) -> Vec<Part> {
        let mut types = Vec::new();
        let mut rest = self.key_type;
        while rest != 0 && types.len() < 5 {
            types.push(rest & ((1 << TYPE_BITS) - 1));
            rest >>= TYPE_BITS;
        }
        let parts: Vec<Part> =
            types.into_iter().rev().map(|kind| part(kind, self.key_length)).collect();
        let padded: usize = parts.iter().map(|part| part.length.next_multiple_of(4)).sum();
        let is_whole = match parts.as_slice() {
            [one] => one.length == self.key_length,
            _ => padded == self.key_length,
        };
        if is_whole {
            return parts;
        }
        // An integer of any length, or a type that isn't known.
        vec![Part { domain: Domain::Other, length: self.key_length, is_host: false }]
    }

    /// The set as it is listed.
    pub(super) fn listed(self, dynamic: bool) -> ListedSet {
        let parts = self.parts();
        ListedSet {
            elements: self.listed_elements(&parts),
            domains: parts.iter().map(|part| part.domain).collect(),
            dynamic: dynamic || self.is_dynamic,
            other_map: self.is_other_map,
        }
    }

    /// Its elements, with keys that are read so.
    pub(super) fn listed_elements(&self, parts: &[Part]) -> Vec<ListedElement> {
        match parts {
            [one] if self.is_interval => self.intervals(*one),
            _ => self.elements.iter().filter_map(|element| element.listed(parts)).collect(),
        }
    }

    /// Pairs the beginnings of intervals with what comes next: an end, or another beginning.
    fn intervals(&self, part: Part) -> Vec<ListedElement> {
        let max = if part.length >= 16 { u128::MAX } else { (1 << (8 * part.length)) - 1 };
        let point = |element: &'_ RawElement| {
            let key = element.key.as_deref().filter(|key| key.len() <= 16)?;
            Some(number(key, part.is_host))
        };
        let mut points: Vec<(u128, bool, &RawElement)> = self
            .elements
            .iter()
            .filter_map(|element| Some((point(element)?, !element.is_end, element)))
            .collect();
        // At one key an interval ends before the next begins.
        points.sort_by_key(|(key, is_start, _)| (*key, *is_start));
        let mut listed = Vec::new();
        for (index, (first, is_start, element)) in points.iter().enumerate() {
            if !is_start {
                continue;
            }
            let last = match points.get(index + 1) {
                Some((next, ..)) => next.saturating_sub(1).max(*first),
                None => max,
            };
            listed.push(ListedElement {
                key: vec![Value::Range(*first, last)],
                verdict: element.verdict.clone(),
                timed: element.is_timed,
            });
        }
        listed
    }
}

impl RawElement {
    fn listed(&self, parts: &[Part]) -> Option<ListedElement> {
        let key = match &self.key {
            None => vec![Value::Word("*".into())],
            Some(_) if self.is_end => return None,
            Some(key) => {
                let last = self.last.as_deref().unwrap_or(key);
                let mut at = 0;
                parts
                    .iter()
                    .map(|part| {
                        let range = at..at + part.length;
                        at += part.length.next_multiple_of(4);
                        match (key.get(range.clone()), last.get(range)) {
                            (Some(first), Some(last)) => part.value(first, last),
                            _ => Value::Word(hex(key)),
                        }
                    })
                    .collect()
            }
        };
        Some(ListedElement { key, verdict: self.verdict.clone(), timed: self.is_timed })
    }
}

impl Part {
    fn value(self, first: &[u8], last: &[u8]) -> Value {
        if self.domain == Domain::Interface {
            return interface(first, self.is_host);
        }
        if first.len() > 16 {
            return Value::Word(hex(first));
        }
        let (first, last) = (number(first, self.is_host), number(last, self.is_host));
        Value::Range(first, last.max(first))
    }
}

/// A part of a type (`enum datatypes` of nft's `datatype.h`); `whole` is the length of the whole
/// key.
fn part(kind: u32, whole: usize) -> Part {
    let (domain, length, is_host) = match kind {
        2 => (Domain::NfProto, 1, false),
        7 => (Domain::Address(Family::V4), 4, false),
        8 => (Domain::Address(Family::V6), 16, false),
        12 => (Domain::Protocol, 1, false),
        13 => (Domain::Port, 2, false),
        14 => (Domain::IcmpType(Family::V4), 1, false),
        29 => (Domain::IcmpType(Family::V6), 1, false),
        19 => (Domain::Mark, 4, true),
        20 => (Domain::Interface, 4, true),
        24 => (Domain::Uid, 4, true),
        26 => (Domain::CtState, 4, true),
        41 => (Domain::Interface, 16, false),
        _ => (Domain::Other, whole, false),
    };
    Part { domain, length, is_host }
}

pub(super) fn raw_element(element: Attribute<'_>) -> Result<RawElement, Malformed> {
    let mut raw =
        RawElement { key: None, last: None, is_end: false, is_timed: false, verdict: None };
    for attribute in element.nested() {
        let attribute = attribute?;
        let value = || -> Result<Option<Vec<u8>>, Malformed> {
            let data = attribute.table::<3>()?;
            Ok(data.get(NFTA_DATA_VALUE).map(|value| value.payload.to_vec()))
        };
        match attribute.kind {
            NFTA_SET_ELEM_KEY => raw.key = value()?,
            NFTA_SET_ELEM_KEY_END => raw.last = value()?,
            NFTA_SET_ELEM_DATA => raw.verdict = verdict(attribute),
            NFTA_SET_ELEM_FLAGS => {
                raw.is_end = attribute.u32()? & NFT_SET_ELEM_INTERVAL_END != 0;
            }
            NFTA_SET_ELEM_EXPIRATION => raw.is_timed = true,
            _ => {}
        }
    }
    Ok(raw)
}
