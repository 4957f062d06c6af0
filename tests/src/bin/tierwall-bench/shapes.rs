//! Policies whose allows overlap, beside as many that don't: what they take must grow with what is
//! written, and not with its square.

use crate::Bench;
use crate::cold::until_ready;
use crate::report::{Group, Kind, Unit};
use crate::site;
use crate::turns::{Way, interleave};
use anyhow::Result;
use std::fmt::Write;
use tierwall_tests::server::Server;

/// How many allows, and how many tiers.
const SIZES: [u32; 3] = [100, 1000, 4000];
const ROUNDS: usize = 10;

/// Up to how many allows ranges overlap: of more the kernel takes longer than a start may.
const OVERLAPPING: u32 = 1000;

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let sizes = SIZES.into_iter().filter(|size| !bench.quick || *size <= 100);
    sizes.map(|size| group(bench, size)).collect()
}

fn group(bench: &Bench, size: u32) -> Result<Group> {
    let (apart, everywhere) = (
        policy(size, |n| (format!("t{n}"), format!("{}", 10_000 + n))),
        policy(size, |n| ("*".into(), format!("{}", 10_000 + n))),
    );
    let nested = policy(size, |n| (format!("t{n}"), format!("{}-{}", 20_000 + n, 40_000 - n)));
    let steps = policy(size, |n| (format!("t{n}"), format!("{}-{}", 20_000 + n, 21_000 + n)));
    let crowd = policy(size, |n| (format!("t{n}"), "443".into()));
    let way = |kind, name: &str, text: Result<String>| -> Result<Way<'_>> {
        let text = text?;
        let rules = rules(&text)?;
        let measure = move || until_ready(&Server::new(&site::host()?, &text)?);
        Ok(Way::new(kind, name, measure).remark(format!("{rules} rules")))
    };
    let mut ways = vec![
        way(Kind::Tierwall, "a tier and a port each", apart)?,
        way(Kind::Other, "every server, a port each", everywhere)?,
        way(Kind::Other, "a tier each, all on one port", crowd)?,
    ];
    if size <= OVERLAPPING {
        ways.push(way(Kind::Other, "a tier each, every range inside the one before", nested)?);
        ways.push(way(Kind::Other, "a tier each, ranges that overlap like tiles", steps)?);
    }
    let title = format!("start with {size} tiers and as many allows");
    let rows = interleave(&title, bench.rounds(ROUNDS), ways)?;
    Ok(Group::new(title, Unit::Milliseconds, rows))
}

/// So many tiers of a network each, and allows to the server from whom and on which ports `allow`
/// says.
fn policy(size: u32, allow: impl Fn(u32) -> (String, String)) -> Result<String> {
    let mut text = String::from("role = \"server\"\n[tiers]\nserver = \"10.0.0.2\"\n");
    for n in 0..size {
        writeln!(text, "t{n} = \"10.{}.{}.0/24\"", 1 + n / 250, n % 250)?;
    }
    for n in 0..size {
        let (from, ports) = allow(n);
        writeln!(text, "[[allow]]\nfrom = \"{from}\"\nto = \"server\"\nservice = \"tcp/{ports}\"")?;
    }
    Ok(text)
}

/// How many rules the server gets.
fn rules(text: &str) -> Result<usize> {
    let table = site::compiled(&Server::new(&site::host()?, text)?)?.table.unwrap_or_default();
    Ok(table.chains.values().map(|chain| chain.rules.len()).sum())
}
