//! What a reader of metrics costs: it must not grow with the members of tiers, which a scrape has no
//! need to read.

use crate::Bench;
use crate::report::{Group, Kind, Row, Unit};
use crate::rules::RECEIVER;
use crate::statistics::progress;
use anyhow::{Result, ensure};
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;

/// Where they are served, on loopback.
const PORT: u16 = 29_815;

const SCRAPES: usize = 200;

/// How long it may take until they are.
const SERVED: Duration = Duration::from_secs(10);

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let cases = [(3, 1), (50, 1), (50, if bench.quick { 200 } else { 20_000 })];
    let mut rows = Vec::new();
    for (index, (tiers, members)) in cases.into_iter().enumerate() {
        let kind = if index == 0 { Kind::Tierwall } else { Kind::Other };
        let mut row = Row::new(kind, format!("{tiers} tiers of {members} IPv4 addresses"));
        let network = Network::new([("server", vec![IpAddr::V4(RECEIVER)])])?;
        let host = network.host("server");
        let server = Server::new(host, &policy(tiers)?)?;
        for tier in 0..tiers {
            server.write(&format!("t{tier}.list"), list(tier * members, members))?;
        }
        let daemon = server.start(&[])?;
        // The daemon is ready as soon as it enforces; its readers come after.
        let since = Instant::now();
        while host.namespace.run(scrape).is_err() && since.elapsed() < SERVED {
            thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..bench.rounds(SCRAPES).most {
            row.samples.push(host.namespace.run(scrape)?);
        }
        daemon.stop()?;
        rows.push(row);
        progress("scrape", index + 1, cases.len());
    }
    Ok(vec![Group::new("a scrape over HTTP, connection included", Unit::Milliseconds, rows)])
}

/// Tiers with a list each, and an allow for each.
fn policy(tiers: u32) -> Result<String> {
    let mut tables = format!("role = \"server\"\n[tiers]\nserver = \"{RECEIVER}\"\n");
    let mut allows = format!("[metrics]\nlisten = \"127.0.0.1:{PORT}\"\n");
    for tier in 0..tiers {
        writeln!(tables, "t{tier} = {{ file = \"t{tier}.list\" }}")?;
        let port = 2000 + tier;
        writeln!(
            allows,
            "[[allow]]\nfrom = \"t{tier}\"\nto = \"server\"\nservice = \"tcp/{port}\""
        )?;
    }
    Ok(tables + &allows)
}

/// Every other address, so that none merges with the next.
fn list(first: u32, members: u32) -> String {
    let address = |member| Ipv4Addr::from_bits(0x0b00_0000 + 2 * member);
    (first..first + members).map(|member| format!("{}\n", address(member))).collect()
}

/// Milliseconds.
fn scrape() -> Result<f64> {
    let begun = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: server\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let took = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "not served: {answer:.80}");
    Ok(took)
}
