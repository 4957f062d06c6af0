//! Many connections: the limit of the table, and what inserting them costs.

use crate::segment::{Family, Opener, Segment};
use netlink::{AdoptError, Conntrack, End, Error, Flow, Insertion, Stage, Usage};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;
use tierwall_tests::namespace::Namespace;

/// Connections that nobody has.
fn flows(count: u32) -> Vec<Flow> {
    let flow = |number: u32| {
        let (host, port) = (number / 50_000, 1000 + (number % 50_000) as u16);
        let (local, remote): (IpAddr, IpAddr) = match number % 2 {
            0 => (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::from(0xc612_0000 + host).into()),
            _ => {
                let network = u128::from(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 0));
                let remote = Ipv6Addr::from(network | u128::from(host));
                (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(), remote.into())
            }
        };
        let (local, remote) = (SocketAddr::new(local, 80), SocketAddr::new(remote, port));
        Flow { local, remote, opened_by: End::Remote, stage: Stage::Open }
    };
    (0..count).map(flow).collect()
}

fn insert(namespace: &Namespace, flows: &[Flow]) -> Vec<Insertion> {
    namespace.run(|| Conntrack::open().unwrap().insert(flows).unwrap())
}

fn usage(namespace: &Namespace) -> Usage {
    namespace.run(|| Conntrack::open().unwrap().usage().unwrap())
}

#[test]
fn ten_thousand_connections_are_inserted_and_then_updated() {
    let namespace = Namespace::new().unwrap();
    let flows = flows(10_000);
    for expected in [Insertion::Inserted, Insertion::Updated] {
        let begun = Instant::now();
        let insertions = insert(&namespace, &flows);
        println!("10,000 {expected:?} in {:?}", begun.elapsed());
        assert!(insertions.iter().all(|insertion| *insertion == expected));
        assert_eq!(insertions.len(), flows.len());
        assert_eq!(usage(&namespace).entries, 10_000);
    }
}

#[test]
fn where_some_are_tracked_each_is_told_apart() {
    let namespace = Namespace::new().unwrap();
    let flows = flows(1000);
    let (first, last) = (&flows[100..200], &flows[999..]);
    insert(&namespace, first);
    insert(&namespace, last);
    let insertions = insert(&namespace, &flows);
    for (flow, insertion) in flows.iter().zip(insertions) {
        let known = first.contains(flow) || last.contains(flow);
        assert_eq!(insertion, if known { Insertion::Updated } else { Insertion::Inserted });
    }
}

/// The limit belongs to the machine and not to a namespace, so the test fills the table and doesn't
/// lower it.
#[test]
fn where_there_is_no_room_nothing_is_done() {
    let segment = Segment::new();
    let (server, _peer) = segment.connect(Opener::Peer, Family::V4);
    let before = usage(&segment.server);
    assert_eq!(before.entries, 0);
    let filling = flows((f64::from(before.limit) * 0.9) as u32);
    let begun = Instant::now();
    let filled = insert(&segment.server, &filling);
    println!("{} in {:?}", filling.len(), begun.elapsed());
    assert!(filled.iter().all(|insertion| *insertion == Insertion::Inserted));
    segment.commit("observe");

    let error = segment.server.run(|| netlink::adopt_connections().unwrap_err());
    let AdoptError::NoRoom { needed, entries, limit } = error else { panic!("{error:?}") };
    assert_eq!((needed, entries, limit), (1, filling.len() as u32, before.limit));
    println!("{error}");
    assert_eq!(usage(&segment.server).entries, entries);

    // The one that needed room gets an entry otherwise: now nobody needs any.
    let flow = Flow {
        local: server.local_addr().unwrap(),
        remote: server.peer_addr().unwrap(),
        opened_by: End::Remote,
        stage: Stage::Open,
    };
    assert_eq!(insert(&segment.server, &[flow]), [Insertion::Inserted]);
    let adopted = segment.adopt();
    assert_eq!((adopted.inserted, adopted.existed), (0, 1));
}

/// Set in the processes of lesser rights.
const LESSER: &str = "TIERWALL_LESSER_RIGHTS";

/// Runs an ignored test of this file in a process that `wrapper` starts.
fn run(wrapper: &[&str], test: &str) {
    let namespace = Namespace::new().unwrap();
    let this = std::env::current_exe().unwrap();
    let (marked, test) = (format!("{LESSER}=1"), format!("room::{test}"));
    let mut arguments = vec![marked.as_str()];
    arguments.extend(wrapper);
    arguments.extend([this.to_str().unwrap(), "--ignored", "--exact", &test]);
    let output = namespace.command("env", &arguments).unwrap();
    assert!(output.contains("1 passed"), "{output}");
}

fn require_lesser_rights() {
    assert!(std::env::var_os(LESSER).is_some(), "only to be run by the test that it names");
}

#[test]
fn without_the_capability_nothing_is_permitted() {
    let drop = ["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
    run(&drop, "is_not_permitted");
}

#[test]
#[ignore = "run without CAP_NET_ADMIN by without_the_capability_nothing_is_permitted"]
fn is_not_permitted() {
    require_lesser_rights();
    netlink::tcp_sockets().unwrap();
    netlink::tcp_listeners().unwrap();
    netlink::AddressEvents::open().unwrap();
    let mut conntrack = Conntrack::open().unwrap();
    assert!(matches!(conntrack.insert(&flows(300)), Err(Error::NotPermitted)));
    assert!(matches!(conntrack.usage(), Err(Error::NotPermitted)));
}

/// Socket buffers can't be forced there.
#[test]
fn in_a_user_namespace_no_answer_is_lost() {
    run(&["unshare", "--user", "--map-root-user", "--net"], "has_buffers_of_the_default_size");
}

#[test]
#[ignore = "run in a user namespace by in_a_user_namespace_no_answer_is_lost"]
fn has_buffers_of_the_default_size() {
    require_lesser_rights();
    let mut conntrack = Conntrack::open().unwrap();
    let flows = flows(1000);
    for expected in [Insertion::Inserted, Insertion::Updated] {
        assert_eq!(conntrack.insert(&flows).unwrap(), vec![expected; 1000]);
    }
}
