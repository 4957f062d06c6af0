//! Every number that `tierwall denied` and `status` tell of denials, against packets that a test
//! sent.
//!
//! | number | traced by |
//! | --- | --- |
//! | `since`, `until`, `losses.reading_since` | [`times_and_generations_are_those_of_the_packets`] |
//! | `totals`: connections, retries, by direction and fate | [`each_direction_and_fate_is_counted_by_itself`] |
//! | `totals.minutes` | the same; older minutes: unit tests of `denials/history.rs`, by a made-up clock |
//! | a group's connections and retries | the same, and `scenarios` for every denied probe |
//! | a group's source, destination, service | `scenarios`, the same |
//! | a group's user | `scenarios` (users), the same for packets without one |
//! | a group's tiers, interface | `accounting::what_the_limit_of_a_peer_holds_back_is_counted` |
//! | a group's generation, first, last | [`times_and_generations_are_those_of_the_packets`] |
//! | a group's `uncertain`, `rest` | [`what_had_no_place_is_in_the_rest_and_no_more_is_uncertain_than_was_sent`] |
//! | `left_out` | the same |
//! | sums by destination, source, user, service, tier, generation | `accounting::every_way_to_sum_up_has_the_same_sum` |
//! | `--since` | the same, of what was just sent; what is older: `denials/history.rs` |
//! | `losses.read` | [`each_direction_and_fate_is_counted_by_itself`] |
//! | `losses.lost` | `accounting::what_came_too_fast_is_counted_as_lost` |
//! | `losses.unknown` | [`what_another_rule_logs_is_unknown`] |
//! | `losses.limits`: packets, logged, held back | [`each_direction_and_fate_is_counted_by_itself`], `accounting` for what was held back |
//! | `status`: denied, would be denied | [`each_direction_and_fate_is_counted_by_itself`] |
//! | `status`: at least | [`what_had_no_place_is_in_the_rest_and_no_more_is_uncertain_than_was_sent`] |
//! | `status`: lost | `accounting::what_came_too_fast_is_counted_as_lost` |

use super::accounting::{input, send, send_from_everywhere};
use super::status::status;
use super::{POLICY, denied, network, server, wait_for};
use control::{DenialCount, DenialFate, DenialGroup, Denials, Direction};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tierwall_tests::network::Host;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Sends TCP segments without any flag, which belong to no connection.
fn send_without_flags(host: &Host, port: u16, count: usize) {
    host.namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::TCP)).unwrap();
        let to = SocketAddr::from((SERVER, 0)).into();
        let mut segment = [0u8; 20];
        segment[..2].copy_from_slice(&40_000u16.to_be_bytes());
        segment[2..4].copy_from_slice(&port.to_be_bytes());
        segment[12] = 5 << 4;
        for _ in 0..count {
            assert_eq!(socket.send_to(&segment, &to).unwrap(), segment.len());
        }
    });
}

fn count(connections: u64, retries: u64) -> DenialCount {
    DenialCount { connections, retries }
}

fn total(answer: &Denials, direction: Direction, fate: DenialFate) -> DenialCount {
    let is_it = |total: &&control::DenialTotal| (total.direction, total.fate) == (direction, fate);
    answer.totals.iter().find(is_it).map(|total| total.count).unwrap_or_default()
}

fn group<'a>(answer: &'a Denials, direction: Direction, service: &str) -> &'a DenialGroup {
    let is_it = |group: &&DenialGroup| {
        group.direction == direction && group.service.as_deref() == Some(service)
    };
    let groups: Vec<&DenialGroup> = answer.groups.iter().filter(is_it).collect();
    let [group] = groups[..] else { panic!("{direction:?} {service}: {answer:#?}") };
    group
}

/// Input, output, forward, and what is invalid: each sent in another number.
#[test]
fn each_direction_and_fate_is_counted_by_itself() {
    for (mode, denied_as, invalid_as) in [
        ("enforce", DenialFate::Denied, DenialFate::Invalid),
        ("observe", DenialFate::WouldDeny, DenialFate::WouldDropInvalid),
    ] {
        let network = network();
        let (own, peer) = (network.host("server"), network.host("peer"));
        own.namespace.sysctl("net.ipv4.ip_forward", "1").unwrap();
        // It would tell the peer of a shorter way, with a packet of its own.
        for interface in ["all", "eth0"] {
            let name = format!("net.ipv4.conf.{interface}.send_redirects");
            own.namespace.sysctl(&name, "0").unwrap();
        }
        peer.namespace.command("ip", &["route", "add", "192.0.2.9", "via", "10.0.0.1"]).unwrap();
        // A closed port would answer with a reset, which is invalid too.
        let _listener = own.namespace.run(|| TcpListener::bind((SERVER, 9))).unwrap();
        let server = server(own, &format!("mode = \"{mode}\"\n{POLICY}"));
        let daemon = server.start(&[]).unwrap();

        for (port, packets) in [(3000, 2), (3001, 1), (3002, 4)] {
            send(peer, port, packets);
        }
        send_without_flags(peer, 9, 5);
        peer.namespace.run(|| {
            let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
            for _ in 0..3 {
                socket.send_to(b"?", "192.0.2.9:4000").unwrap();
            }
        });
        own.namespace.run(|| {
            for port in [5000, 5001] {
                let socket = UdpSocket::bind((SERVER, 0)).unwrap();
                for _ in 0..6 {
                    // Refused where it is enforced.
                    let _ = socket.send_to(b"?", ("10.0.0.2", port));
                }
            }
        });
        let answer = wait_for(&server, &[], |answer| answer.losses.read >= 7 + 5 + 3 + 12);
        assert_eq!(answer.losses.read, 27, "{answer:#?}");
        assert_eq!((answer.losses.lost, answer.losses.unknown), (0, 0));

        let expected = [
            (Direction::Input, denied_as, count(3, 4)),
            (Direction::Input, invalid_as, count(1, 4)),
            (Direction::Output, denied_as, count(2, 10)),
            (Direction::Forward, denied_as, count(1, 2)),
        ];
        assert_eq!(answer.totals.len(), expected.len(), "{answer:#?}");
        for (direction, fate, count) in expected {
            assert_eq!(total(&answer, direction, fate), count, "{direction:?} {fate:?}");
        }
        for total in &answer.totals {
            let [earlier @ .., before, present] = &total.minutes[..] else { panic!("no minutes") };
            assert_eq!(u64::from(before + present), total.count.connections, "{total:?}");
            assert!(earlier.len() == 58 && earlier.iter().all(|minute| *minute == 0), "{total:?}");
        }
        for (direction, service, sent) in [
            (Direction::Input, "udp/3000", count(1, 1)),
            (Direction::Input, "udp/3001", count(1, 0)),
            (Direction::Input, "udp/3002", count(1, 3)),
            (Direction::Input, "tcp/9", count(1, 4)),
            (Direction::Output, "udp/5000", count(1, 5)),
            (Direction::Output, "udp/5001", count(1, 5)),
            (Direction::Forward, "udp/4000", count(1, 2)),
        ] {
            let group = group(&answer, direction, service);
            assert_eq!((group.count, group.uncertain), (sent, 0), "{group:?}");
            let user = (direction == Direction::Output).then_some(0);
            assert_eq!(group.user, user, "{group:?}");
            assert_eq!(group.interface.as_deref(), Some("eth0"), "{group:?}");
            let (source, destination): (Ipv4Addr, Ipv4Addr) = match direction {
                Direction::Input => ([10, 0, 0, 2].into(), SERVER),
                Direction::Output => (SERVER, [10, 0, 0, 2].into()),
                Direction::Forward => ([10, 0, 0, 2].into(), [192, 0, 2, 9].into()),
            };
            let ends = (Some(source.into()), Some(destination.into()));
            assert_eq!((group.source, group.destination), ends);
        }
        assert_eq!(answer.groups.len(), 7);
        for (direction, packets) in
            [(Direction::Input, 12), (Direction::Output, 12), (Direction::Forward, 3)]
        {
            let limits = &answer.losses.limits;
            let limit = limits.iter().find(|limit| limit.direction == direction).unwrap();
            assert_eq!((limit.packets, limit.logged, limit.held_back), (packets, packets, 0));
        }
        let summary = status(&server).denials;
        let told = (summary.denied, summary.would_deny_flows, summary.at_least, summary.lost);
        // What was dropped as invalid is no connection that a policy denied.
        let expected = if mode == "enforce" { (6, 0, false, 0) } else { (0, 7, false, 0) };
        assert_eq!(told, expected, "{mode}");
        daemon.stop().unwrap();
    }
}

#[test]
fn times_and_generations_are_those_of_the_packets() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let began = now();
    let daemon = server.start(&[]).unwrap();
    let ready = now();
    let generation = status(&server).generation;
    let sent = now();
    send(network.host("peer"), 3000, 3);
    let answer = wait_for(&server, &[], |answer| answer.losses.read == 3);
    let read = now();
    let reading_since = answer.losses.reading_since.unwrap();
    assert!((began..=ready).contains(&reading_since), "{answer:#?}");
    assert!((began..=ready).contains(&answer.since), "{answer:#?}");
    assert!((sent..=read).contains(&answer.until), "{answer:#?}");
    let [group] = &answer.groups[..] else { panic!("{answer:#?}") };
    assert!((sent..=read).contains(&group.first) && (group.first..=read).contains(&group.last));
    assert_eq!(group.generation, Some(generation));
    let first = group.first;

    // Another policy, some time later.
    std::thread::sleep(Duration::from_millis(1100));
    let allow = "[[allow]]\nfrom = \"peers\"\nto = \"server\"\nservice = \"tcp/22\"\n";
    server.write("tierwall.toml", format!("{POLICY}{allow}")).unwrap();
    assert!(server.tierwall(&["reload"]).unwrap().status.success());
    let next = status(&server).generation;
    assert!(next > generation);
    let sent = now();
    send(network.host("peer"), 3000, 2);
    let answer = wait_for(&server, &[], |answer| answer.losses.read == 5);
    let [group] = &answer.groups[..] else { panic!("{answer:#?}") };
    assert_eq!((group.first, group.generation), (first, Some(next)), "{group:#?}");
    assert!((sent..=now()).contains(&group.last) && group.last > first, "{group:#?}");
    let answer = denied(&server, &["--by", "generation"]);
    let of = |generation: u64| {
        let is_it = |group: &&DenialGroup| group.generation == Some(generation);
        answer.groups.iter().find(is_it).map(|group| group.count)
    };
    // Each came from a port of its own.
    assert_eq!((of(generation), of(next)), (Some(count(1, 2)), Some(count(1, 1))));
    assert_eq!(answer.groups.len(), 2);
    let since = denied(&server, &["--since", "10m"]).since;
    assert!((began..=ready).contains(&since), "nothing was read before");
    daemon.stop().unwrap();
}

#[test]
fn what_another_rule_logs_is_unknown() {
    const SENT: usize = 7;
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    let rules = format!(
        "table inet other {{\n chain early {{ type filter hook input priority -300;\n\
         udp dport 3000 log prefix \"somebody else: \" group {} drop\n }}\n }}\n",
        policy::LOG_GROUP
    );
    let host = network.host("server");
    host.namespace.command_with_input("nft", &["-f", "-"], &rules).unwrap();
    send(network.host("peer"), 3000, SENT);
    send(network.host("peer"), 3001, 2);
    let answer = wait_for(&server, &[], |answer| answer.losses.read == SENT as u64 + 2);
    assert_eq!(answer.losses.unknown, SENT as u64, "{answer:#?}");
    let [group] = &answer.groups[..] else { panic!("{answer:#?}") };
    assert_eq!(group.count, count(1, 1));
    assert_eq!(total(&answer, Direction::Input, DenialFate::Denied), count(1, 1));
    daemon.stop().unwrap();
}

/// More strangers than have a place, then a member that comes back.
#[test]
fn what_had_no_place_is_in_the_rest_and_no_more_is_uncertain_than_was_sent() {
    const SOURCES: u32 = 6000;
    const PORTS: std::ops::Range<u16> = 3100..3120;
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    let peer = network.host("peer");
    for port in PORTS {
        send(peer, port, 3);
    }
    wait_for(&server, &[], |answer| answer.losses.read == 60);
    let answer = denied(&server, &["--limit", "4"]);
    assert_eq!((answer.groups.len(), answer.left_out), (4, 16), "{answer:#?}");
    assert_eq!(answer.rest, DenialCount::default());
    assert!(!status(&server).denials.at_least);

    send_from_everywhere(peer, SOURCES);
    let flood = u64::from(SOURCES) + 60;
    wait_for(&server, &[], |answer| answer.losses.read == flood);
    for port in PORTS {
        send(peer, port, 2);
    }
    let sent = flood + 40;
    // Strangers have as many, and the member those of its own beside.
    for (by, places) in [("flow", 4096 + 20), ("source", 1024 + 1)] {
        let arguments = ["--by", by, "--limit", "100000"];
        let answer = wait_for(&server, &arguments, |answer| answer.losses.read == sent);
        assert_eq!((answer.groups.len(), answer.left_out), (places, 0), "{by}");
        assert_eq!(input(&answer).packets, sent);
        let packets = |count: DenialCount| count.connections + count.retries;
        let in_groups: u64 = answer.groups.iter().map(|group| packets(group.count)).sum();
        assert_eq!(in_groups + packets(answer.rest), sent, "{by}: {:?}", answer.rest);
        // Every source of the flood sent one packet, the peer three and two to each of 20 ports.
        let truth = |group: &DenialGroup| match (group.source, by) {
            (Some(source), "source") if source == Ipv4Addr::new(10, 0, 0, 2) => 100,
            (Some(source), _) if source == Ipv4Addr::new(10, 0, 0, 2) => 5,
            _ => 1,
        };
        for group in &answer.groups {
            let (counted, sent) = (packets(group.count), truth(group));
            let is_bounded = counted <= sent && sent <= counted + group.uncertain;
            assert!(is_bounded, "{by}: {group:#?}");
        }
        let mine = |group: &&DenialGroup| group.source == Some([10, 0, 0, 2].into());
        let kept = answer.groups.iter().filter(mine).count();
        assert_eq!(kept, if by == "source" { 1 } else { 20 }, "the member has a place");
        assert!(answer.groups.iter().filter(mine).all(|group| group.uncertain == 0), "{by}");
    }
    assert!(status(&server).denials.at_least);
    daemon.stop().unwrap();
}

#[test]
fn who_was_a_member_for_a_time_is_a_stranger_after_it() {
    let network = network();
    let policy = "role = \"server\"\n[tiers]\nserver = [\"10.0.0.1\"]\nguests = []\n";
    let server = server(network.host("server"), policy);
    let daemon = server.start(&[]).unwrap();
    let add = ["member", "add", "guests", "10.0.0.2", "--for", "2s"];
    assert!(server.tierwall(&add).unwrap().status.success());
    // Any port: nothing lets a guest in, either.
    send_without_flags(network.host("peer"), 80, 1);
    let tiers = |answer: &Denials| answer.groups.first().map(|group| group.source_tiers.clone());
    let guests = Some(vec!["guests".to_owned()]);
    let arguments = ["--by", "source"];
    wait_for(&server, &arguments, |answer| tiers(answer) == guests);
    wait_for(&server, &arguments, |answer| tiers(answer) == Some(Vec::new()));
    daemon.stop().unwrap();
}
