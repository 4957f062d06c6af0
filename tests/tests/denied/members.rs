//! A flood from forged addresses hides nothing that a member of a tier does.

use super::accounting::input;
use super::{POLICY, denied, network, server};
use control::{DenialGroup, Denials};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::flood::Flood;
use tierwall_tests::network::Host;
use tierwall_tests::server::Server;
use tierwall_tests::source_port;

/// More than each of the tables holds, in the kernel and in the daemon.
const SOURCES: u32 = 30_000;

const PROBES: u64 = 5;

/// How long a flood may take to use up what the limits grant.
const PATIENCE: Duration = Duration::from_secs(60);

/// A datagram to that port from each of so many ports of a member.
fn probe(host: &Host, port: u16) {
    let to = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), port));
    host.namespace.run(|| {
        for _ in 0..PROBES {
            let socket = UdpSocket::bind(("10.0.0.2", source_port::fresh())).unwrap();
            socket.send_to(b"?", to).unwrap();
        }
    });
}

fn flood() -> Flood {
    let to = SocketAddrV4::new([10, 0, 0, 1].into(), 3000);
    Flood { to, sources: SOURCES, ports: 1, per_second: None }
}

/// Floods the server until `during` has come to its end.
fn flooded<T>(host: &Host, during: impl FnOnce() -> T) -> T {
    let flood = flood();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            host.namespace.run(|| {
                while !is_over.load(Ordering::Acquire) {
                    flood.send(SOURCES as usize).unwrap();
                }
            });
        });
        // Also where it panics: else the flood would go on for ever.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        let done = {
            let _end = End(&is_over);
            during()
        };
        flooding.join().unwrap();
        done
    })
}

/// Waits until the limits hold back packets.
fn exhausted(server: &Server) -> Denials {
    let start = Instant::now();
    loop {
        let answer = denied(server, &[]);
        if input(&answer).held_back > u64::from(SOURCES) {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{answer:#?}");
    }
}

/// Waits until all is read that was logged. What was lost last shows with the next packet that isn't.
fn all_read(server: &Server, peer: &Host) -> Denials {
    let start = Instant::now();
    loop {
        let answer = denied(server, &["--limit", "10000"]);
        if answer.losses.read + answer.losses.lost == input(&answer).logged {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{:#?}", answer.losses);
        peer.namespace.run(|| flood().send(1)).unwrap();
        thread::sleep(Duration::from_millis(300));
    }
}

fn of_member(answer: &Denials) -> Vec<&DenialGroup> {
    let member = [10, 0, 0, 2].into();
    answer.groups.iter().filter(|group| group.source == Some(member)).collect()
}

#[test]
fn a_flood_from_forged_addresses_hides_no_probe_of_a_member() {
    let network = network();
    let allow = "[[allow]]\nfrom = \"peers\"\nto = \"server\"\nservice = \"tcp/22\"\n";
    let server = server(network.host("server"), &format!("{POLICY}{allow}"));
    let daemon = server.start(&[]).unwrap();
    let peer = network.host("peer");
    let mut attempts = 0;
    // What comes faster than the daemon can read is lost, and told: a machine that is busy with other
    // tests may give it no time. That says nothing about the limits.
    for port in 4000..4010 {
        let lost = denied(&server, &[]).losses.lost;
        flooded(peer, || {
            exhausted(&server);
            probe(peer, port);
        });
        let answer = all_read(&server, peer);
        attempts += 1;
        if answer.losses.lost > lost {
            continue;
        }
        let service = format!("udp/{port}");
        let flows = of_member(&answer);
        let probes = flows.iter().find(|group| group.service.as_ref() == Some(&service));
        let probes = probes.unwrap_or_else(|| panic!("no {service}: {flows:#?}"));
        assert_eq!(probes.count.connections, PROBES, "{probes:#?}");
        assert_eq!(probes.source_tiers, ["peers"]);
        let answer = denied(&server, &["--by", "source", "--limit", "10000"]);
        let [source] = of_member(&answer)[..] else { panic!("{:#?}", of_member(&answer)) };
        assert!(source.count.connections >= PROBES && source.uncertain == 0, "{source:#?}");
        let line = format!("source=10.0.0.2 destination=10.0.0.1 service={service}");
        let log = daemon.log();
        assert_eq!(log.matches(&line).count() as u64, PROBES, "{line}");
        daemon.stop().unwrap();
        return;
    }
    panic!("packets were lost in each of {attempts} attempts");
}
