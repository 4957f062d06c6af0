//! The first enforcement, with fifty connections open.

use crate::pair::{Condition, Pair};
use crate::segment::{Family, Opener, Segment};
use std::thread;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 50;
/// What a step may take where it works: what a full receiver dropped is sent again after 0.2, 0.6,
/// 1.4 seconds and so on from when it was full, which on a slow machine is long ago: two minutes
/// apart at most (`TCP_RTO_MAX`).
const WORKS: Duration = Duration::from_secs(130);
/// What a step is given where it is expected not to.
const BROKEN: Duration = Duration::from_millis(1500);

const FAMILIES: [Family; 3] = [Family::V4, Family::V6, Family::Mapped];
const OPENERS: [Opener; 2] = [Opener::Peer, Opener::Server];

/// Fifty connections, every combination among them, in their conditions.
fn connections(segment: &Segment) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = (0..CONNECTIONS)
        .map(|n| (OPENERS[n % 2], FAMILIES[n / 2 % 3], Condition::ALL[n / 6 % 6]))
        .map(|(opener, family, condition)| Pair::new(segment, opener, family, condition))
        .collect();
    let unacknowledged = pairs.iter().filter(|pair| pair.condition == Condition::Unacknowledged);
    let lost: Vec<String> = unacknowledged.map(Pair::ports).collect();
    let loss = format!(
        "table inet loss {{
            chain arriving {{
                type filter hook prerouting priority raw; policy accept;
                tcp sport . tcp dport {{ {} }} drop
            }}
        }}",
        lost.join(", ")
    );
    segment.peer.command_with_input("nft", &["-f", "-"], &loss).unwrap();
    pairs.iter_mut().for_each(Pair::prepare);
    // Not all of them are to be in their first round.
    thread::sleep(Duration::from_millis(100));
    pairs
}

/// Ends the loss, and says which connections don't work any more.
fn broken(segment: &Segment, pairs: &mut [Pair], limit: Duration) -> Vec<String> {
    segment.peer.command("nft", &["delete", "table", "inet", "loss"]).unwrap();
    thread::scope(|scope| {
        let check = |pair: &mut Pair| {
            let what = format!("{:?} {:?} {:?}", pair.opener, pair.family, pair.condition);
            pair.check(limit).err().map(|why| format!("{what}: {why}"))
        };
        let checks: Vec<_> =
            pairs.iter_mut().map(|pair| scope.spawn(move || check(pair))).collect();
        checks.into_iter().filter_map(|check| check.join().unwrap()).collect()
    })
}

/// Tracking begins while the batch is prepared, and the chains are hooked in when it is committed:
/// in between a connection that is quick enough is seen in both directions, and lives. One that says
/// nothing never is.
#[test]
fn enforcing_at_once_breaks_all_but_the_quickest() {
    let segment = Segment::new();
    let mut pairs = connections(&segment);
    segment.commit("enforce");
    let broken = broken(&segment, &mut pairs, BROKEN);
    let idle = broken.iter().filter(|what| what.contains("Idle")).count();
    let resting = broken.iter().filter(|what| !what.contains("Talking")).count();
    assert_eq!(idle, 12, "{broken:#?}");
    // Of the 44 that don't talk a few are just being probed or sent again.
    assert!((36..=44).contains(&resting), "{broken:#?}");
}

/// Nor is it enough to observe first, for those that say nothing meanwhile.
#[test]
fn enforcing_after_observing_breaks_those_that_are_silent() {
    let segment = Segment::new();
    let mut pairs = connections(&segment);
    segment.commit("observe");
    thread::sleep(Duration::from_millis(300));
    segment.commit("enforce");
    let broken = broken(&segment, &mut pairs, BROKEN);
    let idle = broken.iter().filter(|what| what.contains("Idle")).count();
    let talking = broken.iter().filter(|what| what.contains("Talking")).count();
    assert_eq!((idle, talking), (12, 0), "{broken:#?}");
}

#[test]
fn all_survive_when_they_are_adopted() {
    all_survive(&Segment::new());
}

/// Without `nf_conntrack_tcp_loose` the kernel takes up no connection in its middle by itself.
#[test]
fn all_survive_where_tracking_is_strict() {
    let segment = Segment::new();
    segment.server.sysctl("net.netfilter.nf_conntrack_tcp_loose", "0").unwrap();
    all_survive(&segment);
}

fn all_survive(segment: &Segment) {
    let mut pairs = connections(segment);
    let begun = Instant::now();
    segment.commit("observe");
    for (opener, family) in [(Opener::Peer, Family::Mapped), (Opener::Server, Family::V6)] {
        pairs.push(Pair::new(segment, opener, family, Condition::Idle));
    }
    let adopting = Instant::now();
    let adopted = segment.adopt();
    let adopting = adopting.elapsed();
    assert_eq!(adopted.found, pairs.len());
    for (opener, family) in [(Opener::Peer, Family::V6), (Opener::Server, Family::Mapped)] {
        pairs.push(Pair::new(segment, opener, family, Condition::Idle));
    }
    segment.commit("enforce");
    let switched = begun.elapsed();
    let broken = broken_after(segment, &mut pairs, adopted, adopting, switched);
    assert!(broken.is_empty(), "{broken:#?}");
}

fn broken_after(
    segment: &Segment,
    pairs: &mut [Pair],
    adopted: netlink::Adopted,
    adopting: Duration,
    switched: Duration,
) -> Vec<String> {
    thread::sleep(Duration::from_millis(50));
    let longest = pairs.iter().filter_map(Pair::longest_wait).max();
    println!(
        "{adopted:?} in {adopting:?}, from no table to enforcing in {switched:?}, longest answer {longest:?}"
    );
    broken(segment, pairs, WORKS)
}

/// The first packet of an idle connection that is closed is a FIN, which belongs to no connection
/// that tracking could know: also on the loopback interface, which the policy doesn't restrict.
#[test]
fn an_idle_connection_can_be_closed() {
    for adopt in [false, true] {
        let segment = Segment::new();
        let pair = |opener, family| Pair::new(&segment, opener, family, Condition::Idle);
        let mut pairs = vec![pair(Opener::Peer, Family::V4), pair(Opener::Server, Family::V6)];
        for address in ["127.0.0.1:0", "[::1]:0", "10.0.0.1:0"] {
            let ends = segment.server.run(|| {
                let listener = std::net::TcpListener::bind(address).unwrap();
                let target = listener.local_addr().unwrap();
                let opened = std::net::TcpStream::connect(target).unwrap();
                (opened, listener.accept().unwrap().0)
            });
            pairs.push(Pair::of(ends, Opener::Server, Family::V4, Condition::Idle));
        }
        // Until every acknowledgement that was put off is out.
        thread::sleep(Duration::from_millis(300));
        if adopt {
            segment.commit("observe");
            // A connection within the server has one entry, though two sockets.
            assert_eq!(segment.adopt().found, 5);
        }
        segment.commit("enforce");
        let limit = if adopt { WORKS } else { BROKEN };
        let closed: Vec<bool> = thread::scope(|scope| {
            let checks =
                pairs.iter_mut().map(|pair| scope.spawn(move || pair.check_end(limit).is_ok()));
            let checks: Vec<_> = checks.collect();
            checks.into_iter().map(|check| check.join().unwrap()).collect()
        });
        assert_eq!(closed, [adopt; 5]);
    }
}
