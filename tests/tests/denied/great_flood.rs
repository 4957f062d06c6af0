//! A flood from everywhere: the daemon's memory is bounded, it answers, edits commit, and every packet
//! is accounted for.

use super::accounting::{input, is_accounted_for};
use super::{POLICY, denied, network, server, wait_for};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::flood::Flood;
use tierwall_tests::server::Server;

/// KiB that the daemon may grow by, whatever comes.
const GROWN: u64 = 16 << 10;

/// How long each of these took, the shortest first.
fn sorted(mut took: Vec<Duration>) -> Vec<Duration> {
    took.sort();
    took
}

/// Asks and edits for as long as the flood goes on; how long answers and edits took.
fn ask_and_edit(server: &Server, is_over: &AtomicBool) -> (Vec<Duration>, Vec<Duration>) {
    let (mut answers, mut edits) = (Vec::new(), Vec::new());
    for round in 0.. {
        for command in [&["status"][..], &["denied", "--by", "source"]] {
            let asked = Instant::now();
            let output = server.tierwall(command).unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            answers.push(asked.elapsed());
        }
        let member = Ipv4Addr::from_bits(0x0a01_0000 + round).to_string();
        let asked = Instant::now();
        let output = server.tierwall(&["member", "add", "peers", &member]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        edits.push(asked.elapsed());
        if is_over.load(Ordering::Acquire) {
            break;
        }
    }
    (sorted(answers), sorted(edits))
}

#[test]
fn a_flood_from_everywhere_is_lived_through() {
    let soak = std::env::var_os("TIERWALL_SOAK").is_some();
    let (packets, sources) = if soak { (10_000_000, 1_000_000) } else { (300_000, 30_000) };
    let policy =
        format!("{POLICY}[[allow]]\nfrom = \"peers\"\nto = \"server\"\nservice = \"tcp/22\"\n");
    let network = network();
    let server = server(network.host("server"), &policy);
    let daemon = server.start(&[]).unwrap();
    let before = daemon.memory().unwrap();
    let to = SocketAddrV4::new([10, 0, 0, 1].into(), 3000);
    let flood = Flood { to, sources, ports: 1000, per_second: None };
    let is_over = AtomicBool::new(false);
    let begun = Instant::now();
    let (took, (answers, edits)) = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let took = network.host("peer").namespace.run(|| flood.send(packets));
            is_over.store(true, Ordering::Release);
            took
        });
        let asked = ask_and_edit(&server, &is_over);
        (sender.join().unwrap().unwrap(), asked)
    });
    // What was lost last shows with the next packet that isn't.
    let sent = Cell::new(packets as u64);
    let answer = wait_for(&server, &[], |answer| {
        let is_all = is_accounted_for(answer, sent.get());
        if !is_all {
            network.host("peer").namespace.run(|| flood.send(1)).unwrap();
            sent.set(sent.get() + 1);
            // The kernel hands over what it collected after a tenth of a second.
            thread::sleep(Duration::from_millis(300));
        }
        is_all
    });
    let (losses, limit) = (&answer.losses, input(&answer));
    assert_eq!(losses.read + losses.lost + limit.held_back, sent.get(), "{answer:#?}");
    assert_eq!(losses.unknown, 0, "{answer:#?}");
    // What the kernel hands over, however long the flood took here: 20,000 and 10,000 a second.
    let most = 20_000 + 10_000 * (begun.elapsed().as_secs() + 1);
    assert!(limit.logged <= most, "{} of {most}: {answer:#?}", limit.logged);
    let grown = daemon.memory().unwrap().saturating_sub(before);
    assert!(grown < GROWN, "{grown} KiB more after a flood");
    // Each edit is in the kernel, and the sums are those of what was read.
    let listing = server.nft_list("set inet filter peers_v4").unwrap();
    assert!(listing.contains("10.1.0.0"), "{listing}");
    let answer = denied(&server, &["--by", "service"]);
    let [group] = &answer.groups[..] else { panic!("{answer:#?}") };
    assert_eq!(group.count.connections + group.count.retries, answer.losses.read);
    let middle = |took: &[Duration]| (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{packets} packets from {sources} sources in {took:?}: {} read, {} lost, {} held back; \
         answers took {:?} in the middle and at most, edits {:?}; {before} KiB before, {grown} more",
        losses.read,
        losses.lost,
        limit.held_back,
        middle(&answers),
        middle(&edits),
    );
    daemon.stop().unwrap();
}
