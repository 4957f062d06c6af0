//! What `tierwall denied` lists of a scenario, against the probes that its lines say are denied.

use super::files::Expectation;
use super::{Scenario, Try, pass, start_all};
use crate::network::Network;
use crate::server::Server;
use anyhow::{Context, Result, ensure};
use nix::unistd::User;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

/// How long a denial may take to be listed: the kernel collects packets for a tenth of a second.
const LISTED: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A denial, as `tierwall denied` lists it and as a probe is expected to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Denial {
    source: IpAddr,
    destination: IpAddr,
    service: String,
    /// On the sender's side.
    user: Option<u32>,
}

/// What a server listed: the direction, what became of it, and how many connections.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    server: String,
    direction: String,
    fate: String,
    connections: u64,
}

impl Scenario {
    /// Runs the probes once with daemons, and compares what `tierwall denied` lists on the servers
    /// with the probes that are denied: exactly these, each with its user and as one connection.
    /// Where the servers only `observe`, every probe has to pass, and the same ones are listed as
    /// what would be denied.
    ///
    /// # Errors
    /// When the network can't be made, a probe meets something else, or the lists differ; the
    /// message says how.
    pub fn compare_denials(&self, observe: bool) -> Result<()> {
        let network =
            Network::new(self.hosts.iter().map(|host| (&host.name, host.addresses.clone())))?;
        let listeners = self.listen(&network)?;
        let tries = self.tries(&network)?;
        let servers = self.install(&network)?;
        if observe {
            servers.iter().try_for_each(only_observe)?;
        }
        let daemons = start_all(&servers)?;
        let wrong = pass("with daemons", &tries, &network, &listeners, |line| match observe {
            true => Expectation::Open,
            false => line.expected,
        })?;
        ensure!(wrong.is_empty(), "not as expected:\n{}", super::list(&wrong));

        let start = Instant::now();
        loop {
            let listed = listed(&servers)?;
            let Err(error) = compare(&tries, &listed, observe) else { break };
            if start.elapsed() > LISTED {
                return Err(error.context(self.directory.display().to_string()));
            }
            thread::sleep(POLL);
        }
        daemons.into_iter().try_for_each(crate::daemon::Daemon::stop)
    }
}

/// Edits the policy of a server so that every side that it enforces only observes.
fn only_observe(server: &Server) -> Result<()> {
    let policy = std::fs::read_to_string(server.config())?;
    let mode = policy.lines().find(|line| line.starts_with("mode"));
    let edited = match mode {
        Some(mode) => policy.replace(mode, &mode.replace("enforce", "observe")),
        None => format!("mode = \"observe\"\n{policy}"),
    };
    server.write("tierwall.toml", edited)
}

/// What all servers list.
fn listed(servers: &[Server]) -> Result<BTreeMap<Denial, Vec<Listed>>> {
    let mut all: BTreeMap<Denial, Vec<Listed>> = BTreeMap::new();
    for server in servers {
        let output = server.tierwall(&["denied", "--json", "--limit", "10000"])?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tierwall denied failed: {errors}");
        let answer: control::Denials = serde_json::from_slice(&output.stdout)?;
        ensure!(answer.rest == control::DenialCount::default(), "too many to tell apart");
        for group in answer.groups {
            let denial = Denial {
                source: group.source.context("a flow has a source")?,
                destination: group.destination.context("a flow has a destination")?,
                service: group.service.context("a flow has a service")?,
                user: group.user,
            };
            let name = |value| serde_json::to_value(value).map(|name| name.to_string());
            all.entry(denial).or_default().push(Listed {
                server: server.host().name.clone(),
                direction: group.direction.name().to_owned(),
                fate: name(group.fate)?,
                connections: group.count.connections,
            });
        }
    }
    Ok(all)
}

fn compare(tries: &[Try<'_>], listed: &BTreeMap<Denial, Vec<Listed>>, observe: bool) -> Result<()> {
    let mut expected: BTreeMap<Denial, (u64, String)> = BTreeMap::new();
    for tried in tries.iter().filter(|tried| tried.line.expected != Expectation::Open) {
        let user = tried.line.user.as_deref().unwrap_or("root");
        let account = User::from_name(user)?.with_context(|| format!("no user {user}"))?;
        let (source, destination) = (tried.source, tried.target);
        let service = tried.line.service.to_string();
        let user = Some(account.uid.as_raw());
        let place = (0, format!("probes.tsv:{}", tried.line.number));
        let denial = Denial { source, destination, service, user };
        expected.entry(denial).or_insert(place).0 += 1;
    }
    let mut text = String::new();
    for (denial, (times, line)) in &expected {
        let sent = listed.get(denial).into_iter().flatten().filter(|l| l.direction == "output");
        let stranger = Denial { user: None, ..denial.clone() };
        let came = listed.get(&stranger).into_iter().flatten().filter(|l| l.direction == "input");
        let found: Vec<&Listed> = sent.chain(came).collect();
        let fate = if observe { "\"would-deny\"" } else { "\"denied\"" };
        // What one side denies never reaches the other; what both would deny, both list.
        let places = if observe { 1..=2 } else { 1..=1 };
        let of_users = expected
            .iter()
            .filter(|(other, _)| Denial { user: None, ..(*other).clone() } == stranger);
        let of_all_users: u64 = of_users.map(|(_, (times, _))| times).sum();
        let is_right = places.contains(&found.len())
            && found.iter().all(|listed| {
                let times = if listed.direction == "output" { *times } else { of_all_users };
                listed.fate == fate && listed.connections == times
            });
        if !is_right {
            let _ = writeln!(text, "  {line}: {denial:?}, {times} times, is listed as {found:?}");
        }
    }
    for (denial, places) in listed {
        for place in places {
            let is_expected = match place.direction.as_str() {
                "output" => expected.contains_key(denial),
                _ => expected.keys().any(|other| Denial { user: None, ..other.clone() } == *denial),
            };
            if !is_expected {
                let _ = writeln!(text, "  not denied, and listed: {denial:?} as {place:?}");
            }
        }
    }
    ensure!(text.is_empty(), "what is listed isn't what was denied:\n{text}");
    Ok(())
}
