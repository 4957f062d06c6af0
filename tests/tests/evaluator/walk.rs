//! The walk itself, on tables that no policy compiles to: jumps, gotos and returns of every kind,
//! in rules and in maps, several deep.

use crate::exchange::Sending;
use crate::packet::{Packet, Path, udp};
use crate::prediction::{Fate, seen};
use crate::wire::Wire;
use crate::world::random::Random;
use ruleset::evaluate::Outcome;
use ruleset::{
    Base, Chain, Elements, Field, Hook, Interval, KeyType, Policy, Rule, Ruleset, Set, SetSpec,
    Statement, States, Table, Transport, Verdict,
};
use std::collections::BTreeMap;

const TABLES: u64 = 40;
const CHAINS: usize = 7;
const PORTS: u16 = 12;

fn chain_name(index: usize) -> String {
    if index == 0 { "input".into() } else { format!("chain_{index}") }
}

/// Chains lead to later ones only: the kernel refuses loops.
fn verdict(random: &mut Random, from: usize) -> Verdict {
    let is_last = from + 1 == CHAINS;
    match random.below(10) {
        0 => Verdict::Accept,
        1 => Verdict::Drop,
        2 | 3 => Verdict::Return,
        _ if is_last => Verdict::Return,
        kind => {
            let later = chain_name(from + 1 + random.below(CHAINS - from - 1));
            if kind < 7 { Verdict::Goto(later) } else { Verdict::Jump(later) }
        }
    }
}

fn table(random: &mut Random) -> Table {
    let mut table = Table::new();
    let port = Field::Dport(Transport::Udp);
    for index in 0..CHAINS {
        let mut chain = Chain::default();
        if index == 0 {
            let policy = random.pick(&[Policy::Accept, Policy::Drop]);
            chain.base = Some(Base::filter(Hook::Input, policy));
            // The ping that tells when all is done.
            let icmp = Statement::matches(Field::L4Proto, 1);
            chain.rules.push(Rule::new("ping", vec![icmp, Statement::Verdict(Verdict::Accept)]));
        }
        for number in 0..4 {
            let name = format!("{}.{number}", chain_name(index));
            table.counters.insert(name.clone());
            let mut statements = Vec::new();
            if random.percent(60) {
                statements.push(Statement::matches(port, 1 + random.below(PORTS.into()) as u128));
            }
            statements.push(Statement::counter(&name));
            if random.percent(40) {
                let map = format!("map_{name}");
                let places: Vec<u128> = (0..4).filter(|_| random.percent(70)).collect();
                let elements = places.into_iter().map(|at| {
                    let interval = Interval { first: 1 + 3 * at, last: 2 + 3 * at };
                    (interval, verdict(random, index))
                });
                let elements = Elements::Verdicts(elements.collect());
                let spec = SetSpec::intervals(KeyType::Port).into_map();
                table.sets.insert(map.clone(), Set { spec, elements });
                statements.push(Statement::dispatch(port, map));
            } else {
                statements.push(Statement::Verdict(verdict(random, index)));
            }
            chain.rules.push(Rule::new(name, statements));
        }
        table.chains.insert(chain_name(index), chain);
    }
    table
}

#[test]
fn the_walk_is_the_kernels() {
    let mut wire = Wire::new();
    for seed in 0..TABLES {
        let ruleset = Ruleset { table: Some(table(&mut Random(seed))) };
        wire.kernel.change(|_| ruleset.clone()).unwrap();
        wire.forget_connections();
        let table = ruleset.table.as_ref().unwrap();
        let before = wire.kernel.connection.counters().unwrap();
        let ends = ["10.0.0.2", "10.0.0.1"].map(|address| address.parse().unwrap());
        let sending = |port| {
            let packet = Packet::between(Path::In, ends[0], ends[1], udp(4000, port));
            Sending { packet, user: 0, socket: false, about: None }
        };
        let sendings: Vec<Sending> = (1..=PORTS).map(sending).collect();
        let fates = wire.round(&sendings.iter().collect::<Vec<_>>());
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        for (sending, fate) in sendings.iter().zip(fates) {
            let seen = seen(&sending.packet, Hook::Input, States::NEW, None);
            let evaluation = table.evaluate(&seen);
            let predicted = match evaluation.outcome {
                Outcome::Accept => Fate::Delivered,
                _ => Fate::Silence,
            };
            assert_eq!(fate, predicted, "{} in table {seed}:\n{ruleset}", sending.packet);
            for counter in evaluation.counters {
                *expected.entry(counter).or_default() += 1;
            }
        }
        for (name, (packets, _)) in wire.kernel.connection.counters().unwrap() {
            let counted = packets - before[&name].0;
            let expected = expected.get(name.as_str()).copied().unwrap_or_default();
            assert_eq!(counted, expected, "counter {name} in table {seed}:\n{ruleset}");
        }
    }
}
