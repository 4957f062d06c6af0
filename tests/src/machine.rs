//! A machine with a booted systemd: a container of `systemd-nspawn` on a copy of a distribution's
//! files, in a network namespace that the test has made.

use crate::cgroup::Cgroup;
use crate::namespace::Namespace;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take to boot or to end: some seconds, on a busy machine more.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// How `systemd-nspawn --keep-unit` ends for who is to start it again after a reboot: the
/// `RestartForceExitStatus=` of `systemd-nspawn@.service`.
const REBOOT: i32 = 133;

/// It ends when it is dropped, and its files go.
#[derive(Debug)]
pub struct Machine {
    directory: TempDir,
    namespace: Arc<Namespace>,
    nspawn: Child,
    cgroup: Cgroup,
}

impl Machine {
    /// Boots a copy of `base`, a directory with a distribution's files, and waits until systemd has
    /// started all it is to start.
    ///
    /// # Errors
    /// Without root or `systemd-nspawn`, and when it doesn't boot.
    pub fn boot(base: &Path, namespace: &Arc<Namespace>) -> Result<Self> {
        let directory = TempDir::with_prefix("tierwall-machine-")?;
        let root = directory.path().join("root");
        let mut copy = Command::new("cp");
        copy.args(["--archive", "--reflink=auto"]).arg(base).arg(&root);
        let copied = copy.status().context("can't run cp")?;
        ensure!(copied.success(), "can't copy {}", base.display());
        // Made anew at the boot, as on a machine of its own.
        fs::write(root.join("etc/machine-id"), "")?;
        let name = directory.path().file_name().unwrap_or_default();
        let cgroup = Cgroup::new(&name.to_string_lossy())?;
        let nspawn = start(directory.path(), namespace, &cgroup)?;
        let machine = Self { directory, namespace: Arc::clone(namespace), nspawn, cgroup };
        machine.wait_until_up()?;
        Ok(machine)
    }

    /// `systemctl reboot`, onto a kernel that has forgotten its nftables as after any boot: the
    /// namespace is the test's and stays, so that its tables go in between.
    ///
    /// # Errors
    /// When it doesn't go down, goes down in another way, or doesn't come up.
    pub fn reboot(&mut self) -> Result<()> {
        self.run(&["systemctl", "reboot"])?;
        let begun = Instant::now();
        let ended = loop {
            if let Some(status) = self.nspawn.try_wait()? {
                break status;
            }
            ensure!(begun.elapsed() < PATIENCE, "the machine doesn't end");
            thread::sleep(POLL);
        };
        ensure!(ended.code() == Some(REBOOT), "the machine doesn't reboot but ends with {ended}");
        self.namespace.command("nft", &["flush", "ruleset"])?;
        self.nspawn = start(self.directory.path(), &self.namespace, &self.cgroup)?;
        self.wait_until_up()
    }

    /// The process that is its init.
    fn leader(&self) -> Result<i32> {
        let id = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let first = children.split_whitespace().next().context("no init runs")?;
        Ok(first.parse()?)
    }

    fn wait_until_up(&self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Ok(state) = self.run(&["systemctl", "is-system-running"])
                && let b"running" | b"degraded" = state.stdout.trim_ascii()
            {
                return Ok(());
            }
            if begun.elapsed() > PATIENCE {
                let console = fs::read_to_string(self.directory.path().join("console"));
                bail!("the machine doesn't boot; its console:\n{}", console.unwrap_or_default());
            }
            thread::sleep(POLL);
        }
    }

    /// Runs a command line there to its end.
    ///
    /// # Errors
    /// When it can't be started; how it ended is in the output.
    pub fn run(&self, command: &[&str]) -> Result<Output> {
        let leader = self.leader()?.to_string();
        let output = Command::new("nsenter")
            .args(["--target", &leader, "--mount", "--uts", "--ipc", "--net", "--pid"])
            .args(["--root", "--wd", "--", "env", "-i", "LC_ALL=C.UTF-8", "TERM=dumb"])
            .arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin")
            .arg("DEBIAN_FRONTEND=noninteractive")
            .args(command)
            .stdin(Stdio::null())
            .output();
        output.context("can't run nsenter")
    }

    /// The same for a command that has to succeed; what it wrote to both outputs.
    ///
    /// # Errors
    /// When it fails.
    pub fn succeed(&self, command: &[&str]) -> Result<String> {
        let output = self.run(command)?;
        let text = said(&output);
        ensure!(output.status.success(), "{command:?} ends with {}:\n{text}", output.status);
        Ok(text)
    }

    /// The same for one that has to fail.
    ///
    /// # Errors
    /// When it succeeds.
    pub fn fail(&self, command: &[&str]) -> Result<String> {
        let output = self.run(command)?;
        let text = said(&output);
        ensure!(!output.status.success(), "{command:?} succeeds:\n{text}");
        Ok(text)
    }

    /// Where one of its files is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path.trim_start_matches('/'))
    }

    /// Writes one of its files.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        fs::write(self.path(path), text).with_context(|| format!("can't write {path}"))
    }
}

fn start(directory: &Path, namespace: &Namespace, cgroup: &Cgroup) -> Result<Child> {
    let console = File::create(directory.join("console"))?;
    let mut network = OsString::from("--network-namespace-path=");
    network.push(namespace.path());
    let mut nspawn = cgroup.command("systemd-nspawn");
    nspawn.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--console=pipe"]);
    nspawn.args(["--capability=CAP_NET_ADMIN", "--machine=server", "--resolv-conf=off"]);
    nspawn.arg(network).arg("--directory").arg(directory.join("root"));
    nspawn.stdin(Stdio::null()).stdout(console.try_clone()?).stderr(console);
    nspawn.spawn().context("can't run systemd-nspawn (Debian: systemd-container)")
}

/// Both outputs, one after the other.
fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    String::from_utf8_lossy(&[&out[..], error].concat()).into_owned()
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With its init all of its processes end.
        if let Ok(leader) = self.leader() {
            let _ = kill(Pid::from_raw(leader), Signal::SIGKILL);
        }
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && matches!(self.nspawn.try_wait(), Ok(None)) {
            thread::sleep(POLL);
        }
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
    }
}
