//! A long connection: a message and its answer every millisecond, until it is told to stop.
//!
//! What a change of the policy must not disturb. The longest time between two answers says how
//! long the connection stood still at most; what the machine did meanwhile is part of it.

use crate::network::Host;
use crate::service::{Message, Token};
use anyhow::{Context, Result, bail, ensure};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// From one message to the next.
const INTERVAL: Duration = Duration::from_millis(1);
/// A connection without an answer for that long is broken.
const BROKEN: Duration = Duration::from_secs(10);

/// A connection that is talked on by a thread of its own.
#[derive(Debug)]
pub struct Conversation {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Exchanged>,
}

/// What came of it.
#[derive(Debug)]
pub struct Exchanged {
    /// Messages that were answered.
    pub messages: u64,
    /// The longest time between two answers.
    pub longest_pause: Duration,
    /// Why it ended before it was told to.
    pub broken: Option<io::Error>,
}

impl Conversation {
    /// Opens a connection from `host` to a [`crate::listener::Listener`] and talks on it.
    ///
    /// # Errors
    /// When the connection isn't made or its first message isn't answered.
    pub fn start(host: &Host, target: SocketAddr) -> Result<Self> {
        let opened = host.namespace.run(|| -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect_timeout(&target, BROKEN)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(BROKEN))?;
            exchange(&mut stream)?;
            Ok(stream)
        });
        let stream =
            opened.with_context(|| format!("can't talk to {target} from {}", host.name))?;
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        Ok(Self { stop, thread: thread::spawn(move || talk(stream, &stopped)) })
    }

    /// Ends it.
    pub fn stop(self) -> Exchanged {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Exchanged {
    /// Whether it went on to the end, and never stood still longer than `limit`.
    ///
    /// # Errors
    /// With what disturbed it.
    pub fn check(&self, limit: Duration) -> Result<()> {
        if let Some(error) = &self.broken {
            bail!("a long connection broke after {} messages: {error}", self.messages);
        }
        let pause = self.longest_pause;
        ensure!(pause <= limit, "a long connection stood still for {pause:?}");
        Ok(())
    }
}

fn talk(mut stream: TcpStream, stopped: &AtomicBool) -> Exchanged {
    let mut all = Exchanged { messages: 0, longest_pause: Duration::ZERO, broken: None };
    let (mut next, mut answered) = (Instant::now(), Instant::now());
    while !stopped.load(Ordering::Relaxed) {
        if let Err(error) = exchange(&mut stream) {
            all.broken = Some(error);
            break;
        }
        let now = Instant::now();
        all.messages += 1;
        all.longest_pause = all.longest_pause.max(now - answered);
        answered = now;
        // A message that was late doesn't hurry the next ones.
        next = (next + INTERVAL).max(now);
        thread::sleep(next - now);
    }
    all
}

fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    const TOKEN: Token = Token(0);
    let mut answer = [0; Message::LENGTH];
    stream.write_all(&Message::Request(TOKEN).encode())?;
    stream.read_exact(&mut answer)?;
    match Message::decode(&answer) {
        Some(Message::Answer(TOKEN)) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "another answer than to this message")),
    }
}
