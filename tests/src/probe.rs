//! A new connection, as a program on a host would open it.
//!
//! TCP connects and exchanges a message; UDP and raw protocols send a request until the answer
//! comes. A probe that is expected to be open gets a long limit and returns as soon as it is; one
//! that is expected to be denied gets a short one, since silence can only be waited out. What
//! makes the short one sound is that the same probe was open before any policy was there (the
//! baseline of [`crate::scenario`]) and took a small part of it.

use crate::binaries;
use crate::listener::Listener;
use crate::network::Host;
use crate::service::{Message, Service, Token};
use crate::verdict::{Denial, Outcome, Verdict};
use anyhow::{Context, Result, bail, ensure};
use nix::unistd::User;
use socket2::SockAddr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The limit of a probe that is expected to be open. It must outlast the retransmission of a TCP
/// handshake on a busy machine (after 1 s, 3 s and 7 s).
pub const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// The limit of a probe that is expected to be denied.
pub const DENIED_LIMIT: Duration = Duration::from_millis(400);
/// The pause before a request without a handshake is sent again.
const RESEND: Duration = Duration::from_millis(100);
/// The most probes at a time.
const PARALLEL: usize = 128;

/// One connection to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The address to leave from; none for the one that the kernel chooses.
    pub source: Option<IpAddr>,
    /// The address to reach.
    pub target: IpAddr,
    /// On what.
    pub service: Service,
    /// Whose program tries; none for root's.
    pub user: Option<String>,
    /// After how long silence counts as denied.
    pub limit: Duration,
    /// What the listener will remember.
    pub token: Token,
}

impl Probe {
    /// A probe by root from any address, with a token of its own.
    pub fn new(target: IpAddr, service: Service, limit: Duration) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let token = Token(NEXT.fetch_add(1, Ordering::Relaxed));
        Self { source: None, target, service, user: None, limit, token }
    }

    /// Tries it from `host`.
    ///
    /// # Errors
    /// When the probe itself can't be made: no such user, no such address, no free descriptor.
    pub fn run(&self, host: &Host) -> Result<Outcome> {
        host.namespace.run(|| self.run_inside())
    }

    /// Tries it from the namespace of this thread, as its user.
    fn run_inside(&self) -> Result<Outcome> {
        match &self.user {
            None => self.run_here(),
            Some(user) => self.run_as(user),
        }
        .with_context(|| format!("can't probe {} {}", self.target, self.service))
    }

    /// Tries it from the namespace and as the user of this thread.
    ///
    /// # Errors
    /// As [`Probe::run`].
    pub fn run_here(&self) -> Result<Outcome> {
        let start = Instant::now();
        let tried = match self.service {
            Service::Tcp(_) => self.connect(start),
            Service::Udp(_) | Service::Protocol(_) => self.request(start),
        };
        let verdict = match tried {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Denied(Denial::of(&error).ok_or(error)?),
        };
        Ok(Outcome { verdict, duration: start.elapsed() })
    }

    /// Tries it as another user, in a process of its own: `meta skuid` is who opened the socket.
    fn run_as(&self, user: &str) -> Result<Outcome> {
        let account =
            User::from_name(user)?.with_context(|| format!("no user is called {user}"))?;
        // By descriptor, since that user may not be allowed to enter the directory of the program.
        let program = File::open(binaries::find("tierwall-probe")?)?;
        let output = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
            .args(self.to_arguments())
            .uid(account.uid.as_raw())
            .gid(account.gid.as_raw())
            .output()
            .with_context(|| format!("can't start tierwall-probe as {user}"))?;
        ensure!(
            output.status.success(),
            "tierwall-probe failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)?.trim_end().parse()
    }

    /// The command line of `tierwall-probe`: target, service, source or `-`, limit in
    /// milliseconds, token.
    fn to_arguments(&self) -> [String; 5] {
        [
            self.target.to_string(),
            self.service.to_string(),
            self.source.map_or("-".into(), |source| source.to_string()),
            self.limit.as_millis().to_string(),
            self.token.0.to_string(),
        ]
    }

    /// Reads that command line back.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_arguments(arguments: &[String]) -> Result<Self> {
        let [target, service, source, limit, token] = arguments else {
            bail!("usage: tierwall-probe TARGET SERVICE SOURCE|- MILLISECONDS TOKEN");
        };
        Ok(Self {
            source: if source == "-" { None } else { Some(source.parse()?) },
            target: target.parse()?,
            service: service.parse()?,
            user: None,
            limit: Duration::from_millis(limit.parse()?),
            token: Token(token.parse()?),
        })
    }

    fn socket(&self) -> io::Result<socket2::Socket> {
        let socket = self.service.socket(self.target)?;
        if let Some(source) = self.source {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        Ok(socket)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.target, self.service.port())
    }

    fn connect(&self, start: Instant) -> io::Result<Verdict> {
        let socket = self.socket()?;
        socket.connect_timeout(&self.address().into(), self.limit).map_err(silence)?;
        // A handshake was let through, so that no answer from here on is a denial.
        let mut stream = TcpStream::from(socket);
        let left = self.limit.saturating_sub(start.elapsed()).max(RESEND);
        stream.set_read_timeout(Some(left))?;
        let mut answer = [0; Message::LENGTH];
        let exchanged = stream
            .write_all(&Message::Request(self.token).encode())
            .and_then(|()| stream.read_exact(&mut answer));
        let answered = Message::decode(&answer) == Some(Message::Answer(self.token));
        Ok(if exchanged.is_ok() && answered { Verdict::Open } else { Verdict::Stalled })
    }

    fn request(&self, start: Instant) -> io::Result<Verdict> {
        let socket = self.socket()?;
        // A connected socket is told of ICMP errors, and gets packets of its peer only.
        socket.connect(&self.address().into())?;
        let socket = UdpSocket::from(socket);
        let mut buffer = [0; 512];
        while let Some(left) = self.limit.checked_sub(start.elapsed()).filter(|d| !d.is_zero()) {
            if let Err(error) = socket.send(&Message::Request(self.token).encode()) {
                return Err(rejected(&socket, &mut buffer).unwrap_or(error));
            }
            socket.set_read_timeout(Some(left.min(RESEND)))?;
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let message = self.service.message(&buffer[..length], self.target);
                    if message == Some(Message::Answer(self.token)) {
                        return Ok(Verdict::Open);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Verdict::Denied(Denial::Silence))
    }
}

/// The ICMP error behind a send that failed. An output chain that rejects fails it with EPERM, as
/// one that drops does, and the error itself comes a moment later through the loopback interface.
fn rejected(socket: &UdpSocket, buffer: &mut [u8]) -> Option<io::Error> {
    socket.set_read_timeout(Some(RESEND)).ok()?;
    socket.recv(buffer).err().filter(|error| error.kind() != ErrorKind::WouldBlock)
}

/// `connect_timeout` reports its limit as an error of the library, without a number.
fn silence(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::TimedOut => io::Error::from_raw_os_error(nix::errno::Errno::ETIMEDOUT as i32),
        _ => error,
    }
}

/// A probe, the host that tries it, and the listener of the host that it is for.
pub type Attempt<'a> = (&'a Probe, &'a Host, &'a Listener);

/// Tries all of them, as many at a time as is reasonable. The outcomes are in the same order.
///
/// A probe that was denied although its listener saw it is [`Verdict::Stalled`].
///
/// # Errors
/// As [`Probe::run`], for the first that can't be made.
pub fn run_all(attempts: &[Attempt<'_>]) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let mut outcomes: Vec<(usize, Outcome)> = thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some((probe, host, _)) = attempts.get(index) else { return Ok(done) };
                host.namespace.enter()?;
                done.push((index, probe.run_inside()?));
            }
        };
        let workers: Vec<_> =
            (0..attempts.len().min(PARALLEL)).map(|_| scope.spawn(worker)).collect();
        let done: Result<Vec<Vec<_>>> = workers
            .into_iter()
            .map(|worker| worker.join().expect("probing doesn't panic"))
            .collect();
        done.map(|done| done.into_iter().flatten().collect())
    })?;
    outcomes.sort_by_key(|(index, _)| *index);
    for (index, outcome) in &mut outcomes {
        let (probe, _, listener) = attempts[*index];
        if matches!(outcome.verdict, Verdict::Denied(_)) && listener.saw(probe.token) {
            outcome.verdict = Verdict::Stalled;
        }
    }
    Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
}
