//! The programs that tierwall is compared with: which of them are here, and one run of one.

use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::Host;

/// How often the memory of a running program is looked at.
const POLL: Duration = Duration::from_millis(1);

/// Whether a program is in PATH.
pub(crate) fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A program that has ended well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    pub(crate) begun: Instant,
    /// From its start to its end.
    pub(crate) milliseconds: f64,
}

/// Runs a program on a host to its end.
///
/// # Errors
/// When it fails; the message holds its standard error.
pub(crate) fn run(host: &Host, program: &str, arguments: &[&str]) -> Result<Ran> {
    let mut command = Command::new(program);
    run_command(host, command.args(arguments))
}

/// The same for a command that is made already.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_command(host: &Host, command: &mut Command) -> Result<Ran> {
    let said = tempfile::tempfile()?;
    quietly(command, &said)?;
    host.namespace.run(|| {
        let begun = Instant::now();
        let child = command.spawn();
        ended(child.with_context(|| format!("can't start {command:?}"))?, command, said, begun)
    })
}

/// Runs a program to its end, and says how much memory it had resident at most, in MiB. The kernel
/// keeps the peak; it is read until the program is gone.
///
/// # Errors
/// As [`run`].
pub(crate) fn peak(host: &Host, program: &str, arguments: &[&str]) -> Result<f64> {
    let mut command = Command::new(program);
    command.args(arguments);
    let said = tempfile::tempfile()?;
    quietly(&mut command, &said)?;
    let begun = Instant::now();
    let mut child = host.namespace.run(|| command.spawn())?;
    let mut peak = 0.0;
    while child.try_wait()?.is_none() {
        if let Ok(now) = memory(child.id(), "VmHWM:") {
            peak = now;
        }
        thread::sleep(POLL);
    }
    ended(child, &command, said, begun)?;
    Ok(peak)
}

/// A file for standard error, not a pipe that nobody reads.
fn quietly(command: &mut Command, said: &File) -> Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said.try_clone()?);
    Ok(())
}

fn ended(mut child: Child, command: &Command, mut said: File, begun: Instant) -> Result<Ran> {
    let status = child.wait()?;
    let milliseconds = begun.elapsed().as_secs_f64() * 1e3;
    if !status.success() {
        let mut error = String::new();
        said.rewind()?;
        said.read_to_string(&mut error)?;
        let error: String = error.chars().take(1000).collect();
        let program = Path::new(command.get_program()).display();
        ensure!(status.success(), "{program} failed with {status}: {error}");
    }
    Ok(Ran { begun, milliseconds })
}

/// A line of /proc/PID/status in MiB.
///
/// # Errors
/// When the process is gone.
pub(crate) fn memory(id: u32, key: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kibibytes = line.and_then(|line| line.split_whitespace().next());
    let kibibytes: f64 = kibibytes.context("a process has no such memory")?.parse()?;
    Ok(kibibytes / 1024.0)
}
