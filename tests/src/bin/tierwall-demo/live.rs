//! The second act: a web server comes and goes, while long connections go on.
//!
//! Each step asks for one member more or less, and looks from outside at what comes of it: when
//! the first new connection passed, or the last one; what a program meets afterwards; and which
//! batches the daemons committed for it.

use crate::batch::Batch;
use crate::cast::{self, APP, NEWCOMER, POLICY, POSTGRES};
use crate::{address, as_text};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::conversation::{Conversation, Exchanged};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::knocking::Knocking;
use tierwall_tests::listener::Listener;
use tierwall_tests::network::{Host, Network};
use tierwall_tests::probe::{self, DENIED_LIMIT, OPEN_LIMIT, Probe};
use tierwall_tests::server::Server;
use tierwall_tests::service::Service;
use tierwall_tests::verdict::Verdict;

/// How long a step may take. It takes milliseconds.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// A long connection that stands still for longer was disturbed, unless [`REFERENCE`] did as well.
/// A lost packet is sent again after 0.2 s; the rest is for a machine that is busy.
const PAUSE_LIMIT: Duration = Duration::from_millis(500);
/// How long the long connections are left alone before the first step and after the last.
const QUIET: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(1);
/// Whom the newcomer wants to reach, and who is to be asked by command.
const TARGET: &str = "app1";
/// The servers whose table names the tier of the newcomer: its members, and who accepts from it.
const CONCERNED: [&str; 3] = ["web1", "web2", TARGET];
/// The long connections: from, to, on what.
const LONG: [Way; 2] = [("web1", "app1", APP), ("app1", "db1", POSTGRES)];
/// One that no policy is asked about, between machines without tierwalld: what the machine that
/// all of this runs on does to a connection.
const REFERENCE: Way = ("stray", "admin", APP);

type Way = (&'static str, &'static str, Service);

/// What came of the act.
#[derive(Debug, Serialize)]
pub(crate) struct Live {
    pub(crate) steps: Vec<Step>,
    pub(crate) long_connections: Vec<Long>,
}

/// One thing that was asked for.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    /// As a person would say or type it.
    pub(crate) asked: String,
    /// Whether the newcomer is to reach its target afterwards.
    pub(crate) allowed: bool,
    /// What it met afterwards.
    #[serde(serialize_with = "as_text")]
    pub(crate) verdict: Verdict,
    /// From asking until the first new connection passed, or the last one; none where none did.
    pub(crate) microseconds: Option<u128>,
    pub(crate) batches: Vec<Batch>,
    /// The servers that are to commit one.
    pub(crate) concerns: &'static [&'static str],
}

/// A long connection.
#[derive(Debug, Serialize)]
pub(crate) struct Long {
    pub(crate) from: &'static str,
    pub(crate) to: &'static str,
    #[serde(serialize_with = "as_text")]
    pub(crate) service: Service,
    pub(crate) messages: u64,
    pub(crate) longest_pause_microseconds: u128,
    /// Whether policies stand between the two.
    pub(crate) is_filtered: bool,
    /// What disturbed it.
    pub(crate) disturbed: Option<String>,
}

impl Live {
    pub(crate) fn as_expected(&self) -> bool {
        self.steps.iter().all(Step::as_expected)
            && self.long_connections.iter().all(|long| long.disturbed.is_none())
    }
}

impl Step {
    pub(crate) fn as_expected(&self) -> bool {
        self.met_as_expected() && self.sent_as_expected()
    }

    pub(crate) fn met_as_expected(&self) -> bool {
        match self.verdict {
            Verdict::Open => self.allowed,
            Verdict::Denied(_) => !self.allowed,
            Verdict::Stalled => false,
        }
    }

    /// One element of one set on each server that it concerns, and nothing on the others.
    pub(crate) fn sent_as_expected(&self) -> bool {
        self.batches.iter().map(|batch| batch.server.as_str()).eq(self.concerns.iter().copied())
            && self.batches.iter().all(Batch::is_one_element)
    }
}

/// Plays it. The newcomer joins the network for it.
pub(crate) fn play(
    network: &mut Network,
    servers: &[Server],
    daemons: &[Daemon],
    listeners: &[Listener],
) -> Result<Live> {
    network.add([(NEWCOMER.name, vec![address(NEWCOMER.address)])])?;
    let talk = |(from, to, service): Way| {
        let target = SocketAddr::new(network.host(to).addresses[0], service.port());
        Conversation::start(network.host(from), target)
    };
    let reference = talk(REFERENCE)?;
    let long = LONG.into_iter().map(|way| Ok((way, talk(way)?))).collect::<Result<Vec<_>>>()?;
    thread::sleep(QUIET);
    let target = network.hosts().iter().position(|host| host.name == TARGET);
    let target = target.context("the target is in the cast")?;
    let stage = Stage {
        newcomer: network.host(NEWCOMER.name),
        target: &network.hosts()[target],
        listener: &listeners[target],
        servers,
        daemons,
    };
    let steps = stage.steps()?;
    thread::sleep(QUIET);
    let long: Vec<(Way, Exchanged)> =
        long.into_iter().map(|(way, conversation)| (way, conversation.stop())).collect();
    let reference = reference.stop();
    let limit = PAUSE_LIMIT.max(2 * reference.longest_pause);
    let long_connections = long
        .into_iter()
        .map(|(way, exchanged)| Long::of(way, &exchanged, true, limit))
        .chain([Long::of(REFERENCE, &reference, false, Duration::MAX)]);
    Ok(Live { steps, long_connections: long_connections.collect() })
}

impl Long {
    fn of(way: Way, exchanged: &Exchanged, is_filtered: bool, limit: Duration) -> Self {
        let (from, to, service) = way;
        Self {
            from,
            to,
            service,
            messages: exchanged.messages,
            longest_pause_microseconds: exchanged.longest_pause.as_micros(),
            is_filtered,
            disturbed: exchanged.check(limit).err().map(|error| error.to_string()),
        }
    }
}

/// Where it plays.
struct Stage<'a> {
    newcomer: &'a Host,
    target: &'a Host,
    listener: &'a Listener,
    servers: &'a [Server],
    daemons: &'a [Daemon],
}

impl Stage<'_> {
    fn steps(&self) -> Result<Vec<Step>> {
        let edited = cast::policy_with_newcomer();
        let member = |verb| ["member", verb, "web", NEWCOMER.address];
        let because = ["--reason", "trial"];
        let typed = |arguments: &[&str]| format!("{TARGET}# tierwall {}", arguments.join(" "));
        let add = [&member("add")[..], &because].concat();
        let remove = member("remove");
        let on_all = "the policy file of every server";
        Ok(vec![
            Step {
                asked: "nothing yet".to_owned(),
                allowed: false,
                verdict: self.verdict(false)?,
                microseconds: None,
                batches: Vec::new(),
                concerns: &[],
            },
            self.step(
                format!("{} into `web`, in {on_all}", NEWCOMER.address),
                true,
                &CONCERNED,
                || self.edit(&edited, 11),
            )?,
            self.step(format!("out again, in {on_all}"), false, &CONCERNED, || {
                self.edit(POLICY, 10)
            })?,
            self.step(typed(&add), true, &[TARGET], || self.command(&add))?,
            self.step(typed(&remove), false, &[TARGET], || self.command(&remove))?,
        ])
    }

    /// Asks for something and waits until it is so.
    fn step(
        &self,
        asked: String,
        allowed: bool,
        concerns: &'static [&'static str],
        ask: impl FnOnce() -> Result<Instant>,
    ) -> Result<Step> {
        let before: Vec<usize> = self.batches().map(|batches| batches.len()).collect();
        let knocking = Knocking::start(self.newcomer, self.door());
        let since = ask().with_context(|| format!("can't do what was asked: {asked}"))?;
        if allowed {
            knocking.first_passed(since, STEP_LIMIT)?;
        }
        self.wait("a batch of the target", || {
            self.new_batches(&before).iter().any(|batch| batch.server == TARGET)
        })?;
        let passed = match allowed {
            true => Some(knocking.first_passed(since, STEP_LIMIT)?),
            false => {
                // Those that were under way.
                thread::sleep(10 * POLL);
                knocking.last_passed()
            }
        };
        knocking.stop()?;
        Ok(Step {
            asked,
            allowed,
            verdict: self.verdict(allowed)?,
            microseconds: passed.map(|at| at.saturating_duration_since(since).as_micros()),
            batches: self.new_batches(&before),
            concerns,
        })
    }

    /// Puts the policy in place on every server, one after the other, and waits until every daemon
    /// has followed: `count` addresses in the tier. When it was in place on the target.
    fn edit(&self, policy: &str, count: u64) -> Result<Instant> {
        let mut since = None;
        for server in self.servers {
            let renamed = server.replace_policy(policy)?;
            if server.host().name == TARGET {
                since = Some(renamed);
            }
        }
        for server in self.servers {
            let name = &server.host().name;
            self.wait(&format!("{name} to follow"), || {
                addresses_of_web(server).is_ok_and(|addresses| addresses == count)
            })?;
        }
        since.context("the target is a server")
    }

    fn command(&self, arguments: &[&str]) -> Result<Instant> {
        let server = self.servers.iter().find(|server| server.host().name == TARGET);
        let server = server.context("the target is a server")?;
        let since = Instant::now();
        let output = server.tierwall(arguments)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(since)
    }

    /// What a program on the newcomer meets.
    fn verdict(&self, allowed: bool) -> Result<Verdict> {
        let limit = if allowed { OPEN_LIMIT } else { DENIED_LIMIT };
        let probe = Probe::new(self.door().ip(), APP, limit);
        let outcomes = probe::run_all(&[(&probe, self.newcomer, self.listener)])?;
        Ok(outcomes[0].verdict)
    }

    fn door(&self) -> SocketAddr {
        SocketAddr::new(self.target.addresses[0], APP.port())
    }

    /// What each daemon has committed since its start.
    fn batches(&self) -> impl Iterator<Item = Vec<Batch>> {
        let each = self.servers.iter().zip(self.daemons);
        each.map(|(server, daemon)| Batch::all(&server.host().name, &daemon.log()))
    }

    fn new_batches(&self, before: &[usize]) -> Vec<Batch> {
        let each = self.batches().zip(before);
        each.flat_map(|(batches, &before)| batches.into_iter().skip(before)).collect()
    }

    fn wait(&self, what: &str, is_so: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        while !is_so() {
            if start.elapsed() > STEP_LIMIT {
                let logs: String = self.daemons.iter().map(Daemon::log).collect();
                bail!("waited {STEP_LIMIT:?} for {what}; the logs:\n{logs}");
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

/// How many addresses the tier `web` has by the files, as the daemon of `server` says.
fn addresses_of_web(server: &Server) -> Result<u64> {
    let output = server.tierwall(&["--json", "status"])?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let tiers = status["tiers"].as_array().context("a status has tiers")?;
    let web = tiers.iter().find(|tier| tier["name"] == "web").context("web is a tier")?;
    web["v4"].as_u64().context("a tier has a number of addresses")
}
