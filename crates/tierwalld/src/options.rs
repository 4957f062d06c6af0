//! The command line of the daemon.

use clap::Parser;
use std::path::PathBuf;

/// Keeps this server's part of a tier policy in the kernel.
///
/// Reads the policy file, commits the table `inet filter` in one atomic batch, tells systemd that
/// it is ready, and stays. Ending it leaves the policy standing; `tierwall teardown` takes it
/// away.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "tierwalld",
    version,
    after_help = "Exit codes: 0 ended by a signal; 1 something failed; 3 the policy has errors; \
                  4 no right to change the network; 5 a table `inet filter` that tierwall did not \
                  make; 64 usage."
)]
pub(crate) struct Options {
    /// The policy file
    #[arg(long, value_name = "FILE", default_value = control::POLICY_FILE)]
    pub(crate) config: PathBuf,

    /// Where to keep what outlives the daemon
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "STATE_DIRECTORY",
        default_value = control::STATE_DIRECTORY
    )]
    pub(crate) state_directory: PathBuf,

    /// Where to put the control socket
    #[arg(
        long,
        value_name = "DIRECTORY",
        env = "RUNTIME_DIRECTORY",
        default_value = control::RUNTIME_DIRECTORY
    )]
    pub(crate) runtime_directory: PathBuf,

    /// Whose members may ask for what changes nothing, where there is such a group; everything
    /// else is root's
    #[arg(long, value_name = "GROUP", default_value = "tierwall")]
    pub(crate) group: String,

    /// Replace a table `inet filter` that tierwall did not make, after saving a copy of it in the
    /// state directory
    #[arg(long)]
    pub(crate) takeover: bool,

    /// Take warnings of the policy for errors
    #[arg(long)]
    pub(crate) strict: bool,

    /// Where the login manager's and sshd's files are: for tests only
    #[arg(long, value_name = "DIRECTORY", hide = true, default_value = "/")]
    pub(crate) root: PathBuf,

    /// Print the manual page
    #[arg(long, hide = true)]
    pub(crate) manual: bool,

    /// Read policy files that others than root may write or replace: for tests only
    #[arg(long)]
    pub(crate) insecure_permissions: bool,
}
