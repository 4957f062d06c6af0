//! The fingerprint of a table: what stands in its state element, so that a restart can tell that
//! the kernel holds what was committed without reading it all back.
//!
//! A hash (SipHash-1-3 of 128 bits, without a key) over an encoding of its own, and not over text or
//! derived hashes: those change with the compiler or with how something is printed. Each part of
//! the encoding is of fixed length, or preceded by its length or by a tag that tells what it is, so
//! no two tables have the same. It guards against accidents, not against somebody who can write to
//! the kernel's table anyway.

use crate::address::Address;
use crate::address_set::AddressSet;
use crate::known::Flags;
use crate::statement::{Family, Field, LogTarget, Reject, Statement, Value, Verdict};
use crate::table::{Base, Chain, Elements, Hook, Interval, KeyType, Policy, Set, SetSpec, Table};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher;

/// To be raised with every change of the encoding.
const VERSION: u8 = 3;

/// How much is collected before it is hashed.
const CHUNK: usize = 1 << 16;

impl Table {
    /// The fingerprint of everything in the table but its state, and but the elements of timed and
    /// dynamic sets, which change by themselves: 32 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut encoder = Encoder { hasher: SipHasher13::new(), buffer: Vec::new() };
        encoder.tag(VERSION);
        encoder.table(self);
        encoder.finish()
    }
}

/// Hashes what is encoded into it.
struct Encoder {
    hasher: SipHasher13,
    buffer: Vec<u8>,
}

impl Encoder {
    fn finish(mut self) -> String {
        self.flush();
        format!("{:032x}", self.hasher.finish128().as_u128())
    }

    fn flush(&mut self) {
        self.hasher.write(&self.buffer);
        self.buffer.clear();
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK {
            self.flush();
        }
    }

    fn tag(&mut self, tag: u8) {
        self.bytes(&[tag]);
    }

    fn number(&mut self, number: impl Into<u128>) {
        self.bytes(&number.into().to_le_bytes());
    }

    fn length(&mut self, length: usize) {
        self.bytes(&(length as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.length(text.len());
        self.bytes(text.as_bytes());
    }

    fn texts<'a>(&mut self, texts: impl ExactSizeIterator<Item = &'a String>) {
        self.length(texts.len());
        texts.for_each(|text| self.text(text));
    }

    fn table(&mut self, table: &Table) {
        let Table { comment, counters, sets, chains, foreign, state: _ } = table;
        self.texts(comment.as_slice().iter());
        self.texts(counters.iter());
        self.texts(foreign.iter());
        self.length(sets.len());
        for (name, set) in sets {
            self.text(name);
            self.set(set);
        }
        self.length(chains.len());
        for (name, chain) in chains {
            self.text(name);
            self.chain(chain);
        }
    }

    fn set(&mut self, set: &Set) {
        let SetSpec { key, map, interval, timeout, size, dynamic, foreign } = &set.spec;
        self.key(*key);
        self.bytes(&[u8::from(*map), u8::from(*interval), u8::from(*timeout)]);
        // No set is declared to have no element.
        self.number(size.unwrap_or(0));
        // Nothing is forgotten at once.
        self.number(dynamic.unwrap_or(0));
        self.texts(foreign.iter());
        self.elements(&set.elements);
    }

    fn key(&mut self, key: KeyType) {
        match key {
            KeyType::Address(family) => self.bytes(&[0, family_tag(family)]),
            KeyType::Port => self.tag(1),
            KeyType::Protocol => self.tag(2),
            KeyType::Uid => self.tag(3),
            KeyType::Other { datatype, length } => {
                self.tag(4);
                self.number(datatype);
                self.number(length);
            }
        }
    }

    fn elements(&mut self, elements: &Elements) {
        if elements.are_timed() {
            self.length(usize::MAX);
            return;
        }
        self.length(elements.len());
        match elements {
            Elements::Ipv4(set) => {
                self.tag(0);
                self.addresses(set);
            }
            Elements::Ipv6(set) => {
                self.tag(1);
                self.addresses(set);
            }
            Elements::Keys(keys) => {
                self.tag(2);
                keys.iter().for_each(|interval| self.interval(*interval));
            }
            Elements::Verdicts(verdicts) => {
                self.tag(3);
                for (interval, verdict) in verdicts {
                    self.interval(*interval);
                    self.verdict(verdict);
                }
            }
            Elements::TimedIpv4(_) | Elements::TimedIpv6(_) => {}
            Elements::Dynamic => self.tag(6),
            // Equal to nothing that was compiled.
            Elements::Unread => self.tag(5),
            Elements::Opaque(elements) => {
                self.tag(4);
                for element in elements {
                    self.length(element.len());
                    self.bytes(element);
                }
            }
        }
    }

    /// Of these there can be millions: their own digest stands for them.
    fn addresses<A: Address>(&mut self, set: &AddressSet<A>) {
        self.number(set.digest());
    }

    fn interval(&mut self, Interval { first, last }: Interval) {
        self.number(first);
        self.number(last);
    }

    fn chain(&mut self, chain: &Chain) {
        match &chain.base {
            None => self.tag(0),
            Some(Base { kind, hook, priority, policy }) => {
                self.tag(1);
                self.text(kind);
                match hook {
                    Hook::Input => self.tag(0),
                    Hook::Forward => self.tag(1),
                    Hook::Output => self.tag(2),
                    Hook::Other(number) => {
                        self.tag(3);
                        self.number(*number);
                    }
                }
                self.bytes(&priority.to_le_bytes());
                self.tag(u8::from(*policy == Policy::Drop));
            }
        }
        self.length(chain.rules.len());
        for rule in &chain.rules {
            self.text(&rule.comment);
            self.length(rule.statements.len());
            rule.statements.iter().for_each(|statement| self.statement(statement));
        }
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Match { field, value } => {
                self.tag(0);
                self.field(*field);
                self.value(*value);
            }
            Statement::Lookup { field, set } => {
                self.tag(1);
                self.field(*field);
                self.text(set);
            }
            Statement::Dispatch { field, map } => {
                self.tag(2);
                self.field(*field);
                self.text(map);
            }
            Statement::Counter(name) => {
                self.tag(3);
                self.text(name);
            }
            Statement::Limit(limit) => {
                self.tag(4);
                self.number(limit.rate);
                self.number(limit.burst);
            }
            Statement::Over { field, set, limit } => {
                self.tag(9);
                self.field(*field);
                self.text(set);
                self.number(limit.rate);
                self.number(limit.burst);
            }
            Statement::Log(log) => {
                self.tag(5);
                self.text(&log.prefix);
                match log.target {
                    LogTarget::Kernel => self.tag(0),
                    LogTarget::Group { group, threshold, snaplen } => {
                        self.tag(1);
                        self.number(group);
                        self.number(threshold);
                        self.number(snaplen);
                    }
                }
            }
            Statement::Reject(Reject::TcpReset) => self.bytes(&[6, 0]),
            Statement::Reject(Reject::AdminProhibited) => self.bytes(&[6, 1]),
            Statement::Verdict(verdict) => {
                self.tag(7);
                self.verdict(verdict);
            }
            Statement::Opaque(opaque) => {
                self.tag(8);
                self.text(&opaque.name);
                self.length(opaque.data.len());
                self.bytes(&opaque.data);
            }
        }
    }

    fn field(&mut self, field: Field) {
        self.bytes(&match field {
            Field::CtState => [0, 0],
            Field::Iif => [1, 0],
            Field::Oif => [2, 0],
            Field::L4Proto => [3, 0],
            Field::SkUid => [4, 0],
            Field::Saddr(family) => [5, family_tag(family)],
            Field::Daddr(family) => [6, family_tag(family)],
            Field::Sport(transport) => [7, transport.protocol()],
            Field::Dport(transport) => [8, transport.protocol()],
            Field::IcmpType(family) => [9, family_tag(family)],
            Field::HopLimit => [10, 0],
            Field::NfProto => [11, 0],
            Field::PacketType => [12, 0],
            Field::IifKind => [13, 0],
            Field::SourceType => [14, 0],
            Field::CtDirection => [15, 0],
            Field::TcpFlags => [16, 0],
            Field::SocketWildcard => [17, 0],
        });
    }

    fn value(&mut self, value: Value) {
        match value {
            Value::Number(number) => {
                self.tag(0);
                self.number(number);
            }
            Value::Prefix { address, length } => {
                self.tag(1);
                self.number(address);
                self.tag(length);
            }
            Value::States(states) => {
                self.tag(2);
                self.number(states.0);
            }
            Value::Flags(Flags { set, mask }) => self.bytes(&[3, set, mask]),
        }
    }

    fn verdict(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Accept => self.tag(0),
            Verdict::Drop => self.tag(1),
            Verdict::Return => self.tag(2),
            Verdict::Jump(chain) => {
                self.tag(3);
                self.text(chain);
            }
            Verdict::Goto(chain) => {
                self.tag(4);
                self.text(chain);
            }
        }
    }
}

fn family_tag(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}
