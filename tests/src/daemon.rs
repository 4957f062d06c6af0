//! A running `tierwalld`: started as systemd starts it, ended with its value.
//!
//! It is ready when it says so on its `NOTIFY_SOCKET`, which is how systemd learns it, and after
//! which the policy has to hold. When it ends, the policy stays in the host's kernel.

use crate::fd_store::{self, FdStore};
use crate::server::Server;
use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a daemon may take to be ready. It takes milliseconds; a debug build on a busy machine
/// with large lists takes longer.
const READY: Duration = Duration::from_secs(30);
/// How long it may take to end after SIGTERM.
const ENDED: Duration = Duration::from_secs(10);
/// How often a child is asked whether it ended.
const POLL: Duration = Duration::from_millis(10);

/// A daemon that said it was ready.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    host: String,
    log: PathBuf,
    /// From before the process was started until it said READY=1.
    pub ready_after: Duration,
}

/// A daemon that ended without being ready.
#[derive(Debug, thiserror::Error)]
#[error("tierwalld on {host} ended with {status} before it was ready; its log:\n{log}")]
pub struct Ended {
    /// The name of its host.
    pub host: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard error, in this and earlier runs on the server.
    pub log: String,
}

impl Daemon {
    /// With a store, the service manager keeps there what the daemon asks it to, and passes on
    /// what is there.
    pub(crate) fn start(
        server: &Server,
        arguments: &[&str],
        store: Option<&FdStore>,
    ) -> Result<Self> {
        let host = server.host().name.clone();
        let (socket, log) = (server.path("notify"), server.path("log"));
        // A socket of an earlier daemon on this server.
        let _ = fs::remove_file(&socket);
        let notifications = UnixDatagram::bind(&socket)?;
        notifications.set_read_timeout(Some(POLL))?;
        let (start, child) = spawn(server, arguments, store)?;
        let mut daemon = Self { child, host, log, ready_after: Duration::ZERO };
        loop {
            if is_ready(&notifications, store)? {
                daemon.ready_after = start.elapsed();
                return Ok(daemon);
            }
            if let Some(status) = daemon.child.try_wait()? {
                let (host, log) = (daemon.host.clone(), daemon.log());
                return Err(Ended { host, status, log }.into());
            }
            if start.elapsed() > READY {
                let (host, log) = (&daemon.host, daemon.log());
                bail!("tierwalld on {host} isn't ready after {READY:?}; its log:\n{log}");
            }
        }
    }

    /// Starts a daemon and kills it when `until` returns, ready or not.
    pub(crate) fn start_and_kill(server: &Server, until: impl FnOnce()) -> Result<()> {
        let (_, mut child) = spawn(server, &[], None)?;
        until();
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// What the daemons of this server wrote to standard error so far.
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What was written to the log behind `offset`, which is moved to its end.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn log_behind(&self, offset: &mut u64) -> Result<String> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(*offset))?;
        let mut bytes = Vec::new();
        *offset += file.read_to_end(&mut bytes)? as u64;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("can't send {signal}"))
    }

    /// The memory it has resident, in KiB.
    ///
    /// # Errors
    /// When it has ended.
    pub fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).context("it has ended")
    }

    /// Ends it with SIGKILL, as a crash would. The policy stays.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("tierwalld on {} has ended with {status}; its log:\n{}", self.host, self.log());
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it with SIGTERM, as systemd does. The policy stays.
    ///
    /// # Errors
    /// When it doesn't end in time (then it is killed), or not with success.
    pub fn stop(mut self) -> Result<()> {
        let (host, log) = (self.host.clone(), self.log());
        match self.terminate()? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!("tierwalld on {host} ended with {status}; its log:\n{log}"),
            None => bail!("tierwalld on {host} ignores SIGTERM; its log:\n{log}"),
        }
    }

    /// SIGTERM, then SIGKILL. How it ended by itself, none if it had to be killed.
    fn terminate(&mut self) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(status));
        }
        self.signal(Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < ENDED {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            thread::sleep(POLL);
        }
        self.child.kill()?;
        self.child.wait()?;
        Ok(None)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Nobody is left to tell, and a process that can't be ended is already gone.
        let _ = self.terminate();
    }
}

/// Starts the program as systemd does. When, and what runs now.
fn spawn(server: &Server, arguments: &[&str], store: Option<&FdStore>) -> Result<(Instant, Child)> {
    let writer = OpenOptions::new().create(true).append(true).open(server.path("log"))?;
    let mut command = server.tierwalld_command()?;
    command.args(arguments).env("NOTIFY_SOCKET", server.path("notify"));
    let mut passed = Vec::new();
    if let Some(store) = store {
        (command, passed) = store.passed_to(&command)?;
        command.stdin(Stdio::null());
    }
    command.stdout(writer.try_clone()?).stderr(writer);
    let start = Instant::now();
    let child = server.spawn(&mut command)?;
    drop(passed);
    Ok((start, child))
}

/// Waits a moment for a notification; whether it says READY=1 (sd_notify(3): one assignment a
/// line, any others may come with it).
fn is_ready(notifications: &UnixDatagram, store: Option<&FdStore>) -> Result<bool> {
    let (text, descriptors) = match fd_store::receive(notifications) {
        Ok(received) => received,
        Err(error) => {
            return match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(false),
                _ => Err(error).context("can't read notifications"),
            };
        }
    };
    if let Some(store) = store {
        store.note(&text, descriptors)?;
    }
    Ok(text.lines().any(|line| line == "READY=1"))
}
