//! Connections whose handshake is under way at the first enforcement.

use crate::pair::{Condition, Pair};
use crate::segment::{Family, Opener, Segment};
use netlink::TcpState;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a handshake is given: lost packets of one are sent again after 1 and 3 seconds.
const HANDSHAKE: Duration = Duration::from_millis(4500);

/// What the server's wire does to TCP before anything tracks it.
fn wire(segment: &Segment, arriving: &str, leaving: &str) {
    let table = format!(
        "table inet wire
        delete table inet wire
        table inet wire {{
            chain arriving {{
                type filter hook prerouting priority raw; policy accept;
                {arriving}
            }}
            chain leaving {{
                type filter hook output priority raw; policy accept;
                {leaving}
            }}
        }}"
    );
    segment.server.command_with_input("nft", &["-f", "-"], &table).unwrap();
}

fn wait_for(segment: &Segment, state: TcpState) {
    let begun = Instant::now();
    let sockets = || segment.server.run(|| netlink::tcp_sockets().unwrap());
    while !sockets().iter().any(|socket| socket.state == state) {
        assert!(begun.elapsed() < HANDSHAKE, "no socket of the server is {state}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn enforce(segment: &Segment, adopt: bool) {
    if adopt {
        segment.commit("observe");
        assert_eq!(segment.adopt().found, 1);
    }
    segment.commit("enforce");
}

fn works(ends: (TcpStream, TcpStream), opener: Opener, family: Family) {
    let mut pair = Pair::of(ends, opener, family, Condition::Idle);
    assert_eq!(pair.check(HANDSHAKE), Ok(()));
}

/// The server has asked, and the answer comes after the enforcement.
#[test]
fn one_that_the_server_has_asked_for_is_made() {
    for (adopt, family) in [(false, Family::V4), (true, Family::V4), (true, Family::V6)] {
        let segment = Segment::new();
        let (target, listener) = segment.target(Opener::Server, family);
        wire(&segment, "tcp flags & (syn | ack) == (syn | ack) drop", "");
        thread::scope(|scope| {
            let connecting = scope
                .spawn(|| segment.server.run(|| TcpStream::connect_timeout(&target, HANDSHAKE)));
            wait_for(&segment, TcpState::SynSent);
            // The server doesn't ask again, so that the peer's answer is the next that happens.
            wire(&segment, "", "tcp flags & (syn | ack) == syn drop");
            enforce(&segment, adopt);
            let connected = connecting.join().unwrap();
            assert_eq!(connected.is_ok(), adopt, "{connected:?}");
            if let Ok(opened) = connected {
                works((opened, listener.accept().unwrap().0), Opener::Server, family);
            }
        });
    }
}

/// The server has answered, and the peer's confirmation comes after the enforcement.
#[test]
fn one_that_the_server_has_answered_is_made() {
    for (adopt, family) in [(false, Family::V6), (true, Family::V6), (true, Family::Mapped)] {
        let segment = Segment::new();
        let (target, listener) = segment.target(Opener::Peer, family);
        wire(&segment, "tcp flags & (syn | ack) == ack drop", "");
        let opened = segment.peer.run(|| TcpStream::connect_timeout(&target, HANDSHAKE)).unwrap();
        wait_for(&segment, TcpState::SynReceived);
        enforce(&segment, adopt);
        wire(&segment, "", "");
        listener.set_nonblocking(true).unwrap();
        let begun = Instant::now();
        let accepted = loop {
            match listener.accept() {
                Err(_) if begun.elapsed() < HANDSHAKE => thread::sleep(Duration::from_millis(1)),
                accepted => break accepted,
            }
        };
        assert_eq!(accepted.is_ok(), adopt, "{accepted:?}");
        if let Ok((accepted, _)) = accepted {
            accepted.set_nonblocking(false).unwrap();
            works((accepted, opened), Opener::Peer, family);
        }
    }
}

/// Connections are opened all the time, from before the table until the policy forbids it: each of
/// them that was made works.
#[test]
fn those_opened_all_the_time_work() {
    let segment = Segment::new();
    let stop = AtomicBool::new(false);
    let open = |opener, family| {
        let mut pairs = Vec::new();
        while let (false, Ok(ends)) = (
            stop.load(Ordering::Relaxed),
            segment.try_connect(opener, family, Duration::from_millis(500)),
        ) {
            pairs.push((ends, opener, family));
            thread::sleep(Duration::from_micros(300));
        }
        pairs
    };
    let pairs = thread::scope(|scope| {
        let each = [Opener::Server, Opener::Peer].into_iter();
        let each = each.flat_map(|opener| [Family::V4, Family::V6].map(|family| (opener, family)));
        let opening: Vec<_> = each.map(|(o, f)| scope.spawn(move || open(o, f))).collect();
        thread::sleep(Duration::from_millis(20));
        segment.commit("observe");
        thread::sleep(Duration::from_millis(20));
        segment.adopt();
        thread::sleep(Duration::from_millis(5));
        segment.commit("enforce");
        thread::sleep(Duration::from_millis(20));
        stop.store(true, Ordering::Relaxed);
        opening.into_iter().flat_map(|pairs| pairs.join().unwrap()).collect::<Vec<_>>()
    });
    println!("{} connections", pairs.len());
    assert!(pairs.len() > 50, "only {} connections were opened", pairs.len());
    thread::scope(|scope| {
        for (ends, opener, family) in pairs {
            scope.spawn(move || works(ends, opener, family));
        }
    });
}
