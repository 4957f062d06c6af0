//! A network from three files, and whether each connection in it meets what is written there.
//!
//! Each folder of `tests/scenarios` is one network; its README.md says how the files are written.
//! A run has three passes over the same probes:
//!
//! 1. before any policy, when every connection must be open: what is denied later is then denied
//!    by a policy, not by a mistake in the network;
//! 2. with a daemon on each server, when every probe must meet what its line says;
//! 3. after the daemons have ended, when nothing may have changed.

mod denials;
mod explained;
mod files;
mod imported;
mod traced;

pub use imported::Import;

use crate::daemon::Daemon;
use crate::listener::Listener;
use crate::network::Network;
use crate::probe::{self, DENIED_LIMIT, OPEN_LIMIT, Probe};
use crate::server::Server;
use crate::service::Service;
use crate::verdict::Outcome;
use anyhow::{Result, ensure};
use files::{Expectation, HostLine, ProbeLine};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread;

/// A parsed folder.
#[derive(Debug)]
pub struct Scenario {
    directory: PathBuf,
    hosts: Vec<HostLine>,
    probes: Vec<ProbeLine>,
}

/// One connection to try: a line of `probes.tsv` makes one for each address family that both hosts
/// have, unless it names an address.
struct Try<'a> {
    line: &'a ProbeLine,
    source: IpAddr,
    target: IpAddr,
}

/// A connection that met something else than its line says.
struct Mismatch<'a> {
    pass: &'static str,
    tried: &'a Try<'a>,
    expected: Expectation,
    met: Outcome,
}

impl Scenario {
    /// Reads the files of `directory`, but for the policy, which is the daemons' to judge.
    ///
    /// # Errors
    /// For every line that can't be understood; the message names it.
    pub fn load(directory: &Path) -> Result<Self> {
        let hosts = files::read_hosts(&directory.join("hosts.tsv"))?;
        let probes = files::read_probes(&directory.join("probes.tsv"), &hosts)?;
        Ok(Self { directory: directory.into(), hosts, probes })
    }

    /// Makes the network and runs the three passes.
    ///
    /// # Errors
    /// When the baseline fails, a daemon doesn't start or end, or any connection meets something
    /// else than its line says. The message lists every such connection, with the log and the
    /// table of the servers that it concerns.
    pub fn run(&self) -> Result<()> {
        let network =
            Network::new(self.hosts.iter().map(|host| (&host.name, host.addresses.clone())))?;
        let listeners = self.listen(&network)?;
        let tries = self.tries(&network)?;

        let broken = pass("baseline", &tries, &network, &listeners, |_| Expectation::Open)?;
        ensure!(
            broken.is_empty(),
            "the network of {} is broken before any policy is there:\n{}",
            self.directory.display(),
            list(&broken)
        );

        let servers = self.install(&network)?;
        let daemons = start_all(&servers)?;
        let expected = |line: &ProbeLine| line.expected;
        let mut wrong = pass("with daemons", &tries, &network, &listeners, expected)?;
        // Before the daemons end, so that their tables are listed as the probes met them.
        let evidence = evidence(&wrong, &servers, &daemons);
        for daemon in daemons {
            daemon.stop()?;
        }
        wrong.extend(pass("daemons ended", &tries, &network, &listeners, expected)?);
        ensure!(
            wrong.is_empty(),
            "{}: not as expected:\n{}{evidence}",
            self.directory.display(),
            list(&wrong)
        );
        Ok(())
    }

    /// Answers every probed service on every host.
    fn listen<'a>(&self, network: &'a Network) -> Result<BTreeMap<&'a str, Listener>> {
        let services: BTreeSet<Service> = self.probes.iter().map(|probe| probe.service).collect();
        let services: Vec<Service> = services.into_iter().collect();
        network
            .hosts()
            .iter()
            .map(|host| Ok((host.name.as_str(), Listener::start(host, &services)?)))
            .collect()
    }

    fn tries(&self, network: &Network) -> Result<Vec<Try<'_>>> {
        let mut tries = Vec::new();
        for line in &self.probes {
            let (from, to) = (network.host(&line.from.host), network.host(&line.to.host));
            let before = tries.len();
            for ipv4 in [true, false] {
                let fits = |address: &&IpAddr| address.is_ipv4() == ipv4;
                let source = line.from.address.as_ref().or(from.addresses.iter().find(fits));
                let target = line.to.address.as_ref().or(to.addresses.iter().find(fits));
                if let (Some(&source), Some(&target)) = (source.filter(fits), target.filter(fits)) {
                    tries.push(Try { line, source, target });
                }
            }
            ensure!(
                tries.len() > before,
                "probes.tsv:{}: {} and {} have no address family in common",
                line.number,
                from.name,
                to.name
            );
        }
        Ok(tries)
    }

    fn install(&self, network: &Network) -> Result<Vec<Server>> {
        let servers = self.hosts.iter().filter(|host| host.is_server);
        servers
            .map(|line| Server::with_files_of(network.host(&line.name), &self.directory))
            .collect()
    }
}

/// Starts a daemon on every server, at the same time.
fn start_all(servers: &[Server]) -> Result<Vec<Daemon>> {
    thread::scope(|scope| {
        let starting: Vec<_> =
            servers.iter().map(|server| scope.spawn(|| server.start(&[]))).collect();
        let started: Vec<Result<Daemon>> = starting
            .into_iter()
            .map(|daemon| daemon.join().expect("starting a daemon doesn't panic"))
            .collect();
        started.into_iter().collect()
    })
}

/// Tries everything once. What didn't meet what `expected` says of its line.
fn pass<'a>(
    name: &'static str,
    tries: &'a [Try<'a>],
    network: &Network,
    listeners: &BTreeMap<&str, Listener>,
    expected: impl Fn(&ProbeLine) -> Expectation,
) -> Result<Vec<Mismatch<'a>>> {
    let probes: Vec<Probe> = tries
        .iter()
        .map(|tried| {
            let limit = match expected(tried.line) {
                // An error comes at once too, but the kernel may hold ICMP errors back for a second.
                Expectation::Open | Expectation::Rejected => OPEN_LIMIT,
                Expectation::Denied | Expectation::Dropped => DENIED_LIMIT,
            };
            let probe = Probe::new(tried.target, tried.line.service, limit);
            Probe { source: Some(tried.source), user: tried.line.user.clone(), ..probe }
        })
        .collect();
    let attempts: Vec<probe::Attempt<'_>> = probes
        .iter()
        .zip(tries)
        .map(|(probe, tried)| {
            let from = network.host(&tried.line.from.host);
            (probe, from, &listeners[tried.line.to.host.as_str()])
        })
        .collect();
    let outcomes = probe::run_all(&attempts)?;
    let met = tries.iter().zip(outcomes);
    Ok(met
        .map(|(tried, met)| Mismatch { pass: name, tried, expected: expected(tried.line), met })
        .filter(|result| !result.expected.is_met_by(result.met.verdict))
        .collect())
}

/// One line for each.
fn list(mismatches: &[Mismatch<'_>]) -> String {
    let mut text = String::new();
    for Mismatch { pass, tried, expected, met } in mismatches {
        let Try { line, source, target } = tried;
        let user = line.user.as_deref().unwrap_or("root");
        let _ = writeln!(
            text,
            "  probes.tsv:{}: {} -> {} {} by {user} ({source} -> {target}): expected {expected}, \
             met {} after {:?} ({pass})",
            line.number, line.from.host, line.to.host, line.service, met.verdict, met.duration
        );
    }
    text
}

/// The log and the table of every server that has a part in a mismatch.
fn evidence(mismatches: &[Mismatch<'_>], servers: &[Server], daemons: &[Daemon]) -> String {
    let concerned: BTreeSet<&str> = mismatches
        .iter()
        .flat_map(|wrong| [wrong.tried.line.from.host.as_str(), wrong.tried.line.to.host.as_str()])
        .collect();
    let mut text = String::new();
    for (server, daemon) in servers.iter().zip(daemons) {
        let name = server.host().name.as_str();
        if concerned.contains(name) {
            let table = server.nft_list("table inet filter");
            let table = table.unwrap_or_else(|error| format!("{error:#}"));
            let _ = writeln!(text, "\n{name}: log\n{}\n{name}: table\n{table}", daemon.log());
        }
    }
    text
}
