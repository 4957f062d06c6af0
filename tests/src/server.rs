//! A host with tierwall installed: its policy file, its state, and the two programs run there.
//!
//! Everything is in one temporary directory, laid out as on a real server:
//!
//! ```text
//! etc/tierwall.toml   state/   run/   host/   notify   log
//! ```

use crate::binaries;
use crate::daemon::Daemon;
use crate::fd_store::FdStore;
use crate::network::Host;
use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nix::unistd::{Group, User};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a program may take that is to end by itself.
const ENDED: Duration = Duration::from_secs(30);

/// A host with a policy. Its files go when it is dropped, its daemons don't: drop them first.
#[derive(Debug)]
pub struct Server {
    directory: TempDir,
    host: Host,
}

impl Server {
    /// Writes `policy` as the policy file of `host`. Nothing is started.
    ///
    /// # Errors
    /// When files can't be written.
    pub fn new(host: &Host, policy: &str) -> Result<Self> {
        let server = Self { directory: directory()?, host: host.clone() };
        // As on a real server, whatever the umask: open to look at.
        fs::set_permissions(server.path(""), Permissions::from_mode(0o755))?;
        for name in ["etc", "state", "run", "host"] {
            fs::create_dir(server.path(name))?;
            fs::set_permissions(server.path(name), Permissions::from_mode(0o755))?;
        }
        server.write("tierwall.toml", policy)?;
        Ok(server)
    }

    /// The same with all files of `directory`; the policy there is called `policy.toml`.
    ///
    /// # Errors
    /// When files can't be read or written.
    pub fn with_files_of(host: &Host, directory: &Path) -> Result<Self> {
        let read = |path: &Path| {
            fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))
        };
        let server = Self::new(host, &read(&directory.join("policy.toml"))?)?;
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if let Some(name) = path.file_name().and_then(|name| name.to_str())
                && path.is_file()
            {
                server.write(name, &read(&path)?)?;
            }
        }
        Ok(server)
    }

    /// Writes a file beside the policy, or the policy itself (`tierwall.toml`), with the
    /// permissions that the daemon asks for whatever the umask.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path("etc").join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        Ok(())
    }

    /// Writes a file anew beside its place and renames it there, as most tools do: at no moment it
    /// is half written or missing.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn replace(&self, name: &str, text: impl AsRef<[u8]>) -> Result<()> {
        let beside = format!(".{name}.new");
        self.write(&beside, text)?;
        Ok(fs::rename(self.path("etc").join(beside), self.path("etc").join(name))?)
    }

    /// Puts a policy in the place of the policy file as editors and tools do: written beside it,
    /// then renamed. Returns when that was, right before.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn replace_policy(&self, text: &str) -> Result<Instant> {
        self.write("tierwall.toml.new", text)?;
        let beside = self.path("etc").join("tierwall.toml.new");
        let renamed = Instant::now();
        fs::rename(beside, self.config())?;
        Ok(renamed)
    }

    /// The host that it is on.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The policy file.
    pub fn config(&self) -> PathBuf {
        self.path("etc").join("tierwall.toml")
    }

    /// Where the daemon keeps what outlives it.
    pub fn state_directory(&self) -> PathBuf {
        self.path("state")
    }

    /// Where the daemon's control socket is.
    pub fn runtime_directory(&self) -> PathBuf {
        self.path("run")
    }

    /// A file or directory of this server's own, by its path from the root above.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts `tierwalld` with further `arguments` and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead ([`crate::daemon::Ended`], with its status and log) or takes too long.
    pub fn start(&self, arguments: &[&str]) -> Result<Daemon> {
        Daemon::start(self, arguments, None)
    }

    /// The same under a service manager that keeps descriptors.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub fn start_with_store(&self, store: &FdStore) -> Result<Daemon> {
        Daemon::start(self, &[], Some(store))
    }

    /// Starts `tierwalld` and kills it when `until` returns, ready or not.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_and_kill(&self, until: impl FnOnce()) -> Result<()> {
        Daemon::start_and_kill(self, until)
    }

    /// Runs `tierwall` with `arguments` to its end.
    ///
    /// # Errors
    /// When it can't be started or doesn't end; how it ended is in the output.
    pub fn tierwall(&self, arguments: &[&str]) -> Result<Output> {
        self.run(self.tierwall_command()?.args(arguments))
    }

    /// Runs `tierwall` to its end as nobody, in a group. A copy of it: the directory that it was
    /// built into may be closed to others.
    ///
    /// # Errors
    /// When there is no such group, and when it can't be started or doesn't end.
    pub fn tierwall_in_group(&self, group: &str, arguments: &[&str]) -> Result<Output> {
        let nobody = User::from_name("nobody")?.context("there is no user nobody")?;
        let group = Group::from_name(group)?.with_context(|| format!("no group {group}"))?;
        let open = TempDir::new()?;
        fs::set_permissions(open.path(), Permissions::from_mode(0o755))?;
        let program = open.path().join("tierwall");
        fs::copy(binaries::find("tierwall")?, &program)?;
        let mut command = Command::new(program);
        command.arg("--config").arg(self.config());
        command.arg("--runtime-directory").arg(self.runtime_directory());
        command.args(arguments).uid(nobody.uid.as_raw()).gid(group.gid.as_raw());
        self.run(&mut command)
    }

    /// Runs a `tierwalld` that is to end by itself.
    ///
    /// # Errors
    /// When it can't be started or doesn't end; how it ended is in the output.
    pub fn tierwalld(&self, arguments: &[&str]) -> Result<Output> {
        self.run(self.tierwalld_command()?.args(arguments))
    }

    /// `tierwall` for this server: its policy file, its daemon.
    ///
    /// # Errors
    /// When it isn't built.
    pub fn tierwall_command(&self) -> Result<Command> {
        let mut command = Command::new(binaries::find("tierwall")?);
        command.arg("--config").arg(self.config());
        command.arg("--runtime-directory").arg(self.runtime_directory());
        command.args(trust());
        command.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
        Ok(command)
    }

    /// `tierwalld` for this server: its policy file and directories, no service manager.
    ///
    /// # Errors
    /// When it isn't built.
    pub fn tierwalld_command(&self) -> Result<Command> {
        let mut command = Command::new(binaries::find("tierwalld")?);
        command.arg("--config").arg(self.config());
        command.arg("--state-directory").arg(self.state_directory());
        command.arg("--runtime-directory").arg(self.runtime_directory());
        command.args(trust());
        command.arg("--root").arg(self.path("host"));
        for inherited in ["NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "TIERWALL_LOG"] {
            command.env_remove(inherited);
        }
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs `command` on this server to its end, with its output caught.
    ///
    /// # Errors
    /// When it can't be started, and when it doesn't end: it is killed then.
    pub fn run(&self, command: &mut Command) -> Result<Output> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        ended(self.spawn(command)?)
    }

    /// Starts `command` on this server.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let child = self.host.namespace.run(|| command.spawn());
        child.with_context(|| format!("can't start {}", command.get_program().to_string_lossy()))
    }

    /// What `nft` lists of our table there: for people, in messages and the demo.
    ///
    /// # Errors
    /// When there is no such object.
    pub fn nft_list(&self, object: &str) -> Result<String> {
        let arguments: Vec<&str> = ["list"].into_iter().chain(object.split(' ')).collect();
        self.host.namespace.command("nft", &arguments)
    }
}

/// Waits for a program that is to end by itself, and kills it if it doesn't.
fn ended(child: Child) -> Result<Output> {
    let id = Pid::from_raw(i32::try_from(child.id())?);
    let (sender, end) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = end.recv_timeout(ENDED) == Err(mpsc::RecvTimeoutError::Timeout);
        late && kill(id, Signal::SIGKILL).is_ok()
    });
    let output = child.wait_with_output();
    drop(sender);
    let killed = watchdog.join().expect("the watchdog doesn't panic");
    let output = output?;
    let told = || String::from_utf8_lossy(&output.stderr);
    ensure!(!killed, "a program doesn't end within {ENDED:?}; it said:\n{}", told());
    Ok(output)
}

/// In a user namespace the machine's root is a stranger, and every path begins in a directory of
/// that stranger's.
fn trust() -> Option<&'static str> {
    let is_roots = fs::metadata("/").is_ok_and(|root| root.uid() == 0);
    (!is_roots).then_some("--insecure-permissions")
}

/// In memory where that can be: a rename to a place whose old file is being written back waits for
/// the disk, seconds on a busy one, and tests rename a lot.
fn directory() -> std::io::Result<TempDir> {
    const MEMORY: &str = "/dev/shm";
    TempDir::with_prefix_in("tierwall-test-", MEMORY)
        .or_else(|_| TempDir::with_prefix("tierwall-test-"))
}
