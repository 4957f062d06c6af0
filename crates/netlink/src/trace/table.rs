//! The table that marks packets to be traced, as one batch.
//!
//! ```text
//! chain prerouting, output   first of all but defragmentation: goto mark, of what is asked for
//! chain mark                 counted; below the rates: counted, traced
//! chain input, postrouting   last of all, without a rule: that a packet gets there is told too
//! ```
//!
//! Nothing in it drops a packet. It is written here by hand, and not by `object`: that one knows no
//! table but ours.

use super::{Selector, Traffic};
use crate::attribute::{close, open, put, put_text, put_u32};
use crate::batch::{append_begin, append_end};
use crate::connection::nft;
use crate::expression::{Payload, name, verdict_code};
use crate::lower::{key_bytes, load};
use crate::message;
use crate::uapi::*;
use crate::userdata::Userdata;
use ruleset::{Address, AddressSet, Family, Field, Transport, Verdict};

/// Where chains begin: before connection tracking and what others do before it, but behind
/// defragmentation (`NF_IP_PRI_CONNTRACK_DEFRAG`), without which later fragments have no ports.
const FIRST: i32 = -399;
/// And where they end.
const LAST: i32 = i32::MAX;

pub(super) const PREROUTING: &str = "prerouting";
pub(super) const OUTPUT: &str = "output";
pub(super) const MARK: &str = "mark";
pub(super) const INPUT: &str = "input";
pub(super) const POSTROUTING: &str = "postrouting";

/// Counts what the selection matches, and what of it is traced.
pub(super) const MATCHED: &str = "matched";
pub(super) const TRACED: &str = "traced";

/// Elements in a message: far below the 64 KiB that a list can have.
const ELEMENTS: usize = 500;

const TCP_FLAGS_AT: u32 = 13;
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The numbers of the data types of addresses (`enum datatypes` in nftables' `datatype.h`).
const TYPE_IPADDR: u32 = 7;
const TYPE_IP6ADDR: u32 = 8;
/// Its userdata: keys are in network byte order, so that `nft list` prints addresses.
const KEY_BYTE_ORDER: u8 = 0;
const NETWORK_ORDER: u32 = 2;

/// The batch, and the sequence number of its last change.
pub(super) struct Encoded {
    pub(super) bytes: Vec<u8>,
    pub(super) last: u32,
}

/// Writes the batch; none where the selection can match nothing, since its sides have no address
/// family in common.
pub(super) fn encode(table: &str, selector: &Selector) -> Option<Encoded> {
    let mut writer = Writer { bytes: Vec::new(), sequence: 0, table };
    append_begin(&mut writer.bytes, 0, None);
    writer.message(NFT_MSG_NEWTABLE, NLM_F_EXCL, |bytes| {
        put_text(bytes, NFTA_TABLE_NAME, table);
        put_u32(bytes, NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER);
    });
    for counter in [MATCHED, TRACED] {
        writer.message(NFT_MSG_NEWOBJ, 0, |bytes| {
            put_text(bytes, NFTA_OBJ_TABLE, table);
            put_text(bytes, NFTA_OBJ_NAME, counter);
            put_u32(bytes, NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
            let data = open(bytes, NFTA_OBJ_DATA);
            close(bytes, data);
        });
    }
    for (side, addresses) in [("from", &selector.from), ("to", &selector.to)] {
        let Some(addresses) = addresses else { continue };
        writer.set(&format!("{side}_v4"), Family::V4, &addresses.v4);
        writer.set(&format!("{side}_v6"), Family::V6, &addresses.v6);
    }
    writer.chain(MARK, None);
    writer.mark(selector.rate);
    writer.chain(INPUT, Some((NF_INET_LOCAL_IN, LAST)));
    writer.chain(POSTROUTING, Some((NF_INET_POST_ROUTING, LAST)));
    let rules = rules(selector);
    if rules.is_empty() {
        return None;
    }
    for (chain, hook) in [(PREROUTING, NF_INET_PRE_ROUTING), (OUTPUT, NF_INET_LOCAL_OUT)] {
        writer.chain(chain, Some((hook, FIRST)));
        for rule in &rules {
            writer.rule(chain, rule);
        }
    }
    let last = writer.sequence;
    append_end(&mut writer.bytes, last + 1);
    Some(Encoded { bytes: writer.bytes, last })
}

/// An expression of these rules.
enum Step {
    Family(Family),
    Lookup(Field, &'static str),
    Protocol(u8),
    /// Ports from, to; of the source, or else of the destination.
    Ports {
        source: bool,
        first: u16,
        last: u16,
    },
    Opening,
    Counter(&'static str),
    Limit(u32),
    Trace,
    Verdict(Verdict),
}

/// The rules that lead what is asked for to the chain that marks it.
fn rules(selector: &Selector) -> Vec<Vec<Step>> {
    let any = [None];
    let some: Vec<Option<&Traffic>>;
    let traffic: &[Option<&Traffic>] = match selector.traffic.is_empty() {
        true => &any,
        false => {
            some = selector.traffic.iter().map(Some).collect();
            &some
        }
    };
    let mut rules = Vec::new();
    for family in Family::BOTH {
        let lacks = |side: &Option<super::Side>| match side {
            None => false,
            Some(side) => match family {
                Family::V4 => side.v4.is_empty(),
                Family::V6 => side.v6.is_empty(),
            },
        };
        if lacks(&selector.from) || lacks(&selector.to) {
            continue;
        }
        for answers in [false, true] {
            if answers && !selector.both {
                continue;
            }
            rules.extend(traffic.iter().map(|one| rule(selector, family, answers, *one)));
            if answers && !selector.traffic.is_empty() {
                // Errors about what was sent.
                let protocol = if family == Family::V4 { ICMP } else { ICMPV6 };
                let errors = Traffic { protocol, ports: None };
                if !selector.traffic.contains(&errors) {
                    rules.push(rule(selector, family, true, Some(&errors)));
                }
            }
        }
    }
    rules
}

fn rule(
    selector: &Selector,
    family: Family,
    answers: bool,
    traffic: Option<&Traffic>,
) -> Vec<Step> {
    let (from, to) = match family {
        Family::V4 => ("from_v4", "to_v4"),
        Family::V6 => ("from_v6", "to_v6"),
    };
    let (source, destination) = if answers { (to, from) } else { (from, to) };
    let is_given = |set: &str| match set {
        "from_v4" | "from_v6" => selector.from.is_some(),
        _ => selector.to.is_some(),
    };
    let mut steps = vec![Step::Family(family)];
    if is_given(source) {
        steps.push(Step::Lookup(Field::Saddr(family), source));
    }
    if is_given(destination) {
        steps.push(Step::Lookup(Field::Daddr(family), destination));
    }
    if let Some(Traffic { protocol, ports }) = traffic {
        steps.push(Step::Protocol(*protocol));
        if let Some(ports) = ports {
            let (first, last) = (*ports.start(), *ports.end());
            steps.push(Step::Ports { source: answers, first, last });
        }
    }
    steps.push(Step::Verdict(Verdict::Goto(MARK.into())));
    steps
}

struct Writer<'a> {
    bytes: Vec<u8>,
    sequence: u32,
    table: &'a str,
}

impl Writer<'_> {
    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>)) {
        self.sequence += 1;
        let flags = NLM_F_REQUEST | NLM_F_CREATE | flags;
        let (kind, family) = (nft(kind), (NFPROTO_INET, 0));
        let start = message::open(&mut self.bytes, kind, flags, self.sequence, family);
        body(&mut self.bytes);
        message::close(&mut self.bytes, start);
    }

    fn chain(&mut self, chain: &str, base: Option<(u32, i32)>) {
        let table = self.table;
        self.message(NFT_MSG_NEWCHAIN, NLM_F_EXCL, |bytes| {
            put_text(bytes, NFTA_CHAIN_TABLE, table);
            put_text(bytes, NFTA_CHAIN_NAME, chain);
            let Some((hook, priority)) = base else { return };
            let nest = open(bytes, NFTA_CHAIN_HOOK);
            put_u32(bytes, NFTA_HOOK_HOOKNUM, hook);
            put_u32(bytes, NFTA_HOOK_PRIORITY, priority as u32);
            close(bytes, nest);
            put_u32(bytes, NFTA_CHAIN_POLICY, NF_ACCEPT as u32);
            put_text(bytes, NFTA_CHAIN_TYPE, "filter");
        });
    }

    /// Segments that open a connection have a rate of their own: a transfer that goes on beside them
    /// hides none.
    fn mark(&mut self, rate: u32) {
        let traced = |opening: Option<Step>| {
            let accept = Step::Verdict(Verdict::Accept);
            let steps = [Step::Limit(rate), Step::Counter(TRACED), Step::Trace, accept];
            let protocol = opening.as_ref().map(|_| Step::Protocol(Transport::Tcp.protocol()));
            protocol.into_iter().chain(opening).chain(steps).collect::<Vec<Step>>()
        };
        self.rule(MARK, &[Step::Counter(MATCHED)]);
        self.rule(MARK, &traced(Some(Step::Opening)));
        self.rule(MARK, &traced(None));
    }

    fn set<A: Address>(&mut self, set: &str, family: Family, addresses: &AddressSet<A>) {
        let table = self.table;
        let (key_type, length) = match family {
            Family::V4 => (TYPE_IPADDR, 4),
            Family::V6 => (TYPE_IP6ADDR, 16),
        };
        let id = self.sequence;
        self.message(NFT_MSG_NEWSET, NLM_F_EXCL, |bytes| {
            put_text(bytes, NFTA_SET_TABLE, table);
            put_text(bytes, NFTA_SET_NAME, set);
            put_u32(bytes, NFTA_SET_FLAGS, NFT_SET_INTERVAL);
            put_u32(bytes, NFTA_SET_KEY_TYPE, key_type);
            put_u32(bytes, NFTA_SET_KEY_LEN, length as u32);
            put_u32(bytes, NFTA_SET_ID, id);
            let order = NETWORK_ORDER.to_ne_bytes();
            let userdata = Userdata::default().with(KEY_BYTE_ORDER, &order).unwrap_or_default();
            put(bytes, NFTA_SET_USERDATA, userdata.bytes());
        });
        let ranges: Vec<(u128, u128)> = addresses
            .ranges()
            .map(|range| (range.first.to_number(), range.last.to_number()))
            .collect();
        let end = u128::MAX >> (128 - 8 * length);
        for some in ranges.chunks(ELEMENTS) {
            self.message(NFT_MSG_NEWSETELEM, 0, |bytes| {
                put_text(bytes, NFTA_SET_ELEM_LIST_TABLE, table);
                put_text(bytes, NFTA_SET_ELEM_LIST_SET, set);
                let list = open(bytes, NFTA_SET_ELEM_LIST_ELEMENTS);
                for (first, last) in some {
                    element(bytes, &key_bytes(*first, length, false), 0);
                    // At the end of the address space there is no key behind.
                    if *last != end {
                        let behind = key_bytes(last + 1, length, false);
                        element(bytes, &behind, NFT_SET_ELEM_INTERVAL_END);
                    }
                }
                close(bytes, list);
            });
        }
    }

    fn rule(&mut self, chain: &str, steps: &[Step]) {
        let table = self.table;
        self.message(NFT_MSG_NEWRULE, NLM_F_APPEND, |bytes| {
            put_text(bytes, NFTA_RULE_TABLE, table);
            put_text(bytes, NFTA_RULE_CHAIN, chain);
            let list = open(bytes, NFTA_RULE_EXPRESSIONS);
            steps.iter().for_each(|step| expressions(bytes, step));
            close(bytes, list);
        });
    }
}

fn element(bytes: &mut Vec<u8>, key: &[u8], flags: u32) {
    let element = open(bytes, NFTA_LIST_ELEM);
    if flags != 0 {
        put_u32(bytes, NFTA_SET_ELEM_FLAGS, flags);
    }
    let nest = open(bytes, NFTA_SET_ELEM_KEY);
    put(bytes, NFTA_DATA_VALUE, key);
    close(bytes, nest);
    close(bytes, element);
}

/// The expressions of a step; values travel in register 1.
fn expressions(bytes: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Family(family) => {
            let byte = if *family == Family::V4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 };
            meta(bytes, NFT_META_NFPROTO);
            compare(bytes, NFT_CMP_EQ, &[byte]);
        }
        Step::Protocol(protocol) => {
            meta(bytes, NFT_META_L4PROTO);
            compare(bytes, NFT_CMP_EQ, &[*protocol]);
        }
        Step::Lookup(field, set) => {
            if let crate::expression::Expression::Payload(place) = load(*field).expression {
                payload(bytes, place);
            }
            expression(bytes, name::LOOKUP, |bytes| {
                put_text(bytes, NFTA_LOOKUP_SET, set);
                put_u32(bytes, NFTA_LOOKUP_SREG, NFT_REG_1);
            });
        }
        Step::Ports { source, first, last } => {
            let offset = if *source { 0 } else { 2 };
            payload(bytes, Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset, length: 2 });
            if first == last {
                compare(bytes, NFT_CMP_EQ, &first.to_be_bytes());
            } else {
                compare(bytes, NFT_CMP_GTE, &first.to_be_bytes());
                compare(bytes, NFT_CMP_LTE, &last.to_be_bytes());
            }
        }
        Step::Opening => {
            let base = NFT_PAYLOAD_TRANSPORT_HEADER;
            payload(bytes, Payload { base, offset: TCP_FLAGS_AT, length: 1 });
            expression(bytes, name::BITWISE, |bytes| {
                put_u32(bytes, NFTA_BITWISE_SREG, NFT_REG_1);
                put_u32(bytes, NFTA_BITWISE_DREG, NFT_REG_1);
                put_u32(bytes, NFTA_BITWISE_LEN, 1);
                value(bytes, NFTA_BITWISE_MASK, &[SYN_ACK]);
                value(bytes, NFTA_BITWISE_XOR, &[0]);
            });
            compare(bytes, NFT_CMP_EQ, &[SYN]);
        }
        Step::Counter(counter) => expression(bytes, name::OBJREF, |bytes| {
            put_u32(bytes, NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
            put_text(bytes, NFTA_OBJREF_IMM_NAME, counter);
        }),
        Step::Limit(rate) => expression(bytes, name::LIMIT, |bytes| {
            put(bytes, NFTA_LIMIT_RATE, &u64::from(*rate).to_be_bytes());
            put(bytes, NFTA_LIMIT_UNIT, &1u64.to_be_bytes());
            put_u32(bytes, NFTA_LIMIT_BURST, *rate);
            put_u32(bytes, NFTA_LIMIT_TYPE, NFT_LIMIT_PKTS);
            put_u32(bytes, NFTA_LIMIT_FLAGS, 0);
        }),
        Step::Trace => {
            expression(bytes, name::IMMEDIATE, |bytes| {
                put_u32(bytes, NFTA_IMMEDIATE_DREG, NFT_REG_1);
                value(bytes, NFTA_IMMEDIATE_DATA, &[1]);
            });
            expression(bytes, name::META, |bytes| {
                put_u32(bytes, NFTA_META_KEY, NFT_META_NFTRACE);
                put_u32(bytes, NFTA_META_SREG, NFT_REG_1);
            });
        }
        Step::Verdict(verdict) => expression(bytes, name::IMMEDIATE, |bytes| {
            let (code, chain) = verdict_code(verdict);
            put_u32(bytes, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
            let data = open(bytes, NFTA_IMMEDIATE_DATA);
            let nest = open(bytes, NFTA_DATA_VERDICT);
            put_u32(bytes, NFTA_VERDICT_CODE, code as u32);
            chain.into_iter().for_each(|chain| put_text(bytes, NFTA_VERDICT_CHAIN, chain));
            close(bytes, nest);
            close(bytes, data);
        }),
    }
}

fn expression(bytes: &mut Vec<u8>, name: &str, body: impl FnOnce(&mut Vec<u8>)) {
    let element = open(bytes, NFTA_LIST_ELEM);
    put_text(bytes, NFTA_EXPR_NAME, name);
    let data = open(bytes, NFTA_EXPR_DATA);
    body(bytes);
    close(bytes, data);
    close(bytes, element);
}

fn meta(bytes: &mut Vec<u8>, key: u32) {
    expression(bytes, name::META, |bytes| {
        put_u32(bytes, NFTA_META_DREG, NFT_REG_1);
        put_u32(bytes, NFTA_META_KEY, key);
    });
}

fn payload(bytes: &mut Vec<u8>, Payload { base, offset, length }: Payload) {
    expression(bytes, name::PAYLOAD, |bytes| {
        put_u32(bytes, NFTA_PAYLOAD_DREG, NFT_REG_1);
        put_u32(bytes, NFTA_PAYLOAD_BASE, base);
        put_u32(bytes, NFTA_PAYLOAD_OFFSET, offset);
        put_u32(bytes, NFTA_PAYLOAD_LEN, length);
    });
}

fn compare(bytes: &mut Vec<u8>, operator: u32, with: &[u8]) {
    expression(bytes, name::CMP, |bytes| {
        put_u32(bytes, NFTA_CMP_SREG, NFT_REG_1);
        put_u32(bytes, NFTA_CMP_OP, operator);
        value(bytes, NFTA_CMP_DATA, with);
    });
}

/// `struct nft_data`
fn value(bytes: &mut Vec<u8>, kind: u16, with: &[u8]) {
    let nest = open(bytes, kind);
    put(bytes, NFTA_DATA_VALUE, with);
    close(bytes, nest);
}
