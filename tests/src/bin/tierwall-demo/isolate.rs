//! Keeping the demo apart from the machine, and leaving nothing behind.
//!
//! The demo runs as the first process of a PID namespace of its own: whatever way it ends, the
//! kernel ends everything it started, and with the last process of it go its network namespaces.
//! Who isn't root gets a user namespace too, in which they are.

use anyhow::{Context, Result, anyhow, bail};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// Set for the process inside.
const INSIDE: &str = "TIERWALL_DEMO_INSIDE";

/// How the demo runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// As root of the machine, or of its container.
    Root,
    /// As root of a user namespace.
    UserNamespace,
}

/// Runs itself again inside the namespaces, and returns there.
///
/// # Errors
/// When this user may not make them; the message says what to do.
pub(crate) fn enter() -> Result<Rights> {
    match std::env::var(INSIDE).as_deref() {
        Ok("root") => return Ok(Rights::Root),
        Ok(_) => return Ok(Rights::UserNamespace),
        Err(_) => {}
    }
    let root = nix::unistd::geteuid().is_root();
    let mut attempt = unshare(root);
    let tried = attempt.args(["--net", "true"]).stdin(Stdio::null()).output();
    let tried = tried.context("can't run unshare, which is part of util-linux")?;
    if !tried.status.success() {
        bail!("{}", refusal(root, &tried));
    }
    let own = std::env::current_exe()?;
    let inside = if root { "root" } else { "user" };
    let mut again = unshare(root);
    again.arg(own).args(std::env::args_os().skip(1)).env(INSIDE, inside);
    Err(anyhow!(again.exec()).context("can't run unshare"))
}

fn unshare(root: bool) -> Command {
    let mut command = Command::new("unshare");
    if !root {
        command.args(["--user", "--map-root-user"]);
    }
    // Only /proc is mounted, which unshare makes private by itself; changing the whole tree as it
    // does by default fails in a chroot.
    command.args(["--mount-proc", "--propagation", "unchanged", "--pid", "--fork", "--kill-child"]);
    // `ip` and `nft` are in directories that aren't in every user's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

fn refusal(root: bool, tried: &Output) -> String {
    let why = String::from_utf8_lossy(&tried.stderr);
    let why = why.trim().trim_start_matches("unshare: ");
    match root {
        true => format!(
            "this container may not make network namespaces: start it with `--privileged` ({why})"
        ),
        false => format!("this user may not make network namespaces: run the demo as root ({why})"),
    }
}

/// Puts every temporary file into one directory, and removes that on Ctrl-C, SIGTERM and SIGHUP
/// too. Otherwise it goes with the value.
pub(crate) fn clean_up_when_interrupted() -> Result<TempDir> {
    let directory = TempDir::with_prefix("tierwall-demo-")?;
    let path = directory.path().to_owned();
    if tempfile::env::override_temp_dir(&path).is_err() {
        bail!("the directory for temporary files is set already");
    }
    ctrlc::set_handler(move || {
        // The daemons are ended by the end of this process.
        let _ = std::fs::remove_dir_all(&path);
        eprintln!("\ninterrupted: everything the demo made is gone");
        std::process::exit(130);
    })?;
    Ok(directory)
}
