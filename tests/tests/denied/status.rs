//! What `status` says of a side that only observes, who may ask, and what stands in the log.

use super::{POLICY, denied, network, server, wait_for};
use control::Status;
use std::net::UdpSocket;
use tierwall_tests::server::Server;

pub(super) fn status(server: &Server) -> Status {
    let output = server.tierwall(&["status", "--json"]).unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn status_says_since_when_a_side_observes_and_what_it_would_have_denied() {
    let network = network();
    let observing = format!("mode = {{ input = \"observe\", output = \"enforce\" }}\n{POLICY}");
    let server = server(network.host("server"), &observing);
    let daemon = server.start(&[]).unwrap();
    let first = status(&server);
    let since = first.observing.input.unwrap();
    assert_eq!((first.observing.output, first.denials.would_deny_flows), (None, 0));
    network.host("peer").namespace.run(|| {
        for port in [1, 1, 2, 3] {
            UdpSocket::bind("10.0.0.2:0").unwrap().send_to(b"?", ("10.0.0.1", port)).unwrap();
        }
    });
    wait_for(&server, &[], |answer| answer.losses.read >= 4);
    let text = server.tierwall(&["status"]).unwrap();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("3 different flows would have been denied"), "{text}");
    let later = status(&server);
    assert_eq!((later.denials.would_deny_flows, later.denials.denied), (3, 0), "{later:?}");
    // The tail of it: ICMP errors that answer, which are the server's own.
    daemon.stop().unwrap();

    // It outlives the daemon, and ends with the mode.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let daemon = server.start(&[]).unwrap();
    assert_eq!(status(&server).observing.input, Some(since));
    server.write("tierwall.toml", POLICY).unwrap();
    // Forced: no allow of this policy is a way in.
    assert!(server.tierwall(&["reload", "--force"]).unwrap().status.success());
    assert_eq!(status(&server).observing, control::Observing::default());
    let text = String::from_utf8(server.tierwall(&["status"]).unwrap().stdout).unwrap();
    assert!(!text.contains("different flow"), "{text}");
    daemon.stop().unwrap();
}

#[test]
fn denials_are_told_in_the_log_field_by_field() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    network.host("peer").namespace.run(|| {
        UdpSocket::bind("10.0.0.2:4321").unwrap().send_to(b"?", "10.0.0.1:1234").unwrap();
    });
    server.host().namespace.run(|| {
        UdpSocket::bind("10.0.0.1:0").unwrap().send_to(b"?", "10.0.0.2:53").unwrap_err();
    });
    wait_for(&server, &[], |answer| answer.losses.read >= 2);
    let log = daemon.log();
    let line = |what: &str| {
        log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{log}"))
    };
    let came = line("side=\"input\"");
    for field in [
        "denied",
        "source=10.0.0.2",
        "destination=10.0.0.1",
        "service=udp/1234",
        "interface=\"eth0\"",
    ] {
        assert!(came.contains(field), "{field}: {came}");
    }
    assert!(!came.contains("uid="), "{came}");
    let went = line("side=\"output\"");
    assert!(went.contains("uid=0") && went.contains("service=udp/53"), "{went}");
    daemon.stop().unwrap();
}

#[test]
fn who_may_ask_for_status_may_ask_what_was_denied() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&["--group", "daemon"]).unwrap();
    for (group, may) in [("daemon", true), ("nogroup", false)] {
        let output = server.tierwall_in_group(group, &["denied"]).unwrap();
        assert_eq!(output.status.success(), may, "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(denied(&server, &[]).groups.is_empty());
    daemon.stop().unwrap();
}

#[test]
fn a_second_reader_of_the_group_is_told() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let taken =
        network.host("server").namespace.run(|| netlink::PacketLog::open(policy::LOG_GROUP));
    let taken = taken.unwrap();
    let daemon = server.start(&[]).unwrap();
    let start = std::time::Instant::now();
    while status(&server).unwatched.is_empty() {
        assert!(start.elapsed() < super::LISTED);
    }
    let told = status(&server).unwatched.join("\n");
    assert!(told.contains("another program reads the NFLOG group"), "{told}");
    assert_eq!(denied(&server, &[]).losses.reading_since, None);
    drop(taken);
    wait_for(&server, &[], |answer| answer.losses.reading_since.is_some());
    assert!(status(&server).unwatched.is_empty());
    daemon.stop().unwrap();
}
