//! The demo: servers in network namespaces, a real tierwalld on each, and who reaches whom; then a
//! member that comes and goes while connections run; then a bad edit, and what is asked about it.
//!
//! Nothing of this machine's network is touched; whatever way it ends, nothing stays.

mod asked;
mod batch;
mod cast;
mod isolate;
mod live;
mod live_text;
mod table;

use anstream::{eprintln, print, println};
use anyhow::{Context, Result, ensure};
use asked::Asked;
use cast::{MACHINES, POLICY, POLICY_FILE, SERVICES};
use isolate::Rights;
use live::Live;
use serde::Serialize;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::listener::Listener;
use tierwall_tests::network::Network;
use tierwall_tests::probe::{self, DENIED_LIMIT, OPEN_LIMIT, Probe};
use tierwall_tests::server::Server;
use tierwall_tests::service::Service;
use tierwall_tests::verdict::{Denial, Verdict};

const USAGE: &str = "usage: tierwall-demo [--json]";

/// One connection that was tried.
#[derive(Debug, Serialize)]
struct Contact {
    from: &'static str,
    to: &'static str,
    #[serde(serialize_with = "as_text")]
    service: Service,
    /// What the policy says, read by hand.
    allowed: bool,
    #[serde(serialize_with = "as_text")]
    verdict: Verdict,
    microseconds: u128,
}

impl Contact {
    fn as_expected(&self) -> bool {
        match self.verdict {
            Verdict::Open => self.allowed,
            Verdict::Denied(_) => !self.allowed,
            Verdict::Stalled => false,
        }
    }
}

/// A daemon and what it took.
#[derive(Debug, Serialize)]
struct Started {
    server: &'static str,
    ready_microseconds: u128,
    resident_kib: u64,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    as_expected: bool,
    daemons: &'a [Started],
    connections: &'a [Contact],
    live: &'a Live,
    asked: &'a Asked,
}

fn as_text<S: serde::Serializer>(value: &impl ToString, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&value.to_string())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--json"] => true,
        ["--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(64);
        }
    };
    match isolate::enter().and_then(|rights| demo(rights, json)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs it. Whether everything was as the policy says.
fn demo(rights: Rights, json: bool) -> Result<bool> {
    // Dropped last: daemons write there until they end.
    let _files = isolate::clean_up_when_interrupted()?;
    if rights == Rights::UserNamespace {
        eprintln!(
            "not root: running in a user namespace. What differs: the kernel doesn't let tierwalld \
             enlarge its\nsend buffer, so that only small policies fit, and no program of another \
             user can be shown."
        );
    }

    let start = Instant::now();
    let mut network =
        Network::new(MACHINES.iter().map(|own| (own.name, vec![address(own.address)])))?;
    let services: Vec<Service> = SERVICES.iter().map(|(_, service)| *service).collect();
    let listeners = network
        .hosts()
        .iter()
        .map(|host| Listener::start(host, &services))
        .collect::<Result<Vec<_>>>()?;
    let count = MACHINES.len();
    done("network", start, &format!("{count} machines on one segment, each a network namespace"));

    let start = Instant::now();
    let before = try_everything(&network, &listeners, |_| OPEN_LIMIT)?;
    let open = before.iter().filter(|contact| contact.verdict == Verdict::Open).count();
    ensure!(open == before.len(), "the network is broken: {open} of {} are open", before.len());
    done("before", start, &format!("{open} connections without any policy: all open"));

    let start = Instant::now();
    let servers = MACHINES
        .iter()
        .filter(|machine| machine.place.is_server())
        .map(|machine| Server::new(network.host(machine.name), POLICY))
        .collect::<Result<Vec<_>>>()?;
    // One after the other, so that they don't slow each other's start down.
    let daemons =
        servers.iter().map(|server| server.start(&[])).collect::<Result<Vec<Daemon>>>()?;
    let started = started(&daemons)?;
    let names: Vec<&str> = started.iter().map(|daemon| daemon.server).collect();
    done("tierwalld", start, &format!("on {}: enforcing", names.join(" ")));

    let start = Instant::now();
    let after = try_everything(&network, &listeners, |allowed| match allowed {
        true => OPEN_LIMIT,
        false => DENIED_LIMIT,
    })?;
    done("after", start, &format!("the same {} connections again", after.len()));

    let start = Instant::now();
    let live = live::play(&mut network, &servers, &daemons, &listeners)?;
    let name = cast::NEWCOMER.name;
    done("live", start, &format!("{name} comes and goes, by file and by command"));

    let start = Instant::now();
    let asked = asked::play(&network, &servers, &listeners)?;
    done("asked", start, "an edit denies what is needed: found, explained, rolled back");

    let as_expected =
        after.iter().all(Contact::as_expected) && live.as_expected() && asked.as_expected();
    if json {
        let report = Report {
            as_expected,
            daemons: &started,
            connections: &after,
            live: &live,
            asked: &asked,
        };
        println!("{}", serde_json::to_string_pretty(&report)?);
        return Ok(as_expected);
    }
    println!("\n{}", table::render(&after));
    verdict(&after);
    println!("\n{}", live_text::render(&live));
    println!("{}", asked::render(&asked));
    figures(&started);
    let db1 = servers.iter().zip(&daemons).find(|(server, _)| server.host().name == "db1");
    let (server, daemon) = db1.context("db1 is a server")?;
    kernel(server, daemon)?;
    next();
    Ok(as_expected)
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("the addresses of the cast are written right")
}

/// A line about a step that is over.
fn done(step: &str, start: Instant, what: &str) {
    eprintln!("  {step:10} {what:62} {:>7}", brief(start.elapsed()));
}

/// Milliseconds, or seconds where there are many.
fn brief(duration: Duration) -> String {
    match duration.as_secs_f64() {
        seconds if seconds < 0.1 => format!("{:.1} ms", seconds * 1000.0),
        seconds => format!("{seconds:.1} s"),
    }
}

/// Everybody tries every service of everybody else, where one of the two is a server.
fn try_everything(
    network: &Network,
    listeners: &[Listener],
    limit: impl Fn(bool) -> Duration,
) -> Result<Vec<Contact>> {
    let mut tries = Vec::new();
    for from in MACHINES {
        for (to, listener) in MACHINES.iter().zip(listeners) {
            if from.name == to.name || !(from.place.is_server() || to.place.is_server()) {
                continue;
            }
            for &(_, service) in SERVICES {
                let allowed = cast::is_allowed(from.place, to.place, service);
                let probe = Probe::new(address(to.address), service, limit(allowed));
                tries.push((from, to, listener, allowed, probe));
            }
        }
    }
    let attempts: Vec<probe::Attempt<'_>> = tries
        .iter()
        .map(|(from, _, listener, _, probe)| (probe, network.host(from.name), *listener))
        .collect();
    let outcomes = probe::run_all(&attempts)?;
    let contacts =
        tries.iter().zip(outcomes).map(|((from, to, _, allowed, probe), outcome)| Contact {
            from: from.name,
            to: to.name,
            service: probe.service,
            allowed: *allowed,
            verdict: outcome.verdict,
            microseconds: outcome.duration.as_micros(),
        });
    Ok(contacts.collect())
}

fn started(daemons: &[Daemon]) -> Result<Vec<Started>> {
    let servers = MACHINES.iter().filter(|machine| machine.place.is_server());
    servers
        .zip(daemons)
        .map(|(machine, daemon)| {
            Ok(Started {
                server: machine.name,
                ready_microseconds: daemon.ready_after.as_micros(),
                resident_kib: resident_kib(daemon.id())?,
            })
        })
        .collect()
}

/// The resident memory of a process (proc_pid_status(5)).
fn resident_kib(id: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no VmRSS in /proc")?.parse()?)
}

fn verdict(contacts: &[Contact]) {
    let count = |wanted: fn(&Contact) -> bool| contacts.iter().filter(|c| wanted(c)).count();
    let open = count(|contact| contact.verdict == Verdict::Open);
    let silent = count(|contact| contact.verdict == Verdict::Denied(Denial::Silence));
    let prompt =
        count(|contact| matches!(contact.verdict, Verdict::Denied(how) if how.is_prompt()));
    println!("  {open} open: a connection was made and a message answered");
    println!("  {silent} denied with silence: what strangers meet");
    println!("  {prompt} denied with an error at once: what a server's own programs meet");
    let wrong: Vec<&Contact> = contacts.iter().filter(|contact| !contact.as_expected()).collect();
    match wrong.len() {
        0 => println!("  every one of them as {POLICY_FILE} says"),
        number => println!("  {number} NOT as {POLICY_FILE} says, as it came:"),
    }
    for Contact { from, to, service, allowed, verdict, .. } in wrong {
        let expected = if *allowed { "open" } else { "denied" };
        println!("    {from} -> {to} {service}: expected {expected}, met {verdict}");
    }
}

fn figures(started: &[Started]) {
    let build = if cfg!(debug_assertions) { "a debug build" } else { "a release build" };
    println!("  tierwalld ({build}): from its start until its policy was enforced");
    for Started { server, ready_microseconds, resident_kib } in started {
        let (ready, resident) = (*ready_microseconds as f64 / 1e3, *resident_kib as f64 / 1024.0);
        println!("    {server:10} {ready:6.1} ms   {resident:5.1} MiB resident");
    }
}

/// What the kernel of one server enforces, for the eyes of a newcomer.
fn kernel(server: &Server, daemon: &Daemon) -> Result<()> {
    println!("\n  what db1's daemon logged");
    let log = daemon.log();
    let is_denial = |line: &&str| line.contains(" denied side=");
    let told: String =
        log.lines().filter(|line| !is_denial(line)).map(|line| format!("{line}\n")).collect();
    print!("{}", indented(&told));
    let denials = log.lines().filter(is_denial).count();
    println!("    and {denials} lines of what was denied, a few a second at most");
    for object in ["set inet filter app_v4", "chain inet filter input"] {
        println!("\n  db1# nft list {object}");
        print!("{}", indented(&server.nft_list(object)?));
    }
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn next() {
    println!(
        "
  what to do next
    look at the policy       {POLICY_FILE}
    what it means for db     cargo run -q --bin tierwall -- --config {POLICY_FILE} check --as db
    change it                and run `cargo xtask demo` again: the table marks what differs
    see it proved            cargo xtask test
    read on                  README.md"
    );
}
