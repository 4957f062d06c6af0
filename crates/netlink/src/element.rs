//! The elements of sets as messages, written straight into the batch: of all objects only these
//! come in millions.
//!
//! An interval is two elements: its first key, and the key after its last with a flag. The second
//! is left out at the end of the key space. Deleting takes both as well, or the end would dangle.
//! A verdict or a lifetime stands at the first one only.

use crate::attribute::{close, open, put, put_text, put_u32};
use crate::batch::{Batch, Terms};
use crate::expression::verdict_code;
use crate::lower::key_bytes;
use crate::set::host_order;
use crate::uapi::*;
use crate::userdata::Userdata;
use ruleset::{
    Address, AddressSet, Elements, Family, KeyType, Lifetime, SetSpec, TABLE, TimedSet, Verdict,
};
use std::time::Duration;

/// `nla_len` has 16 bits, and a second list of elements in a message silently replaces the first:
/// a message is full here, below 64 KiB by more than one interval can take.
const MESSAGE_SIZE: usize = 60_000;

/// Below this much left, an element isn't added any more: what is less than a tick of the kernel's
/// clock (at most 10 ms) is none to it, and then the whole timeout would be left.
const SHORTEST: Duration = Duration::from_millis(100);

/// The most addresses that the ranges of an exact set without a declared size are spelled out to.
const MOST_SINGLES: u128 = 1 << 24;

/// Appends messages that add or delete elements.
///
/// # Errors
/// In words, when the elements don't fit the set.
pub(crate) fn encode(
    batch: &mut Batch,
    set: &str,
    spec: &SetSpec,
    elements: &Elements,
    delete: bool,
    terms: &Terms,
) -> Result<(), String> {
    // Also makes sure that keys have at most 16 bytes.
    crate::set::encode(spec, 0)?;
    // Never DESTROYSETELEM, although what is deleted may have expired: of such an interval it would
    // leave the start and delete the end, and the kernel, collecting the start later, takes the
    // end of the interval above with it, which then reaches up to the next one.
    let kind = if delete { NFT_MSG_DELSETELEM } else { NFT_MSG_NEWSETELEM };
    let mut writer = Writer::new(batch, set, spec, kind);
    match (elements, spec.key) {
        (Elements::Ipv4(set), KeyType::Address(Family::V4)) if !spec.timeout && !spec.map => {
            addresses(&mut writer, spec, set)?;
        }
        (Elements::Ipv6(set), KeyType::Address(Family::V6)) if !spec.timeout && !spec.map => {
            addresses(&mut writer, spec, set)?;
        }
        (Elements::TimedIpv4(set), KeyType::Address(Family::V4)) if spec.timeout && !spec.map => {
            timed(&mut writer, set, terms.now)?;
        }
        (Elements::TimedIpv6(set), KeyType::Address(Family::V6)) if spec.timeout && !spec.map => {
            timed(&mut writer, set, terms.now)?;
        }
        (Elements::Keys(keys), _) if !spec.map => {
            for interval in keys {
                writer.check(interval.first, interval.last)?;
                writer.interval(interval.first, interval.last, Extra::None);
            }
        }
        (Elements::Verdicts(verdicts), _) if spec.map => {
            for (interval, verdict) in verdicts {
                let target = verdict.target().unwrap_or_default();
                if target.len() > NAME_LENGTH || target.contains('\0') {
                    return Err(format!("no chain can have the name {target:?}"));
                }
                writer.check(interval.first, interval.last)?;
                writer.interval(interval.first, interval.last, Extra::Verdict(verdict));
            }
        }
        // Its rules fill it.
        (Elements::Dynamic, _) if spec.dynamic.is_some() => {}
        _ => return Err("they are of another kind than the set".into()),
    }
    writer.finish();
    Ok(())
}

/// Appends the message that deletes all elements of a set: one to delete elements that names none.
pub(crate) fn encode_flush(batch: &mut Batch, set: &str) {
    let message = batch.open(NFT_MSG_DELSETELEM, 0);
    let bytes = batch.buffer();
    put_text(bytes, NFTA_SET_ELEM_LIST_TABLE, TABLE);
    put_text(bytes, NFTA_SET_ELEM_LIST_SET, set);
    batch.close(message);
}

fn addresses<A: Address>(
    writer: &mut Writer<'_>,
    spec: &SetSpec,
    set: &AddressSet<A>,
) -> Result<(), String> {
    let numbers = set.ranges().map(|range| (range.first.to_number(), range.last.to_number()));
    if spec.interval {
        writer.reserve(set.len() * 2);
        numbers.for_each(|(first, last)| writer.interval(first, last, Extra::None));
        return Ok(());
    }
    let limit = spec.size.map_or(MOST_SINGLES, u128::from);
    let count = numbers
        .clone()
        .fold(0u128, |count, (first, last)| count.saturating_add(last - first).saturating_add(1));
    if count > limit {
        return Err(format!("they are {count} single addresses and it holds {limit}"));
    }
    writer.reserve(count as usize);
    numbers.flat_map(|(first, last)| first..=last).for_each(|key| writer.key(key, Extra::None));
    Ok(())
}

fn timed<A: Address>(
    writer: &mut Writer<'_>,
    set: &TimedSet<A>,
    now: Duration,
) -> Result<(), String> {
    for (range, lifetime) in set.elements() {
        let (first, last) = (range.first.to_number(), range.last.to_number());
        writer.check(first, last)?;
        if writer.deletes() {
            writer.interval(first, last, Extra::None);
            continue;
        }
        let lifetime = lifetime.ok_or_else(|| format!("{range} has no end"))?;
        if lifetime.timeout == 0 {
            // Which for the kernel is no timeout.
            return Err(format!("{range} has no time to live"));
        }
        let left = Duration::from_secs(lifetime.until).saturating_sub(now);
        if left >= SHORTEST {
            let left = left.min(Duration::from_secs(lifetime.timeout));
            writer.interval(first, last, Extra::Lifetime(lifetime, left));
        }
    }
    Ok(())
}

/// What an element has beside its key, where it is added.
#[derive(Debug, Clone, Copy)]
enum Extra<'a> {
    None,
    Verdict(&'a Verdict),
    /// With what is left of it.
    Lifetime(&'a Lifetime, Duration),
}

/// Writes elements of one set, opening and closing messages as they fill.
struct Writer<'a> {
    batch: &'a mut Batch,
    set: &'a str,
    spec: &'a SetSpec,
    /// `NFT_MSG_…SETELEM`
    kind: u16,
    /// What stands before the key in an element, and in one that ends an interval.
    start: Vec<u8>,
    end: Vec<u8>,
    padding: usize,
    /// Where the message and its list of elements begin.
    opened: Option<(usize, usize)>,
}

impl<'a> Writer<'a> {
    fn new(batch: &'a mut Batch, set: &'a str, spec: &'a SetSpec, kind: u16) -> Self {
        let length = spec.key.length();
        let prefix = |is_end: bool| {
            let mut bytes = Vec::new();
            let element = open(&mut bytes, NFTA_LIST_ELEM);
            if is_end {
                put_u32(&mut bytes, NFTA_SET_ELEM_FLAGS, NFT_SET_ELEM_INTERVAL_END);
            }
            let key = open(&mut bytes, NFTA_SET_ELEM_KEY);
            let value = bytes.len();
            put(&mut bytes, NFTA_DATA_VALUE, &vec![0; length]);
            close(&mut bytes, key);
            close(&mut bytes, element);
            bytes.truncate(value + 4);
            bytes
        };
        let (start, end) = (prefix(false), prefix(true));
        let padding = length.next_multiple_of(4) - length;
        Self { batch, set, spec, kind, start, end, padding, opened: None }
    }

    fn deletes(&self) -> bool {
        self.kind != NFT_MSG_NEWSETELEM
    }

    fn element_size(&self) -> usize {
        self.end.len() + self.spec.key.length() + self.padding
    }

    fn reserve(&mut self, elements: usize) {
        self.batch.reserve(elements * self.element_size());
    }

    fn check(&self, first: u128, last: u128) -> Result<(), String> {
        if first > last || last > self.spec.key.max() {
            return Err(format!("{first}-{last} is no interval of its keys"));
        }
        if first != last && !self.spec.interval {
            return Err(format!("{first}-{last} is an interval and its keys are single"));
        }
        Ok(())
    }

    fn interval(&mut self, first: u128, last: u128, extra: Extra<'_>) {
        self.key(first, extra);
        if self.spec.interval && last != self.spec.key.max() {
            self.append(last + 1, true);
        }
    }

    /// Opens a new message first where this one is full, so that an interval is never divided.
    fn key(&mut self, key: u128, extra: Extra<'_>) {
        let length = self.batch.length();
        if self.opened.is_some_and(|(_, list)| length - list > MESSAGE_SIZE) {
            self.finish();
        }
        if self.opened.is_none() {
            self.open();
        }
        let element = self.batch.length();
        self.append(key, false);
        if self.deletes() {
            return;
        }
        let bytes = self.batch.buffer();
        match extra {
            Extra::None => return,
            Extra::Verdict(verdict) => append_verdict(bytes, verdict),
            Extra::Lifetime(lifetime, left) => append_lifetime(bytes, lifetime, left),
        }
        close(bytes, element);
    }

    fn append(&mut self, key: u128, is_end: bool) {
        let bytes = self.batch.buffer();
        bytes.extend_from_slice(if is_end { &self.end } else { &self.start });
        let length = self.spec.key.length();
        if host_order(self.spec.key) {
            bytes.extend_from_slice(&key_bytes(key, length, true));
        } else {
            bytes.extend_from_slice(&key.to_be_bytes()[16 - length..]);
        }
        bytes.extend_from_slice(&[0; 4][..self.padding]);
    }

    fn open(&mut self) {
        let flags = if self.deletes() { 0 } else { NLM_F_CREATE | NLM_F_EXCL };
        let message = self.batch.open(self.kind, flags);
        let bytes = self.batch.buffer();
        put_text(bytes, NFTA_SET_ELEM_LIST_TABLE, TABLE);
        put_text(bytes, NFTA_SET_ELEM_LIST_SET, self.set);
        let list = open(bytes, NFTA_SET_ELEM_LIST_ELEMENTS);
        self.opened = Some((message, list));
    }

    fn finish(&mut self) {
        if let Some((message, list)) = self.opened.take() {
            close(self.batch.buffer(), list);
            self.batch.close(message);
        }
    }
}

fn append_verdict(bytes: &mut Vec<u8>, verdict: &Verdict) {
    let data = open(bytes, NFTA_SET_ELEM_DATA);
    let nested = open(bytes, NFTA_DATA_VERDICT);
    let (code, chain) = verdict_code(verdict);
    put_u32(bytes, NFTA_VERDICT_CODE, code as u32);
    if let Some(chain) = chain {
        put_text(bytes, NFTA_VERDICT_CHAIN, chain);
    }
    close(bytes, nested);
    close(bytes, data);
}

/// Both times are in milliseconds. What is left of a timeout must not be more than it (ERANGE).
fn append_lifetime(bytes: &mut Vec<u8>, lifetime: &Lifetime, left: Duration) {
    let timeout = lifetime.timeout.saturating_mul(1000);
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    put(bytes, NFTA_SET_ELEM_TIMEOUT, &timeout.to_be_bytes());
    if left < timeout {
        put(bytes, NFTA_SET_ELEM_EXPIRATION, &left.to_be_bytes());
    }
    let comment = Userdata::comment(&lifetime.comment()).unwrap_or_default();
    put(bytes, NFTA_SET_ELEM_USERDATA, comment.bytes());
}
