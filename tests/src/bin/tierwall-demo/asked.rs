//! The third act: an edit that denies what an application needs, and what is asked to find that out.

use crate::cast::{self, POSTGRES};
use crate::table::{DENIED, HEADING, WRONG};
use crate::{as_text, indented};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::listener::Listener;
use tierwall_tests::network::Network;
use tierwall_tests::probe::{self, DENIED_LIMIT, OPEN_LIMIT, Probe};
use tierwall_tests::server::Server;
use tierwall_tests::verdict::Verdict;

/// Who connects, and to whom: where the edit is made and everything is asked.
const FROM: &str = "app1";
const TO: &str = "db1";
/// Connections that are tried: from five on the daemon says that the change denies more.
const TRIES: usize = 6;
/// How long the daemon may take to have read what was denied. It takes a tenth of a second.
const READ: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What came of the act.
#[derive(Debug, Serialize)]
pub(crate) struct Asked {
    /// What each of the connections met after the edit.
    #[serde(serialize_with = "as_texts")]
    pub(crate) denied: Vec<Verdict>,
    pub(crate) answers: Vec<Answer>,
    /// What a connection met after the edit was rolled back.
    #[serde(serialize_with = "as_text")]
    pub(crate) after: Verdict,
}

/// A command, and what it said.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) command: String,
    pub(crate) exit_code: Option<i32>,
    pub(crate) told: String,
    /// Whether it found what was to be found.
    pub(crate) as_expected: bool,
}

fn as_texts<S: serde::Serializer>(verdicts: &[Verdict], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(verdicts.iter().map(ToString::to_string))
}

impl Asked {
    pub(crate) fn as_expected(&self) -> bool {
        self.denied.iter().all(|verdict| matches!(verdict, Verdict::Denied(_)))
            && self.answers.iter().all(|answer| answer.as_expected)
            && self.after == Verdict::Open
    }
}

/// Plays it.
pub(crate) fn play(network: &Network, servers: &[Server], listeners: &[Listener]) -> Result<Asked> {
    let server = servers.iter().find(|server| server.host().name == TO).context("it's a server")?;
    let stage = Stage { network, server, listeners };
    server.replace_policy(&cast::policy_without_postgres())?;
    let mut answers = vec![stage.ask("reload", 0, "no longer reachable from app on tcp/5432")?];
    let denied = stage.connect(TRIES, DENIED_LIMIT)?;
    stage.wait_until_it_is_read()?;
    let mut status = stage.ask("status", 0, "generation 1 let 6 of them through")?;
    // What else it says isn't what this is about.
    let lines = status.told.lines().filter(|line| line.contains("denied"));
    status.told = lines.map(|line| format!("{line}\n")).collect();
    answers.push(status);
    answers.push(stage.ask("denied --by tier --limit 5", 0, "input   denied  app      db")?);
    let why = "explain --from app --to self --service tcp/5432";
    answers.push(stage.ask(why, 9, "denied: app to self on tcp/5432")?);
    answers.push(stage.ask("suggest --tier app", 0, "\"tcp/5432\"")?);
    answers.push(stage.ask("rollback", 0, "now reachable from app on tcp/5432")?);
    let after = stage.connect(1, OPEN_LIMIT)?[0];
    Ok(Asked { denied, answers, after })
}

struct Stage<'a> {
    network: &'a Network,
    server: &'a Server,
    listeners: &'a [Listener],
}

impl Stage<'_> {
    /// Connections at once, and what they met.
    fn connect(&self, count: usize, limit: Duration) -> Result<Vec<Verdict>> {
        let target = self.network.host(TO);
        let at = self.network.hosts().iter().position(|host| host.name == TO);
        let listener = &self.listeners[at.context("it is in the cast")?];
        let probe = Probe::new(target.addresses[0], POSTGRES, limit);
        let attempts = vec![(&probe, self.network.host(FROM), listener); count];
        Ok(probe::run_all(&attempts)?.into_iter().map(|outcome| outcome.verdict).collect())
    }

    fn ask(&self, command: &str, exit_code: i32, told: &str) -> Result<Answer> {
        let arguments: Vec<&str> = command.split(' ').collect();
        let output = self.server.tierwall(&arguments)?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let exit = output.status.code();
        let as_expected = exit == Some(exit_code) && text.contains(told);
        let command = format!("{TO}# tierwall {command}");
        Ok(Answer { command, exit_code: exit, told: text, as_expected })
    }

    fn wait_until_it_is_read(&self) -> Result<()> {
        let start = Instant::now();
        loop {
            let output = self.server.tierwall(&["status", "--json"])?;
            let status: Value = serde_json::from_slice(&output.stdout)?;
            if status["after_change"]["newly_denied"].as_u64() >= Some(TRIES as u64) {
                return Ok(());
            }
            ensure!(start.elapsed() < READ, "{TO} doesn't tell what the edit denies: {status}");
            thread::sleep(POLL);
        }
    }
}

/// The act as a person reads it.
pub(crate) fn render(asked: &Asked) -> String {
    let mut text = String::new();
    let _ =
        writeln!(text, "  {HEADING}asked: somebody takes tcp/5432 out of {TO}'s policy{HEADING:#}");
    for (number, Answer { command, told, as_expected, .. }) in asked.answers.iter().enumerate() {
        let wrong = if *as_expected { "" } else { "  NOT AS EXPECTED" };
        let _ = writeln!(text, "  {command}{WRONG}{wrong}{WRONG:#}");
        let _ = write!(text, "{DENIED}{}{DENIED:#}", indented(told.trim_end()));
        if number == 0 {
            let denied = asked.denied.iter().filter(|met| matches!(met, Verdict::Denied(_)));
            let _ = writeln!(
                text,
                "  {FROM} tries it {} times: {} denied",
                asked.denied.len(),
                denied.count()
            );
        }
    }
    let _ = writeln!(text, "  {FROM} tries it again: {}", asked.after);
    text
}
