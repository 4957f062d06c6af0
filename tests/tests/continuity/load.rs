//! Traffic between hosts that never stops: long connections that exchange data all the time, and
//! new ones opened all the time. Whatever breaks, is refused or takes long is noted.
//!
//! Where the kernel may miss a member while a set is changed, some new connections are refused, which
//! are counted; nothing else is different there.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tierwall_tests::features::lookups_are_exact;
use tierwall_tests::network::Host;

/// The pause between two exchanges of a connection.
const PAUSE: Duration = Duration::from_millis(1);
/// The pause between two new connections: each keeps its port for a minute after its end, and there
/// are 28,000 of these.
const OPENING: Duration = Duration::from_millis(3);
/// What takes longer is broken: TCP has sent it again many times by then.
const BROKEN: Duration = Duration::from_secs(10);

/// What is observed, by all threads.
#[derive(Default)]
struct Observed {
    stop: AtomicBool,
    exchanges: AtomicUsize,
    opened: AtomicUsize,
    /// Since the beginning.
    all_opened: AtomicUsize,
    /// New connections that were refused where a lookup may miss.
    missed: AtomicUsize,
    /// The longest exchange or opening since it was last asked for, in microseconds.
    longest: AtomicU64,
    failures: Mutex<Vec<String>>,
}

/// Threads that make traffic and threads that answer it.
pub(crate) struct Load {
    observed: Arc<Observed>,
    clients: Vec<JoinHandle<()>>,
    servers: Vec<JoinHandle<()>>,
    /// Stops the servers, after the clients.
    closed: Arc<AtomicBool>,
}

/// What there was since the last time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) exchanges: usize,
    pub(crate) opened: usize,
    pub(crate) longest: Duration,
}

impl Load {
    pub(crate) fn new() -> Self {
        let (observed, closed) = Default::default();
        Self { observed, clients: Vec::new(), servers: Vec::new(), closed }
    }

    /// Answers on a port of every address of a host.
    pub(crate) fn serve(&mut self, host: &Host, port: u16) {
        for &address in &host.addresses {
            let listener = host.namespace.run(|| TcpListener::bind((address, port)).unwrap());
            listener.set_nonblocking(true).unwrap();
            let closed = Arc::clone(&self.closed);
            self.servers.push(thread::spawn(move || accept_all(&listener, &closed)));
        }
    }

    /// One connection to each address of a host that exchanges data until the end.
    pub(crate) fn keep_connected(&mut self, from: &Host, to: &Host, port: u16) {
        for &address in &to.addresses {
            let mut stream = connect(from, (address, port).into()).unwrap();
            let name = format!("the long connection {} -> {address}", from.name);
            self.client(name, PAUSE, move |observed| {
                exchange(&mut stream, observed)?;
                observed.exchanges.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        }
    }

    /// New connections to each address of a host, one after the other, until the end.
    pub(crate) fn keep_connecting(&mut self, from: &Host, to: &Host, port: u16) {
        for &address in &to.addresses {
            let from = from.clone();
            let name = format!("a new connection {} -> {address}", from.name);
            let mut entered = false;
            self.client(name, OPENING, move |observed| {
                // The thread's first step: its sockets are of that host then.
                if !std::mem::replace(&mut entered, true) {
                    from.namespace.enter().map_err(io::Error::other)?;
                }
                let start = Instant::now();
                let mut stream = match open((address, port).into()) {
                    Err(error)
                        if error.kind() == ErrorKind::ConnectionRefused && !lookups_are_exact() =>
                    {
                        observed.missed.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    opened => opened?,
                };
                observed.note(start);
                exchange(&mut stream, observed)?;
                observed.opened.fetch_add(1, Ordering::Relaxed);
                observed.all_opened.fetch_add(1, Ordering::Relaxed);
                Ok(())
            });
        }
    }

    /// Repeats a step, a pause after each, until the end or its failure.
    fn client(
        &mut self,
        name: String,
        pause: Duration,
        mut step: impl FnMut(&Observed) -> io::Result<()> + Send + 'static,
    ) {
        let observed = Arc::clone(&self.observed);
        self.clients.push(thread::spawn(move || {
            while !observed.stop.load(Ordering::Relaxed) {
                if let Err(error) = step(&observed) {
                    observed.failures.lock().unwrap().push(format!("{name}: {error}"));
                    return;
                }
                thread::sleep(pause);
            }
        }));
    }

    /// The traffic since this was last called. What is under way belongs to the next time.
    pub(crate) fn since_last(&self) -> Traffic {
        Traffic {
            exchanges: self.observed.exchanges.swap(0, Ordering::Relaxed),
            opened: self.observed.opened.swap(0, Ordering::Relaxed),
            longest: Duration::from_micros(self.observed.longest.swap(0, Ordering::Relaxed)),
        }
    }

    /// Panics if anything broke or was refused so far.
    pub(crate) fn assert_unbroken(&self) {
        let failures = self.observed.failures.lock().unwrap();
        assert!(failures.is_empty(), "disturbed:\n{}", failures.join("\n"));
    }

    /// Panics if a table with these counters dropped or refused a packet so far. Where a lookup may
    /// miss, a few of those that open connections may be among them, never one of a connection.
    pub(crate) fn assert_nothing_denied(&self, packets: &BTreeMap<String, u64>) {
        let counted = |counter: &str| packets[counter] as usize;
        let invalid = counted("invalid.input") + counted("invalid.output");
        assert_eq!(invalid, 0, "a packet of a connection was dropped");
        let denied = counted("denied.input") + counted("denied.output");
        let refused = self.observed.missed.load(Ordering::Relaxed);
        if lookups_are_exact() {
            assert_eq!(denied, 0, "a packet was dropped");
        } else {
            println!("lookups that missed: {denied}, of which a program was told {refused}");
            let opened = self.observed.all_opened.load(Ordering::Relaxed);
            assert!(denied * 20 <= opened, "{denied} of {opened} connections were denied");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.observed.stop.store(true, Ordering::Relaxed);
        self.clients.drain(..).for_each(|thread| drop(thread.join()));
        self.closed.store(true, Ordering::Relaxed);
        self.servers.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Observed {
    fn note(&self, start: Instant) {
        self.longest.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
    }
}

fn connect(from: &Host, to: SocketAddr) -> io::Result<TcpStream> {
    from.namespace.run(|| open(to))
}

fn open(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, BROKEN)?;
    stream.set_read_timeout(Some(BROKEN))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a kilobyte and waits until it has come back.
fn exchange(mut stream: impl Read + Write, observed: &Observed) -> io::Result<()> {
    let start = Instant::now();
    let sent = [0x5a; 1024];
    stream.write_all(&sent)?;
    let mut arrived = [0; 1024];
    stream.read_exact(&mut arrived)?;
    observed.note(start);
    if arrived != sent {
        return Err(io::Error::other("something else came back"));
    }
    Ok(())
}

fn accept_all(listener: &TcpListener, closed: &AtomicBool) {
    let mut answering = Vec::new();
    while !closed.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => answering.push(thread::spawn(move || answer(stream))),
            Err(_) => thread::sleep(Duration::from_micros(200)),
        }
        answering.retain(|thread| !thread.is_finished());
    }
    answering.into_iter().for_each(|thread| drop(thread.join()));
}

/// Sends back what comes, until the other end closes.
fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    io::copy(&mut stream, &mut writer)?;
    Ok(())
}
