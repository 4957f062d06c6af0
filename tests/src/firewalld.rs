//! A firewalld of our own: in a host's network namespace, on a message bus of its own, with its
//! configuration in a temporary directory. It never meets the machine's.

use crate::network::Host;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long it may take to start or to end.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// One that runs, and ends with its value: the daemon before its bus.
#[derive(Debug)]
pub struct Firewalld {
    daemon: Running,
    _bus: Running,
    address: String,
    host: Host,
    _directory: TempDir,
}

/// A bus that lets its clients do everything: there are no others.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=BUS</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_type="method_call"/>
    <allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"#;

const CONFIGURATION: &str = "DefaultZone=public\nCleanupOnExit=no\nCleanupModulesOnExit=no\n\
                             IPv6_rpfilter=no\nFirewallBackend=nftables\n";

impl Firewalld {
    /// Starts one on a host, with its default zone and nothing else.
    ///
    /// # Errors
    /// When it isn't installed or doesn't come up.
    pub fn start(host: &Host) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let address = format!("unix:path={}", path("bus").display());
        fs::write(path("bus.conf"), BUS.replace("BUS", &path("bus").display().to_string()))?;
        fs::create_dir(path("etc"))?;
        fs::write(path("etc/firewalld.conf"), CONFIGURATION)?;
        let log = || fs::File::options().create(true).append(true).open(path("log"));
        let start = |program: &str, arguments: &[&Path]| -> Result<Running> {
            let mut command = Command::new(program);
            command.args(arguments).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
            command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
            let child = host.namespace.run(|| command.spawn());
            let missing = || format!("can't start {program}: `cargo xtask test` installs it");
            Ok(Running(child.with_context(missing)?))
        };
        let configuration: PathBuf = format!("--config-file={}", path("bus.conf").display()).into();
        let options = ["--nofork", "--nopidfile"].map(Path::new);
        let bus = start("dbus-daemon", &[&[configuration.as_path()], &options[..]].concat())?;
        wait("the message bus", || path("bus").exists())?;
        let options = ["--nofork", "--nopid", "--log-target", "console", "--system-config"];
        let daemon = start("firewalld", &[&options.map(Path::new)[..], &[&path("etc")]].concat())?;
        let host = host.clone();
        let firewalld = Self { daemon, _bus: bus, address, host, _directory: directory };
        wait("firewalld", || firewalld.answers())?;
        Ok(firewalld)
    }

    fn answers(&self) -> bool {
        let mut state = self.client(&["--state"]);
        state.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.host.namespace.run(|| state.status()).is_ok_and(|status| status.success())
    }

    /// `firewall-cmd` for it, to be run on its host.
    pub fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("firewall-cmd");
        command.args(arguments).env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        command
    }

    /// The host that it is on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.daemon.0.id()
    }
}

/// A process that ends with its value.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    /// SIGTERM, then SIGKILL.
    fn drop(&mut self) {
        let Self(child) = self;
        if let (Ok(None), Ok(id)) = (child.try_wait(), i32::try_from(child.id())) {
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        if wait("", || !matches!(child.try_wait(), Ok(None))).is_err() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        ensure!(begun.elapsed() < LIMIT, "{what} doesn't come up");
        thread::sleep(POLL);
    }
    Ok(())
}
