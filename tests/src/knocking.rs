//! New TCP connections from one host to one service, a thousand a second: when does the first
//! pass, and when did the last one?
//!
//! Each has a socket of its own, so that the answer doesn't wait for the retransmission of a
//! packet that was dropped, and none waits for another.

use crate::network::Host;
use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use socket2::{Domain, Socket, Type};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// From one connection to the next.
pub const INTERVAL: Duration = Duration::from_millis(1);
/// After how long a connection that got no answer is given up: long before the kernel would send
/// its first packet again.
const GIVEN_UP: Duration = Duration::from_millis(100);

/// Knocks until it is stopped.
#[derive(Debug)]
pub struct Knocking {
    passed: Passed,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<()>>>,
}

/// When connections were begun that passed, and when they did.
type Passed = Arc<Mutex<Vec<(Instant, Instant)>>>;

impl Knocking {
    /// Knocks at `target` from `host`.
    pub fn start(host: &Host, target: SocketAddr) -> Self {
        let (passed, stop) = (Passed::default(), Arc::<AtomicBool>::default());
        let (namespace, heard, stopped) =
            (Arc::clone(&host.namespace), Arc::clone(&passed), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            namespace.enter()?;
            knock(target, &heard, &stopped).with_context(|| format!("can't knock at {target}"))
        });
        Self { passed, stop, thread: Some(thread) }
    }

    /// Waits until a connection passed that was begun after `since`; when it did.
    ///
    /// # Errors
    /// When none does within `limit`.
    pub fn first_passed(&self, since: Instant, limit: Duration) -> Result<Instant> {
        loop {
            let seen = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
            let first = seen.iter().find(|(begun, _)| *begun >= since).map(|(_, passed)| *passed);
            drop(seen);
            match first {
                Some(passed) => return Ok(passed),
                None if since.elapsed() > limit => bail!("no connection passed within {limit:?}"),
                None => thread::sleep(INTERVAL),
            }
        }
    }

    /// When the last one passed so far.
    pub fn last_passed(&self) -> Option<Instant> {
        let seen = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().map(|(_, passed)| *passed).max()
    }

    /// Ends it.
    ///
    /// # Errors
    /// When connections couldn't be tried.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Knocking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn knock(target: SocketAddr, passed: &Passed, stopped: &AtomicBool) -> Result<()> {
    let mut waiting: VecDeque<(Instant, Socket)> = VecDeque::new();
    let mut next = Instant::now();
    while !stopped.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            next = now + INTERVAL;
            let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
            socket.set_nonblocking(true)?;
            match socket.connect(&target.into()) {
                // Refused at once by this host's own rules.
                Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {}
                _ => waiting.push_back((now, socket)),
            }
        }
        while waiting.front().is_some_and(|(begun, _)| begun.elapsed() > GIVEN_UP) {
            waiting.pop_front();
        }
        let mut polled: Vec<PollFd<'_>> = waiting
            .iter()
            .map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLOUT))
            .collect();
        let rest = next.saturating_duration_since(Instant::now());
        match ppoll(&mut polled, Some(rest.into()), None) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let answered = Instant::now();
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let mut ready = ready.into_iter();
        waiting.retain(|(begun, socket)| {
            let is_ready = ready.next().unwrap_or(false);
            if is_ready && matches!(socket.take_error(), Ok(None)) {
                let mut seen = passed.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push((*begun, answered));
            }
            !is_ready
        });
    }
    Ok(())
}
