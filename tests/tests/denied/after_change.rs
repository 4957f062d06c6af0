//! What a change made denied: told beside what was before, for each generation.

use super::{network, server};
use serde_json::Value;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;
use tierwall_tests::source_port;

const POLICY: &str = "\
role = \"server\"
[tiers]
server = [\"10.0.0.1\"]
peers  = [\"10.0.0.2-10.0.0.9\"]
[[allow]]
from = \"peers\"
to = \"server\"
service = [\"udp/1000-2000\"]
";

/// Begins so many connections, each from a port of its own.
fn begin(host: &Host, port: u16, count: usize) {
    host.namespace.run(|| {
        for _ in 0..count {
            let socket = UdpSocket::bind(("10.0.0.2", source_port::fresh())).unwrap();
            socket.send_to(b"?", ("10.0.0.1", port)).unwrap();
        }
    });
}

fn json(server: &Server, command: &str) -> Value {
    let output = server.tierwall(&[command, "--json"]).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Asks until the answer is as wanted.
fn when(server: &Server, command: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let answer = json(server, command);
        if wanted(&answer) {
            return answer;
        }
        assert!(start.elapsed() < super::LISTED, "{answer:#}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn text(server: &Server, command: &str) -> String {
    String::from_utf8(server.tierwall(&[command]).unwrap().stdout).unwrap()
}

#[test]
fn denials_before_and_after_each_generation() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    assert!(json(&server, "status")["after_change"].is_null(), "there was none yet");
    // Noise: denied before and after.
    begin(network.host("peer"), 3000, 3);
    let rates = |past: &Value, index: usize, when: &str| {
        past[index]["denials"][when]["connections"].as_u64().unwrap()
    };
    when(&server, "history", |past| rates(past, 0, "after") == 3);

    server.write("tierwall.toml", POLICY.replace("1000-2000", "1500-2000")).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    begin(network.host("peer"), 3000, 2);
    begin(network.host("peer"), 1200, 4);
    let status = when(&server, "status", |status| status["after_change"]["newly_denied"] == 4);
    assert_eq!(status["after_change"]["alarm"], false, "{status:#}");
    assert_eq!(status["after_change"]["reason"], "reload");
    assert!(text(&server, "status").contains("generation 1 let 4 of them through"));
    begin(network.host("peer"), 1200, 1);
    let status = when(&server, "status", |status| status["after_change"]["newly_denied"] == 5);
    assert_eq!(status["after_change"]["alarm"], true, "{status:#}");
    let past = json(&server, "history");
    assert_eq!((rates(&past, 0, "after"), rates(&past, 1, "before")), (3, 3), "{past:#}");
    assert_eq!(rates(&past, 1, "after"), 7, "{past:#}");
    assert!(text(&server, "history").contains("denied a minute: 3 before, 7 after"));

    // A way back makes nothing denied.
    assert!(server.tierwall(&["rollback"]).unwrap().status.success());
    begin(network.host("peer"), 1200, 2);
    begin(network.host("peer"), 3000, 1);
    let status = when(&server, "status", |status| {
        status["after_change"]["rates"]["after"]["connections"] == 1
    });
    let change = &status["after_change"];
    assert_eq!((&change["newly_denied"], &change["alarm"]), (&0.into(), &false.into()));
    assert_eq!((&change["generation"], &change["before"]), (&3.into(), &2.into()));
    daemon.stop().unwrap();
}

/// A member that is gone by mistake is no generation, and told all the same.
#[test]
fn a_change_of_members_is_one_too() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    server.write("tierwall.toml", POLICY.replace("10.0.0.2-", "10.0.0.3-")).unwrap();
    when(&server, "status", |status| status["last_commit"]["reason"] == "members changed");
    // What comes behind doesn't hide it.
    server
        .write("tierwall.toml", POLICY.replace("10.0.0.2-10.0.0.9", "10.0.0.3-10.0.0.8"))
        .unwrap();
    when(&server, "status", |status| status["last_commit"]["sets"]["peers_v4"]["deleted"] == 1);
    thread::sleep(Duration::from_millis(100));
    begin(network.host("peer"), 1200, 6);
    let status = when(&server, "status", |status| status["after_change"]["newly_denied"] == 6);
    let change = &status["after_change"];
    assert_eq!((&change["generation"], &change["before"]), (&1.into(), &1.into()), "{change:#}");
    assert_eq!(change["most"][0]["from"], "peers", "the tier that it was in");
    let told = text(&server, "status");
    assert!(told.contains("since members changed under generation 1"), "{told}");
    daemon.stop().unwrap();
}

/// On a side that observes nothing is denied, and it is told what would be.
#[test]
fn what_would_be_denied_is_compared_too() {
    let network = network();
    let observing = format!("mode = \"observe\"\n{POLICY}");
    let server = server(network.host("server"), &observing);
    let daemon = server.start(&[]).unwrap();
    server.write("tierwall.toml", observing.replace("1000-2000", "1500-2000")).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    begin(network.host("peer"), 1200, 5);
    begin(network.host("peer"), 3000, 5);
    let status = when(&server, "status", |status| status["after_change"]["newly_would_deny"] == 5);
    assert_eq!(status["after_change"]["newly_denied"], 0, "{status:#}");
    assert_eq!(status["after_change"]["alarm"], true);
    // To enforce it denies nothing that was allowed.
    server.write("tierwall.toml", POLICY.replace("1000-2000", "1500-2000")).unwrap();
    // Forced: no allow of this policy is a way in.
    assert!(server.tierwall(&["reload", "--force"]).unwrap().status.success());
    begin(network.host("peer"), 1200, 5);
    let status = when(&server, "status", |status| {
        status["after_change"]["rates"]["after"]["connections"] == 5
    });
    let change = &status["after_change"];
    assert_eq!(
        (&change["newly_denied"], &change["alarm"]),
        (&0.into(), &false.into()),
        "{change:#}"
    );
    daemon.stop().unwrap();
}
