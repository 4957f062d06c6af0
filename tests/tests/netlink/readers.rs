//! rustables, a second implementation, sees in the kernel what we meant.
//!
//! Within what it can decode: it knows no elements of a set, no map's data, and not the content of
//! `objref`, `limit` and `log`. A drop policy it reads as accept.

use crate::fixture::*;
use ruleset::{Field, Hook, Reject, Rule, Statement, Table, Value, Verdict};
use rustables::expr::{ExpressionVariant, RejectType, VerdictType};
use rustables::query::list_objects_with_data;
use rustables::{HookClass, list_chains_for_table, list_rules_for_chain, list_tables};
use std::collections::BTreeMap;
use tierwall_tests::second_reader::legible;

/// The parts of a rule that both can tell, in words.
fn ours(rule: &Rule) -> Vec<String> {
    rule.statements
        .iter()
        .filter_map(|statement| match statement {
            Statement::Lookup { set, .. } => Some(format!("lookup {set}")),
            Statement::Dispatch { map, .. } => Some(format!("lookup {map} for a verdict")),
            Statement::Reject(Reject::TcpReset) => Some("reset".to_owned()),
            Statement::Reject(Reject::AdminProhibited) => Some("prohibited".to_owned()),
            Statement::Verdict(verdict) => Some(verdict.to_string()),
            _ => None,
        })
        .collect()
}

fn theirs(rule: &rustables::Rule) -> Vec<String> {
    let expressions = rule.get_expressions().unwrap().iter();
    expressions
        .filter_map(|expression| match expression.get_data()? {
            ExpressionVariant::Lookup(lookup) => {
                let set = lookup.get_set().unwrap();
                let verdict = if lookup.get_dreg().is_some() { " for a verdict" } else { "" };
                Some(format!("lookup {set}{verdict}"))
            }
            ExpressionVariant::Reject(reject) => Some(match reject.get_type().unwrap() {
                RejectType::TcpRst => "reset".to_owned(),
                RejectType::IcmpxUnreach => "prohibited".to_owned(),
                other => format!("{other:?}"),
            }),
            ExpressionVariant::Immediate(immediate) => {
                let verdict = immediate.get_data().unwrap().get_verdict().unwrap();
                let chain = || verdict.get_chain().unwrap().trim_end_matches('\0').to_owned();
                let verdict = match verdict.get_code().unwrap() {
                    VerdictType::Accept => Verdict::Accept,
                    VerdictType::Drop => Verdict::Drop,
                    VerdictType::Return => Verdict::Return,
                    VerdictType::Jump => Verdict::Jump(chain()),
                    VerdictType::Goto => Verdict::Goto(chain()),
                    other => panic!("{other:?}"),
                };
                Some(verdict.to_string())
            }
            _ => None,
        })
        .collect()
}

/// The values that a rule compares ports and addresses with.
fn compared(rule: &Rule) -> Vec<Vec<u8>> {
    let value = |field: &Field, number: &u128| match field {
        Field::Sport(_) | Field::Dport(_) => Some((*number as u16).to_be_bytes().to_vec()),
        Field::Saddr(ruleset::Family::V4) | Field::Daddr(ruleset::Family::V4) => {
            Some((*number as u32).to_be_bytes().to_vec())
        }
        Field::Saddr(_) | Field::Daddr(_) => Some(number.to_be_bytes().to_vec()),
        Field::L4Proto
        | Field::IcmpType(_)
        | Field::HopLimit
        | Field::NfProto
        | Field::PacketType
        | Field::CtDirection
        | Field::SocketWildcard => Some(vec![*number as u8]),
        Field::IifKind => Some(number.to_be_bytes().to_vec()),
        _ => Some((*number as u32).to_ne_bytes().to_vec()),
    };
    rule.statements
        .iter()
        .filter_map(|statement| match statement {
            Statement::Match { field, value: Value::Number(number) } => value(field, number),
            _ => None,
        })
        .collect()
}

/// All values that a rule compares with, as rustables sees them.
fn comparisons(rule: &rustables::Rule) -> Vec<Vec<u8>> {
    let expressions = rule.get_expressions().unwrap().iter();
    expressions
        .filter_map(|expression| match expression.get_data()? {
            ExpressionVariant::Cmp(cmp) => cmp.get_data().unwrap().get_value().cloned(),
            _ => None,
        })
        .collect()
}

fn chain_rules(table: &rustables::Table) -> BTreeMap<String, Vec<rustables::Rule>> {
    let chains = list_chains_for_table(table).unwrap();
    chains
        .iter()
        .map(|chain| (chain.get_name().unwrap().clone(), list_rules_for_chain(chain).unwrap()))
        .collect()
}

fn compare(table: &Table) {
    let (namespace, _) = committed(table);
    namespace.run(|| {
        let tables = list_tables().unwrap();
        let [read] = tables.as_slice() else { panic!("{tables:?}") };
        assert_eq!(read.get_name().unwrap(), "filter");
        assert_eq!(read.get_userdata().unwrap()[2..], *b"managed by tierwalld\0");

        for chain in list_chains_for_table(read).unwrap() {
            let base = &table.chains[chain.get_name().unwrap()].base;
            let hook = base.as_ref().map(|base| match base.hook {
                Hook::Input => HookClass::In as u32,
                Hook::Forward => HookClass::Forward as u32,
                Hook::Output => HookClass::Out as u32,
                Hook::Other(number) => number,
            });
            assert_eq!(chain.get_hook().and_then(|hook| hook.get_class()).copied(), hook);
            let priority = chain.get_hook().and_then(|hook| hook.get_priority()).copied();
            assert_eq!(priority, base.as_ref().map(|base| base.priority as u32));
        }

        let chains = chain_rules(read);
        assert_eq!(chains.keys().collect::<Vec<_>>(), table.chains.keys().collect::<Vec<_>>());
        for (name, rules) in chains {
            let expected = &table.chains[&name].rules;
            assert_eq!(rules.len(), expected.len(), "{name}");
            for (rule, expected) in rules.iter().zip(expected) {
                assert_eq!(theirs(rule), ours(expected), "{expected:?}");
                let comment = rule.get_userdata().map(|data| data[2..data.len() - 1].to_vec());
                assert_eq!(comment.unwrap_or_default(), expected.comment.as_bytes());
                // Ports in one load are compared in one.
                let all = comparisons(rule);
                let joined = all.concat();
                for value in compared(expected) {
                    let found = all.contains(&value)
                        || joined.windows(value.len()).any(|window| window == value);
                    assert!(found, "{value:?} of {expected:?} in {all:?}");
                }
            }
        }

        let mut sets = BTreeMap::new();
        let take = |set: rustables::Set, sets: &mut BTreeMap<_, _>| {
            let flags = set.get_flags().copied().unwrap_or(0);
            let size = *set.get_key_len().unwrap() as usize;
            sets.insert(set.get_name().unwrap().clone(), (flags, size));
            Ok(())
        };
        let request = nix::libc::NFT_MSG_GETSET as u16;
        list_objects_with_data(request, &take, None, &mut sets).unwrap();
        let expected = table.sets.iter().map(|(name, set)| {
            let flag = |flag, on| if on { flag } else { 0 };
            let flags =
                flag(4, set.spec.interval) | flag(8, set.spec.map) | flag(16, set.spec.timeout);
            let flags = flags | flag(32, set.spec.dynamic.is_some());
            (name.clone(), (flags, set.spec.key.length()))
        });
        assert_eq!(sets, expected.collect());
    });
}

#[test]
fn rustables_sees_everything_that_was_committed() {
    compare(&legible(&everything()));
}
