//! Three answers to each probe: what `explain` says of it, what the kernel did with it, told by
//! `tierwall trace`, and what the connection met. All three must be one, and the first two name the
//! same line.

use super::explained::{Asked, explain};
use super::{Scenario, Try, list, pass, start_all};
use crate::network::Network;
use crate::server::Server;
use crate::service::Service;
use crate::trace::{Trace, decision};
use anyhow::{Context, Result, ensure};
use policy::{Direction, Policy};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Connections that a trace can't tell apart: it doesn't say whose programs sent them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Flow {
    server: String,
    side: &'static str,
    source: IpAddr,
    destination: IpAddr,
    service: String,
}

/// What became of them on one side, and what said so.
type Decisions = BTreeMap<Flow, BTreeSet<(String, String)>>;

impl Scenario {
    /// Runs the probes once with a daemon and a trace on each server. Returns how many ends of
    /// connections were compared.
    ///
    /// # Errors
    /// When the network can't be made, a probe meets something else than its line says, or a
    /// decision of the kernel isn't what `explain` says; the message lists all that differ.
    pub fn traced(&self) -> Result<usize> {
        let network =
            Network::new(self.hosts.iter().map(|host| (&host.name, host.addresses.clone())))?;
        let listeners = self.listen(&network)?;
        let tries = self.tries(&network)?;
        let servers = self.install(&network)?;
        let daemons = start_all(&servers)?;
        let start = |server| {
            Trace::start(server, &["--from", "any", "--both", "--rate", "10000", "--for", "10m"])
        };
        let traces: Vec<Trace> = servers.iter().map(start).collect::<Result<_>>()?;
        let wrong = pass("traced", &tries, &network, &listeners, |line| line.expected)?;
        ensure!(wrong.is_empty(), "not as expected:\n{}", list(&wrong));

        let mut traced = Decisions::new();
        for (server, trace) in servers.iter().zip(traces) {
            ensure!(trace.notes.is_empty(), "{:?}", trace.notes);
            let (packets, summary) = trace.stop()?;
            let lost = [&summary["losses"], &summary["held_back"]];
            ensure!(lost.iter().all(|lost| **lost == 0), "the trace isn't whole: {summary}");
            note(&mut traced, &server.host().name, &packets)?;
        }
        daemons.into_iter().try_for_each(crate::daemon::Daemon::stop)?;

        let explained = self.decisions(&servers, &tries)?;
        let mut count = 0;
        let mut differing = String::new();
        for (flow, expected) in &explained {
            count += expected.len();
            let seen = traced.get(flow).cloned().unwrap_or_default();
            if seen != *expected {
                differing += &format!("{flow:?}\n  explained {expected:?}\n  traced    {seen:?}\n");
            }
        }
        ensure!(differing.is_empty(), "{}:\n{differing}", self.directory.display());
        Ok(count)
    }

    /// What `explain` says of every probe on the servers that see it.
    fn decisions(&self, servers: &[Server], tries: &[Try<'_>]) -> Result<Decisions> {
        let mut decisions = Decisions::new();
        for tried in tries {
            let Try { line: probe, source, target } = *tried;
            let asked = Asked { probe, source, target };
            for (direction, name) in
                [(Direction::Output, &probe.from.host), (Direction::Input, &probe.to.host)]
            {
                let Some(server) = servers.iter().find(|server| server.host().name == *name) else {
                    continue;
                };
                let explained = explain(&policy_of(server)?, self.host(name)?, &asked, direction)?;
                let flow = Flow {
                    server: name.clone(),
                    side: if direction == Direction::Output { "output" } else { "input" },
                    source,
                    destination: target,
                    service: probe.service.to_string(),
                };
                let of_flow = decisions.entry(flow).or_default();
                // Nothing decides where nothing is filtered.
                if explained.ground != "off" {
                    let how = match explained.fate {
                        policy::explain::Fate::Allowed => "allowed",
                        policy::explain::Fate::WouldBeDenied => "would-be-denied",
                        _ => "denied",
                    };
                    of_flow.insert((how.into(), explained.ground));
                }
                if explained.fate.is_denied() {
                    // What the sender's end denies nobody else sees.
                    break;
                }
            }
        }
        Ok(decisions)
    }
}

fn policy_of(server: &Server) -> Result<Policy> {
    let options = policy::Options { check_permissions: false, ..policy::Options::default() };
    policy::load(&server.config(), &options).policy.context("a policy with errors")
}

/// Adds what a server's table decided about packets that open something: what came before them,
/// and what answers them, are other rules' business.
fn note(decisions: &mut Decisions, server: &str, packets: &[Value]) -> Result<()> {
    for packet in packets {
        let address = |key: &str| -> Result<IpAddr> {
            Ok(packet[key].as_str().context("an address")?.parse()?)
        };
        let (source, destination) = (address("source")?, address("destination")?);
        let protocol = packet["protocol"].as_str().context("a protocol")?;
        let service = match packet["destination_port"].as_u64() {
            Some(port) => format!("{protocol}/{port}"),
            None => protocol.to_owned(),
        };
        // As probes call them, whatever name the policy has for it.
        let service = service.parse::<Service>().map_or(service, |service| service.to_string());
        for side in ["output", "input"] {
            let Some(decision) = decision(packet, side) else { continue };
            let rule = decision["rule"].as_str();
            if matches!(rule, Some("established" | "related")) {
                continue;
            }
            let ground = decision["place"].as_str().or(rule).or(decision["by"].as_str());
            let of = (decision["verdict"].as_str(), ground);
            let (Some(verdict), Some(ground)) = of else {
                anyhow::bail!("no verdict: {packet}");
            };
            let server = server.to_owned();
            let flow = Flow { server, side, source, destination, service: service.clone() };
            decisions.entry(flow).or_default().insert((verdict.to_owned(), ground.to_owned()));
        }
    }
    Ok(())
}
