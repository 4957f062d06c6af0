//! A network namespace that lives as long as its value.
//!
//! It has no name: nothing stays behind in `/run/netns` when a test dies, since the kernel removes
//! the namespace with its last file descriptor and process.

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};
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

    /// Moves the calling thread inside, for good: for threads that were started for that. Sockets
    /// it opens and processes it starts belong to the namespace.
    ///
    /// # Errors
    /// Without CAP_SYS_ADMIN.
    pub fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET).context("can't enter a namespace of our own")
    }

    /// Runs `body` on a thread inside the namespace. Sockets it opens and processes it starts
    /// belong to the namespace for good.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter().expect("who made the namespace may enter it");
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
        self.command_with_input(program, arguments, "")
    }

    /// The same with `input` on its standard input: `ip -batch -`, `nft -f -`.
    ///
    /// # Errors
    /// When it can't be started or fails; the message holds its standard error.
    pub fn command_with_input(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String> {
        let output = self
            .run(|| {
                let mut child = Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()?;
                if let Some(mut stdin) = child.stdin.take() {
                    // A program that ends before it has read all says why on its standard error.
                    let _ = stdin.write_all(input.as_bytes());
                }
                child.wait_with_output()
            })
            .with_context(|| format!("can't run {program}"))?;
        anyhow::ensure!(
            output.status.success(),
            "{program} {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Makes connection tracking forget every connection, as a full table or a flush does.
    ///
    /// # Errors
    /// Without CAP_NET_ADMIN, and without the kernel's `nf_conntrack_netlink`.
    pub fn forget_connections(&self) -> Result<()> {
        // `IPCTNL_MSG_CT_DELETE` without a tuple: all of them. Header, then `nfgenmsg`.
        let kind: u16 = 1 << 8 | 2;
        let flags: u16 = 1 | 4;
        let mut message = 20_u32.to_ne_bytes().to_vec();
        message.extend([kind.to_ne_bytes(), flags.to_ne_bytes()].concat());
        message.extend([0; 12]);
        self.run(|| {
            let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkNetFilter);
            let netlink = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
            let mut answer = [0; 4096];
            let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            anyhow::ensure!(
                length >= 20 && answer[16..20] == [0; 4],
                "connections are not forgotten"
            );
            Ok(())
        })
    }

    /// Sets a kernel parameter of this namespace: `net.ipv4.conf.all.rp_filter`.
    ///
    /// # Errors
    /// When there is no such parameter or `/proc/sys` is read-only.
    pub fn sysctl(&self, parameter: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(parameter.replace('.', "/"));
        self.run(|| fs::write(&path, value)).with_context(|| format!("can't set {parameter}"))
    }

    /// A path that names the namespace to other programs (`ip link set … netns PATH`) while this
    /// value lives.
    pub fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd;
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }
}
