//! No bytes from the kernel make the reader panic, whatever they are.

use super::rule::RuleReader;
use super::set::{RawSet, raw_element};
use crate::attribute::{Attribute, Table, close, open, put, put_text, put_u32};
use crate::uapi::*;
use proptest::prelude::*;
use ruleset::listing::TableFamily;
use std::collections::BTreeMap;

fn any_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "meta",
        "ct",
        "payload",
        "fib",
        "byteorder",
        "bitwise",
        "cmp",
        "range",
        "lookup",
        "immediate",
        "counter",
        "objref",
        "log",
        "limit",
        "reject",
        "dynset",
        "masq",
    ])
}

/// A field of an expression: a number as rules have them, a value, a name, or anything.
fn any_field() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let number = prop_oneof![0u32..26, any::<u32>()].prop_map(|n| n.to_be_bytes().to_vec());
    let value = (1u16..3, prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(kind, bytes)| {
        let mut nested = Vec::new();
        put(&mut nested, kind, &bytes);
        nested
    });
    let name = Just(b"s\0".to_vec());
    let anything = prop::collection::vec(any::<u8>(), 0..20);
    (1u16..8, prop_oneof![6 => number, 3 => value, 1 => name, 1 => anything])
}

fn any_fields() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any_field(), 0..7).prop_map(|fields| {
        let mut bytes = Vec::new();
        fields.iter().for_each(|(kind, payload)| put(&mut bytes, *kind, payload));
        bytes
    })
}

fn set(key_type: u32, key_length: u32, flags: u32, elements: &[Vec<u8>]) -> RawSet {
    let mut bytes = Vec::new();
    put_text(&mut bytes, NFTA_SET_NAME, "s");
    put_u32(&mut bytes, NFTA_SET_FLAGS, flags);
    put_u32(&mut bytes, NFTA_SET_KEY_TYPE, key_type);
    put_u32(&mut bytes, NFTA_SET_KEY_LEN, key_length);
    let mut set = RawSet::decode(&Table::new(&bytes).expect("our own")).expect("our own");
    for payload in elements {
        set.elements.extend(raw_element(Attribute { kind: 1, payload }));
    }
    set
}

proptest! {
    #[test]
    fn any_expressions_are_a_rule(
        family in prop::sample::select(vec![TableFamily::Inet, TableFamily::Ip, TableFamily::Ip6]),
        expressions in prop::collection::vec((any_name(), any_fields()), 0..12),
        (key_type, key_length) in (prop_oneof![0u32..50, any::<u32>()], prop_oneof![0u32..40, any::<u32>()]),
        flags in any::<u32>(),
        elements in prop::collection::vec(any_fields(), 0..4),
    ) {
        let sets = BTreeMap::from([("s".to_owned(), set(key_type, key_length, flags, &elements))]);
        let mut reader = RuleReader::new(&family, &sets);
        for (name, fields) in expressions {
            let mut bytes = Vec::new();
            put_text(&mut bytes, NFTA_EXPR_NAME, name);
            let nest = open(&mut bytes, NFTA_EXPR_DATA);
            bytes.extend_from_slice(&fields);
            close(&mut bytes, nest);
            let _ = reader.expression(Attribute { kind: NFTA_LIST_ELEM, payload: &bytes });
        }
        let (rule, _) = reader.finish(None);
        let _ = rule.to_string();
        for set in sets.into_values() {
            let _ = set.listed(false);
        }
    }
}
