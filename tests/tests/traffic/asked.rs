//! T20: UDP that some users may send.

use super::packet::Path::Out;
use super::packet::{Addresses, BOTH, V4, send, udp};
use super::sockets::{ROOT, bind};
use super::stage::{Enforced, SOMEBODY, Stage};
use std::io::ErrorKind;
use std::net::UdpSocket;

/// Root may send to port 7001 there, everybody to port 7002, and the peer may ask port 7000 here.
const OF_ROOT: &str = r#"
role = "server"
[tiers]
server = ["10.0.0.1", "fd00::1"]
peer = ["10.0.0.2", "fd00::2"]
[[allow]]
from = "server"
to = "peer"
service = "udp/7001"
user = "root"
[[allow]]
from = "server"
to = "peer"
service = "udp/7002"
[[allow]]
from = "peer"
to = "server"
service = "udp/7000"
"#;

/// There and back, twice: from then on it is established.
fn exchange(one: &UdpSocket, other: &UdpSocket) {
    for _ in 0..2 {
        one.send_to(b"?", other.local_addr().unwrap()).unwrap();
        other.recv(&mut [0; 8]).unwrap();
        other.send_to(b"!", one.local_addr().unwrap()).unwrap();
        one.recv(&mut [0; 8]).unwrap();
    }
}

fn is_denied(enforced: &mut Enforced<'_>, from: &UdpSocket, to: &UdpSocket, addresses: Addresses) {
    let error = from.send_to(b"?", to.local_addr().unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{}", enforced.listing());
    enforced.counts(&["denied.output"], &send(Out, addresses, udp(4500, 7001)));
}

#[test]
fn t20_a_flow_is_its_users() {
    let mut stage = Stage::new();
    let mut enforced = stage.enforce(OF_ROOT);
    let (server, peer) = (enforced.stage.server().clone(), enforced.stage.peer().clone());
    for addresses in BOTH {
        let ours = |user| bind(&server, user, addresses.server, 4500);
        let [bound, open] = [7001, 7002].map(|port| bind(&peer, ROOT, addresses.peer, port));
        let root = ours(ROOT);
        exchange(&root, &bound);
        exchange(&root, &open);
        drop(root);
        // Another program gets the port, and with it the flow.
        let somebody = ours(SOMEBODY);
        is_denied(&mut enforced, &somebody, &bound, addresses);
        // What everybody may goes on.
        exchange(&somebody, &open);
        drop(somebody);
        exchange(&ours(ROOT), &bound);
    }
    enforced.take(&[]);
}

/// What the other side began is asked for nobody, whatever the port, nor is the loopback interface.
#[test]
fn t20_answers_and_the_loopback_interface_are_not_asked() {
    let mut stage = Stage::new();
    let enforced = stage.enforce(OF_ROOT);
    let (server, peer) = (enforced.stage.server().clone(), enforced.stage.peer().clone());
    for addresses in BOTH {
        let asking = bind(&peer, ROOT, addresses.peer, 7001);
        let asked = bind(&server, SOMEBODY, addresses.server, 7000);
        exchange(&asking, &asked);
        let inside = bind(&server, SOMEBODY, addresses.server, 7001);
        exchange(&asked, &inside);
    }
    let counters = enforced.counters();
    assert!(counters.is_empty(), "{counters:?}");
}

/// What `plan` notes of a policy that is about to be enforced.
fn planned(enforced: &Enforced<'_>, policy: &str) -> String {
    enforced.server.replace_policy(policy).unwrap();
    String::from_utf8(enforced.tierwall(&["plan"]).stdout).unwrap()
}

/// Taking a user out of an allow ends their flows, and so does taking the peer out of its tier.
#[test]
fn t20_flows_end_with_the_allow_of_their_user() {
    let another_user = OF_ROOT.replace("\"root\"", "65534");
    let another_peer = OF_ROOT.replace("\"10.0.0.2\"", "\"10.0.0.3\"");
    for after in [&another_user, &another_peer] {
        let mut stage = Stage::new();
        let mut enforced = stage.enforce(OF_ROOT);
        let (server, peer) = (enforced.stage.server().clone(), enforced.stage.peer().clone());
        let root = bind(&server, ROOT, V4.server, 4500);
        let bound = bind(&peer, ROOT, V4.peer, 7001);
        exchange(&root, &bound);
        if *after == another_user {
            let told = planned(&enforced, after);
            assert!(told.contains("flows of user root to udp/7001 end at once"), "{told}");
        }
        enforced.reload(after);
        is_denied(&mut enforced, &root, &bound, V4);
    }
}

/// Where no allow names users any more nobody asks: the flow goes on, until connection tracking
/// forgets it.
#[test]
fn t20_flows_go_on_without_an_allow_that_names_users() {
    let without = OF_ROOT.replace("udp/7001", "udp/7003");
    let nobody = OF_ROOT.replace(
        "[[allow]]\nfrom = \"server\"\nto = \"peer\"\nservice = \"udp/7001\"\nuser = \"root\"\n",
        "",
    );
    for after in [without, nobody] {
        let mut stage = Stage::new();
        let mut enforced = stage.enforce(OF_ROOT);
        let (server, peer) = (enforced.stage.server().clone(), enforced.stage.peer().clone());
        for addresses in BOTH {
            let bound = bind(&peer, ROOT, addresses.peer, 7001);
            exchange(&bind(&server, ROOT, addresses.server, 4500), &bound);
        }
        let told = planned(&enforced, &after);
        assert!(told.contains("flows of user root to udp/7001 go on while packets pass"), "{told}");
        assert!(!told.contains("end at once"), "{told}");
        enforced.reload(&after);
        let ends = BOTH.map(|addresses| {
            let root = bind(&server, ROOT, addresses.server, 4500);
            let bound = bind(&peer, ROOT, addresses.peer, 7001);
            exchange(&root, &bound);
            (root, bound, addresses)
        });
        server.namespace.forget_connections().unwrap();
        for (root, bound, addresses) in ends {
            is_denied(&mut enforced, &root, &bound, addresses);
        }
    }
}
