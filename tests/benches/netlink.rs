//! How long large sets take to commit, to change and to read back. `cargo bench --bench netlink
//! [COUNT]`, a million elements unless told otherwise; needs root.
//!
//! Kernel time depends much on the machine: compare within one run.

use anyhow::{Context, Result};
use netlink::{Batch, Connection, Handles, Hold, Terms};
use ruleset::{
    AddressRange, AddressSet, Elements, Family, KeyType, Operation, Plan, SetSpec, Table,
};
use std::net::Ipv4Addr;
use std::time::Instant;
use tierwall_tests::namespace::Namespace;

/// Sorted ranges of `size` addresses with gaps of an odd size, so that none is a neat prefix.
fn spread(count: u32, size: u32) -> AddressSet<Ipv4Addr> {
    (0..count)
        .map(|index| {
            let first = 0x0b00_0000 + index * (size + 3);
            let (first, last) = (Ipv4Addr::from_bits(first), Ipv4Addr::from_bits(first + size - 1));
            AddressRange { first, last }
        })
        .collect()
}

fn load(spec: &SetSpec, elements: Elements) -> Plan {
    let set = || "large".to_owned();
    let (spec, table) = (|| spec.clone(), Table::new());
    let operations = vec![
        Operation::AddTable { comment: table.comment },
        Operation::AddSet { set: set(), spec: spec() },
        Operation::AddElements { set: set(), spec: spec(), elements },
    ];
    Plan { operations }
}

fn measure(name: &str, spec: &SetSpec, addresses: AddressSet<Ipv4Addr>) -> Result<()> {
    let namespace = Namespace::new()?;
    let single = |address: u32| {
        let range = AddressRange::single(Ipv4Addr::from_bits(address));
        Elements::Ipv4(AddressSet::new(vec![range]))
    };
    let plan = load(spec, Elements::Ipv4(addresses));
    namespace.run(|| {
        let mut connection = Connection::open()?;
        connection.probe()?;
        let start = Instant::now();
        let batch = Batch::encode(&plan, &Handles::default(), None, &Terms::default())?;
        let encode = start.elapsed();
        drop(batch);
        let start = Instant::now();
        let made = connection.commit(&plan, &Handles::default(), None, Hold::Plain)?;
        let whole = start.elapsed();
        println!(
            "{name}: {} bytes in {} messages; encode {encode:.1?}, kernel {:.1?}, whole {whole:.1?}",
            made.bytes, made.messages, made.duration
        );
        let mut change = |delete: bool| -> Result<_> {
            let (set, spec, elements) = ("large".to_owned(), spec.clone(), single(0x0100_0001));
            let operation = if delete {
                Operation::DeleteElements { set, spec, elements }
            } else {
                Operation::AddElements { set, spec, elements }
            };
            let plan = Plan { operations: vec![operation] };
            let start = Instant::now();
            connection.commit(&plan, &Handles::default(), None, Hold::Plain)?;
            Ok(start.elapsed())
        };
        println!("{name}: add one {:.1?}, delete one {:.1?}", change(false)?, change(true)?);
        Ok(())
    })
}

fn dump(count: u32) -> Result<()> {
    let namespace = Namespace::new()?;
    let spec = SetSpec::intervals(KeyType::Address(Family::V4));
    namespace.run(|| {
        let mut connection = Connection::open()?;
        let plan = load(&spec, Elements::Ipv4(spread(count, 4)));
        connection.commit(&plan, &Handles::default(), None, Hold::Plain)?;
        let start = Instant::now();
        connection.dump()?;
        println!("dump {count} ranges: {:.1?}", start.elapsed());
        Ok(())
    })
}

fn main() -> Result<()> {
    let count = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let count: u32 = count.map_or(Ok(1_000_000), |count| count.parse()).context("COUNT")?;
    let exact = SetSpec::exact(KeyType::Address(Family::V4), Some(count + count / 2));
    measure("exact, sized", &exact, spread(count, 1))?;
    let intervals = SetSpec::intervals(KeyType::Address(Family::V4));
    measure("ranges", &intervals, spread(count, 4))?;
    dump(count / 10)
}
