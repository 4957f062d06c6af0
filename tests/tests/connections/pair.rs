//! A connection in some condition, and whether it still works.

use crate::segment::{Family, Opener, Segment};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What a connection is in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// All that was sent has arrived.
    Idle,
    /// Both ends have written as much as they can, and read nothing.
    Full,
    /// Both ends wait for an acknowledgement that is lost, and send again.
    Unacknowledged,
    /// The server sends no more; the peer may.
    ClosedByServer,
    /// The peer sends no more; the server may.
    ClosedByPeer,
    /// A request and its answer follow the other, all the time.
    Talking,
}

impl Condition {
    pub(crate) const ALL: [Self; 6] = [
        Self::Idle,
        Self::Full,
        Self::Unacknowledged,
        Self::ClosedByServer,
        Self::ClosedByPeer,
        Self::Talking,
    ];
}

/// One end, and how much it has sent. The bytes are those of a pattern.
#[derive(Debug)]
struct Side {
    stream: TcpStream,
    sent: usize,
    received: usize,
}

/// Both ends of a connection.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) opener: Opener,
    pub(crate) family: Family,
    pub(crate) condition: Condition,
    server: Side,
    peer: Side,
    talk: Option<Talk>,
}

fn pattern(from: usize, length: usize) -> Vec<u8> {
    (from..from + length).map(|at| (at % 251) as u8).collect()
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        Self { stream, sent: 0, received: 0 }
    }

    fn write(&mut self, length: usize) -> std::io::Result<()> {
        self.stream.write_all(&pattern(self.sent, length))?;
        self.sent += length;
        Ok(())
    }

    fn fill(&mut self) {
        self.stream.set_nonblocking(true).unwrap();
        loop {
            match self.stream.write(&pattern(self.sent, 1000)) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("can't fill a connection: {error}"),
            }
        }
        self.stream.set_nonblocking(false).unwrap();
    }

    /// Reads all up to the byte of that number.
    fn read_to(&mut self, end: usize) -> Result<(), String> {
        while self.received < end {
            let mut buffer = vec![0; (end - self.received).min(4096)];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err("ended early".into()),
                Ok(length) if buffer[..length] == pattern(self.received, length) => {
                    self.received += length;
                }
                Ok(_) => return Err("other bytes arrived than were sent".into()),
                // With a time limit also by a machine that was stopped for a moment.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("read: {error}")),
            }
        }
        Ok(())
    }

    fn read_end(&mut self) -> Result<(), String> {
        loop {
            match self.stream.read(&mut [0]) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err("more arrived than was sent".into()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("read the end: {error}")),
            }
        }
    }
}

/// Data through one direction, and what was on its way.
fn transfer(from: &mut Side, to: &mut Side) -> Result<(), String> {
    let end = from.sent + 100;
    thread::scope(|scope| {
        let writer = scope.spawn(|| from.write(100).map_err(|error| format!("write: {error}")));
        to.read_to(end).and(writer.join().unwrap())
    })
}

fn finish(from: &mut Side, to: &mut Side) -> Result<(), String> {
    from.stream.shutdown(Shutdown::Write).map_err(|error| format!("shutdown: {error}"))?;
    to.read_end()
}

impl Pair {
    /// A connection, not yet in its condition.
    pub(crate) fn new(
        segment: &Segment,
        opener: Opener,
        family: Family,
        condition: Condition,
    ) -> Self {
        let (server, peer) = segment.connect(opener, family);
        Self::of((server, peer), opener, family, condition)
    }

    pub(crate) fn of(
        (server, peer): (TcpStream, TcpStream),
        opener: Opener,
        family: Family,
        condition: Condition,
    ) -> Self {
        let (server, peer) = (Side::new(server), Side::new(peer));
        let mut pair = Self { opener, family, condition, server, peer, talk: None };
        for _ in 0..2 {
            transfer(&mut pair.server, &mut pair.peer).unwrap();
            transfer(&mut pair.peer, &mut pair.server).unwrap();
        }
        pair
    }

    /// What packets from the server to the peer have as ports, for `nft`.
    pub(crate) fn ports(&self) -> String {
        let port = |side: &Side| side.stream.local_addr().unwrap().port();
        format!("{} . {}", port(&self.server), port(&self.peer))
    }

    /// Brings it into its condition.
    pub(crate) fn prepare(&mut self) {
        let Self { server, peer, .. } = self;
        match self.condition {
            Condition::Idle => {}
            Condition::Full => {
                server.fill();
                peer.fill();
            }
            Condition::Unacknowledged => {
                server.write(1000).unwrap();
                peer.write(1000).unwrap();
            }
            Condition::ClosedByServer => finish(server, peer).unwrap(),
            Condition::ClosedByPeer => finish(peer, server).unwrap(),
            Condition::Talking => {
                let clone = |side: &Side| side.stream.try_clone().unwrap();
                self.talk = Some(Talk::start(clone(server), clone(peer)));
            }
        }
    }

    /// Something more from the server, however it fares.
    pub(crate) fn send_from_server(&mut self) {
        self.server.write(100).unwrap();
    }

    /// Whether data still flows in every direction that is open, after all that was on its way, and
    /// whether both ends then see the end of it. `limit` is for each step.
    pub(crate) fn check(&mut self, limit: Duration) -> Result<(), String> {
        if let Some(talk) = self.talk.take() {
            return talk.check(limit);
        }
        let Self { server, peer, condition, .. } = self;
        for side in [&*server, &*peer] {
            side.stream.set_read_timeout(Some(limit)).unwrap();
            side.stream.set_write_timeout(Some(limit)).unwrap();
        }
        if *condition == Condition::Full {
            // Both at once, as programs read. A full receiver drops what lies beyond its window, and
            // with it the news that the other end has room again: if only one end is read, both may
            // wait for ever, whatever a firewall does.
            let (from_server, from_peer) = (server.sent, peer.sent);
            thread::scope(|scope| {
                let reader = scope.spawn(|| server.read_to(from_peer));
                peer.read_to(from_server).and(reader.join().unwrap())
            })?;
        }
        // Every other one is first heard of by what the peer sends.
        let peer_first = peer.stream.local_addr().unwrap().port() % 2 == 0;
        for from_peer in [peer_first, !peer_first] {
            match (from_peer, *condition) {
                (true, Condition::ClosedByPeer) | (false, Condition::ClosedByServer) => {}
                (true, _) => {
                    transfer(peer, server)?;
                    finish(peer, server)?;
                }
                (false, _) => {
                    transfer(server, peer)?;
                    finish(server, peer)?;
                }
            }
        }
        Ok(())
    }

    /// The same where the first thing that happens is that one end closes.
    pub(crate) fn check_end(&mut self, limit: Duration) -> Result<(), String> {
        let Self { server, peer, .. } = self;
        for side in [&*server, &*peer] {
            side.stream.set_read_timeout(Some(limit)).unwrap();
        }
        finish(server, peer)?;
        finish(peer, server)
    }

    /// The longest that one request has waited for its answer so far.
    pub(crate) fn longest_wait(&self) -> Option<Duration> {
        let longest = &self.talk.as_ref()?.longest;
        Some(Duration::from_micros(longest.load(Ordering::Relaxed)))
    }
}

/// Requests of the server and answers of the peer, one after the other.
#[derive(Debug)]
struct Talk {
    rounds: Arc<AtomicU64>,
    /// In microseconds.
    longest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    streams: [TcpStream; 2],
    threads: Vec<JoinHandle<()>>,
}

impl Talk {
    fn start(mut server: TcpStream, mut peer: TcpStream) -> Self {
        let rounds = Arc::new(AtomicU64::new(0));
        let longest = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let streams = [&server, &peer].map(|stream| stream.try_clone().unwrap());
        let asking = {
            let (rounds, longest, stop) =
                (Arc::clone(&rounds), Arc::clone(&longest), Arc::clone(&stop));
            thread::spawn(move || {
                let mut buffer = [7; 500];
                while !stop.load(Ordering::Relaxed) {
                    let asked = Instant::now();
                    let answered =
                        server.write_all(&buffer).and_then(|()| server.read_exact(&mut buffer));
                    if answered.is_err() {
                        return;
                    }
                    longest.fetch_max(asked.elapsed().as_micros() as u64, Ordering::Relaxed);
                    rounds.fetch_add(1, Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(1));
                }
            })
        };
        let answering = thread::spawn(move || {
            let mut buffer = [0; 500];
            while peer.read_exact(&mut buffer).and_then(|()| peer.write_all(&buffer)).is_ok() {}
        });
        Self { rounds, longest, stop, streams, threads: vec![asking, answering] }
    }

    fn check(self, limit: Duration) -> Result<(), String> {
        let (begun, before) = (Instant::now(), self.rounds.load(Ordering::Relaxed));
        while self.rounds.load(Ordering::Relaxed) < before + 10 {
            if begun.elapsed() > limit {
                return Err("no more answers".into());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for stream in &self.streams {
            // Fails where the connection was broken.
            let _ = stream.shutdown(Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}
