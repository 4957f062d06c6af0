//! A host's own addresses while they come and go, as on a node of a cluster.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use tierwall_tests::network::Host;

/// The kernel marks a list that changed while it was read as incomplete, and a list of thousands is read in
/// many parts: with such a churn there is no other.
#[test]
fn are_known_while_they_change_all_the_time() {
    let own: IpAddr = "10.0.0.1".parse().unwrap();
    let host = Host::alone("node", [own]).unwrap();
    let script = |verb: &str, numbers: std::ops::Range<u32>| {
        let lines = numbers.map(|n| {
            format!("address {verb} 10.9.{}.{}/32 dev lo scope global\n", n >> 8, n & 255)
        });
        lines.collect::<String>()
    };
    let batch =
        |script: &str| host.namespace.command_with_input("ip", &["-batch", "-"], script).unwrap();
    batch(&script("add", 0..3000));
    let stays: IpAddr = "10.9.0.7".parse().unwrap();
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let churn: String =
                (0..40).map(|_| script("del", 2900..3000) + &script("add", 2900..3000)).collect();
            while !ends.load(Ordering::Relaxed) {
                batch(&churn);
            }
        });
        let outcomes: Vec<_> = (0..60).map(|_| host.namespace.run(netlink::addresses)).collect();
        ends.store(true, Ordering::Relaxed);
        for outcome in outcomes {
            let addresses = outcome.unwrap();
            assert!(addresses.contains(&own) && addresses.contains(&stays), "{}", addresses.len());
        }
    });
}
