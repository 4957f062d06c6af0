//! The daemon, its table and its restart don't mind a trace.

use super::{POLICY, is_to, network, nft, server, trace};
use serde_json::Value;
use std::net::TcpStream;
use std::time::Duration;
use tierwall_tests::kernel::Kernel;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;
use tierwall_tests::trace::decision;

fn tierwall(server: &Server, arguments: &[&str]) -> String {
    let output = server.tierwall(arguments).unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{arguments:?}: {told}");
    told
}

fn status(server: &Server) -> Value {
    serde_json::from_str(&tierwall(server, &["status", "--json"])).unwrap()
}

fn knock(from: &Host, port: u16) {
    let address = format!("10.0.0.1:{port}").parse().unwrap();
    from.namespace.run(|| {
        // Whether it is let in, the trace says.
        let _ = TcpStream::connect_timeout(&address, Duration::from_millis(300));
    });
}

#[test]
fn the_daemon_goes_on_and_starts_again_as_ever() {
    // Where others may change the table, the daemon listens to what they do.
    for ownership in ["exclusive", "repair"] {
        let network = network();
        let server = server(&network);
        server.write("tierwall.toml", format!("ownership = \"{ownership}\"\n{POLICY}")).unwrap();
        let daemon = server.start(&[]).unwrap();
        let before = Kernel::of(server.host()).unwrap();
        let commits = |log: &str| log.matches(" committed ").count();
        let logged = daemon.log();
        let first = trace(&server, "--from any");
        knock(network.host("peer"), 80);
        // Commits go on while it lasts, and after it has ended.
        tierwall(&server, &["member", "add", "peers", "10.0.0.9"]);
        first.stop().unwrap();
        tierwall(&server, &["member", "remove", "peers", "10.0.0.9"]);
        let told = status(&server);
        assert!(told["kernel_problem"].is_null(), "{told}");
        let log = daemon.log()[logged.len()..].to_owned();
        assert_eq!(commits(&log), 2, "{log}");
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");

        let second = trace(&server, "--from any");
        daemon.stop().unwrap();
        let daemon = server.start(&[]).unwrap();
        second.kill().unwrap();
        daemon.stop().unwrap();
        let daemon = server.start(&[]).unwrap();
        let after = Kernel::of(server.host()).unwrap();
        assert_eq!(after.listing, before.listing, "{ownership}");
        // What a start sends at most is the message that adopts the table.
        let log = daemon.log()[logged.len() + log.len()..].to_owned();
        let starts = log.lines().filter(|line| line.contains(" committed "));
        let changed =
            starts.filter(|line| !line.contains("sets=\"\" rules_added=0 rules_deleted=0"));
        assert_eq!(changed.collect::<Vec<_>>(), [""; 0], "{log}");
        assert_eq!(log.matches("ready: generation 1, enforce").count(), 2, "{log}");
        daemon.stop().unwrap();
    }
}

#[test]
fn rules_that_change_meanwhile_are_named_by_their_new_lines() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let daemon = server.start(&[]).unwrap();
    let mut trace = trace(&server, "--from 10.0.0.2");
    knock(peer, 81);
    let denied = trace.packet(|packet| is_to(packet, "10.0.0.1", 81)).unwrap();
    assert_eq!(decision(&denied, "input").unwrap()["by"], "closing");
    let allow =
        "[[allow]]\nname = \"more\"\nfrom = \"peers\"\nto = \"server\"\nservice = \"tcp/82\"\n";
    server.write("tierwall.toml", format!("{POLICY}{allow}")).unwrap();
    tierwall(&server, &["reload"]);
    knock(peer, 82);
    let allowed = trace.packet(|packet| is_to(packet, "10.0.0.1", 82)).unwrap();
    let found = decision(&allowed, "input").unwrap();
    let line = POLICY.lines().count() + 1;
    assert_eq!(found["place"], format!("{}:{line}", server.config().display()), "{allowed}");
    daemon.stop().unwrap();
}

#[test]
fn lines_that_the_files_no_longer_have_are_told_by_the_kernels_names() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let daemon = server.start(&[]).unwrap();
    daemon.stop().unwrap();
    // Renamed, and never applied.
    server
        .write(
            "tierwall.toml",
            POLICY.replace("from    = \"peers\"", "name = \"web\"\nfrom = \"peers\""),
        )
        .unwrap();
    let mut known = trace(&server, "--from peers --service tcp/80");
    knock(peer, 80);
    let packet = known.packet(|packet| is_to(packet, "10.0.0.1", 80)).unwrap();
    let found = decision(&packet, "input").unwrap();
    assert_eq!((&found["verdict"], &found["by"]), (&"allowed".into(), &"allow".into()));
    assert_eq!(
        (&found["allow"], &found["place"]),
        (&"peers -> server tcp/80,udp/53".into(), &Value::Null)
    );
    let words = found["words"].as_str().unwrap();
    assert!(words.contains("which the policy files don't have"), "{words}");
    assert!(known.notes[0].contains("what is enforced isn't known"), "{:?}", known.notes);
    known.stop().unwrap();

    server.write("tierwall.toml", "role = ").unwrap();
    let mut unknown = trace(&server, "--from 10.0.0.2 --service tcp/80");
    assert!(unknown.notes[0].contains("can't be read as a policy"), "{:?}", unknown.notes);
    knock(peer, 80);
    let packet = unknown.packet(|packet| is_to(packet, "10.0.0.1", 80)).unwrap();
    assert_eq!(decision(&packet, "input").unwrap()["verdict"], "allowed");
}

#[test]
fn a_table_that_is_not_ours_is_not_taken_for_it() {
    let network = network();
    let server = server(&network);
    nft(
        server.host(),
        "table inet filter { chain input { type filter hook input priority 0; tcp dport 80 drop; }; }",
    );
    let mut trace = trace(&server, "--service tcp/80");
    knock(network.host("peer"), 80);
    let packet = trace.packet(|packet| is_to(packet, "10.0.0.1", 80)).unwrap();
    let chain = &packet["chains"][0];
    assert_eq!((&chain["ours"], &chain["decision"]), (&false.into(), &Value::Null));
    assert_eq!(packet["verdict"], "denied");
}
