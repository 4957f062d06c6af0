//! A host with tierwall installed: its policy file, its state, and the two programs run there.
//!
//! Everything is in one temporary directory, laid out as on a real server:
//!
//! ```text
//! etc/tierwall.toml   state/   run/   notify   log
//! ```

use crate::binaries;
use crate::daemon::Daemon;
use crate::network::Host;
use anyhow::{Context, Result};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

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
        let server =
            Self { directory: TempDir::with_prefix("tierwall-test-")?, host: host.clone() };
        for name in ["etc", "state", "run"] {
            fs::create_dir(server.path(name))?;
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
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path("etc").join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
        Ok(())
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

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts `tierwalld` with further `arguments` and waits until it is ready.
    ///
    /// # Errors
    /// When it ends instead ([`crate::daemon::Ended`], with its status and log) or takes too long.
    pub fn start(&self, arguments: &[&str]) -> Result<Daemon> {
        Daemon::start(self, arguments)
    }

    /// Runs `tierwall` with `arguments` to its end.
    ///
    /// # Errors
    /// When it can't be started; how it ended is in the output.
    pub fn tierwall(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(binaries::find("tierwall")?);
        command.arg("--config").arg(self.config());
        command.arg("--runtime-directory").arg(self.runtime_directory());
        command.args(arguments).stdin(Stdio::null());
        self.host.namespace.run(|| command.output()).context("can't start tierwall")
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
