//! What was counted outlives the daemon.

use super::{POLICY, denied, network, server, wait_for};
use control::Denials;
use std::fs;
use std::net::UdpSocket;
use tierwall_tests::network::Host;
use tierwall_tests::source_port;

fn begin(host: &Host, port: u16, count: usize) {
    host.namespace.run(|| {
        for _ in 0..count {
            let socket = UdpSocket::bind(("10.0.0.2", source_port::fresh())).unwrap();
            socket.send_to(b"?", ("10.0.0.1", port)).unwrap();
        }
    });
}

fn connections(answer: &Denials) -> u64 {
    answer.totals.iter().map(|total| total.count.connections).sum()
}

#[test]
fn a_restart_goes_on_counting() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    begin(network.host("peer"), 3000, 3);
    begin(network.host("peer"), 4000, 2);
    let first = wait_for(&server, &[], |answer| connections(answer) == 5);
    daemon.stop().unwrap();
    let daemon = server.start(&[]).unwrap();
    let again = denied(&server, &[]);
    assert_eq!((&again.groups, &again.totals), (&first.groups, &first.totals));
    assert_eq!((again.losses.read, connections(&denied(&server, &["--since", "1h"]))), (0, 5));
    begin(network.host("peer"), 3000, 1);
    let answer = wait_for(&server, &[], |answer| connections(answer) == 6);
    let [flow, _] = &answer.groups[..] else { panic!("{answer:#?}") };
    assert_eq!((flow.service.as_deref(), flow.count.connections), (Some("udp/3000"), 4));
    assert_eq!(flow.first, first.groups[0].first);
    daemon.stop().unwrap();

    // Damaged, it is told, and counting begins anew; enforced is the policy all the same.
    let file = server.state_directory().join("denials");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    let daemon = server.start(&[]).unwrap();
    assert_eq!(connections(&denied(&server, &[])), 0);
    let told = "the denials that were kept can't be used; they begin anew";
    assert!(daemon.log().contains(told), "{}", daemon.log());
    begin(network.host("peer"), 3000, 1);
    wait_for(&server, &[], |answer| connections(answer) == 1);
    daemon.stop().unwrap();
}

/// A disk that can't take them costs them, and nothing else.
#[test]
fn a_disk_that_cannot_take_them_stops_nothing() {
    let network = network();
    let server = server(network.host("server"), POLICY);
    let daemon = server.start(&[]).unwrap();
    begin(network.host("peer"), 3000, 3);
    wait_for(&server, &[], |answer| connections(answer) == 3);
    // Root may write to any directory, but not a file where there is a directory.
    std::fs::create_dir(server.state_directory().join(".denials.new")).unwrap();
    daemon.stop().unwrap();
    let daemon = server.start(&[]).unwrap();
    assert!(daemon.log().contains("can't write the denials to the state directory"));
    assert_eq!(connections(&denied(&server, &[])), 0);
    assert!(server.nft_list("chain inet filter input").unwrap().contains("policy drop"));
    daemon.stop().unwrap();
}
