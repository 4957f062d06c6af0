//! A datagram every tenth of a millisecond from one host to another: when does the first pass?
//!
//! Each round has a socket of its own: one that passed has made its flow known to connection
//! tracking, which then passes whatever the rules say.

use anyhow::{Context, Result, bail, ensure};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::Host;

/// From one datagram to the next; the kernel's timers add half of it.
const INTERVAL: Duration = Duration::from_micros(100);
/// How many datagrams without any that passes say that they are denied.
const DENIED: u32 = 10;
/// How long a change may take, also where a machine has ten programs for each processor.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends until it is dropped.
pub(crate) struct Knocks {
    shared: Arc<Shared>,
    /// The round of a datagram that passed, and when.
    passed: Receiver<(u32, Instant)>,
}

#[derive(Default)]
struct Shared {
    round: AtomicU32,
    /// How many were sent in this round.
    sent: AtomicU32,
    stop: AtomicBool,
}

impl Knocks {
    pub(crate) fn start(from: &Host, to: &Host, target: SocketAddrV4) -> Result<Self> {
        let receiver = to.namespace.run(|| UdpSocket::bind(target))?;
        // So that the thread sees that nobody listens any more.
        receiver.set_read_timeout(Some(Duration::from_millis(100)))?;
        let (telling, passed) = mpsc::channel();
        let shared = Arc::<Shared>::default();
        let listening = Arc::clone(&shared);
        thread::spawn(move || {
            let mut latest = 0;
            let mut round = [0; 4];
            while !listening.stop.load(Ordering::Relaxed) {
                if receiver.recv(&mut round).is_err() {
                    continue;
                }
                let now = Instant::now();
                // The first of a round is enough.
                if u32::from_be_bytes(round) > latest {
                    latest = u32::from_be_bytes(round);
                    let _ = telling.send((latest, now));
                }
            }
        });
        let (namespace, sending) = (Arc::clone(&from.namespace), Arc::clone(&shared));
        thread::spawn(move || -> Result<()> {
            namespace.enter()?;
            let (mut socket, mut own) = (None, 0);
            while !sending.stop.load(Ordering::Relaxed) {
                let round = sending.round.load(Ordering::Acquire);
                let socket = match &socket {
                    Some(socket) if own == round => socket,
                    _ => {
                        own = round;
                        sending.sent.store(0, Ordering::Release);
                        socket.insert(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?)
                    }
                };
                // The path may be shut.
                let _ = socket.send_to(&own.to_be_bytes(), target);
                if sending.round.load(Ordering::Acquire) == own {
                    sending.sent.fetch_add(1, Ordering::Release);
                }
                thread::sleep(INTERVAL);
            }
            Ok(())
        });
        Ok(Self { shared, passed })
    }

    /// Waits until new flows are denied; the round in which they are.
    pub(crate) fn wait_until_denied(&self) -> Result<u32> {
        let begun = Instant::now();
        while begun.elapsed() < LIMIT {
            let round = self.shared.round.fetch_add(1, Ordering::AcqRel) + 1;
            // What was sent in the last round is no witness.
            self.shared.sent.store(0, Ordering::Release);
            thread::sleep(2 * INTERVAL);
            while self.shared.sent.load(Ordering::Acquire) < DENIED {
                ensure!(begun.elapsed() < LIMIT, "nobody sends datagrams");
                thread::sleep(INTERVAL);
            }
            // Of earlier rounds too.
            if self.passed.try_iter().all(|(passed, _)| passed != round) {
                return Ok(round);
            }
        }
        bail!("new flows still pass after {LIMIT:?}")
    }

    /// When the first datagram of `round` passed.
    pub(crate) fn first_passed(&self, round: u32) -> Result<Instant> {
        let begun = Instant::now();
        loop {
            match self.passed.recv_timeout(LIMIT.saturating_sub(begun.elapsed())) {
                Ok((passed, at)) if passed == round => return Ok(at),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => bail!("no new flow passes after {LIMIT:?}"),
                Err(error) => return Err(error).context("the thread that listens has ended"),
            }
        }
    }
}

impl Drop for Knocks {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}
