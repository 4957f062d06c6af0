//! Encoder and decoder against each other, and the decoder against hostile bytes, without a kernel.

use crate::arbitrary::{any_set, any_statement};
use crate::attribute::{Attribute, Attributes, Table, close, open, put};
use crate::batch::{Batch, Terms};
use crate::change::Changes;
use crate::collect::{Collector, Obstacle, describe};
use crate::connection::{Generation, nft};
use crate::dump::Handles;
use crate::error::EncodeError;
use crate::expression;
use crate::lift::lift;
use crate::message::{FAMILY_HEADER, HEADER, KernelError, Message, Messages};
use crate::refusal::Refusal;
use crate::rule::DumpedRule;
use crate::set;
use crate::table::{ChainHead, ObjectHead, TableHead};
use crate::uapi::*;
use proptest::prelude::*;
use ruleset::{
    AddressRange, Base, Elements, Family, Hook, KeyType, Lifetime, Operation, Plan, Policy, Rule,
    SetSpec, Statement, TimedSet, Verdict,
};

fn encode(operations: Vec<Operation>) -> Result<Batch, EncodeError> {
    Batch::encode(&Plan { operations }, &Handles::default(), None, &Terms::default())
}

fn messages(batch: &Batch) -> Vec<Message<'_>> {
    Messages::new(batch.bytes()).map(|message| message.expect("well-formed")).collect()
}

fn insert(rule: Rule) -> Operation {
    Operation::InsertRule { chain: "input".into(), before: None, rule }
}

#[test]
fn a_batch_is_framed_and_numbered_and_acknowledged_once() {
    let operations = vec![
        Operation::AddTable { comment: Some("managed".into()) },
        Operation::AddChain {
            chain: "input".into(),
            base: Some(Base { priority: -10, ..Base::filter(Hook::Input, Policy::Drop) }),
        },
        Operation::AddCounter { counter: "web".into() },
    ];
    let plan = Plan { operations };
    let mut batch =
        Batch::encode(&plan, &Handles::default(), Some(Generation(7)), &Terms::default())
            .expect("can be encoded");
    for (end, acknowledged) in [(true, 4), (false, 3)] {
        assert_eq!(batch.acknowledge(end), acknowledged);
        let messages = messages(&batch);
        let kinds: Vec<_> = messages.iter().map(|message| message.kind).collect();
        let expected = [NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWOBJ].map(nft);
        assert_eq!(kinds[1..4], expected);
        assert_eq!((kinds[0], kinds[4]), (NFNL_MSG_BATCH_BEGIN, NFNL_MSG_BATCH_END));
        for (index, message) in messages.iter().enumerate() {
            assert_eq!(message.sequence, index as u32);
            assert_eq!(message.flags & NLM_F_ACK != 0, message.sequence == acknowledged);
        }
        let generation = messages[0].table::<2>().expect("well-formed");
        assert_eq!(generation.require(NFNL_BATCH_GENID).and_then(Attribute::u32), Ok(7));
    }
    let messages = messages(&batch);
    let table = TableHead::decode(&messages[1].table().expect("well-formed")).expect("a table");
    assert_eq!(table.comment.as_deref(), Some("managed"));
    let chain = ChainHead::decode(&messages[2].table().expect("well-formed")).expect("a chain");
    let Operation::AddChain { base, .. } = &plan.operations[1] else { panic!("a chain") };
    assert_eq!((chain.name.as_str(), &chain.base), ("input", base));
    assert_eq!(chain.foreign, [""; 0]);
    let object = ObjectHead::decode(&messages[3].table().expect("well-formed"));
    assert!(matches!(object, Ok(ObjectHead::Counter { packets: 0, .. })));
}

#[test]
fn what_the_kernel_can_not_hold_is_refused_before_it_is_sent() {
    let long = || "x".repeat(256);
    let chain = |chain: String| Operation::AddChain { chain, base: None };
    let jump = |target: String| insert(Rule::new("", vec![Statement::jump(target)]));
    let spec = || SetSpec::exact(KeyType::Address(Family::V4), None);
    let set = |spec| Operation::AddSet { set: "s".into(), spec };
    let elements = |spec, elements| Operation::AddElements { set: "s".into(), spec, elements };
    let verdicts = |verdict| {
        let interval = ruleset::Interval::single(1);
        Elements::Verdicts([(interval, verdict)].into())
    };
    let keys = |first, last| Elements::Keys([ruleset::Interval { first, last }].into());
    let endless = |lifetime| {
        let range = AddressRange::single(std::net::Ipv4Addr::LOCALHOST);
        let set = TimedSet::from_elements([(range, lifetime)].into());
        Elements::TimedIpv4(set.expect("disjoint"))
    };
    let other = |length| KeyType::Other { datatype: 9, length };
    for operation in [
        chain(long()),
        chain("a\0b".into()),
        jump(long()),
        insert(Rule::new("x".repeat(129), Vec::new())),
        insert(Rule::new("", vec![Statement::Verdict(Verdict::Accept); 129])),
        insert(Rule::new(
            "",
            vec![Statement::Log(ruleset::Log {
                prefix: "x".repeat(128),
                target: ruleset::LogTarget::Kernel,
            })],
        )),
        Operation::AddTable { comment: Some("x".repeat(129)) },
        Operation::DeleteRule { chain: "input".into(), index: 0 },
        set(SetSpec { foreign: vec!["something".into()], ..spec() }),
        set(SetSpec::intervals(KeyType::Uid)),
        set(SetSpec::exact(other(6), None)),
        elements(spec(), Elements::Ipv6(Default::default())),
        elements(spec(), Elements::Opaque(Default::default())),
        elements(spec(), Elements::TimedIpv4(Default::default())),
        elements(spec().into_timed(), Elements::Ipv4(Default::default())),
        elements(spec().into_timed(), endless(None)),
        elements(spec().into_timed(), endless(Some(Lifetime { until: 9, timeout: 0 }))),
        elements(SetSpec::exact(other(32), None), keys(1, 1)),
        elements(SetSpec::exact(KeyType::Port, None), keys(1, 2)),
        elements(SetSpec::intervals(KeyType::Port), keys(2, 1)),
        elements(SetSpec::intervals(KeyType::Port), keys(1, 65536)),
        elements(spec().into_map(), verdicts(Verdict::Jump(long()))),
        elements(spec(), verdicts(Verdict::Accept)),
    ] {
        assert!(encode(vec![operation.clone()]).is_err(), "{operation:?}");
    }
    assert!(encode(vec![chain("x".repeat(255)), jump("x".repeat(255))]).is_ok());
}

#[test]
fn large_lists_of_elements_are_divided_between_intervals() {
    for length in [4, 16] {
        let family = if length == 4 { Family::V4 } else { Family::V6 };
        let spec = SetSpec::intervals(KeyType::Address(family));
        let ranges =
            (0..20_000u32).map(|index| (u128::from(index * 10), u128::from(index * 10 + 4)));
        let elements = match family {
            Family::V4 => Elements::Ipv4(
                ranges
                    .map(|(first, last)| ruleset::AddressRange {
                        first: std::net::Ipv4Addr::from_bits(first as u32),
                        last: std::net::Ipv4Addr::from_bits(last as u32),
                    })
                    .collect(),
            ),
            Family::V6 => Elements::Ipv6(
                ranges
                    .map(|(first, last)| ruleset::AddressRange {
                        first: first.into(),
                        last: last.into(),
                    })
                    .collect(),
            ),
        };
        let add = Operation::AddElements { set: "s".into(), spec, elements };
        let batch = encode(vec![add]).expect("can be encoded");
        assert!(batch.messages() > 10);
        for message in &messages(&batch)[1..=batch.messages()] {
            assert!(message.payload.len() < 1 << 16);
            let list = message.table::<4>().expect("well-formed");
            let list = list.require(NFTA_SET_ELEM_LIST_ELEMENTS).expect("elements");
            assert_eq!(list.nested().count() % 2, 0);
        }
    }
}

#[test]
fn the_place_of_an_error_is_found_in_the_message() {
    let statements = vec![
        Statement::lookup(ruleset::Field::Saddr(Family::V4), "web_v4"),
        Statement::Verdict(Verdict::Drop),
    ];
    let plan = Plan { operations: vec![insert(Rule::new("key", statements))] };
    let batch =
        Batch::encode(&plan, &Handles::default(), None, &Terms::default()).expect("can be encoded");
    let (message, _) = batch.message(1).expect("one message");
    let places: Vec<_> = (0..message.len() + 8)
        .filter_map(|offset| {
            let error = KernelError { errno: 2, offset: Some(offset), text: None };
            Refusal::new(&plan, &batch, 1, error, 0).place.map(|place| place.what)
        })
        .collect();
    let mut distinct = places.clone();
    distinct.dedup();
    let expressions = ["meta", "cmp", "payload", "lookup", "immediate"];
    let mut expected = vec!["its table".to_owned(), "its chain".to_owned()];
    expected.extend(
        expressions.iter().enumerate().map(|(i, name)| format!("expression {} ({name})", i + 1)),
    );
    assert_eq!(distinct, expected);
}

fn take(spec: &SetSpec, message: &Message<'_>, collector: &mut Collector) -> Result<(), Obstacle> {
    let list = message.table::<4>()?;
    if let Some(list) = list.get(NFTA_SET_ELEM_LIST_ELEMENTS) {
        for element in list.nested().flatten() {
            let _ = describe(element, spec);
        }
        collector.take(list)?;
    }
    Ok(())
}

/// An element that ends, as kernels dump it that align attributes of 64 bits (`nla_align_64bit`),
/// or without what they put in front of these.
fn timed_element(is_padded: bool) -> Vec<u8> {
    let mut list = Vec::new();
    let element = open(&mut list, NFTA_LIST_ELEM);
    let key = open(&mut list, NFTA_SET_ELEM_KEY);
    put(&mut list, NFTA_DATA_VALUE, &[192, 0, 2, 1]);
    close(&mut list, key);
    for kind in [NFTA_SET_ELEM_TIMEOUT, NFTA_SET_ELEM_EXPIRATION] {
        if is_padded {
            put(&mut list, NFTA_SET_ELEM_PAD, &[]);
        }
        put(&mut list, kind, &60_000u64.to_be_bytes());
    }
    close(&mut list, element);
    list
}

#[test]
fn padding_is_no_part_of_an_element() {
    let key = KeyType::Address(Family::V4);
    let timed = SetSpec { timeout: true, ..SetSpec::exact(key, None) };
    let opaque = SetSpec { foreign: vec!["a comment".into()], ..timed.clone() };
    for spec in [timed, opaque] {
        let [plain, padded] = [false, true].map(|is_padded| {
            let mut collector = Collector::new(&spec);
            let payload = timed_element(is_padded);
            collector.take(Attribute { kind: 0, payload: &payload }).expect("no foreign element");
            collector.finish().expect("elements")
        });
        assert_eq!(plain, padded);
        assert_eq!(padded.len(), 1);
    }
}

/// Feeds bytes to every decoder there is.
fn decode_all(bytes: &[u8], spec: &SetSpec) {
    let attribute = Attribute { kind: 0, payload: bytes };
    let _ = expression::decode(attribute).map(lift);
    let _ = Table::new(bytes).and_then(|table| TableHead::decode(&table));
    let _ = Table::new(bytes).and_then(|table| ChainHead::decode(&table));
    let _ = Table::new(bytes).and_then(|table| ObjectHead::decode(&table));
    let _ = Table::new(bytes).and_then(|table| DumpedRule::decode(&table));
    let _ = Table::new(bytes).and_then(|table| set::decode(&table));
    let payload = [&[NFPROTO_INET, 0, 0, 0], bytes].concat();
    let mut changes = Changes::default();
    for kind in 0..=NFT_MSG_DESTROYFLOWTABLE {
        let kind = nft(kind);
        let message = Message { kind, flags: 0, sequence: 0, port: 0, payload: &payload };
        let _ = changes.note(&message);
    }
    let mut collector = Collector::new(spec);
    let _ = collector.take(attribute);
    let _ = collector.finish();
    for element in attribute.nested().flatten() {
        let _ = describe(element, spec);
    }
}

/// Damages some bytes of a well-formed message.
fn damage(bytes: &mut Vec<u8>, damages: &[(prop::sample::Index, u8)], cut: usize) {
    for (index, value) in damages {
        if !bytes.is_empty() {
            let index = index.index(bytes.len());
            bytes[index] = *value;
        }
    }
    bytes.truncate(bytes.len().saturating_sub(cut));
}

proptest! {
    #[test]
    fn rules_read_back_from_what_libnftnl_wrote(
        statements in prop::collection::vec(any_statement(), 0..8),
        comment in "[a-z >-]{0,20}",
    ) {
        let rule = Rule::new(comment, statements);
        let batch = encode(vec![insert(rule.clone())]).expect("can be encoded");
        let fields = messages(&batch)[1].table::<16>().expect("well-formed");
        let list = fields.get(NFTA_RULE_EXPRESSIONS);
        let expressions = list.map(|list| expression::decode(list).expect("well-formed"));
        let read = lift(expressions.unwrap_or_default());
        prop_assert!(!read.iter().any(|s| matches!(s, Statement::Opaque(_))), "{read:?}");
        // Equal but for a protocol that the next match implies: both lower to the same.
        let again = encode(vec![insert(Rule { statements: read, ..rule })]).expect("can be encoded");
        prop_assert_eq!(again.bytes(), batch.bytes());
    }

    #[test]
    fn sets_and_elements_read_back((spec, elements) in any_set()) {
        let operations = vec![
            Operation::AddSet { set: "s".into(), spec: spec.clone() },
            Operation::AddElements { set: "s".into(), spec: spec.clone(), elements: elements.clone() },
        ];
        let batch = encode(operations).expect("can be encoded");
        let messages = messages(&batch);
        let fields = messages[1].table().expect("well-formed");
        prop_assert_eq!(set::decode(&fields), Ok(("s".to_owned(), spec.clone())));
        let mut collector = Collector::new(&spec);
        for message in &messages[2..=batch.messages()] {
            take(&spec, message, &mut collector).expect("ours");
        }
        prop_assert_eq!(collector.finish(), Ok(elements));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(
        (spec, _) in any_set(),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        decode_all(&bytes, &spec);
    }

    #[test]
    fn no_damage_makes_a_decoder_panic(
        (spec, elements) in any_set(),
        statements in prop::collection::vec(any_statement(), 0..5),
        damages in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..6),
        cut in 0usize..20,
    ) {
        let operations = vec![
            Operation::AddSet { set: "s".into(), spec: spec.clone() },
            Operation::AddElements { set: "s".into(), spec: spec.clone(), elements },
            insert(Rule::new("c", statements)),
        ];
        let batch = encode(operations).expect("can be encoded");
        for sequence in 1..=batch.messages() as u32 {
            let (message, _) = batch.message(sequence).expect("there");
            let mut bytes = message[HEADER + FAMILY_HEADER..].to_vec();
            damage(&mut bytes, &damages, cut);
            decode_all(&bytes, &spec);
            for attribute in Attributes::new(&bytes).flatten() {
                decode_all(attribute.payload, &spec);
            }
        }
    }
}
