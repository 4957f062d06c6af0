//! What is told of a packet, by what became of it.

use super::{is_to, network, nft, server, trace};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;
use tierwall_tests::network::Host;
use tierwall_tests::probe::{DENIED_LIMIT, Probe};
use tierwall_tests::service::Service;
use tierwall_tests::trace::decision;

/// Whether a connection is made.
fn connects(from: &Host, to: &str) -> bool {
    let address: SocketAddr = to.parse().unwrap();
    from.namespace.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(400)).is_ok())
}

fn listen(host: &Host, address: &str) -> TcpListener {
    host.namespace.run(|| TcpListener::bind(address).unwrap())
}

#[test]
fn accepted_established_and_denied() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let daemon = server.start(&[]).unwrap();
    for (own, other, at) in
        [("10.0.0.1", "10.0.0.2", "10.0.0.1"), ("fd00::1", "fd00::2", "[fd00::1]")]
    {
        let _listener = listen(server.host(), &format!("{at}:80"));
        let mut trace = trace(&server, &format!("--from {other} --both"));
        assert!(connects(peer, &format!("{at}:80")));
        let opening = trace.packet(|packet| is_to(packet, own, 80)).unwrap();
        assert_eq!(opening["tcp_flags"], json!(["syn"]));
        assert_eq!((&opening["input"], &opening["output"]), (&json!("eth0"), &Value::Null));
        let found = decision(&opening, "input").unwrap();
        assert_eq!(found["place"], format!("{}:6", server.config().display()), "{opening}");
        assert_eq!((&found["verdict"], &found["by"]), (&json!("allowed"), &json!("allow")));
        assert_eq!(
            (&opening["verdict"], &opening["end"]),
            (&json!("allowed"), &json!("delivered"))
        );
        let tiers = (&opening["source_tiers"], &opening["destination_tiers"]);
        assert_eq!(tiers, (&json!(["peers"]), &json!(["server"])));

        let answer =
            trace.packet(|packet| packet["source"] == own && packet["source_port"] == 80).unwrap();
        assert_eq!(answer["tcp_flags"], json!(["syn", "ack"]));
        assert_eq!(decision(&answer, "output").unwrap()["rule"], "established");
        assert_eq!(answer["end"], "sent");
        let later =
            |packet: &Value| is_to(packet, own, 80) && packet["tcp_flags"] == json!(["ack"]);
        let later = trace.packet(later).unwrap();
        assert_eq!(decision(&later, "input").unwrap()["rule"], "established");

        assert!(!connects(peer, &format!("{at}:81")));
        let denied = trace.packet(|packet| is_to(packet, own, 81)).unwrap();
        let found = decision(&denied, "input").unwrap();
        assert_eq!((&found["by"], &found["how"]), (&json!("closing"), &json!("dropped")));
        assert_eq!((&denied["verdict"], &denied["end"]), (&json!("denied"), &json!("dropped")));
        let (_, summary) = trace.stop().unwrap();
        assert_eq!(summary["losses"], 0, "{summary}");
    }
    daemon.stop().unwrap();
}

#[test]
fn only_what_was_asked_for() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let daemon = server.start(&[]).unwrap();
    let _listeners = ["0.0.0.0:80", "[fd00::1]:80"].map(|at| listen(server.host(), at));
    let mut port = trace(&server, "--service tcp/80-90");
    let mut family = trace(&server, "--from fd00::/16 --to self");
    for to in ["10.0.0.1:79", "10.0.0.1:80", "[fd00::1]:80", "10.0.0.1:91", "10.0.0.1:90"] {
        connects(peer, to);
    }
    port.packet(|packet| is_to(packet, "10.0.0.1", 90)).unwrap();
    family.packet(|packet| is_to(packet, "fd00::1", 80)).unwrap();
    let (packets, _) = port.stop().unwrap();
    let ports: Vec<u64> =
        packets.iter().map(|packet| packet["destination_port"].as_u64().unwrap()).collect();
    assert!(ports.iter().all(|port| [80, 90].contains(port)), "{ports:?}");
    let (packets, _) = family.stop().unwrap();
    // Also neighbour discovery, but nothing of the other family, and no answers.
    assert!(packets.iter().all(|packet| packet["destination"] == "fd00::1"), "{packets:#?}");
    daemon.stop().unwrap();
}

#[test]
fn what_connection_tracking_calls_invalid() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let mut trace = trace(&server, "--service tcp/80");
    network.host("peer").namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
        // No flag is set.
        let segment = [&[0x9c, 0x40, 0, 80][..], &[0; 8], &[0x50], &[0; 7]].concat();
        let to: SocketAddr = "10.0.0.1:0".parse().unwrap();
        socket.send_to(&segment, &SockAddr::from(to)).unwrap();
    });
    let packet = trace.packet(|packet| is_to(packet, "10.0.0.1", 80)).unwrap();
    let found = decision(&packet, "input").unwrap();
    assert_eq!((&found["rule"], &found["verdict"]), (&json!("invalid"), &json!("denied")));
    assert_eq!(packet["tcp_flags"], json!([]));
    daemon.stop().unwrap();
}

#[test]
fn what_this_server_opens_goes_by_its_user() {
    let network = network();
    let server = server(&network);
    let daemon = server.start(&[]).unwrap();
    let mut trace = trace(&server, "--from self --service tcp/443");
    let target = "10.0.0.2".parse().unwrap();
    let probe = Probe::new(target, Service::Tcp(443), DENIED_LIMIT);
    probe.run(server.host()).unwrap();
    let denied = trace.packet(|packet| packet["verdict"] == "denied").unwrap();
    let found = decision(&denied, "output").unwrap();
    assert_eq!(
        (&found["by"], &found["how"]),
        (&json!("closing"), &json!("refused with a TCP reset"))
    );
    Probe { user: Some("daemon".into()), ..probe }.run(server.host()).unwrap();
    let allowed = trace.packet(|packet| packet["verdict"] == "allowed").unwrap();
    let found = decision(&allowed, "output").unwrap();
    assert_eq!(found["allow"], "updates");
    assert_eq!(found["place"], format!("{}:10", server.config().display()));
    assert_eq!((&allowed["input"], &allowed["output"]), (&Value::Null, &json!("eth0")));
    daemon.stop().unwrap();
}

#[test]
fn what_would_be_forwarded() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    server.host().namespace.sysctl("net.ipv4.ip_forward", "1").unwrap();
    let route = ["route", "add", "10.9.9.9", "via", "10.0.0.1", "dev", "eth0"];
    peer.namespace.command("ip", &route).unwrap();
    let daemon = server.start(&[]).unwrap();
    let mut trace = trace(&server, "--to 10.9.9.9");
    assert!(!connects(peer, "10.9.9.9:80"));
    let packet = trace.packet(|packet| is_to(packet, "10.9.9.9", 80)).unwrap();
    let found = decision(&packet, "forward").unwrap();
    assert_eq!((&found["verdict"], &packet["end"]), (&json!("denied"), &json!("dropped")));
    assert_eq!(found["words"], "dropped: this server forwards nothing");
    daemon.stop().unwrap();
}

#[test]
fn what_another_table_drops() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let daemon = server.start(&[]).unwrap();
    let table = "table ip other {
        chain early { type filter hook prerouting priority raw; jump more; }
        chain more { udp dport 1 accept; tcp dport 80 counter drop comment \"no web\"; }
        chain late { type filter hook input priority 100; policy drop; }
    }";
    let mut trace = trace(&server, "--from 10.0.0.2");
    nft(server.host(), table);
    assert!(!connects(peer, "10.0.0.1:80"));
    let packet = trace.packet(|packet| is_to(packet, "10.0.0.1", 80)).unwrap();
    assert_eq!((&packet["verdict"], &packet["end"]), (&json!("denied"), &json!("dropped")));
    let [chain] = &packet["chains"].as_array().unwrap()[..] else { panic!("{packet}") };
    assert_eq!((&chain["family"], &chain["table"]), (&json!("ip"), &json!("other")));
    assert_eq!((&chain["chain"], &chain["hook"]), (&json!("early"), &json!("prerouting")));
    assert_eq!((&chain["ours"], &chain["decision"]), (&json!(false), &Value::Null));
    let steps = chain["steps"].as_array().unwrap();
    assert_eq!(steps[0]["verdict"], "jump more");
    let last = steps.last().unwrap();
    assert_eq!((&last["chain"], &last["comment"]), (&json!("more"), &json!("no web")));
    assert_eq!(last["verdict"], "drop");
    let listing = server.host().namespace.command("nft", &["-a", "list", "table", "ip", "other"]);
    let handle = format!("\"no web\" # handle {}", last["handle"]);
    assert!(listing.as_ref().unwrap().contains(&handle), "{handle}: {listing:?}");

    // One that drops behind ours, by its policy.
    peer.namespace.run(|| {
        let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
        socket.send_to(b"x", "10.0.0.1:53").unwrap();
    });
    let packet = trace.packet(|packet| is_to(packet, "10.0.0.1", 53)).unwrap();
    assert_eq!(packet["verdict"], "denied");
    assert_eq!(decision(&packet, "input").unwrap()["verdict"], "allowed");
    let last = packet["chains"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["chain"], &last["priority"]), (&json!("late"), &json!(100)));
    assert_eq!(last["steps"].as_array().unwrap().last().unwrap()["by"], "policy");
    daemon.stop().unwrap();
}

#[test]
fn what_routing_takes_is_not_heard_of_again() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    // Not for this server, which forwards nothing.
    let route = ["route", "add", "10.9.9.9", "via", "10.0.0.1", "dev", "eth0"];
    peer.namespace.command("ip", &route).unwrap();
    let mut trace = trace(&server, "--to 10.9.9.9");
    assert!(!connects(peer, "10.9.9.9:80"));
    let packet = trace.packet(|packet| is_to(packet, "10.9.9.9", 80)).unwrap();
    assert_eq!((&packet["verdict"], &packet["end"]), (&json!("unknown"), &json!("unheard")));
    assert_eq!(packet["chains"], json!([]));
}

#[test]
fn errors_about_what_was_sent_are_answers_too() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let daemon = server.start(&[]).unwrap();
    let mut trace = trace(&server, "--from peers --service udp/53 --both");
    for (own, to) in [("10.0.0.2:0", "10.0.0.1"), ("[fd00::2]:0", "fd00::1")] {
        peer.namespace.run(|| {
            let socket = UdpSocket::bind(own).unwrap();
            socket.send_to(b"x", (to, 53)).unwrap();
        });
        let request = trace.packet(|packet| is_to(packet, to, 53)).unwrap();
        assert_eq!(request["end"], "delivered");
        // Nothing listens there.
        let is_error = |packet: &Value| packet["source"] == to && !packet["icmp_type"].is_null();
        let unreachable: &[u64] = if to == "10.0.0.1" { &[3] } else { &[1] };
        let error = trace
            .packet(|packet| {
                is_error(packet) && unreachable.contains(&packet["icmp_type"].as_u64().unwrap())
            })
            .unwrap();
        assert_eq!(decision(&error, "output").unwrap()["rule"], "related");
        assert_eq!(error["end"], "sent");
    }
    daemon.stop().unwrap();
}

#[test]
fn sides_of_many_ranges_and_up_to_the_last_address() {
    let network = network();
    let (server, peer) = (server(&network), network.host("peer"));
    let many: Vec<String> = (0..5000u32)
        .map(|n| format!("\"11.{}.{}.{}\"", n >> 14, n >> 6 & 255, (n & 63) * 4))
        .collect();
    let many = format!("[\"10.0.0.2\", \"fd00::2\", {}]", many.join(", "));
    let policy = super::POLICY.replace("[\"10.0.0.2\", \"fd00::2\"]", &many);
    server.write("tierwall.toml", policy).unwrap();
    let mut from_many = trace(&server, "--from peers --to 0.0.0.0/0");
    let mut to_upper =
        trace(&server, "--from ::/0 --to fd00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    connects(peer, "10.0.0.1:80");
    connects(peer, "[fd00::1]:80");
    from_many.packet(|packet| is_to(packet, "10.0.0.1", 80)).unwrap();
    to_upper.packet(|packet| is_to(packet, "fd00::1", 80)).unwrap();
    let (packets, _) = from_many.stop().unwrap();
    // What the other trace marks is none of its business.
    assert!(packets.iter().all(|packet| packet["source"] == "10.0.0.2"), "{packets:#?}");
    let listing = server.nft_list(&format!("set inet {} to_v6", to_upper.table)).unwrap();
    assert!(listing.contains("fd00::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), "{listing}");
}
