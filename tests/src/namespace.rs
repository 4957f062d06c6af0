//! A network namespace that lives as long as its value.
//!
//! It has no name: nothing stays behind in `/run/netns` when a test dies, since the kernel removes
//! the namespace with its last file descriptor and process.

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

/// An owned network namespace, with `lo` up.
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes a namespace with nothing in it but `lo`, up.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN; the message says how to run the tests.
    pub fn new() -> Result<Self> {
        let file = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context(
                "can't make a network namespace: kernel tests need root (run `cargo xtask test` as root)",
            )?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        })
        .join()
        .expect("the thread that makes a namespace doesn't panic")?;
        let namespace = Self { file };
        namespace.command("ip", &["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    /// Runs `body` on a thread inside the namespace. Sockets it opens and processes it starts
    /// belong to the namespace for good.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).expect("setns into our own namespace");
                body()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program inside and returns its standard output.
    ///
    /// # Errors
    /// When it can't be started or fails; the message holds its standard error.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self
            .run(|| Command::new(program).args(arguments).output())
            .with_context(|| format!("can't run {program}"))?;
        anyhow::ensure!(
            output.status.success(),
            "{program} {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// A path that names the namespace to other programs (`ip link set … netns PATH`) while this
    /// value lives.
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }
}
