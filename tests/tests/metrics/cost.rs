//! What a scrape costs. In full only in a release build, and only when asked for: `cargo nextest run
//! --release -p tierwall-tests -E 'test(cost::)' --run-ignored all --no-capture`.

use super::http::get;
use super::{network, server};
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;

const TIERS: u32 = 50;
const MEMBERS: u32 = 20_000;
const SCRAPES: u32 = 50;

/// Processor time that the daemon has used, in hundredths of a second.
fn processor_time(daemon: &Daemon) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
#[ignore = "measures"]
fn a_scrape_of_a_million_members_reads_none_of_them() {
    for (tiers, members) in [(3, 1), (TIERS, 1), (TIERS, MEMBERS)] {
        let network = network();
        let host = network.host("server");
        let mut policy = "role = \"server\"\n[tiers]\nserver = [\"10.0.0.1\"]\n".to_owned();
        for tier in 0..tiers {
            writeln!(policy, "t{tier} = {{ file = \"t{tier}.list\" }}").unwrap();
        }
        for tier in 0..tiers {
            let port = 2000 + tier;
            write!(
                policy,
                "[[allow]]\nfrom = \"t{tier}\"\nto = \"server\"\nservice = \"tcp/{port}\"\n"
            )
            .unwrap();
        }
        policy += "[metrics]\nlisten = \"127.0.0.1:29815\"\n";
        let server = server(host, &policy);
        for tier in 0..tiers {
            let addresses = (0..members)
                .map(|member| Ipv4Addr::from_bits(0x0b00_0000 + (tier * MEMBERS + member) * 2));
            let list: String = addresses.map(|address| format!("{address}\n")).collect();
            server.write(&format!("t{tier}.list"), list).unwrap();
        }
        let daemon = server.start(&[]).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 29_815));
        let size = get(host, address, "GET /metrics").1.len();
        let (memory, used) = (daemon.memory().unwrap(), processor_time(&daemon));
        let mut times: Vec<Duration> = (0..SCRAPES)
            .map(|_| {
                let start = Instant::now();
                get(host, address, "GET /metrics");
                start.elapsed()
            })
            .collect();
        times.sort();
        println!(
            "{tiers} tiers of {members}: {size} bytes; a scrape takes {:?}, {:?} at most, {} ms of \
             processor time for {SCRAPES}; {memory} KiB resident, then {}",
            times[times.len() / 2],
            times[times.len() - 1],
            10 * (processor_time(&daemon) - used),
            daemon.memory().unwrap(),
        );
        daemon.stop().unwrap();
    }
}
