//! The book over a restart: a file in the state directory.
//!
//! ```text
//! "tierwall denials"   version   the book in postcard's format     checksum
//! 16 bytes             u32       some 60 bytes an entry            u64, little endian
//! ```
//!
//! The checksum, SipHash-1-3 with the key 0, is of all before it. Counts are kept by how long ago they
//! were from the last one, so a clock that was set back moves them and loses none. Damage costs
//! what was counted; nothing else depends on the file.

use super::apart::KeptApart;
use super::book::Book;
use super::flow::{Flow, Service};
use super::history::KeptHistory;
use crate::boot;
use crate::state::StateDirectory;
use policy::{Fate, Mark};
use ruleset::Hook;
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::io;
use std::net::IpAddr;

/// The file in the state directory, and how it begins.
const FILE: &str = "denials";
const MAGIC: [u8; 16] = *b"tierwall denials";

/// Grows when an older daemon's file can't be understood.
const VERSION: u32 = 2;

/// Why what is kept can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("it can't be read")]
    Unreadable(#[from] io::Error),
    #[error("it is no such file, or its end is missing")]
    Foreign,
    #[error("it is of version {0}, not {VERSION}")]
    OtherVersion(u32),
    #[error("its checksum is wrong")]
    Damaged,
    #[error("it holds no denials")]
    NotABook(#[from] postcard::Error),
}

/// Which log rule: the side, and what became of the packet, as their places in these lists.
type KeptMark = (u8, u8);
const HOOKS: [Hook; 3] = [Hook::Input, Hook::Output, Hook::Forward];

#[derive(Serialize, Deserialize)]
struct KeptFlow {
    source: IpAddr,
    destination: IpAddr,
    service: (u8, Option<u16>),
    user: Option<u32>,
    interface: u32,
}

#[derive(Serialize, Deserialize)]
pub(super) struct KeptBook {
    began: u64,
    /// The boot in which interfaces had these numbers.
    boot: Option<String>,
    changes: Vec<(u64, u64)>,
    totals: Vec<(KeptMark, KeptHistory)>,
    flows: KeptApart<(KeptMark, KeptFlow)>,
    sources: KeptApart<(KeptMark, IpAddr)>,
    destinations: KeptApart<(KeptMark, IpAddr)>,
    services: KeptApart<(KeptMark, (u8, Option<u16>))>,
    users: KeptApart<(KeptMark, Option<u32>)>,
    generations: KeptApart<(KeptMark, u64)>,
}

/// What is kept of a book, in this boot.
pub(super) fn of(book: &Book, boot: Option<String>) -> KeptBook {
    KeptBook {
        began: book.began,
        boot,
        changes: book.changes.clone(),
        totals: book.totals.iter().map(|(own, history)| (mark(*own), history.kept())).collect(),
        flows: book.flows.kept(|flow| {
            let Flow { mark: own, source, destination, service, user, interface } = *flow;
            let service = (service.protocol, service.detail);
            (mark(own), KeptFlow { source, destination, service, user, interface })
        }),
        sources: book.sources.kept(|(own, source)| (mark(*own), *source)),
        destinations: book.destinations.kept(|(own, to)| (mark(*own), *to)),
        services: book
            .services
            .kept(|(own, service)| (mark(*own), (service.protocol, service.detail))),
        users: book.users.kept(|(own, user)| (mark(*own), *user)),
        generations: book.generations.kept(|(own, generation)| (mark(*own), *generation)),
    }
}

/// How it is written.
pub(super) fn encode(kept: &KeptBook) -> io::Result<Vec<u8>> {
    let mut bytes = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    bytes = postcard::to_extend(kept, bytes).map_err(io::Error::other)?;
    let sum = checksum(&bytes);
    bytes.extend(sum.to_le_bytes());
    Ok(bytes)
}

/// Writes what was encoded.
pub(super) fn save(state: &StateDirectory, bytes: &[u8]) -> io::Result<()> {
    state.write_synced(FILE, bytes)
}

/// The book that was kept; none where there is none.
pub(super) fn load(state: &StateDirectory, now: u64) -> Result<Option<Book>, Unusable> {
    match state.try_read(FILE)? {
        Some(bytes) => decode(&bytes, now).map(Some),
        None => Ok(None),
    }
}

fn decode(bytes: &[u8], now: u64) -> Result<Book, Unusable> {
    let (rest, sum) = bytes.split_last_chunk().ok_or(Unusable::Foreign)?;
    let (magic, body) = rest.split_first_chunk().ok_or(Unusable::Foreign)?;
    if *magic != MAGIC {
        return Err(Unusable::Foreign);
    }
    let (version, body) = body.split_first_chunk().ok_or(Unusable::Foreign)?;
    let version = u32::from_le_bytes(*version);
    if version != VERSION {
        return Err(Unusable::OtherVersion(version));
    }
    if u64::from_le_bytes(*sum) != checksum(rest) {
        return Err(Unusable::Damaged);
    }
    let kept: KeptBook = postcard::from_bytes(body)?;
    let mut book = Book::new(now);
    book.began = kept.began.min(now);
    book.changes = kept.changes.into_iter().map(|(time, number)| (time.min(now), number)).collect();
    book.changes.truncate(book.generations.capacity());
    let totals = kept.totals.into_iter();
    book.totals = totals.filter_map(|(own, history)| Some((read(own)?, history.at(now)))).collect();
    // Another boot numbers interfaces anew.
    let same_boot = kept.boot.is_some() && kept.boot == boot::id();
    book.flows.restore(kept.flows, now, |(own, flow)| {
        let KeptFlow { source, destination, service: (protocol, detail), user, interface } = flow;
        let interface = if same_boot { interface } else { 0 };
        let service = Service { protocol, detail };
        Some(Flow { mark: read(own)?, source, destination, service, user, interface })
    });
    book.sources.restore(kept.sources, now, |(own, source)| Some((read(own)?, source)));
    book.destinations.restore(kept.destinations, now, |(own, to)| Some((read(own)?, to)));
    book.services.restore(kept.services, now, |(own, (protocol, detail))| {
        Some((read(own)?, Service { protocol, detail }))
    });
    book.users.restore(kept.users, now, |(own, user)| Some((read(own)?, user)));
    book.generations.restore(kept.generations, now, |(own, number)| Some((read(own)?, number)));
    Ok(book)
}

fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = SipHasher13::new();
    sum.write(bytes);
    sum.finish()
}

fn mark(mark: Mark) -> KeptMark {
    let hook = HOOKS.iter().position(|hook| *hook == mark.hook).unwrap_or_default();
    let fate = Fate::ALL.iter().position(|fate| *fate == mark.fate).unwrap_or_default();
    (hook as u8, fate as u8)
}

/// None where a list has no such place.
fn read((hook, fate): KeptMark) -> Option<Mark> {
    let (hook, fate) = (usize::from(hook), usize::from(fate));
    Some(Mark { hook: *HOOKS.get(hook)?, fate: *Fate::ALL.get(fate)? })
}

#[cfg(test)]
mod tests {
    use super::super::flow::Denial;
    use super::super::history::LONGEST;
    use super::*;
    use std::net::Ipv4Addr;

    const NOW: u64 = 1_700_000_000;

    fn book() -> Book {
        let mut book = Book::new(NOW - 7200);
        for number in 0..6000u32 {
            let fate = Fate::ALL[number as usize % 4];
            let flow = Flow {
                mark: Mark { hook: HOOKS[number as usize % 3], fate },
                source: Ipv4Addr::from_bits(number % 5000).into(),
                destination: "2001:db8::1".parse().expect("an address"),
                service: Service { protocol: 6, detail: Some((number % 100) as u16) },
                user: (number % 2 == 0).then_some(number % 7),
                interface: 2,
            };
            let time = NOW - 7000 + u64::from(number);
            book.count(
                &Denial { flow, port: 7 },
                number % 3 == 0,
                number,
                time,
                u64::from(number / 3000),
            );
        }
        book
    }

    fn kept(book: &Book) -> KeptBook {
        of(book, boot::id())
    }

    /// What people see of a book.
    fn seen(book: &Book, now: u64) -> Vec<String> {
        let mut seen = Vec::new();
        for seconds in [None, Some(3600), Some(LONGEST)] {
            let mut flows: Vec<String> = book
                .flows
                .entries()
                .map(|entry| {
                    let count = entry.history.last(now, seconds);
                    format!("{:?} {count:?} {} {}", entry.key, entry.first, entry.uncertain)
                })
                .collect();
            flows.sort();
            seen.extend(flows);
            seen.push(format!("{:?}", book.flows.rest(now, seconds)));
            for (mark, history) in &book.totals {
                seen.push(format!("{mark} {:?}", history.last(now, seconds)));
            }
        }
        seen.push(format!("{:?} {:?}", book.began, book.generation_at(now)));
        seen
    }

    #[test]
    fn comes_back_as_it_was() {
        let book = book();
        let bytes = encode(&kept(&book)).expect("encoded");
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        let back = decode(&bytes, NOW).expect("readable");
        assert_eq!(seen(&back, NOW), seen(&book, NOW));
        assert_eq!(encode(&kept(&back)).expect("encoded").len(), bytes.len());
    }

    #[test]
    fn a_clock_that_was_set_back_loses_nothing() {
        let bytes = encode(&kept(&book())).expect("encoded");
        let earlier = NOW - 90 * 24 * 3600;
        let mut back = decode(&bytes, earlier).expect("readable");
        let count = |book: &Book, now, seconds| -> u64 {
            book.totals.values().map(|history| history.last(now, seconds).packets).sum()
        };
        assert_eq!(count(&back, earlier, None), 6000);
        assert!(count(&back, earlier, Some(3600)) > 1000);
        assert!(back.began <= earlier);
        assert!(back.flows.entries().all(|entry| entry.last <= earlier));
        // And what comes then is counted then.
        let flow = back.flows.entries().next().expect("a flow").key;
        back.count(&Denial { flow, port: 9 }, false, 9, earlier + 30, 3);
        assert_eq!(count(&back, earlier + 30 + 2 * LONGEST, Some(60)), 0);
        assert_eq!(count(&back, earlier + 30, None), 6001);
    }

    /// Every number of a book, as high as it can be: what was forged has a checksum, too.
    #[test]
    fn forged_counts_overflow_nothing() {
        const MAX: u64 = u64::MAX;
        let history = || {
            let slots: Vec<(u8, u32, u32)> =
                (0..=u8::MAX).map(|ago| (ago, u32::MAX, u32::MAX)).collect();
            serde_json::json!({
                "minute": MAX, "began": MAX, "all": [MAX, MAX], "minutes": slots, "hours": slots,
            })
        };
        let table = |key: serde_json::Value| {
            let entry = serde_json::json!({
                "key": [[0, 0], key], "history": history(), "first": MAX, "last": MAX,
                "uncertain": MAX, "weight": MAX,
            });
            let entries = vec![entry; 3];
            let table =
                serde_json::json!({ "entries": entries, "rest": history(), "evicted": MAX });
            serde_json::json!({ "of_members": table, "of_others": table })
        };
        let address = "10.0.0.1";
        let service = serde_json::json!([6, 22]);
        let flow = serde_json::json!({
            "source": address, "destination": address, "service": service, "user": 0, "interface": 1,
        });
        let forged = serde_json::json!({
            "began": MAX, "boot": null, "changes": [[MAX, MAX]],
            "totals": [[[0, 0], history()], [[1, 1], history()]],
            "flows": table(flow), "sources": table(address.into()),
            "destinations": table(address.into()), "services": table(service),
            "users": table(0.into()), "generations": table(MAX.into()),
        });
        let forged: KeptBook = serde_json::from_value(forged).expect("a book");
        let mut book = decode(&encode(&forged).expect("encoded"), NOW).expect("readable");
        for number in 0..10_000u32 {
            let flow = Flow { source: Ipv4Addr::from_bits(number).into(), ..Flow::example() };
            book.count(
                &Denial { flow, port: 7 },
                number % 2 == 0,
                number,
                NOW + u64::from(number),
                MAX,
            );
        }
        let later = NOW + 10_000;
        seen(&book, later);
        let again = decode(&encode(&kept(&book)).expect("encoded"), later).expect("readable");
        assert_eq!(seen(&again, later).len(), seen(&book, later).len());
    }

    #[test]
    fn no_damage_goes_unnoticed() {
        let mut book = Book::new(NOW);
        let flow = Flow::example();
        book.count(&Denial { flow, port: 7 }, false, 1, NOW, 1);
        let good = encode(&kept(&book)).expect("encoded");
        assert!(decode(&good, NOW).is_ok());
        for length in 0..good.len() {
            assert!(decode(&good[..length], NOW).is_err(), "cut off at {length}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad, NOW).is_err(), "byte {at}");
        }
        let mut newer = good.clone();
        newer[16] = 9;
        assert!(matches!(decode(&newer, NOW), Err(Unusable::OtherVersion(9))));
    }

    #[test]
    fn another_boot_numbers_interfaces_anew() {
        let mut book = Book::new(NOW);
        let flow = Flow::example();
        for interface in [2, 3] {
            let flow = Flow { interface, ..flow };
            book.count(&Denial { flow, port: 7 }, false, 1, NOW, 1);
        }
        let bytes = encode(&kept(&book)).expect("encoded");
        assert_eq!(decode(&bytes, NOW).expect("readable").flows.entries().count(), 2);
        let id = boot::id().expect("an id");
        let at = bytes.windows(id.len()).position(|part| part == id.as_bytes()).expect("there");
        let mut other = bytes[..bytes.len() - 8].to_vec();
        other[at] = if other[at] == b'0' { b'1' } else { b'0' };
        let sum = checksum(&other);
        other.extend(sum.to_le_bytes());
        let back = decode(&other, NOW).expect("readable");
        let [entry] = back.flows.entries().collect::<Vec<_>>()[..] else { panic!("one flow") };
        assert_eq!((entry.key.interface, entry.history.all().packets), (0, 2));
    }
}
