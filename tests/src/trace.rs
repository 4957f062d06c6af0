//! A running `tierwall trace`, and what it told.

use crate::server::Server;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// How long it may take to begin or to end, or a packet to be told. It takes milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

/// `tierwall trace --json` on a server. Killed when it is dropped.
#[derive(Debug)]
pub struct Trace {
    child: Child,
    lines: Receiver<String>,
    /// The name of the table that marks packets.
    pub table: String,
    /// What it said in the beginning.
    pub notes: Vec<String>,
    packets: Vec<Value>,
}

impl Trace {
    /// Starts it. When this returns, packets are traced.
    ///
    /// # Errors
    /// When it ends instead.
    pub fn start(server: &Server, arguments: &[&str]) -> Result<Self> {
        let mut command = server.tierwall_command()?;
        command.args(["trace", "--json"]).args(arguments).stdout(Stdio::piped());
        let mut child = server.spawn(&mut command)?;
        let output = child.stdout.take().context("its output is a pipe")?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody reads on once the value is gone.
                let _ = sender.send(line);
            }
        });
        let (table, notes) = (String::new(), Vec::new());
        let mut trace = Self { child, lines, table, notes, packets: Vec::new() };
        let start = trace.line(Instant::now() + LIMIT)?;
        ensure!(start["kind"] == "start", "it began with {start}");
        trace.table = start["table"].as_str().context("a table has a name")?.into();
        trace.notes = serde_json::from_value(start["notes"].clone())?;
        Ok(trace)
    }

    /// Its process id.
    pub fn id(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Waits for a packet that is as wanted, the first of all that were told.
    ///
    /// # Errors
    /// When none comes; the message holds all that came.
    pub fn packet(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        if let Some(packet) = self.packets.iter().find(|packet| wanted(packet)) {
            return Ok(packet.clone());
        }
        let deadline = Instant::now() + LIMIT;
        loop {
            let packet = match self.line(deadline) {
                Ok(line) if line["kind"] == "packet" => line,
                Ok(line) => bail!("no such packet before {line}:\n{:#?}", self.packets),
                Err(error) => return Err(error.context(format!("{:#?}", self.packets))),
            };
            self.packets.push(packet.clone());
            if wanted(&packet) {
                return Ok(packet);
            }
        }
    }

    /// Ends it as ctrl-c does: all packets, and the summary.
    ///
    /// # Errors
    /// When it doesn't end with success.
    pub fn stop(mut self) -> Result<(Vec<Value>, Value)> {
        kill(self.id(), Signal::SIGINT)?;
        self.rest()
    }

    /// The same of one that ends by itself.
    ///
    /// # Errors
    /// When it doesn't end with success.
    pub fn rest(&mut self) -> Result<(Vec<Value>, Value)> {
        let deadline = Instant::now() + LIMIT;
        let summary = loop {
            let line = self.line(deadline)?;
            match line["kind"].as_str() {
                Some("packet") => self.packets.push(line),
                _ => break line,
            }
        };
        ensure!(summary["kind"] == "summary", "it ended with {summary}");
        let status = self.child.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok((std::mem::take(&mut self.packets), summary))
    }

    /// Ends it as nothing can be caught.
    ///
    /// # Errors
    /// When it has ended.
    pub fn kill(mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    fn line(&self, deadline: Instant) -> Result<Value> {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).context("it says nothing more")?;
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The decision of our table about a packet on a hook.
pub fn decision<'a>(packet: &'a Value, hook: &str) -> Option<&'a Value> {
    let chains = packet["chains"].as_array()?;
    let ours = chains.iter().find(|chain| chain["ours"] == true && chain["hook"] == hook)?;
    Some(&ours["decision"]).filter(|decision| !decision.is_null())
}
