//! A firewalld of our own: in a network namespace of its own, on a message bus of its own, with
//! its configuration in a temporary directory. It never meets the machine's.

use crate::generate::List;
use crate::peers::{self, Ran};
use crate::site;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tierwall_tests::network::Host;

/// Above that many entries its reload ends in a timeout of the message bus.
pub(crate) const LARGEST: usize = 10_000;

/// How long it may take to start or to end.
const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// One that runs, and ends with its value: the daemon before its bus.
pub(crate) struct Firewalld {
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
    pub(crate) fn is_here() -> bool {
        ["firewalld", "firewall-cmd", "dbus-daemon"].into_iter().all(peers::is_here)
    }

    /// Starts one that has the members of `list` in its permanent configuration, not yet in the
    /// kernel.
    ///
    /// # Errors
    /// When it doesn't come up; it says why on standard error.
    pub(crate) fn start(list: &List) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let address = format!("unix:path={}", path("bus").display());
        fs::write(path("bus.conf"), BUS.replace("BUS", &path("bus").display().to_string()))?;
        fs::create_dir(path("etc"))?;
        fs::write(path("etc/firewalld.conf"), CONFIGURATION)?;
        let log = || fs::File::options().create(true).append(true).open(path("log"));
        let host = site::host()?;
        let start = |program: &str, arguments: &[&Path]| -> Result<Running> {
            let mut command = Command::new(program);
            command.args(arguments).env("DBUS_SYSTEM_BUS_ADDRESS", &address);
            command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
            let child = host.namespace.run(|| command.spawn());
            Ok(Running(child.with_context(|| format!("can't start {program}"))?))
        };
        let configuration: PathBuf = format!("--config-file={}", path("bus.conf").display()).into();
        let options = ["--nofork", "--nopidfile"].map(Path::new);
        let bus = start("dbus-daemon", &[&[configuration.as_path()], &options[..]].concat())?;
        wait("the message bus", || path("bus").exists())?;
        let options = ["--nofork", "--nopid", "--log-target", "console", "--system-config"];
        let daemon = start("firewalld", &[&options.map(Path::new)[..], &[&path("etc")]].concat())?;
        let firewalld = Self { daemon, _bus: bus, address, host, _directory: directory };
        wait("firewalld", || firewalld.command(&["--state"]).is_ok())?;
        firewalld.configure(list)?;
        Ok(firewalld)
    }

    fn configure(&self, list: &List) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, list.text())?;
        let from_file = format!("--add-entries-from-file={}", file.path().display());
        let size = format!("--option=maxelem={}", site::declared(list));
        let rule =
            "--add-rich-rule=rule family=ipv4 source ipset=peers port port=443 protocol=tcp accept";
        self.command(&["--permanent", "--new-ipset=peers", "--type=hash:ip", &size])?;
        self.command(&["--permanent", "--ipset=peers", &from_file])?;
        self.command(&["--permanent", "--zone=public", rule])?;
        Ok(())
    }

    /// Has it take up its permanent configuration; milliseconds.
    pub(crate) fn reload(&self) -> Result<f64> {
        Ok(self.command(&["--reload"])?.milliseconds)
    }

    /// Runs `firewall-cmd`.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Ran> {
        let mut command = Command::new("firewall-cmd");
        command.args(arguments).env("DBUS_SYSTEM_BUS_ADDRESS", &self.address);
        peers::run_command(&self.host, &mut command)
    }

    pub(crate) fn id(&self) -> u32 {
        self.daemon.0.id()
    }
}

/// A process that ends with its value.
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
