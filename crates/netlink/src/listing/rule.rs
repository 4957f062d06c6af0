//! From expressions to steps: what was loaded into a register meets what it is compared with.

mod statement;

use crate::attribute::{Attribute, Malformed, Table};
use crate::expression::verdict;
use crate::listing::field::{Known, Loaded, hex};
use crate::listing::set::{Part, RawSet};
use crate::uapi::*;
use ruleset::listing::{
    Domain, ListedRule, Operand, Refusal, Selector, Step, TableFamily, Value, VerdictMap,
};
use ruleset::{Family, Transport};
use std::collections::BTreeMap;

const NFTA_META_SREG: u16 = 3;
const NFTA_RANGE_SREG: u16 = 1;
const NFTA_RANGE_OP: u16 = 2;
const NFTA_RANGE_FROM_DATA: u16 = 3;
const NFTA_RANGE_TO_DATA: u16 = 4;
const NFTA_BYTEORDER_SREG: u16 = 1;
const NFTA_BYTEORDER_DREG: u16 = 2;
const NFTA_BYTEORDER_OP: u16 = 3;
const NFT_BYTEORDER_NTOH: u32 = 0;
const NFTA_CT_DIRECTION: u16 = 3;
const NFTA_CT_SREG: u16 = 4;
const NFTA_FIB_RESULT: u16 = 2;
const NFTA_FIB_FLAGS: u16 = 3;
const NFTA_DREG: u16 = 1;
const NFT_REG32_00: u32 = 8;
const NFT_LOOKUP_F_INV: u32 = 1;

type Fields<'a> = Table<'a, 16>;

/// A rule on its way from expressions to steps.
pub(super) struct RuleReader<'s> {
    table: TableFamily,
    sets: &'s BTreeMap<String, RawSet>,
    known: Known,
    /// By the offset of its first byte.
    registers: BTreeMap<u32, Loaded>,
    /// What was put into a register, by the offset of its first byte.
    constants: BTreeMap<u32, Vec<u8>>,
    steps: Vec<Step>,
    /// What steps in words ask for.
    told: Vec<Selector>,
    fills: Vec<String>,
}

impl<'s> RuleReader<'s> {
    pub(super) fn new(table: &TableFamily, sets: &'s BTreeMap<String, RawSet>) -> Self {
        let family = match table.addresses() {
            [one] => Some(*one),
            _ => None,
        };
        let known = Known { family, protocol: None };
        Self {
            table: table.clone(),
            sets,
            known,
            registers: BTreeMap::new(),
            constants: BTreeMap::new(),
            steps: Vec::new(),
            told: Vec::new(),
            fills: Vec::new(),
        }
    }

    /// The rule, and the sets that it adds to.
    pub(super) fn finish(mut self, comment: Option<String>) -> (ListedRule, Vec<String>) {
        let steps = std::mem::take(&mut self.steps);
        let is_needed =
            |(index, step): &(usize, &Step)| !is_implied(step, *index, &steps, &self.told);
        let steps = steps.iter().enumerate().filter(is_needed).map(|(_, s)| s.clone()).collect();
        (ListedRule { comment, steps }, self.fills)
    }

    /// Takes the next expression.
    pub(super) fn expression(&mut self, element: Attribute<'_>) -> Result<(), Malformed> {
        let parts = element.table::<3>()?;
        let name = parts.require(NFTA_EXPR_NAME)?.text();
        let data = parts.get(NFTA_EXPR_DATA).map_or(&[][..], |data| data.payload);
        let fields = Table::<16>::new(data)?;
        if self.understood(&name, &fields).is_none() {
            // What it may have put into a register is no longer what was there.
            self.registers.clear();
            self.steps.push(Step::Other(words(&name).to_owned()));
        }
        Ok(())
    }

    fn understood(&mut self, name: &str, fields: &Fields<'_>) -> Option<()> {
        match name {
            "meta" if fields.get(NFTA_META_SREG).is_some() => {
                let loaded = Loaded::meta(number(fields, NFTA_META_KEY)?);
                self.set(&loaded, fields, NFTA_META_SREG)?;
            }
            "meta" => self.load(fields, Loaded::meta(number(fields, NFTA_META_KEY)?))?,
            "ct" => {
                let direction = fields.get(NFTA_CT_DIRECTION).and_then(|field| field.u8().ok());
                let loaded = Loaded::conntrack(number(fields, NFTA_CT_KEY)?, direction);
                match fields.get(NFTA_CT_SREG) {
                    Some(_) => self.set(&loaded, fields, NFTA_CT_SREG)?,
                    None => self.load(fields, loaded)?,
                }
            }
            "fib" => {
                let (result, flags) =
                    (number(fields, NFTA_FIB_RESULT)?, number(fields, NFTA_FIB_FLAGS)?);
                self.load(fields, Loaded::route(result, flags)?)?;
            }
            "payload" => self.payload(fields)?,
            "exthdr" | "socket" | "rt" | "osf" | "numgen" | "hash" | "xfrm" | "tunnel" => {
                self.load(fields, Loaded { is_host: true, ..Loaded::other(name) })?;
            }
            "byteorder" => self.byteorder(fields)?,
            "bitwise" => self.bitwise(fields)?,
            "cmp" => self.compare(fields)?,
            "range" => self.range(fields)?,
            "lookup" => self.lookup(fields)?,
            "immediate" => self.immediate(fields)?,
            "counter" | "objref" | "last" => self.counter(name, fields)?,
            "log" => self.log(fields)?,
            "limit" => self.limit(fields)?,
            "connlimit" => self.count(fields)?,
            "quota" => self.quota(fields)?,
            "reject" => self.reject(fields)?,
            "dynset" => self.update(fields)?,
            _ => return None,
        }
        Some(())
    }

    fn load(&mut self, fields: &Fields<'_>, loaded: Loaded) -> Option<()> {
        let at = offset(number(fields, NFTA_DREG)?)?;
        self.constants.remove(&at);
        self.registers.insert(at, loaded);
        Some(())
    }

    fn payload(&mut self, fields: &Fields<'_>) -> Option<()> {
        let base = number(fields, NFTA_PAYLOAD_BASE)?;
        let at = number(fields, NFTA_PAYLOAD_OFFSET)?;
        let length = number(fields, NFTA_PAYLOAD_LEN)?;
        self.load(fields, Loaded::payload(base, at, length, self.known))
    }

    fn loaded(&self, fields: &Fields<'_>, register: u16) -> Option<&Loaded> {
        self.registers.get(&offset(number(fields, register)?)?)
    }

    fn bitwise(&mut self, fields: &Fields<'_>) -> Option<()> {
        let loaded = self.loaded(fields, NFTA_BITWISE_SREG)?.clone();
        let is_plain = fields.u32_or_zero(NFTA_BITWISE_OP) == Ok(NFT_BITWISE_BOOL)
            && loaded.mask.is_none()
            && value(fields, NFTA_BITWISE_XOR)?.iter().all(|byte| *byte == 0);
        let mask = value(fields, NFTA_BITWISE_MASK)?;
        let at = offset(number(fields, NFTA_BITWISE_DREG)?)?;
        let masked = match is_plain {
            true => Loaded { mask: Some(mask), ..loaded },
            false => Loaded::other(format!("{} changed by arithmetic", loaded.selector)),
        };
        self.registers.insert(at, masked);
        Some(())
    }

    fn byteorder(&mut self, fields: &Fields<'_>) -> Option<()> {
        let is_host = number(fields, NFTA_BYTEORDER_OP)? == NFT_BYTEORDER_NTOH;
        let loaded = self.loaded(fields, NFTA_BYTEORDER_SREG)?.clone();
        let at = offset(number(fields, NFTA_BYTEORDER_DREG)?)?;
        self.registers.insert(at, Loaded { is_host, ..loaded });
        Some(())
    }

    fn compare(&mut self, fields: &Fields<'_>) -> Option<()> {
        let loaded = self.loaded(fields, NFTA_CMP_SREG)?.clone();
        let bytes = value(fields, NFTA_CMP_DATA)?;
        let operator = number(fields, NFTA_CMP_OP)?;
        let negated = match operator {
            NFT_CMP_EQ => false,
            NFT_CMP_NEQ => true,
            _ => {
                let order = ["<", "<=", ">", ">="].get(operator as usize - 2).copied()?;
                self.order(&loaded, order, &bytes);
                return Some(());
            }
        };
        if let Some(mask) = &loaded.mask {
            self.masked(&loaded, mask, &bytes, negated);
            return Some(());
        }
        if self.port_pair(&loaded, &bytes, negated) {
            return Some(());
        }
        let value = loaded.value(&bytes);
        if let (Value::Range(first, last), false) = (&value, negated)
            && first == last
        {
            self.learn(&loaded.selector, *first);
        }
        self.matches(vec![loaded.selector], negated, vec![vec![value]]);
        Some(())
    }

    /// Remembers what the rule has made sure of.
    fn learn(&mut self, selector: &Selector, number: u128) {
        match (selector, number) {
            (Selector::NfProto, 2) => self.known.family = Some(Family::V4),
            (Selector::NfProto, 10) => self.known.family = Some(Family::V6),
            (Selector::L4Proto | Selector::Protocol(_), number) => {
                self.known.protocol = u8::try_from(number).ok();
            }
            _ => {}
        }
    }

    /// `nft` compares both ports at once where a rule asks for both.
    fn port_pair(&mut self, loaded: &Loaded, bytes: &[u8], negated: bool) -> bool {
        let is_pair = loaded.selector == Selector::Other("@th,0,32".into());
        let (true, false, &[s0, s1, d0, d1]) = (is_pair, negated, bytes) else { return false };
        let transport = self.known.protocol.and_then(Transport::of_protocol);
        for (selector, port) in [
            (Selector::Sport(transport), u16::from_be_bytes([s0, s1])),
            (Selector::Dport(transport), u16::from_be_bytes([d0, d1])),
        ] {
            self.matches(vec![selector], false, vec![vec![Value::number(port.into())]]);
        }
        true
    }

    fn masked(&mut self, loaded: &Loaded, mask: &[u8], bytes: &[u8], negated: bool) {
        let selector = loaded.selector.clone();
        let numbers = loaded.number(mask, 0).zip(loaded.number(bytes, 0));
        if let (Selector::CtState, true, Some((mask, 0))) = (&selector, negated, numbers) {
            let bits = (0..32).map(|bit| 1u128 << bit).filter(|bit| mask & bit != 0);
            let states = bits.map(|state| vec![Value::number(state)]).collect();
            return self.matches(vec![selector], false, states);
        }
        if let (Domain::Address(family), Some((mask, address))) = (selector.domain(), numbers) {
            let all = if family == Family::V4 { u128::from(u32::MAX) } else { u128::MAX };
            let host = all & !mask;
            // Ones, then zeros: a prefix.
            if host & host.wrapping_add(1) == 0 && address & host == 0 {
                let range = Value::Range(address, address | host);
                return self.matches(vec![selector], negated, vec![vec![range]]);
            }
        }
        let value = match numbers {
            Some((mask, value)) => selector.domain().masked(mask, value, negated),
            None => {
                let operator = if negated { "!=" } else { "==" };
                Value::Word(format!("& {} {operator} {}", hex(mask), hex(bytes)))
            }
        };
        self.matches(vec![selector], false, vec![vec![value]]);
    }

    /// `< n` and its like. Two of them are how ranges are written.
    fn order(&mut self, loaded: &Loaded, order: &str, bytes: &[u8]) {
        let number = loaded.number(bytes, 0).filter(|_| loaded.mask.is_none());
        let max = if bytes.len() >= 16 { u128::MAX } else { (1 << (8 * bytes.len())) - 1 };
        let bounds = number.and_then(|number| match order {
            "<" => Some((0, number.checked_sub(1)?)),
            "<=" => Some((0, number)),
            ">" => Some((number.checked_add(1)?, max)),
            _ => Some((number, max)),
        });
        let Some((mut first, mut last)) = bounds else {
            let text = format!("{} {order} {}", loaded.selector, hex(bytes));
            return self.steps.push(Step::Other(text));
        };
        let selectors = vec![loaded.selector.clone()];
        if let Some(Step::Match { selectors: before, negated: false, operand: Operand::Keys(keys) }) =
            self.steps.last()
            && let ([key], true) = (keys.as_slice(), *before == selectors)
            && let [Value::Range(low, high)] = key.as_slice()
            && first.max(*low) <= last.min(*high)
        {
            (first, last) = (first.max(*low), last.min(*high));
            self.steps.pop();
        }
        self.matches(selectors, false, vec![vec![Value::Range(first, last)]]);
    }

    fn range(&mut self, fields: &Fields<'_>) -> Option<()> {
        let loaded = self.loaded(fields, NFTA_RANGE_SREG)?.clone();
        let negated = number(fields, NFTA_RANGE_OP)? == NFT_CMP_NEQ;
        let first = loaded.number(&value(fields, NFTA_RANGE_FROM_DATA)?, 0)?;
        let last = loaded.number(&value(fields, NFTA_RANGE_TO_DATA)?, 0)?;
        let range = Value::Range(first, last);
        self.matches(vec![loaded.selector], negated, vec![vec![range]]);
        Some(())
    }

    fn lookup(&mut self, fields: &Fields<'_>) -> Option<()> {
        let name = fields.get(NFTA_LOOKUP_SET)?.text();
        let set = self.sets.get(&name)?;
        let loads = self.concatenated(offset(number(fields, NFTA_LOOKUP_SREG)?)?, set)?;
        let selectors: Vec<Selector> = loads.iter().map(|one| one.selector.clone()).collect();
        let part = |one: &Loaded| Part {
            domain: one.selector.domain(),
            length: one.length,
            is_host: one.is_host,
        };
        let parts: Vec<Part> = loads.iter().map(part).collect();
        let elements = || set.listed_elements(&parts).into_iter();
        let negated = fields.u32_or_zero(NFTA_LOOKUP_FLAGS).ok()? & NFT_LOOKUP_F_INV != 0;
        match fields.get(NFTA_LOOKUP_DREG).map(Attribute::u32) {
            None if set.is_anonymous => {
                let mut keys: Vec<_> = elements().map(|element| element.key).collect();
                keys.sort_by_cached_key(|key| key.iter().map(rank).collect::<Vec<_>>());
                self.matches(selectors, negated, keys);
            }
            None => {
                let operand = Operand::Named(name);
                self.steps.push(Step::Match { selectors, negated, operand });
            }
            Some(Ok(NFT_REG_VERDICT)) => {
                let map = match set.is_anonymous {
                    true => {
                        let mut entries: Vec<_> =
                            elements().filter_map(|e| Some((e.key, e.verdict?))).collect();
                        entries.sort_by_cached_key(|(key, _)| {
                            key.iter().map(rank).collect::<Vec<_>>()
                        });
                        VerdictMap::Entries(entries)
                    }
                    false => VerdictMap::Named(name),
                };
                self.steps.push(Step::Dispatch { selectors, map });
            }
            Some(_) => return None,
        }
        Some(())
    }

    /// What fills a key from `at` on: each part begins at a multiple of four bytes.
    fn concatenated(&self, at: u32, set: &RawSet) -> Option<Vec<Loaded>> {
        let first = self.registers.get(&at)?.clone();
        let whole = set.key_length;
        let mut filled = first.length.next_multiple_of(4);
        let mut loads = vec![first];
        while filled < whole {
            let next = self.registers.get(&(at + u32::try_from(filled).ok()?))?.clone();
            filled += next.length.next_multiple_of(4).max(4);
            loads.push(next);
        }
        loads.iter().all(|one| one.mask.is_none()).then_some(loads)
    }

    fn immediate(&mut self, fields: &Fields<'_>) -> Option<()> {
        if number(fields, NFTA_IMMEDIATE_DREG)? != NFT_REG_VERDICT {
            // What is done with it is the next expression's.
            let at = offset(number(fields, NFTA_IMMEDIATE_DREG)?)?;
            self.registers.remove(&at);
            self.constants.insert(at, value(fields, NFTA_IMMEDIATE_DATA)?);
            return Some(());
        }
        self.steps.push(Step::Verdict(verdict(fields.get(NFTA_IMMEDIATE_DATA)?)?));
        Some(())
    }

    fn counter(&mut self, name: &str, fields: &Fields<'_>) -> Option<()> {
        let kind = || number(fields, NFTA_OBJREF_IMM_TYPE);
        if name == "objref" && kind() != Some(NFT_OBJECT_COUNTER) {
            return None;
        }
        self.steps.push(Step::Counter);
        Some(())
    }

    fn matches(&mut self, selectors: Vec<Selector>, negated: bool, keys: Vec<Vec<Value>>) {
        self.steps.push(Step::Match { selectors, negated, operand: Operand::Keys(keys) });
    }
}

/// Whether a step only makes sure of what another one asks for anyway, as `nft` has them.
/// `told` are selectors of steps in words.
fn is_implied(step: &Step, index: usize, steps: &[Step], told: &[Selector]) -> bool {
    let Step::Match { selectors, negated: false, operand: Operand::Keys(keys) } = step else {
        return false;
    };
    let ([selector], [key]) = (selectors.as_slice(), keys.as_slice()) else { return false };
    let [Value::Range(number, last)] = key.as_slice() else { return false };
    let others = steps.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, step)| step);
    let asks = |other: &Selector| match (selector, other) {
        (Selector::L4Proto, Selector::Sport(Some(t)) | Selector::Dport(Some(t))) => {
            u128::from(t.protocol()) == *number
        }
        (Selector::L4Proto, Selector::IcmpType(Family::V4)) => *number == 1,
        (Selector::L4Proto, Selector::IcmpType(Family::V6)) => *number == 58,
        (Selector::NfProto, other) => family_of(other).is_some_and(|family| match family {
            Family::V4 => *number == 2,
            Family::V6 => *number == 10,
        }),
        (Selector::L4Proto, Selector::Other(text)) => match text.split(' ').next() {
            Some("tcp") => *number == 6,
            Some("icmp") => *number == 1,
            Some("icmpv6") => *number == 58,
            _ => false,
        },
        _ => false,
    };
    let implies = |other: &Step| match other {
        Step::Match { selectors, .. } | Step::Dispatch { selectors, .. } => {
            selectors.iter().any(asks)
        }
        Step::Reject(Refusal { family: Some(family), .. }) => {
            *selector == Selector::NfProto && (*number == 2) == (*family == Family::V4)
        }
        _ => false,
    };
    number == last && (told.iter().any(asks) || others.into_iter().any(implies))
}

fn family_of(selector: &Selector) -> Option<Family> {
    match selector {
        Selector::Saddr(family)
        | Selector::Daddr(family)
        | Selector::Protocol(family)
        | Selector::IcmpType(family) => Some(*family),
        Selector::HopLimit => Some(Family::V6),
        Selector::Other(text) => match text.split(' ').next() {
            Some("ip" | "icmp") => Some(Family::V4),
            Some("ip6" | "icmpv6") => Some(Family::V6),
            _ => None,
        },
        _ => None,
    }
}

/// The offset of a register's first byte: there are four of 16 bytes, and sixteen of four in the
/// same place.
fn offset(register: u32) -> Option<u32> {
    match register {
        1..=4 => Some((register - 1) * 16),
        NFT_REG32_00..=23 => Some((register - NFT_REG32_00) * 4),
        _ => None,
    }
}

fn number(fields: &Fields<'_>, kind: u16) -> Option<u32> {
    fields.get(kind)?.u32().ok()
}

/// The value in a `struct nft_data` attribute.
fn value(fields: &Fields<'_>, kind: u16) -> Option<Vec<u8>> {
    let data = fields.get(kind)?.table::<3>().ok()?;
    Some(data.get(NFTA_DATA_VALUE)?.payload.to_vec())
}

/// An expression that isn't understood, for people.
fn words(name: &str) -> &str {
    match name {
        "match" | "target" => "a match or target of iptables",
        "masq" => "masquerade",
        "redir" => "redirect",
        name => name,
    }
}

/// Where `nft` lists a value among others of a set. It takes names for numbers in the byte order of the
/// host, in which the last letter counts most.
fn rank(value: &Value) -> (u128, u128, Vec<u8>) {
    match value {
        Value::Range(first, last) => (*first, *last, Vec::new()),
        Value::Word(word) => (word.len() as u128, 0, word.bytes().rev().collect()),
    }
}
