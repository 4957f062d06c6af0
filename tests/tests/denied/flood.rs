//! What it costs the daemon to read denied packets. In full only in a release build, and only when
//! asked for: `cargo nextest run --release -p tierwall-tests -E 'test(flood::)' --run-ignored all`.

use super::{POLICY, denied, network, server};
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use std::fs;
use std::io::IoSlice;
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};
use tierwall_tests::daemon::Daemon;
use tierwall_tests::network::Host;

const PACKETS: usize = 2_000_000;

/// Packets handed to the kernel in one call.
const BURST: usize = 64;

/// Processor time that the daemon has used. `/proc/PID/stat` counts in hundredths of a second.
fn processor_time(daemon: &Daemon) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap();
    // Behind the name, which is in parentheses: state is the third field.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

/// Sends datagrams from one port to as many ports.
fn flood(host: &Host, ports: u16, packets: usize) {
    host.namespace.run(|| {
        let socket = UdpSocket::bind("10.0.0.2:0").unwrap();
        let payload = [0u8; 18];
        let messages = vec![[IoSlice::new(&payload)]; BURST];
        let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BURST, None);
        let mut port = 0;
        for _ in 0..packets / BURST {
            let addresses: Vec<Option<SockaddrIn>> = (0..BURST)
                .map(|_| {
                    port = (port + 1) % ports;
                    Some(SocketAddrV4::new([10, 0, 0, 1].into(), 1000 + port).into())
                })
                .collect();
            let flags = MsgFlags::empty();
            sendmmsg(socket.as_raw_fd(), &mut headers, &messages, &addresses, [], flags).unwrap();
        }
    });
}

#[test]
#[ignore = "measures"]
fn a_processor_reads_half_a_million_packets_a_second() {
    for ports in [1, 1000, 60_000] {
        let network = network();
        let server = server(network.host("server"), POLICY);
        let daemon = server.start(&[]).unwrap();
        let rules = format!(
            "table inet unlimited {{\n chain early {{ type filter hook input priority -300;\n\
             meta l4proto udp log prefix \"tierwall input denied\" group {} drop\n }}\n }}\n",
            policy::LOG_GROUP
        );
        let host = network.host("server");
        host.namespace.command_with_input("nft", &["-f", "-"], &rules).unwrap();
        let (before, start) = (processor_time(&daemon), Instant::now());
        flood(network.host("peer"), ports, PACKETS);
        let sent_in = start.elapsed();
        // How long somebody waits for an answer meanwhile.
        let asked = Instant::now();
        denied(&server, &["--by", "service"]);
        let answered_in = asked.elapsed();
        thread::sleep(Duration::from_millis(500));
        let used = processor_time(&daemon) - before;
        let losses = denied(&server, &[]).losses;
        let cost = used.as_secs_f64() / losses.read as f64;
        println!(
            "{ports} flows: {PACKETS} sent in {sent_in:?}, {} read, {} lost, {used:?} of processor \
             time: {:.2} µs a packet, {:.0} a second; an answer took {answered_in:?}; {} KiB",
            losses.read,
            losses.lost,
            cost * 1e6,
            1.0 / cost,
            daemon.memory().unwrap(),
        );
        daemon.stop().unwrap();
    }
}
