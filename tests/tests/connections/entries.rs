//! What connection tracking holds after an adoption, read back.

use crate::pair::{Condition, Pair};
use crate::segment::{Family, Opener, Segment};
use netlink::{Conntrack, End, Entry, Flow, Stage, TcpSocket, TcpState};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// The kernel's `TCP_CONNTRACK_ESTABLISHED` and `TCP_CONNTRACK_FIN_WAIT`.
const ESTABLISHED: u8 = 3;
const FIN_WAIT: u8 = 4;

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The connection of the server's end.
fn flow(server: &TcpStream, opened_by: End) -> Flow {
    let local = canonical(server.local_addr().unwrap());
    let remote = canonical(server.peer_addr().unwrap());
    Flow { local, remote, opened_by, stage: Stage::Open }
}

fn entry(segment: &Segment, flow: &Flow) -> Option<Entry> {
    segment.server.run(|| Conntrack::open().unwrap().entry(flow).unwrap())
}

fn tracked(segment: &Segment) -> u32 {
    segment.server.run(|| Conntrack::open().unwrap().usage().unwrap().entries)
}

#[test]
fn each_connection_has_an_established_entry_in_its_direction() {
    let segment = Segment::new();
    let mut ends = Vec::new();
    for family in [Family::V4, Family::V6, Family::Mapped] {
        for (opener, opened_by) in [(Opener::Server, End::Local), (Opener::Peer, End::Remote)] {
            let (server, peer) = segment.connect(opener, family);
            ends.push((flow(&server, opened_by), server, peer));
        }
    }
    segment.commit("observe");
    assert!(ends.iter().all(|(flow, ..)| entry(&segment, flow).is_none()));
    let adopted = segment.adopt();
    assert_eq!((adopted.found, adopted.inserted, adopted.existed), (6, 6, 0));
    for (flow, ..) in &ends {
        let entry = entry(&segment, flow).expect("it was adopted");
        assert_eq!((entry.original, entry.reply), (flow.original(), flow.original().reversed()));
        assert!(entry.seen_reply && entry.assured && entry.liberal, "{entry:?}");
        assert_eq!(entry.state, ESTABLISHED);
        // nf_conntrack_tcp_timeout_established of a new namespace: five days.
        assert!((431_900..=432_000).contains(&entry.timeout), "{entry:?}");
    }
    let again = segment.adopt();
    assert_eq!((again.found, again.inserted, again.existed), (6, 0, 6));
    assert_eq!(tracked(&segment), 6);
}

#[test]
fn the_namespaces_own_timeout_is_used() {
    let segment = Segment::new();
    let timeout = "net.netfilter.nf_conntrack_tcp_timeout_established";
    segment.server.sysctl(timeout, "7200").unwrap();
    let (server, _peer) = segment.connect(Opener::Peer, Family::V4);
    segment.commit("observe");
    segment.adopt();
    let entry = entry(&segment, &flow(&server, End::Remote)).expect("it was adopted");
    assert!((7100..=7200).contains(&entry.timeout), "{entry:?}");
}

/// A packet in the middle of a connection makes an entry of its own direction, which says that no
/// reply was seen: the next packet of that direction would be judged as new.
#[test]
fn an_entry_made_in_the_middle_becomes_established() {
    let segment = Segment::new();
    let mut pair = Pair::new(&segment, Opener::Peer, Family::V4, Condition::Unacknowledged);
    let deaf = format!(
        "table inet deaf {{
            chain arriving {{
                type filter hook prerouting priority raw; policy accept;
                tcp sport . tcp dport {{ {} }} drop
            }}
        }}",
        pair.ports()
    );
    segment.peer.command_with_input("nft", &["-f", "-"], &deaf).unwrap();
    let flow = segment.server.run(|| {
        let socket = netlink::tcp_sockets().unwrap().remove(0);
        let (local, remote) = (socket.local, socket.remote);
        Flow { local, remote, opened_by: End::Local, stage: Stage::Open }
    });
    segment.commit("observe");
    pair.send_from_server();
    let before = entry(&segment, &flow).expect("tracking took it up");
    assert_eq!((before.original.source, before.seen_reply), (flow.local, false));
    let adopted = segment.adopt();
    assert_eq!((adopted.inserted, adopted.existed), (0, 1));
    let after = entry(&segment, &flow).expect("it is still there");
    assert_eq!(after.original, before.original);
    assert!(after.seen_reply && after.assured && after.liberal, "{after:?}");
    segment.commit("enforce");
    segment.peer.command("nft", &["delete", "table", "inet", "deaf"]).unwrap();
    assert_eq!(pair.check(Duration::from_secs(5)), Ok(()));
}

#[test]
fn a_connection_under_a_translated_address_keeps_its_one_entry() {
    let segment = Segment::new();
    let (target, listener) = segment.target(Opener::Peer, Family::V4);
    let redirect = format!(
        "table inet translate {{
            chain arriving {{
                type nat hook prerouting priority dstnat; policy accept;
                tcp dport 80 redirect to :{}
            }}
        }}",
        target.port()
    );
    segment.server.command_with_input("nft", &["-f", "-"], &redirect).unwrap();
    let peer = segment.peer.run(|| TcpStream::connect("10.0.0.1:80").unwrap());
    let server = listener.accept().unwrap().0;
    segment.commit("observe");
    let adopted = segment.adopt();
    assert_eq!((adopted.inserted, adopted.existed), (0, 1));
    assert_eq!(tracked(&segment), 1);
    let entry = entry(&segment, &flow(&server, End::Remote)).expect("by what the server sends");
    assert_eq!(entry.original.destination.port(), 80);
    segment.commit("enforce");
    let mut pair = Pair::of((server, peer), Opener::Peer, Family::V4, Condition::Idle);
    assert_eq!(pair.check(Duration::from_secs(5)), Ok(()));
}

/// What no program has any more is not tracked for days.
///
/// The peer may put off acknowledging the end for some 40 ms. Such an acknowledgement, seen by
/// tracking before the adoption, makes an entry itself: established for the 300 s of a packet
/// without an answer. So it is waited for.
#[test]
fn what_only_ends_is_tracked_for_as_long_as_ending_takes() {
    let segment = Segment::new();
    let (server, _peer) = segment.connect(Opener::Peer, Family::V6);
    let flow = flow(&server, End::Remote);
    drop(server);
    let is_acknowledged =
        |socket: &TcpSocket| (socket.local, socket.state) == (flow.local, TcpState::FinWait2);
    let start = Instant::now();
    while !segment.server.run(|| netlink::tcp_sockets().unwrap()).iter().any(is_acknowledged) {
        assert!(start.elapsed() < Duration::from_secs(10), "the peer answers no FIN");
        thread::sleep(Duration::from_millis(5));
    }
    segment.commit("observe");
    segment.adopt();
    let entry = entry(&segment, &flow).expect("it was adopted");
    assert!(entry.state == FIN_WAIT && entry.timeout <= 120, "{entry:?}");
}

#[test]
fn sockets_are_listed_with_their_states_and_without_mapped_addresses() {
    let segment = Segment::new();
    let conditions =
        [Condition::Idle, Condition::ClosedByServer, Condition::ClosedByPeer].into_iter();
    let pairs: Vec<_> = conditions
        .map(|condition| {
            let mut pair = Pair::new(&segment, Opener::Peer, Family::Mapped, condition);
            pair.prepare();
            pair
        })
        .collect();
    // The peer puts off its acknowledgement of the end.
    thread::sleep(Duration::from_millis(300));
    let sockets = segment.server.run(|| netlink::tcp_sockets().unwrap());
    for socket in &sockets {
        assert_eq!(socket.local.ip().to_string(), "10.0.0.1");
        assert!(socket.inode != 0, "{socket:?}");
    }
    let states: BTreeSet<TcpState> = sockets.iter().map(|socket| socket.state).collect();
    let expected = [TcpState::Established, TcpState::FinWait2, TcpState::CloseWait];
    assert_eq!((sockets.len(), states), (3, expected.into()));
    let listeners = segment.server.run(|| netlink::tcp_listeners().unwrap());
    assert!(sockets.iter().all(|socket| listeners.accept(socket.local)));
    drop(pairs);
}
