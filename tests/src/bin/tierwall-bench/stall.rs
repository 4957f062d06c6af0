//! How long a running connection stands still while the policy file is edited again and again,
//! and how long it does on this machine when nothing is edited.

use crate::Bench;
use crate::report::{Group, Kind, Row, Unit};
use crate::statistics::progress;
use anyhow::{Result, ensure};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::conversation::Conversation;
use tierwall_tests::daemon::Daemon;
use tierwall_tests::listener::Listener;
use tierwall_tests::network::Network;
use tierwall_tests::server::Server;
use tierwall_tests::service::Service;

const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const PORT: u16 = 8080;
const MEMBER_EDITS: usize = 1000;
/// After how many edits of members one of the rules comes.
const RULE_EVERY: usize = 10;
/// Until the batch of an edit must have been committed.
const LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_micros(200);

/// The longest pauses in milliseconds.
struct Pauses {
    inbound: f64,
    outbound: f64,
}

pub(crate) fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let edits = if bench.quick { 100 } else { MEMBER_EDITS };
    let hosts = [("peer", vec![IpAddr::V4(PEER)]), ("server", vec![IpAddr::V4(SERVER)])];
    let network = Network::new(hosts)?;
    let services = [Service::Tcp(PORT)];
    let _listeners = [
        Listener::start(network.host("peer"), &services)?,
        Listener::start(network.host("server"), &services)?,
    ];
    let server = Server::new(network.host("server"), &policy(0, 0))?;
    let daemon = server.start(&[])?;

    let begun = Instant::now();
    let conversations = talk(&network)?;
    let (member_edits, rule_edits) = edit(&server, &daemon, edits)?;
    let edited = pauses(conversations)?;
    let took = begun.elapsed();

    let conversations = talk(&network)?;
    thread::sleep(took);
    let quiet = pauses(conversations)?;
    let seconds = took.as_secs_f64();
    let title = format!(
        "longest pause of a connection at 1 kHz: {member_edits} edits of members and {rule_edits} \
         of rules in {seconds:.1} s"
    );
    let row = |kind, way: &str, sample| {
        let mut row = Row::new(kind, way);
        row.samples.push(sample);
        row
    };
    let group = |side: &str, edited, quiet| {
        let rows = vec![
            row(Kind::Floor, "as long without an edit", quiet),
            row(Kind::Tierwall, "tierwalld, under edits", edited),
        ];
        Group::new(format!("{title}, {side}"), Unit::Milliseconds, rows)
    };
    Ok(vec![
        group("inbound", edited.inbound, quiet.inbound),
        group("outbound", edited.outbound, quiet.outbound),
    ])
}

/// One connection each way.
fn talk(network: &Network) -> Result<[Conversation; 2]> {
    let to = |address: Ipv4Addr| SocketAddr::new(address.into(), PORT);
    Ok([
        Conversation::start(network.host("peer"), to(SERVER))?,
        Conversation::start(network.host("server"), to(PEER))?,
    ])
}

fn pauses(conversations: [Conversation; 2]) -> Result<Pauses> {
    let [inbound, outbound] = conversations.map(Conversation::stop);
    for exchanged in [&inbound, &outbound] {
        exchanged.check(LIMIT)?;
    }
    Ok(Pauses {
        inbound: inbound.longest_pause.as_secs_f64() * 1e3,
        outbound: outbound.longest_pause.as_secs_f64() * 1e3,
    })
}

/// Edits, each as soon as the one before was committed. How many of members and of rules.
fn edit(server: &Server, daemon: &Daemon, edits: usize) -> Result<(usize, usize)> {
    let (mut members, mut rules) = (0, 0);
    let mut offset = 0;
    daemon.log_behind(&mut offset)?;
    let all = edits + edits / RULE_EVERY;
    while members + rules < all {
        progress("edits under way", members + rules, all);
        let is_rule = (members + rules) % (RULE_EVERY + 1) == RULE_EVERY;
        if is_rule {
            rules += 1;
        } else {
            members += 1;
        }
        server.replace_policy(&policy(members, rules))?;
        let committed = wait_for_commit(daemon, &mut offset)?;
        let of_rules = !committed.contains("rules_added=0 rules_deleted=0");
        ensure!(of_rules == is_rule, "another batch than was asked for: {committed}");
    }
    progress("edits under way", all, all);
    Ok((members, rules))
}

fn wait_for_commit(daemon: &Daemon, offset: &mut u64) -> Result<String> {
    let begun = Instant::now();
    let mut log = String::new();
    loop {
        log += &daemon.log_behind(offset)?;
        if log.contains(" committed ") && log.ends_with('\n') {
            return Ok(log);
        }
        ensure!(begun.elapsed() < LIMIT, "an edit wasn't committed within {LIMIT:?}:\n{log}");
        thread::sleep(POLL);
    }
}

/// The policy after that many edits: never the same twice in a row.
fn policy(members: usize, rules: usize) -> String {
    let mut text = format!(
        "role = \"server\"\nwatch = \"all\"\n[tiers]\nserver = \"{SERVER}\"\n\
         peers = [\"{PEER}\", \"10.0.1.0/28\""
    );
    if members % 2 == 1 {
        let _ = write!(text, ", \"{}\"", Ipv4Addr::from_bits(0x0a02_0000 + 3 * members as u32));
    }
    text += "]\n";
    let mut allow = |from: &str, to: &str, port: usize| {
        let _ =
            write!(text, "[[allow]]\nfrom = \"{from}\"\nto = \"{to}\"\nservice = \"tcp/{port}\"\n");
    };
    allow("peers", "server", PORT.into());
    allow("server", "peers", PORT.into());
    if rules % 2 == 1 {
        allow("peers", "server", 20_000 + rules);
    }
    text
}
